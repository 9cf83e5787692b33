"""What can be encoded: folders, files, PIL images, arrays, torch Datasets.

An `ImageSource` has a length, reads one image at a time, and knows how to name it; `folders`
finds files, `pixels` reads them. Nothing here imports torch, so the module is cheap to import
and to send to worker processes.
"""

# Paths stay strings here: a million Path objects cost seconds and a gigabyte.
# ruff: noqa: PTH100, PTH110, PTH112, PTH113, PTH116, PTH118, PTH120, PTH123, PTH202

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from clip_al.errors import (
    InvalidInputError,
    InvalidTypeError,
    LeftOutWarning,
    MissingDependencyError,
)
from clip_al.images.folders import describe_left_out, find_images, image_extensions
from clip_al.images.pixels import range_problem, to_rgb

MAX_REASON = 500
"""Characters of a reason; a Dataset may raise an error with a whole array in it."""


class Fingerprint(NamedTuple):
    """What tells whether an image is still the same one; empty where it does not apply."""

    path: str
    size: str
    mtime_ns: str
    sha256: str


class StoredImage(Protocol):
    """One image in something larger, which knows how to read it; `str` of it names it."""

    def read(self) -> Any:
        """Return the image as the bytes of a file, or opened."""

    def fingerprint(self, *, hash_content: bool) -> Fingerprint:
        """Return what tells whether it is the same one as at another time."""


@dataclass
class ImageSource:
    """Images of known number, read one at a time by position.

    Parameters
    ----------
    items : sized and indexable
        Paths, PIL images, arrays, tensors, or tuples that begin with one of these; or
        `StoredImage`.
    kind : {"paths", "memory", "dataset", "stored"}
        Files to be opened, objects already in memory, a torch Dataset, or parts of archives,
        files behind a URL and the like.
    root : str
        Absolute folder that the recorded paths are relative to; empty without paths.
    ids : list of str
        What each image is called in tables: its path relative to a folder that was passed,
        the path as it was passed in a list, or its position.
    is_folder : bool, default=False
        Whether the images are all those of a folder, in an order that nobody chose.
    """

    items: Any
    kind: str
    root: str
    ids: list[str]
    is_folder: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def name(self, index: int) -> str:
        """Return how messages call an image: its path, or ``image 3``."""
        return str(self.items[index]) if self.is_named else f"image {index}"

    @property
    def is_named(self) -> bool:
        """Whether images are known by where they are, and not by their position alone."""
        return self.kind in ("paths", "stored")

    def load(self, index: int) -> Image.Image:
        """Read one image as RGB; whatever a decoder raises is passed on."""
        item = self.items[index]
        if self.kind == "stored":
            if isinstance(item, str):  # where it was that is gone
                raise FileNotFoundError(item)
            item = item.read()
        return to_rgb(item)

    def describe_failure(self, index: int, exc: Exception) -> str:
        """Return in a few words why image `index` could not be read."""
        return describe_failure(exc, str(self.items[index]) if self.kind == "paths" else "")

    def fingerprint(self, index: int, *, hash_content: bool = False) -> Fingerprint:
        """Return what tells whether image `index` is the same as at another time.

        Files: path under `root`, size, and mtime, or SHA-256 in place of the mtime. Images in
        memory: SHA-256 of their pixels. Items of a Dataset: nothing unless `hash_content`,
        because that would read each one twice.
        """
        if self.kind == "stored":
            found: Fingerprint = self.items[index].fingerprint(hash_content=hash_content)
            return found
        if self.kind != "paths":
            if self.kind == "dataset" and not hash_content:
                return Fingerprint("", "", "", "")
            return Fingerprint("", "", "", _pixel_hash(self, index))
        path = os.path.abspath(self.items[index])
        root = os.path.join(self.root, "")
        under = self.root and path.startswith(root)
        relative = path[len(root) :].replace(os.sep, "/") if under else path
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):  # reading a pipe could wait for ever
                return Fingerprint(relative, "", "", "")
            if hash_content:
                with open(path, "rb") as file:
                    return Fingerprint(relative, str(status.st_size), "", _file_hash(file))
        except OSError:  # the encoder will name it with its reason
            return Fingerprint(relative, "", "", "")
        return Fingerprint(relative, str(status.st_size), str(status.st_mtime_ns), "")

    def take(self, positions: list[int]) -> ImageSource:
        """Return the images at these positions, under the names they have here."""
        ids = [self.ids[i] for i in positions]
        return ImageSource(_Chosen(self.items, positions), self.kind, self.root, ids)

    def part(self, start: int, stop: int) -> ImageSource:
        """Return the images from position `start` up to `stop`, under the names they have here."""
        window = _Window(self.items, start)
        items = window if self.kind == "dataset" else self.items[start:stop]
        return ImageSource(items, self.kind, self.root, self.ids[start:stop])


@dataclass
class _Window:
    """The items of a Dataset from a position on; a Dataset need not take slices."""

    items: Any
    start: int

    def __getitem__(self, index: int) -> Any:
        return self.items[self.start + index]


@dataclass
class _Chosen:
    """Some of the items, by position."""

    items: Any
    positions: list[int]

    def __getitem__(self, index: int) -> Any:
        return self.items[self.positions[index]]


