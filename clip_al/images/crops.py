"""Boxes in photos as images of their own: crops from COCO's JSON or YOLO's text files."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from clip_al.errors import InvalidInputError, LeftOutWarning
from clip_al.images.folders import find_images
from clip_al.images.parents import crop_id
from clip_al.images.pixels import open_image, to_rgb
from clip_al.images.sources import Fingerprint, ImageSource, describe_failure, digest_of

Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels of the upright photo."""

ROUNDING = 0.05
"""Pixels that rounded shares of a photo may be off by."""
_EXIF_ORIENTATION, _ON_ITS_SIDE = 0x0112, 5


@dataclass(frozen=True)
class Crop:
    """A box of a photo.

    Parameters
    ----------
    root, photo : str
        The folder, and the path below it.
    box : tuple of int
    """

    root: str
    photo: str
    box: Box

    def __str__(self) -> str:
        return crop_id(os.path.join(self.root, self.photo), self.box)  # noqa: PTH118

    def read(self) -> Image.Image:
        """Return what is in the box; what of it is outside of the photo is left out."""
        photo = _photo(*_state(os.path.join(self.root, self.photo)))  # noqa: PTH118
        left, top, width, height = self.box
        inside = (
            max(0, left), max(0, top), min(photo.width, left + width),
            min(photo.height, top + height),
        )  # fmt: skip
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            raise InvalidInputError(
                f"the box is outside of the photo, {photo.width} × {photo.height}"
            )
        return photo.crop(inside)

    def fingerprint(self, *, hash_content: bool) -> Fingerprint:
        """Return what tells whether its photo is the same one."""
        try:
            path, size, mtime_ns = _state(os.path.join(self.root, self.photo))  # noqa: PTH118
            if hash_content and os.path.isfile(path):  # noqa: PTH113  reading a pipe could wait
                return Fingerprint(self.photo, str(size), "", digest_of(path, size, mtime_ns))
        except OSError:  # the encoder will name it with its reason
            return Fingerprint(self.photo, "", "", "")
        return Fingerprint(self.photo, str(size), str(mtime_ns), "")


def _state(path: str) -> tuple[str, int, int]:
    status = os.stat(path)  # noqa: PTH116
    return path, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=2)
def _photo(path: str, _size: int, _mtime_ns: int) -> Image.Image:
    """Return a photo; its boxes follow one another, so that it is decoded once."""
    return to_rgb(path)


def crop_source(photos: str | os.PathLike[str], boxes: str | os.PathLike[str]) -> ImageSource:
    """Return the boxes of photos as images, called ``photo.jpg#xywh=10,20,64,48``.

    Parameters
    ----------
    photos : path
        The folder of the photos.
    boxes : path
        COCO's JSON, whose ``file_name`` are paths below `photos`; or the folder of YOLO's text
        files, ``a/1.txt`` for ``a/1.jpg``: class, centre, width and height as shares of the
        photo, or a polygon.

    Returns
    -------
    ImageSource
        In the order of the photos' names, and of the file. Two equal boxes of a photo are one
        image; photos without a box have none.

    Raises
    ------
    InvalidInputError
        Where there are no such files, they hold no box, or one is not of four finite numbers
        with a width and a height.

    Warns
    -----
    LeftOutWarning
        Where text files of boxes belong to no photo.
    """
    root, file = Path(os.path.abspath(photos)), Path(boxes)  # noqa: PTH100
    if not root.is_dir():
        raise InvalidInputError(
            f"`images` must be the folder of the photos where boxes are cut out; got "
            f"{str(photos)!r}. Name the folder."
        )
    if file.is_dir():
        found = _of_yolo(root, file)
    elif file.is_file():
        found = _of_coco(file)
    else:
        raise InvalidInputError(
            f"`boxes` must be COCO's JSON or a folder of YOLO's text files; {file} is not there. "
            "Check the path."
        )
    distinct = dict.fromkeys(found)
    if not distinct:
        raise InvalidInputError(f"`boxes` must hold at least one box; {file} has none.")
    items = [Crop(str(root), photo, box) for photo, box in distinct]
    ids = [crop_id(photo, box) for photo, box in distinct]
    return ImageSource(items, "stored", str(root), ids, is_folder=True)


