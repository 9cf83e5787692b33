"""One image of any kind as RGB: opened, upright, deep values scaled to 8 bits.

Nothing here imports torch, so the module is cheap to import and to send to worker processes.
"""

# Paths stay strings here: a million Path objects cost seconds and a gigabyte.
# ruff: noqa: PTH116

from __future__ import annotations

import io
import os
import stat
import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_al.errors import InvalidInputError, InvalidTypeError, missing_extra

READING = 2
"""Number of the rules by which images are read; part of a table's key.

1: as they lie, 16-bit values divided by 256 (tables of 0.1.0, whose key does not name it).
2: upright by their EXIF orientation, deep values scaled by `full_scale`.
"""

HEIF_EXTENSIONS = (".heic", ".heif", ".hif")
"""Endings of photos in HEIF, which are read where pillow-heif is installed."""

DEPTHS = (8, 10, 12, 14, 16)
"""Bits that the values of a deep image are taken to have."""

MAX_ASPECT = 16
"""Longer images are cut to this ratio of their sides, see `crop_extreme`."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LOW_BYTES = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
"""Pillow reads the high bytes of 16-bit colours; in the other byte order it reads the low ones."""
_NO_FILES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def to_rgb(item: Any) -> Image.Image:
    """Return one image of any accepted kind as an RGB PIL image, upright and fully read.

    Notes
    -----
    Conversion comes before the resizing of a model, so that a palette or 16-bit image is
    resized like any other (open_clip resizes first, which turns a 16-bit image white).

    Photos are turned as their EXIF orientation says, whether they come as a file or as a PIL
    image that still carries it; an EXIF block that cannot be read says nothing. Arrays and
    tensors lie as they are. open_clip and CLIP's training leave photos as they lie; people
    label them upright. Transparency is dropped, as in both.

    Values of more than 8 bits are divided by `full_scale`, also where a camera or scanner
    keeps 10, 12 or 14 bits in a 16-bit file.
    """
    if isinstance(item, (tuple, list)) and len(item):
        item = item[0]
    if isinstance(item, (str, os.PathLike, bytes)):
        with open_image(item) as image:
            return _pil_to_rgb(image)
    if isinstance(item, Image.Image):
        return _pil_to_rgb(item)
    if hasattr(item, "detach"):  # a torch tensor, recognised without importing torch
        item = item.detach().cpu().numpy()
        item = np.moveaxis(item, 0, -1) if item.ndim == 3 else item
    if not isinstance(item, np.ndarray):
        raise InvalidTypeError(f"must be a path, PIL image or array; got {type(item).__name__}")
    return _array_to_rgb(item)


def open_image(file: str | os.PathLike[str] | bytes) -> Image.Image:
    """Open a file, or the bytes of one, without decoding it.

    Raises
    ------
    InvalidInputError
        Where a path names a pipe, a device or another thing that reading could wait for.
    MissingDependencyError
        For a photo in HEIF where pillow-heif is not installed.
    """
    if isinstance(file, bytes):
        if file[4:8] == b"ftyp":  # HEIF, or AVIF, which Pillow reads itself
            read_heif()
        return Image.open(io.BytesIO(file))
    path = os.fspath(file)
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _NO_FILES if is_kind(mode)), "something else")
        raise InvalidInputError(f"{kind}, not a file")
    if path.lower().endswith(HEIF_EXTENSIONS) and not read_heif():
        raise missing_extra("HEIC needs pillow-heif", "heif")
    return Image.open(path)


@cache
def read_heif() -> bool:
    """Let Pillow read HEIF; return whether it can."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def full_scale(values: NDArray[Any]) -> int:
    """Return the value that stands for white: 2 ** b - 1 for the fewest bits b that hold all.

    b is one of `DEPTHS`. So 12-bit data in a 16-bit file is as bright as in a file of 12 bits,
    and a 16-bit image that uses less than a quarter of its range is brightened.

    Examples
    --------
    >>> full_scale(np.array([0, 3900])), full_scale(np.array([40000]))
    (4095, 65535)
    """
    top = int(values.max())
    bits = next(bits for bits in DEPTHS if top < 2**bits)
    return (1 << bits) - 1


