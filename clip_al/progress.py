"""The one progress bar: on standard error, drawn on a terminal and in lines elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

EVERY_S = 1.0
"""How often something moves, whatever a step takes."""

# Held while a thread draws, and while the process forks: a child that is made in between would
# find the terminal's lock taken, by a thread that it does not have.
_drawing = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_drawing.acquire,
        after_in_parent=_drawing.release,
        after_in_child=_drawing.release,
    )


class Advance(Protocol):
    """Moves a bar on: by how many steps, and what to show beside the count."""

    def __call__(self, n: int = 1, note: str | None = None) -> None:
        """Move on by `n` steps."""


@contextmanager
def progress_bar(
    wanted: bool, title: str, total: int | None, *, done: int = 0, keep: bool = False
) -> Iterator[Advance]:
    """Show a bar while a block runs; yield what moves it on.

    Parameters
    ----------
    wanted : bool
        Whether to show anything.
    title : str
        What takes its time.
    total : int or None
        Steps in all; with None a spinner and the time gone by, as nothing can be counted.
    done : int
        Steps of an earlier run.
    keep : bool
        Leave the bar there when it is full.

    Notes
    -----
    Beside the count stands what `advance` is given as `note`, or else the rate. A bar is
    redrawn at each step, and once a second by a thread; on what is no terminal, such as the log
    of a job, the thread writes a line a second, the first after one second.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not wanted:
        yield _stand_still
    elif console.is_terminal:
        with _drawn(console, title, total, done, keep) as advance:
            yield advance
    else:
        with _in_lines(title, total, done) as advance:
            yield advance


@contextmanager
def _drawn(
    console: object, title: str, total: int | None, done: int, keep: bool
) -> Iterator[Advance]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    left: list[ProgressColumn] = [TextColumn("{task.description}")]
    note_column = TextColumn("{task.fields[note]}")
    columns = (
        [SpinnerColumn(), *left, TimeElapsedColumn()]
        if total is None
        else [*left, BarColumn(), MofNCompleteColumn(), note_column, TimeRemainingColumn()]
    )
    bar = Progress(
        *columns,
        console=console,  # type: ignore[arg-type]  # rich is imported late
        transient=not keep,
        auto_refresh=total is None,
    )
    with bar:
        task = bar.add_task(title, total=total, completed=done, note="")
        began, count = time.perf_counter(), 0

        def advance(n: int = 1, note: str | None = None) -> None:
            nonlocal count
            count += n
            rate = f"{count / (time.perf_counter() - began):,.0f}/s"
            bar.update(task, advance=n, note=rate if note is None else note, refresh=True)

        if total is None:
            yield advance
        else:
            with _ticking(bar.refresh):
                yield advance


@contextmanager
def _in_lines(title: str, total: int | None, done: int) -> Iterator[Advance]:
    """Write a line a second to standard error, and a last one where there was a first."""
    began, count, last, written = time.perf_counter(), done, "", False

    def advance(n: int = 1, note: str | None = None) -> None:
        nonlocal count, last
        count += n
        last = "" if note is None else note

    def line() -> None:
        nonlocal written
        written = True
        seconds = time.perf_counter() - began
        rate = f"{(count - done) / seconds:,.0f}/s" if count > done else ""
        counted = "" if total is None else f"{count:,} of {total:,}"
        parts = (counted, last or rate, f"{seconds:,.0f} s")
        print(f"{title}: {', '.join(part for part in parts if part)}", file=sys.stderr, flush=True)

    try:
        with _ticking(line):
            yield advance
    finally:
        if written:
            line()


@contextmanager
def _ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Call a function every second, by a thread, while a block runs."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(EVERY_S):
            with _drawing:
                tick()

    thread = threading.Thread(target=run, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _stand_still(n: int = 1, note: str | None = None) -> None:
    """Move nothing: no bar is shown."""
