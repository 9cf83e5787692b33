"""Small pictures for a page: read in threads, shrunk, as WebP in base64.

The more pictures, the smaller each: together they stay below a number of bytes.
"""

from __future__ import annotations

import base64
import io
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_al.arrays.checks import check_choice
from clip_al.errors import (
    InvalidInputError,
    SkippedImagesWarning,
    UnreadableImageError,
    describe_failures,
)
from clip_al.images.pixels import open_image, to_rgb
from clip_al.images.sources import ImageSource, image_source

MAX_BYTES = 15_000_000
"""Of all pictures before base64, which makes 20 MB of them."""
N_TRIED = 48


class Size(NamedTuple):
    """Longer side in pixels, and WebP's quality in [0, 100]."""

    side: int
    quality: int


SIZES = tuple(
    Size(*size)
    for size in [(224, 80), (192, 78), (160, 75), (128, 70), (96, 65), (80, 60), (64, 50), (48, 40),
                 (32, 30), (16, 20)]
)  # fmt: skip


def shown_source(
    images: Any, shown: NDArray[np.int64], n_images: int, ids: NDArray[np.object_] | None
) -> ImageSource:
    """Return the source of some of a dataset's images, in the order of `shown`.

    Parameters
    ----------
    images : folder, sequence, array or torch Dataset
        As for `ClipEncoder.encode_images`, of all n images. In a folder the images are looked up
        by their ids, where the dataset has ids; otherwise they must be n, in sorted order.
    shown : ndarray of shape (b,), int64
        Positions in the dataset.
    n_images : int
        Size of the dataset.
    ids : ndarray of shape (n,) of str, optional
    """
    if isinstance(images, (str, os.PathLike)) and ids is not None:
        folder = os.fspath(images)
        if not os.path.isdir(folder):  # noqa: PTH112
            raise InvalidInputError(
                f"`images` must be the folder that the ids are relative to; {folder!r} is no "
                "folder. Check the path."
            )
        paths = [os.path.join(folder, ids[i]) for i in shown]  # noqa: PTH118
        return ImageSource(paths, "paths", folder, [str(ids[i]) for i in shown])
    source = image_source(images)
    if len(source) != n_images:
        raise InvalidInputError(
            f"`images` must hold each of the {n_images} images of the selection; got "
            f"{len(source)}. Pass the same images, in the same order."
        )
    items = _Chosen(source.items, shown)
    return ImageSource(items, source.kind, source.root, [source.ids[i] for i in shown])


class _Chosen:
    """Some items of a dataset, looked up when they are read."""

    def __init__(self, items: Any, rows: NDArray[np.int64]) -> None:
        self.items, self.rows = items, rows

    def __getitem__(self, index: int) -> Any:
        return self.items[int(self.rows[index])]


def make_thumbnails(
    source: ImageSource, *, errors: str = "raise", max_bytes: int = MAX_BYTES
) -> list[str]:
    """Return each image as a small WebP picture in base64, in the order of the source.

    Parameters
    ----------
    source : ImageSource
        Files are read in threads and upright, as their EXIF data say; a Dataset is read by one
        thread. Nothing is enlarged or cropped.
    errors : {"raise", "skip"}
        What to do about images that cannot be read: raise when all others were read, or warn and
        return "" for them.
    max_bytes : int
        Of all pictures together, before base64; the largest of `SIZES` that keeps to it is taken.

    Returns
    -------
    list of str

    Raises
    ------
    UnreadableImageError
        Names the images and the reasons.

    Notes
    -----
    One picture is decoded for each core at a time; a JPEG is decoded at a fraction of its size.
    """
    check_choice(errors, ("raise", "skip"), "errors")
    if len(source) == 0:
        return []
    workers = 1 if source.kind == "dataset" else min(16, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        for size in _sizes_from_the_largest_that_fits(source, pool, max_bytes):
            made = list(pool.map(partial(_thumbnail, source, size), range(len(source))))
            pictures = [picture for picture, _ in made]
            if sum(map(len, pictures)) <= max_bytes:
                break
    _report(source, [why for _, why in made], errors)
    return [base64.b64encode(picture).decode("ascii") for picture in pictures]


def _sizes_from_the_largest_that_fits(
    source: ImageSource, pool: ThreadPoolExecutor, max_bytes: int
) -> Sequence[Size]:
    """Return sizes from one on that a few images, evenly spaced, say will fit."""
    step = -(-len(source) // N_TRIED)
    for at, size in enumerate(SIZES):
        tried = pool.map(partial(_thumbnail, source, size), range(0, len(source), step))
        lengths = [len(picture) for picture, _ in tried if picture]
        if not lengths or np.mean(lengths) * len(source) <= 0.9 * max_bytes:
            return SIZES[at:]
    return SIZES[-1:]


def _thumbnail(source: ImageSource, size: Size, index: int) -> tuple[bytes, str]:
    """Return one picture and "", or b"" and why it could not be read."""
    try:
        image = _read(source, size.side, index)
        image.thumbnail((size.side, size.side), reducing_gap=2.0)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=size.quality, method=2)
    except Exception as exc:  # whatever a decoder raises
        return b"", source.describe_failure(index, exc)
    return buffer.getvalue(), ""


def _read(source: ImageSource, side: int, index: int) -> Image.Image:
    if source.kind != "paths":
        return source.load(index).copy()  # it may be the caller's own
    with open_image(source.items[index]) as file:
        file.draft(None, (2 * side, 2 * side))  # keeps the mode
        return to_rgb(file)


def _report(source: ImageSource, reasons: list[str], errors: str) -> None:
    failures = [(source.name(i), why) for i, why in enumerate(reasons) if why]
    if not failures:
        return
    if errors == "raise":
        raise UnreadableImageError(
            failures,
            'Repair them, or pass errors="skip" (`--skip-unreadable`) to show a grey tile in their '
            "place.",
        )
    message = f"{describe_failures(failures)} They are shown as grey tiles."
    warnings.warn(message, SkippedImagesWarning, stacklevel=4)
