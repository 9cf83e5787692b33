"""The one progress bar: on standard error, where that is a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


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
        Whether to show anything; on what is no terminal nothing is shown anyway.
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
    redrawn at each step and by no thread, as worker processes may be forked meanwhile; a
    spinner turns by a thread.
    """
    from rich.console import Console
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

    console = Console(stderr=True)
    if not (wanted and console.is_terminal):
        yield _stand_still
        return
    left: list[ProgressColumn] = [TextColumn("{task.description}")]
    note_column = TextColumn("{task.fields[note]}")
    columns = (
        [SpinnerColumn(), *left, TimeElapsedColumn()]
        if total is None
        else [*left, BarColumn(), MofNCompleteColumn(), note_column, TimeRemainingColumn()]
    )
    bar = Progress(*columns, console=console, transient=not keep, auto_refresh=total is None)
    with bar:
        task = bar.add_task(title, total=total, completed=done, note="")
        began, count = time.perf_counter(), 0

        def advance(n: int = 1, note: str | None = None) -> None:
            nonlocal count
            count += n
            rate = f"{count / (time.perf_counter() - began):,.0f}/s"
            bar.update(task, advance=n, note=rate if note is None else note, refresh=True)

        yield advance


def _stand_still(n: int = 1, note: str | None = None) -> None:
    """Move nothing: no bar is shown."""
