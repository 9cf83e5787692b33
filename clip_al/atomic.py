"""The one way to write a file: under another name first, in place when it is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


def sync_file(file: IO[Any]) -> None:
    """Wait until what was written has reached the disk."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Write a file ("w" text, "wb" bytes) under another name; put it in place when complete.

    Whoever reads the file, also after a kill, finds it whole: the old one or the new one.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    binary = "b" in mode
    with temporary.open(
        mode,
        encoding=None if binary else "utf-8",
        errors=None if binary else "surrogateescape",
        newline=None if binary else "",
    ) as file:
        yield file
        sync_file(file)
    temporary.replace(path)
