"""Cells of an experiment: what is run once, kept as one line of a results file, and not run again.

A cell is a dictionary of plain values that says all that the outcome depends on, its seed
included. The results file has two kinds of lines: an environment (versions, hardware,
commit; named by a hash) and a record (experiment, model, cell, values, seconds, the name of
its environment). Lines are appended as cells finish, so an interrupted run loses only what
was under way.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch

from benchmarks.harness.environment import cpu_model, n_cores, versions

if TYPE_CHECKING:
    from benchmarks.harness.pages import Page

Cell = dict[str, Any]
Values = dict[str, Any]
Size = Literal["quick", "standard", "full"]
SIZES: tuple[Size, ...] = ("quick", "standard", "full")
FLAGS: dict[Size, str] = {"quick": " --quick", "standard": "", "full": " --full"}


class UnavailableError(Exception):
    """A cell needs data that is not on this machine; it is left out, and the page says so."""


@dataclass(frozen=True)
class Options:
    """What holds for a whole run, whatever the cell.

    Parameters
    ----------
    data : Path or None
        Folder of the images; None looks where `benchmarks.data.cifar.data_folder` says.
    model, pretrained : str, str or None
        The CLIP model, as `ClipEncoder` takes it.
    device : str
        Where networks are trained, "cpu" or "cuda".
    """

    data: Path | None = None
    model: str = "mini"
    pretrained: str | None = None
    device: str = "cpu"

    @property
    def clip(self) -> str:
        """The CLIP model in one word, part of what names a record."""
        return self.model if self.pretrained is None else f"{self.model}/{self.pretrained}"


UNTRAINED = "nothing is trained on what is chosen"
ON_EMBEDDINGS = "a classifier on the embeddings, to the end"
FINE_TUNED = "a network, fine-tuned for some dozens of batches in each round"
BRIEF = (
    "a network from random weights, for a few hundred batches without augmentation: far from the "
    "end, where the easiest images win"
)


@dataclass(frozen=True)
class Experiment:
    """What is measured, at which sizes, and how the outcome is shown.

    Parameters
    ----------
    name : str
        Name of the module in `benchmarks.experiments` and of the page.
    title : str
        Heading of the page.
    regime : str
        What is trained on what is chosen, and how far: a subset that is best for one training
        is not for another.
    cells : callable
        Size → cells, those that share state next to each other.
    run : callable
        (cell, options) → values, plain numbers, strings and short lists. State that cells
        share it caches itself.
    render : callable
        (records as a table, page) → None; `frame` describes the table.
    share : tuple of str
        Fields of a cell; cells that agree in these are run by one process, one by one.
    cost_s : callable
        Cell → roughly the seconds of one core that it takes without a GPU.
    """

    name: str
    title: str
    regime: str
    cells: Callable[[Size], list[Cell]]
    run: Callable[[Cell, Options], Values]
    render: Callable[[pd.DataFrame, Page], None]
    share: tuple[str, ...] = ("seed",)
    cost_s: Callable[[Cell], float] = lambda _: 1.0


def find_experiment(name: str) -> Experiment:
    """Return the experiment of a module of `benchmarks.experiments`."""
    experiment: Experiment = import_module(f"benchmarks.experiments.{name}").EXPERIMENT
    return experiment


def key(experiment: str, clip: str, cell: Cell) -> str:
    """Return what names a record: the same for the same cell, whatever the order of fields."""
    return json.dumps([experiment, clip, cell], sort_keys=True)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read the records of a results file, each with its environment; none where it is not there.

    Of records with the same key the last one holds. A last line that a kill cut short is
    left out.
    """
    if not path.is_file():
        return []
    environments: dict[str, Any] = {}
    records: dict[str, dict[str, Any]] = {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line.endswith("\n"):
            break
        try:
            row = json.loads(line)
        except json.JSONDecodeError as exc:
            raise ValueError(
                f"{path}, line {number}, must be JSON; got {line[:60]!r}. Remove the line."
            ) from exc
        if "cell" not in row:
            environments[row["environment"]] = row
            continue
        row["environment"] = environments[row["environment"]]
        records[key(row["experiment"], row["clip"], row["cell"])] = row
    return list(records.values())


def frame(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return records as a table: a column for each field of the cells and of the values.

    `seconds` is what the cell took. A field of the cell and one of the values must not have
    the same name.
    """
    return pd.DataFrame([{**r["cell"], **r["values"], "seconds": r["seconds"]} for r in records])


def describe_environment(options: Options) -> dict[str, Any]:
    """Return versions, hardware and commit, named by a hash of them."""
    root = Path(__file__).resolve().parents[2]
    facts = {
        "versions": versions(),
        "cpu": cpu_model(),
        "cores": n_cores(),
        "gpu": torch.cuda.get_device_name(0) if options.device.startswith("cuda") else None,
        "commit": _git(root, "rev-parse", "HEAD"),
        "changed": bool(_git(root, "status", "--porcelain", "--", "clip_al", "benchmarks")),
    }
    text = json.dumps(facts, sort_keys=True)
    return {"environment": hashlib.sha256(text.encode()).hexdigest()[:12], **facts}


def _git(root: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *command], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def records_of(
    experiment: Experiment, cells: Sequence[Cell], options: Options, path: Path
) -> list[dict[str, Any]]:
    """Return the records of some cells; a results file may hold others, of other sizes."""
    wanted = {key(experiment.name, options.clip, cell) for cell in cells}
    return [r for r in read_records(path) if key(r["experiment"], r["clip"], r["cell"]) in wanted]


def missing_cells(
    experiment: Experiment, cells: Sequence[Cell], options: Options, path: Path
) -> list[Cell]:
    """Return those cells that the results file does not hold."""
    known = {key(r["experiment"], r["clip"], r["cell"]) for r in read_records(path)}
    return [cell for cell in cells if key(experiment.name, options.clip, cell) not in known]


def run_cells(
    experiment: Experiment,
    cells: Sequence[Cell],
    options: Options,
    path: Path,
    *,
    n_workers: int = 1,
) -> None:
    """Run cells and append their records to `path` as they finish.

    Cells that agree in `experiment.share` are run by one process. With one worker nothing is
    spawned. An error in a cell is raised after the cells of the other processes are done.
    """
    if not cells:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _end_cut_line(path)
    facts = describe_environment(options)
    _append(path, facts)
    groups = list(_groups(experiment, cells))
    arguments = (experiment.name, options, path, facts["environment"])
    started, n_done = time.perf_counter(), 0
    for group in _run_groups(groups, arguments, n_workers):
        n_done += len(group)
        elapsed = time.perf_counter() - started
        left = elapsed / n_done * (len(cells) - n_done)
        print(
            f"{experiment.name}: {n_done} of {len(cells)} cells, {elapsed:.0f} s, "
            f"about {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )


def _groups(experiment: Experiment, cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    def shared(cell: Cell) -> str:
        return json.dumps([cell[field] for field in experiment.share])

    for _, group in groupby(cells, shared):
        yield list(group)


def _run_groups(
    groups: list[list[Cell]], arguments: tuple[Any, ...], n_workers: int
) -> Iterator[list[Cell]]:
    """Run each group of cells and yield it when it is done."""
    if n_workers == 1:
        for group in groups:
            _run_group(group, *arguments)
            yield group
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, context, initializer=_one_thread) as pool:
        futures = {pool.submit(_run_group, group, *arguments): group for group in groups}
        for future in as_completed(futures):
            future.result()
            yield futures[future]


def _one_thread() -> None:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


def _run_group(
    cells: Sequence[Cell], name: str, options: Options, path: Path, environment: str
) -> None:
    experiment = find_experiment(name)
    for cell in cells:
        started = time.perf_counter()
        try:
            values = experiment.run(cell, options)
        except UnavailableError as exc:
            print(f"{name}: left out {json.dumps(cell)}: {exc}", file=sys.stderr, flush=True)
            continue
        except Exception as exc:
            raise RuntimeError(f"{name} failed in the cell {json.dumps(cell)}: {exc}") from exc
        seconds = round(time.perf_counter() - started, 3)
        record = {
            "experiment": name, "clip": options.clip, "cell": cell, "values": values,
            "seconds": seconds, "environment": environment,
        }  # fmt: skip
        _append(path, record)


def _append(path: Path, row: dict[str, Any]) -> None:
    """Append a line in one write, so that lines of several processes do not mix."""
    line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def _end_cut_line(path: Path) -> None:
    """Take away a last line that a kill cut short, before more are written behind it."""
    if path.is_file():
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            path.write_bytes(whole)
