"""The page docs/index.md as a newcomer types it: seconds of each command, and wrong labels left.

    python -m benchmarks.speed.start [--photos 500] [--digits] [--json FILE]

Every block of the page, in order, in a fresh folder: commands each in a process of its own, as in
a terminal, with the import of the package; Python in this process. In place of the page's digits
the folder holds CIFAR-10 test photos of five classes, a file each, which the mini model never
saw; `--digits` leaves the page as it is. The page's own lines do the looking, from the truth.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.data.cifar import CACHE, cifar_root, data_folder
from benchmarks.harness.environment import print_environment, print_table, write_json_lines

PAGE = Path(__file__).resolve().parents[2] / "docs" / "index.md"
NAMES = ("cat", "dog", "horse", "ship", "truck")
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = "the Python on the page"
TOLD = re.compile("Expected accuracy|Go on|Stop|Wrote labels")
PROGRAM = (sys.executable, "-c", "from clip_al.cli.main import main; main()")


class Step(NamedTuple):
    """What a command of the page, or a block of Python, took and printed."""

    command: str
    seconds: float
    cpu_seconds: float
    printed: str


def write_photos(root: Path, n: int, seed: int) -> dict[str, Any]:
    """Write photos in an order that says nothing, and the truth; return the page's own names."""
    per_class = -(-n // len(NAMES))
    files = [root / "test" / name / f"{i:04d}.jpg" for name in NAMES for i in range(per_class)]
    order = np.random.default_rng(seed).permutation(len(files))[:n]
    Path("photos").mkdir()
    ids = [f"IMG_{i:04d}.jpg" for i in range(len(order))]
    for name, k in zip(ids, order, strict=True):
        Path("photos", name).write_bytes(files[k].read_bytes())
    truth = pd.DataFrame({"id": ids, "label": [files[k].parent.name for k in order]})
    truth.to_csv("truth.csv", index=False)
    return {"names": dict(enumerate(NAMES))}


def run_page(page: str, root: Path | None, n: int, seed: int) -> list[Step]:
    """Run the blocks of a page in the current folder; `root` has the photos, None for digits."""
    namespace: dict[str, Any] = {"__name__": "page"}
    steps = []
    for language, text in BLOCK.findall(page):
        if language == "sh":
            lines = text.replace("\\\n", " ").splitlines()
            words = [words for line in lines if (words := shlex.split(line, comments=True))]
            steps += [run_command(w[1:]) for w in words if w[0] == "clip-al"]
            continue
        begin, begin_cpu, printed = time.perf_counter(), time.process_time(), StringIO()
        with redirect_stdout(printed):
            exec(text, namespace)
            if root is not None and "load_digits" in text:
                for file in Path("photos").iterdir():
                    file.unlink()
                Path("photos").rmdir()
                namespace |= write_photos(root, n, seed)
        took = time.perf_counter() - begin, time.process_time() - begin_cpu
        steps.append(Step(PYTHON, *took, printed.getvalue()))
    return steps


def run_page_elsewhere(page: str, root: Path | None, n: int, seed: int) -> list[Step]:
    """Run the blocks of a page in a folder that is empty, and gone afterwards."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            return run_page(page, root, n, seed)
        finally:
            os.chdir(here)


def costs(steps: Sequence[Step]) -> tuple[str, str]:
    """Return seconds by the clock, and of the CPU."""
    clock, cpu = (sum(values) for values in zip(*((s[1], s[2]) for s in steps), strict=True))
    return f"{clock:.1f}", f"{cpu:.1f}"


def run_command(arguments: list[str]) -> Step:
    """Run a command of ours in a process; its error is ours."""
    command = shlex.join(["clip-al", *arguments])
    before, begin = os.times(), time.perf_counter()
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - begin, os.times()
    if done.returncode:
        raise RuntimeError(f"`{command}` failed:\n{done.stdout}{done.stderr}")
    of_child = after.children_user + after.children_system
    cpu_seconds = of_child - before.children_user - before.children_system
    return Step(command, seconds, cpu_seconds, done.stdout)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Print what each command took, and what the page prints of the labels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--digits", action="store_true", help="the page as it is")
    parser.add_argument("--data", type=Path, help="folder of the data; CLIP_AL_DATA by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the records")
    options = parser.parse_args(arguments)
    environment = print_environment(options.seed)
    root = None if options.digits else cifar_root(data_folder(options.data), CACHE)
    page = PAGE.read_text(encoding="utf-8")
    steps = run_page_elsewhere(page, root, options.photos, options.seed)
    commands = [step for step in steps if step.command != PYTHON]
    blocks = [step for step in steps if step.command == PYTHON]
    rows = [(f"`{step.command}`", *costs([step])) for step in commands]
    print_table(
        ["command", "s", "CPU s"], [*rows, (PYTHON, *costs(blocks)), ("all", *costs(steps))]
    )
    for step in steps:
        shown = step.printed.splitlines()
        if step.command != PYTHON:
            shown = [line for line in shown if TOLD.match(line)]
        print("".join(f"{line}\n" for line in shown), end="")
    records = [environment, *(step._asdict() for step in steps)]
    write_json_lines(options.json, records)
    return records


if __name__ == "__main__":
    main()
