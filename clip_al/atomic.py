"""The one way to write a file: under another name first, in place when it is complete."""

from __future__ import annotations

import csv
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from clip_al.errors import InvalidInputError, InvalidTypeError

if TYPE_CHECKING:
    import pandas as pd

TEMPORARY = ".tmp"
"""What the name of a file that is not complete ends in."""


def sync_file(file: IO[Any]) -> None:
    """Wait until what was written has reached the disk."""
    file.flush()
    os.fsync(file.fileno())


def as_path(path: str | os.PathLike[str], name: str = "path") -> Path:
    """Return a path that the file system can look up, whether or not something is there."""
    try:
        text: Any = os.fspath(path)
    except TypeError:
        text = b""
    if not isinstance(text, str):
        raise InvalidTypeError(
            f"`{name}` must be a path, a string or a `pathlib.Path`; got {path!r}. Pass one."
        )
    try:
        os.stat(text)  # noqa: PTH116  a Path drops the end of "x/"
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except (OSError, ValueError) as exc:  # too long, a NUL, a lone surrogate
        why = exc.strerror if isinstance(exc, OSError) else exc  # without the path itself
        shown = text if len(text) < 100 else f"{text[:100]}…"
        raise InvalidInputError(
            f"`{name}` must be a path that the system can look up; got {shown!r} ({why}). "
            "Name another."
        ) from exc
    return Path(text)


def as_folder(path: str | os.PathLike[str], name: str = "directory") -> Path:
    """Return the path of a folder that is there or can be made."""
    folder = as_path(path, name)
    try:
        folder.stat()
    except NotADirectoryError as exc:
        raise InvalidInputError(
            f"`{name}` must be a folder; in {str(folder)!r} a file stands in place of one. Name "
            "another."
        ) from exc
    except OSError:  # it is not there yet
        pass
    return folder


def _check_overwrite(overwrite: object) -> None:
    if not isinstance(overwrite, bool | np.bool_):
        raise InvalidTypeError(
            f"`overwrite` must be True or False; got {overwrite!r}. Pass True to replace a file."
        )


def check_new(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Return where a file can be written: in a folder that exists, new unless `overwrite`."""
    _check_overwrite(overwrite)
    target = as_path(path)
    if target.is_dir() or not target.parent.is_dir():
        raise InvalidInputError(
            f"`path` must be a file in a folder that exists; got {str(target)!r}. Name a file, "
            "and make its folder first."
        )
    if target.exists() and not overwrite:
        raise InvalidInputError(
            f"`path` must be new; {str(target)!r} is there. Name another, or pass "
            "overwrite=True to replace it."
        )
    return target


@contextmanager
def replacing(
    path: str | os.PathLike[str], mode: str = "w", *, overwrite: bool = True
) -> Iterator[IO[Any]]:
    """Write a file ("w" text, "wb" bytes) under another name; put it in place when complete.

    Whoever reads the file, also after a kill, finds it whole: the old one or the new one. A
    link goes on pointing to it; a pipe or a device is written to as it is.

    Raises
    ------
    InvalidInputError
        Where `path` is a folder or its folder is missing; without `overwrite` where a file is
        there, be it that it came while this one was written.
    """
    _check_overwrite(overwrite)
    target = check_new(path, overwrite=overwrite or not as_path(path).is_file())
    binary = "b" in mode
    text: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    options = {} if binary else text
    if target.exists() and not target.is_file():
        with target.open(mode, **options) as file:
            yield file
        return
    target = target.resolve()
    # Another name for each writer: two processes that save to one name do not mix.
    unfinished = target.with_name(f"{target.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with unfinished.open(mode, **options) as file:
            yield file
            sync_file(file)
        check_new(path, overwrite=overwrite)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes, *, overwrite: bool = True) -> None:
    """Write a file that is in memory; see `replacing`."""
    with replacing(path, "wb", overwrite=overwrite) as file:
        file.write(content)


def write_frame(
    path: str | os.PathLike[str], frame: pd.DataFrame, *, overwrite: bool = True
) -> None:
    """Write a DataFrame as a CSV file, without its index; see `replacing`.

    Bytes of file names that are no UTF-8 are written as they are. Where a text has a lone
    carriage return, which readers take for the end of a line, all texts are quoted.
    """
    texts = frame.select_dtypes(include=["object", "string"])
    bare = any("\r" in cell for name in texts for cell in texts[name] if isinstance(cell, str))
    quoting: Any = csv.QUOTE_NONNUMERIC if bare else csv.QUOTE_MINIMAL
    with replacing(path, overwrite=overwrite) as file:
        frame.to_csv(file, index=False, lineterminator="\n", quoting=quoting)