def image_source(images: Any) -> ImageSource:
    """Return the `ImageSource` of anything that `ClipEncoder.encode_images` takes.

    Parameters
    ----------
    images : folder, sequence, array or torch Dataset
        A folder is searched recursively for `image_extensions`, in sorted order; hidden files
        and folders are left out and links to folders are not followed. A sequence holds paths,
        PIL images or arrays of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or float
        in [0, 1]. One array of shape (n, H, W) or (n, H, W, C) is n images. A tensor, alone or
        in a Dataset, has its channels first, as torchvision makes them.

    Raises
    ------
    InvalidInputError
        Where there is no image at all, or an array has another shape, type or range.
    InvalidTypeError
        Where `images` is none of these.

    Warns
    -----
    LeftOutWarning
        Where a folder holds photos, videos, archives or linked folders that are not read.
    """
    if isinstance(images, (str, os.PathLike)):
        return _folder_source(os.fspath(images))
    if isinstance(images, Image.Image):
        raise InvalidTypeError(
            "`images` must be several images; got a single PIL image. Pass [image]."
        )
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OU":
        _check_array_of_images(images)
        return _source(images, "memory")
    module = type(images).__module__.partition(".")[0]
    indexable = hasattr(images, "__getitem__") and hasattr(images, "__len__")
    if not indexable and (module == "torch" or not isinstance(images, Iterable)):
        raise InvalidTypeError(
            "`images` must be a folder, a sequence of paths, PIL images or arrays, or a torch "
            f"Dataset with a length; got {type(images).__name__}. Pass one of these."
        )
    if not indexable or module == "pandas":  # pandas looks up by label, not by position
        images = list(images)
    if len(images) == 0:
        raise InvalidInputError("`images` must hold at least one image; got none. Pass some.")
    if not isinstance(images, (list, tuple, np.ndarray)):
        return _source(images, "memory" if hasattr(images, "detach") else "dataset")
    paths = [isinstance(item, (str, os.PathLike)) for item in images]
    if all(paths):
        ids = [os.fspath(item) for item in images]
        return ImageSource(ids, "paths", _common_root(ids), ids)
    return _source(images, "dataset" if any(paths) else "memory")


def describe_failure(exc: Exception, path: str = "") -> str:
    """Return in a few words, on one line, why an image (in the file `path`) was not read."""
    if isinstance(exc, FileNotFoundError):
        return "no such file"
    if isinstance(exc, UnidentifiedImageError):
        empty = os.path.isfile(path) and os.path.getsize(path) == 0
        return "the file is empty" if empty else "not an image that Pillow can read"
    text = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    text = " ".join(text.split())
    text = text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]} …"
    known = (
        OSError, Image.DecompressionBombError, InvalidInputError, InvalidTypeError,
        MissingDependencyError,
    )  # fmt: skip
    if text and isinstance(exc, known):
        return text
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def _folder_source(folder: str) -> ImageSource:
    if not os.path.isdir(folder):
        found = "a file" if os.path.exists(folder) else "no such folder"
        raise InvalidInputError(
            f"`images` must be a folder or a sequence of images; got {folder!r}, {found}. "
            "Check the path, or pass single files in a list."
        )
    here = find_images(folder)
    left_out = describe_left_out(here.left_out)
    if not here.names:
        raise InvalidInputError(
            f"`images` must hold at least one image; found none in {folder!r} or its subfolders. "
            f"Looked for {', '.join(image_extensions())}; pass a list of paths for other endings."
            f"{' In it ' if left_out else ''}{left_out}"
        )
    if left_out:
        warnings.warn(f"In {folder!r} {left_out}", LeftOutWarning, stacklevel=4)
    paths = [os.path.join(folder, name) for name in here.names]
    return ImageSource(paths, "paths", os.path.abspath(folder), here.names, is_folder=True)


def _source(items: Any, kind: str) -> ImageSource:
    return ImageSource(items, kind, "", [str(index) for index in range(len(items))])


def _common_root(paths: list[str]) -> str:
    try:
        return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    except ValueError:  # on different drives
        return ""


def _check_array_of_images(array: NDArray[Any]) -> None:
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] not in (1, 3, 4)):
        raise InvalidInputError(
            "`images`, as one array, must have shape (n, H, W) or (n, H, W, C) with 1, 3 or 4 "
            f"channels; got {array.shape}. Reshape it, or move the channels to the end."
        )
    if array.ndim == 3 and array.shape[-1] in (1, 3):
        raise InvalidInputError(
            "`images`, as one array, must have shape (n, H, W) or (n, H, W, C); got "
            f"{array.shape}, which is one image. Pass `images[None]`."
        )
    if array.size == 0:
        raise InvalidInputError(
            f"`images` must hold at least one image; got shape {array.shape}. Pass some."
        )
    problem = range_problem(array)
    if problem:
        raise InvalidInputError(f"`images` {problem}")


def _file_hash(file: Any) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(2**20):
        digest.update(chunk)
    return digest.hexdigest()


@lru_cache(maxsize=1)
def digest_of(path: str, _size: int, _mtime_ns: int) -> str:
    """Return the SHA-256 of a file of several images, read once for all that follow one another."""
    with open(path, "rb") as file:
        return _file_hash(file)


def _pixel_hash(source: ImageSource, index: int) -> str:
    try:
        image = source.load(index)
    except Exception:  # whatever the decoder raises, the encoder will name it
        return ""
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
