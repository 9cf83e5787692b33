"""The one way to read a file of ours: whole and fit, or an error that names it and the remedy."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.atomic import as_path
from clip_al.errors import InvalidInputError

NOT_A_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    NotImplementedError,  # a way to compress that zipfile does not know
    OSError,
    RuntimeError,  # encrypted
    ValueError,
)


@dataclass(frozen=True)
class SavedFile:
    """One kind of file that we write: what wrote it, and what to do where it is unfit.

    Parameters
    ----------
    maker : str
        For instance ``Selection.save``.
    remedy : str
        One sentence.

    Examples
    --------
    >>> file = SavedFile("Selection.save", "Copy it again, or select again.")
    >>> str(file.unfit("a.json", "it is missing"))
    'a.json must be a file that `Selection.save` wrote; it is missing. Copy it again, or select
    again.'
    """

    maker: str
    remedy: str

    def unfit(self, path: str | os.PathLike[str], why: str) -> InvalidInputError:
        """Return the error for a file; `why` speaks of it as "it"."""
        return InvalidInputError(
            f"{os.fspath(path)} must be a file that `{self.maker}` wrote; {why}. {self.remedy}"
        )

    def read(self, path: str | os.PathLike[str]) -> bytes:
        """Return the bytes of a file that is there and not empty."""
        try:
            content = as_path(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise self.unfit(path, "it is missing") from exc
        except IsADirectoryError as exc:
            raise self.unfit(path, "it is a folder") from exc
        except OSError as exc:
            raise self.unfit(path, f"it cannot be read ({exc.strerror})") from exc
        if not content:
            raise self.unfit(path, "it is empty")
        return content

    def read_arrays(self, path: str | os.PathLike[str], content: bytes) -> dict[str, NDArray[Any]]:
        """Return the arrays of an .npz file, all compared with their checksums; no pickles."""
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as file:
                return {
                    name.removesuffix(".npy"): _array(file.read(name)) for name in file.namelist()
                }
        except NOT_A_ZIP as exc:
            raise self.unfit(path, f"it is damaged or holds other things ({exc})") from exc


def _array(content: bytes) -> NDArray[Any]:
    buffer = io.BytesIO(content)
    array: NDArray[Any] = np.lib.format.read_array(buffer, allow_pickle=False)
    if buffer.tell() != len(content):
        raise ValueError("an array has more bytes than its shape says")
    return array
