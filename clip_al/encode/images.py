"""What can be encoded: folders, files, PIL images, arrays, torch Datasets.

An `ImageSource` has a length, reads one image at a time, and knows how to name it. Nothing
here imports torch, so the module is cheap to import and to send to worker processes.
"""

# Paths stay strings here: a million Path objects cost seconds and a gigabyte.
# ruff: noqa: PTH100, PTH110, PTH112, PTH113, PTH116, PTH118, PTH120, PTH123, PTH202

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from clip_al.errors import InvalidInputError, InvalidTypeError

IMAGE_EXTENSIONS = (
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg",
    ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""Endings, in any case, of the files that a folder is searched for."""


class Fingerprint(NamedTuple):
    """What tells whether an image is still the same one; empty where it does not apply."""

    path: str
    size: str
    mtime_ns: str
    sha256: str


@dataclass
class ImageSource:
    """Images of known number, read one at a time by position.

    Parameters
    ----------
    items : sized and indexable
        Paths, PIL images, arrays, tensors, or tuples that begin with one of these.
    kind : {"paths", "memory", "dataset"}
        Files to be opened, objects already in memory, or a torch Dataset.
    root : str
        Absolute folder that the recorded paths are relative to; empty without paths.
    ids : list of str
        What each image is called in tables: its path relative to a folder that was passed,
        the path as it was passed in a list, or its position.
    """

    items: Any
    kind: str
    root: str
    ids: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    def name(self, index: int) -> str:
        """Return how messages call an image: its path, or ``image 3``."""
        return str(self.items[index]) if self.kind == "paths" else f"image {index}"

    def load(self, index: int) -> Image.Image:
        """Read one image as RGB; whatever a decoder raises is passed on."""
        return to_rgb(self.items[index])

    def describe_failure(self, index: int, exc: Exception) -> str:
        """Return in a few words why image `index` could not be read."""
        return describe_failure(exc, str(self.items[index]) if self.kind == "paths" else "")

    def fingerprint(self, index: int, *, hash_content: bool = False) -> Fingerprint:
        """Return what tells whether image `index` is the same as at another time.

        Files: path under `root`, size, and mtime, or SHA-256 in place of the mtime. Images in
        memory: SHA-256 of their pixels. Items of a Dataset: nothing unless `hash_content`,
        because that would read each one twice.
        """
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
            if hash_content:
                with open(path, "rb") as file:
                    return Fingerprint(relative, str(status.st_size), "", _file_hash(file))
        except OSError:  # the encoder will name it with its reason
            return Fingerprint(relative, "", "", "")
        return Fingerprint(relative, str(status.st_size), str(status.st_mtime_ns), "")

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


def image_source(images: Any) -> ImageSource:
    """Return the `ImageSource` of anything that `ClipEncoder.encode_images` takes.

    Parameters
    ----------
    images : folder, sequence, array or torch Dataset
        A folder is searched recursively for `IMAGE_EXTENSIONS`, in sorted order; hidden files
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


def list_images(folder: str | os.PathLike[str]) -> list[str]:
    """Return the images below a folder as sorted paths relative to it, with forward slashes.

    Hidden files and folders are left out; links to files count, links to folders are not
    followed. About 1 s for a million files that the system has in its cache.
    """
    found = []
    for directory, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        relative = os.path.relpath(directory, folder).replace(os.sep, "/")
        prefix = "" if relative == "." else f"{relative}/"
        found += [
            prefix + name
            for name in names
            if name.lower().endswith(IMAGE_EXTENSIONS) and not name.startswith(".")
        ]
    return sorted(found)


def to_rgb(item: Any) -> Image.Image:
    """Return one image of any accepted kind as an RGB PIL image, fully read.

    Notes
    -----
    Conversion comes first, so that a palette or 16-bit image is resized like any other
    (open_clip resizes before it converts, which turns a 16-bit image white). Transparency is
    dropped and the EXIF orientation is not applied, both as in open_clip and CLIP's training.
    """
    if isinstance(item, (tuple, list)) and len(item):
        item = item[0]
    if isinstance(item, (str, os.PathLike)):
        with Image.open(item) as image:
            return _pil_to_rgb(image)
    if isinstance(item, Image.Image):
        return _pil_to_rgb(item)
    if hasattr(item, "detach"):  # a torch tensor, recognised without importing torch
        item = item.detach().cpu().numpy()
        item = np.moveaxis(item, 0, -1) if item.ndim == 3 else item
    if not isinstance(item, np.ndarray):
        raise InvalidTypeError(f"must be a path, PIL image or array; got {type(item).__name__}")
    return _array_to_rgb(item)


def describe_failure(exc: Exception, path: str = "") -> str:
    """Return in a few words, on one line, why an image (in the file `path`) was not read."""
    if isinstance(exc, FileNotFoundError):
        return "no such file"
    if isinstance(exc, UnidentifiedImageError):
        empty = os.path.isfile(path) and os.path.getsize(path) == 0
        return "the file is empty" if empty else "not an image that Pillow can read"
    text = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    text = " ".join(text.split())
    known = (OSError, Image.DecompressionBombError, InvalidInputError, InvalidTypeError)
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
    ids = list_images(folder)
    if not ids:
        raise InvalidInputError(
            f"`images` must hold at least one image; found none in {folder!r} or its subfolders. "
            f"Looked for {', '.join(IMAGE_EXTENSIONS)}; pass a list of paths for other endings."
        )
    return ImageSource(
        [os.path.join(folder, name) for name in ids], "paths", os.path.abspath(folder), ids
    )


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
    problem = _range_problem(array)
    if problem:
        raise InvalidInputError(f"`images` {problem}")


def _range_problem(array: NDArray[Any]) -> str:
    """Return what is wrong with an array's type or values, or an empty string."""
    if array.dtype in (np.uint8, np.bool_):
        return ""
    if array.dtype.kind != "f":
        return f"must be uint8, or float in [0, 1]; got {array.dtype}. Convert it"
    low, high = float(array.min()), float(array.max())
    if low >= 0.0 and high <= 1.0:
        return ""
    return f"as float must be in [0, 1]; got values from {low:.4g} to {high:.4g}. Rescale it"


def _array_to_rgb(array: NDArray[Any]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise InvalidInputError(
            f"must have shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); got {array.shape}"
        )
    problem = _range_problem(array)
    if problem:
        raise InvalidInputError(problem)
    if array.dtype != np.uint8:
        array = np.rint(array.astype(np.float32) * 255.0).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _pil_to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB; 16-bit and floating-point greys are scaled, where Pillow would clip."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise InvalidInputError(
                f"32-bit values must be in [0, 65535]; got {grey.min()} to {grey.max()}"
            )
        return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        grey = np.asarray(image)
        scale = 255.0 if grey.max() > 1.0 and grey.min() >= 0.0 and grey.max() <= 255.0 else 1.0
        return _array_to_rgb(grey / scale)
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def _file_hash(file: Any) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(2**20):
        digest.update(chunk)
    return digest.hexdigest()


def _pixel_hash(source: ImageSource, index: int) -> str:
    try:
        image = source.load(index)
    except Exception:  # whatever the decoder raises, the encoder will name it
        return ""
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
