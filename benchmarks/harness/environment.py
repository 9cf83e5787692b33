"""What every benchmark prints and how it measures: machine, time, memory, tables.

Time is the wall clock, `time.perf_counter`. What is compared is run in turns, one of each
a round, so that a busy machine slows all alike; the median and the fastest are given.

Memory is the growth of the resident set of this process: the kernel's high-water mark is
reset, freed memory is handed back, and the mark afterwards less the size before is what a
run needed at its peak. It counts numpy, BLAS, numba and scikit-learn's own C alike (what
`tracemalloc` would not) and slows nothing. It needs Linux; elsewhere memory is left out.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DISTRIBUTIONS = {
    "clip_al": "clip_al",
    "numpy": "numpy",
    "scipy": "scipy",
    "scikit-learn": "scikit-learn",
    "numba": "numba",
    "torch": "torch",
    "open_clip": "open_clip_torch",
    "faiss": "faiss-cpu",
    "faiss-gpu": "faiss-gpu",
    "modAL": "modAL-python",
    "scikit-activeml": "scikit-activeml",
    "cleanlab": "cleanlab",
    "apricot": "apricot-select",
    "submodlib": "submodlib-py",
}
GIB = 2**30
MIB = 2**20


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of some runs, and the memory that one of them needed.

    Parameters
    ----------
    median_s, fastest_s : float
        Over `n_runs` runs.
    n_runs : int
        How many runs were timed.
    peak_bytes : int or None
        Growth of the resident set at its peak; None where it cannot be measured.
    """

    median_s: float
    fastest_s: float
    n_runs: int
    peak_bytes: int | None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages a figure may depend on."""
    found = {"python": platform.python_version()}
    for name, distribution in DISTRIBUTIONS.items():
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(distribution)
    return found


def cpu_model() -> str:
    """Return what the system calls its processor."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def n_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment(seed: int) -> dict[str, Any]:
    """Return seed, versions and hardware; holds no date and no path.

    `load` is how many processes wanted a core in the last minute, before the measurement:
    well above 0, others were at work and times are only indicative.
    """
    return {
        "seed": seed,
        "versions": versions(),
        "cpu": cpu_model(),
        "cores": n_cores(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def print_environment(seed: int) -> dict[str, Any]:
    """Print what `environment` returns in three lines, and return it."""
    facts = environment(seed)
    print(f"seed {facts['seed']}; {facts['cpu']}, {facts['cores']} cores, load {facts['load']}")
    print("; ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    print()
    return facts


def peak_memory(function: Callable[[], Any]) -> tuple[Any, int | None]:
    """Call `function`; return its result and by how many bytes the process grew meanwhile.

    Call it once before, so that what is compiled or imported on first use is not counted.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # glibc only: hand freed memory back
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return function(), None
    before = _status_bytes("VmRSS")
    result = function()
    return result, max(0, _status_bytes("VmHWM") - before)


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}.")


@contextmanager
def memory_limit(n_bytes: int) -> Iterator[None]:
    """Let this process allocate at most `n_bytes` more; beyond it, MemoryError is raised."""
    try:
        import resource

        kind = resource.RLIMIT_DATA
        soft, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (_status_bytes("VmData") + n_bytes, hard))
    except (ImportError, OSError, ValueError):
        warnings.warn("Memory cannot be limited on this system.", stacklevel=3)
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def time_once(function: Callable[[], Any]) -> Timing:
    """Time a single run and its memory, for what is too slow to be repeated."""
    seconds, peak_bytes = peak_memory(lambda: _seconds(function))
    return Timing(seconds, seconds, 1, peak_bytes)


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def time_in_turns(
    functions: Mapping[str, Callable[[], Any]], n_runs: int, *, warm_up: int = 1
) -> dict[str, Timing]:
    """Time several functions in turns.

    Parameters
    ----------
    functions : mapping of str to callable without arguments
        What is compared.
    n_runs : int
        Rounds that are timed.
    warm_up : int
        Rounds before, which compile and fill caches; the memory is measured after them.

    Returns
    -------
    dict of str to Timing
    """
    for _ in range(warm_up):
        for function in functions.values():
            function()
    peaks = {name: peak_memory(function)[1] for name, function in functions.items()}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(n_runs):
        for name, function in functions.items():
            seconds[name].append(_seconds(function))
    return {
        name: Timing(statistics.median(runs), min(runs), n_runs, peaks[name])
        for name, runs in seconds.items()
    }


def print_table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a Markdown table; the first column stands left, the others right."""
    cells = [list(headers), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[c]) for row in cells) for c in range(len(headers))]
    aligned = [
        [row[0].ljust(widths[0]), *(row[c].rjust(widths[c]) for c in range(1, len(widths)))]
        for row in cells
    ]
    rule = ["-" * w if c == 0 else "-" * (w - 1) + ":" for c, w in enumerate(widths)]
    for row in [aligned[0], rule, *aligned[1:]]:
        print("| " + " | ".join(row) + " |")
    print()


def format_seconds(seconds: float) -> str:
    """Format with three digits: 12.3 ms, 4.56 s, 789 s."""
    unit, factor = ("s", 1.0) if seconds >= 1 else ("ms", 1e3) if seconds >= 1e-3 else ("µs", 1e6)
    value = seconds * factor
    return f"{value:.{max(0, 3 - len(str(int(value))))}f} {unit}"


def format_bytes(n_bytes: int | None) -> str:
    """Format as MiB; a dash where it is not known."""
    return "–" if n_bytes is None else f"{n_bytes / MIB:.0f} MiB"


def write_json_lines(path: str | Path | None, records: Sequence[Mapping[str, Any]]) -> None:
    """Write one JSON object a line; do nothing without a path."""
    if path is None:
        return
    plain = [
        {k: asdict(v) if isinstance(v, Timing) else v for k, v in record.items()}
        for record in records
    ]
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in plain]
    Path(path).write_text("".join(lines), encoding="utf-8")