def _of_coco(file: Path) -> list[tuple[str, Box]]:
    try:
        read = json.loads(file.read_bytes())
        names = {image["id"]: str(image["file_name"]) for image in read["images"]}
        rows = [(entry["image_id"], entry["bbox"]) for entry in read["annotations"]]
        {image for image, _ in rows}
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise InvalidInputError(
            f"{file} must be COCO's JSON, with `images` (`id`, `file_name`) and `annotations` "
            f"(`image_id`, `bbox`); {type(exc).__name__}: {exc}. Correct it."
        ) from exc
    found = []
    for at, (image, box) in enumerate(rows):
        where = f"annotation {at} of {file}"
        if image not in names:
            raise InvalidInputError(
                f"{where} must be of an image in `images`; got the id {image!r}. Correct it."
            )
        found.append((names[image], _in_pixels(box, where)))
    return sorted(found, key=lambda pair: pair[0])


def _of_yolo(root: Path, folder: Path) -> list[tuple[str, Box]]:
    found = []
    unused = {path for path in folder.rglob("*.txt") if path.name != "classes.txt"}
    n_files = len(unused)
    for photo in find_images(root).names:
        file = folder / Path(photo).with_suffix(".txt")
        if not file.is_file():
            continue
        unused.discard(file)
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as exc:
            raise InvalidInputError(f"{file} must be text in UTF-8; {exc}. Save it so.") from exc
        lines = [line.split() for line in text.splitlines()]
        shares = list(_shares(lines, file))
        if shares:
            width, height = _upright_size(root / photo)
            for x, y, w, h in shares:
                corner = ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
                found.append((photo, _in_pixels(corner, str(file))))
    if unused:
        warnings.warn(
            f"{len(unused):,} of the {n_files:,} text files in {str(folder)!r} belong to no photo "
            f"of {str(root)!r}, as {min(unused)}; their boxes are left out. A file of boxes has "
            "the path of its photo, with the ending .txt.",
            LeftOutWarning, stacklevel=4,
        )  # fmt: skip
    return found


def _shares(lines: Iterable[list[str]], file: Path) -> Iterator[tuple[float, ...]]:
    """Yield centre, width and height of the boxes in a file of YOLO; of a polygon its bounds."""
    for number, words in enumerate(lines, start=1):
        if not words:
            continue
        try:
            values = [float(word) for word in words[1:]]
        except ValueError:
            values = []
        if len(values) in (4, 5):  # perhaps with a confidence
            yield tuple(values[:4])
        elif len(values) >= 6 and len(values) % 2 == 0:
            xs, ys = values[::2], values[1::2]
            low, high = (min(xs), min(ys)), (max(xs), max(ys))
            yield (
                (low[0] + high[0]) / 2, (low[1] + high[1]) / 2, high[0] - low[0], high[1] - low[1]
            )  # fmt: skip
        else:
            raise InvalidInputError(
                f"{file} must have a class and four shares, or a polygon, in each line; line "
                f"{number} has {' '.join(words)!r}. Correct it."
            )


def _in_pixels(box: Any, where: str) -> Box:
    """Return a box in whole pixels, none of it cut off."""
    try:
        left, top, width, height = (float(value) for value in box)
        fits = all(map(math.isfinite, (left, top))) and 0 < width < 1e9 and 0 < height < 1e9
    except (TypeError, ValueError):
        fits = False
    if not fits or max(abs(left), abs(top)) > 1e9:
        raise InvalidInputError(
            f"A box must be left, top, width and height, the last two above 0; {where} has {box}. "
            "Correct or remove it."
        )
    x, y = math.floor(left + ROUNDING), math.floor(top + ROUNDING)
    right, bottom = math.ceil(left + width - ROUNDING), math.ceil(top + height - ROUNDING)
    x, y = max(0, x), max(0, y)
    return x, y, max(1, right - x), max(1, bottom - y)


def _upright_size(path: Path) -> tuple[int, int]:
    try:
        with open_image(path) as image:
            turned = image.getexif().get(_EXIF_ORIENTATION, 1) >= _ON_ITS_SIDE
            return (image.height, image.width) if turned else image.size
    except Exception as exc:  # whatever a decoder raises
        raise InvalidInputError(
            f"{path} must be readable, as its boxes are shares of its size; "
            f"{describe_failure(exc, str(path))}. Repair it, or remove its boxes."
        ) from exc