def crop_extreme(image: Image.Image) -> Image.Image:
    """Cut a very long image to its middle, `MAX_ASPECT` times as long as wide.

    A model resizes the shorter side to its own size, so that an image of 65,000 × 1 pixels
    would grow to 65,000 times that size before its middle is cut out. The middle is the same.
    """
    width, height = image.size
    longest = MAX_ASPECT * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, min(width, left + longest), min(height, top + longest)))


def range_problem(array: NDArray[Any]) -> str:
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
    problem = range_problem(array)
    if problem:
        raise InvalidInputError(problem)
    if array.dtype != np.uint8:
        array = np.rint(array.astype(np.float32) * 255.0).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _pil_to_rgb(image: Image.Image) -> Image.Image:
    twin = _low_bytes(image)
    image.load()
    if image.mode.startswith("I"):
        rgb = _deep_grey(np.asarray(image))
    elif image.mode == "F":
        grey = np.asarray(image)
        scale = 255.0 if grey.max() > 1.0 and grey.min() >= 0.0 and grey.max() <= 255.0 else 1.0
        rgb = _array_to_rgb(grey / scale)
    elif twin is not None:
        rgb = _deep_colour(image, twin)
    else:
        rgb = image if image.mode == "RGB" else image.convert("RGB")
    return _upright(rgb, image)


def _upright(rgb: Image.Image, original: Image.Image) -> Image.Image:
    """Turn an image as the EXIF orientation of the original says."""
    try:
        orientation = original.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow raises anything at a damaged block, and the pixels are fine
        return rgb
    if orientation not in _TURNS:
        return rgb
    turned = rgb.transpose(_TURNS[orientation])
    turned.info = {}  # so that nobody turns it a second time
    return turned


def _deep_grey(grey: NDArray[Any]) -> Image.Image:
    low, high = int(grey.min()), int(grey.max())
    if low < 0 or high > 65535:
        raise InvalidInputError(f"32-bit values must be in [0, 65535]; got {low} to {high}")
    return Image.fromarray(_to_8_bits(full_scale(grey))[grey]).convert("RGB")


def _to_8_bits(top: int) -> NDArray[np.uint8]:
    """Return the 8-bit value of each value up to `top`."""
    scaled: NDArray[np.uint8] = np.rint(np.arange(top + 1) * (255.0 / top)).astype(np.uint8)
    return scaled


def _low_bytes(image: Image.Image) -> Image.Image | None:
    """Return the same file as an image of the low bytes of its 16-bit colours, if it has such."""
    tiles, file = getattr(image, "tile", None), getattr(image, "fp", None)
    if image.mode not in ("RGB", "RGBA") or not tiles or file is None:
        return None
    raw = _raw_mode(tiles[0])
    colours, _, order = raw.partition(";")
    if order not in _LOW_BYTES or colours not in ("RGB", "RGBA"):
        return None
    position = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(position)
    twin = Image.open(io.BytesIO(content))
    other = f"{colours};{_LOW_BYTES[order]}"
    twin.tile = [_with_raw_mode(tile, other) for tile in twin.tile]
    return twin


def _raw_mode(tile: Any) -> str:
    arguments = tile[3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _with_raw_mode(tile: Any, raw: str) -> Any:
    arguments = tile[3]
    changed = (raw, *arguments[1:]) if isinstance(arguments, tuple) else raw
    return (
        type(tile)((*tile[:3], changed)) if type(tile) is tuple else type(tile)(*tile[:3], changed)
    )


def _deep_colour(image: Image.Image, twin: Image.Image) -> Image.Image:
    high = np.asarray(image)[..., :3]
    if high.max() >= 2 ** (DEPTHS[-2] - 8):  # more bits than that: the high bytes are enough
        return image.convert("RGB")
    colours = high.astype(np.uint16) << 8 | np.asarray(twin)[..., :3]
    return Image.fromarray(_to_8_bits(full_scale(colours))[colours])
