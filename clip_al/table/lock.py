"""One process, and one thread of it, at a time writes a table: the file ``lock`` in its folder."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from clip_al.errors import InvalidInputError

LOCK = "lock"

_held: dict[str, tuple[int, int]] = {}
"""Which process and thread of this program holds a folder: the system asks processes only."""
_mutex = threading.Lock()


@contextmanager
def writing(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep all others from writing a table; nothing of it is removed or written without.

    The folder is made where there is none, and the file goes when the lock is given back. A
    kill leaves the file, but not the lock.

    Raises
    ------
    InvalidInputError
        Where another process or thread holds it, unless `wait`.
    """
    key, me = os.path.abspath(folder), (os.getpid(), threading.get_ident())  # noqa: PTH100
    while True:
        with _mutex:
            # What a forked process inherits of this dict is not its own.
            if key not in _held or _held[key][0] != me[0]:
                _held[key] = me
                break
        if not wait:
            raise _busy(folder)
        time.sleep(0.01)
    try:
        is_new = not folder.exists()
        file = _acquire(folder, wait)
        try:
            yield
        finally:
            _release(file, folder)
            if is_new:
                with suppress(OSError):  # where something came of it
                    folder.rmdir()
    finally:
        with _mutex:
            _held.pop(key, None)


def is_held(folder: Path) -> bool:
    """Return whether this thread is the one that writes a table."""
    me = (os.getpid(), threading.get_ident())
    return _held.get(os.path.abspath(folder)) == me  # noqa: PTH100


def lock_file(file: IO[bytes], *, wait: bool) -> None:
    """Keep other processes out until the file is closed or this process ends.

    Raises OSError where another holds the lock, or waits for it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    # Unlike flock, not inherited by the processes that read images, which may live on for
    # some seconds after a kill.
    fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _acquire(folder: Path, wait: bool) -> IO[bytes]:
    path = folder / LOCK
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("ab")
        except FileNotFoundError:  # the folder was just removed
            continue
        try:
            lock_file(file, wait=wait)
        except OSError as exc:
            file.close()
            if exc.errno in (errno.EACCES, errno.EAGAIN):
                raise _busy(folder) from exc
            raise InvalidInputError(
                f"A table must be on a file system that can lock files; {str(folder)!r} could not "
                f"be locked ({exc.strerror}). Name a directory on another."
            ) from exc
        # Its last holder may have removed the file between the two steps.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def _release(file: IO[bytes], folder: Path) -> None:
    with file:
        if os.name == "posix":  # before the lock is given back: the next makes a new one
            (folder / LOCK).unlink(missing_ok=True)
    if os.name != "posix":
        (folder / LOCK).unlink(missing_ok=True)


def _busy(folder: Path) -> InvalidInputError:
    return InvalidInputError(
        f"One process at a time can write a table; another is writing {str(folder)!r}. Wait "
        "for it, or name another directory."
    )
