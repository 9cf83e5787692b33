"""The images below a folder, and what else is there that people may have meant.

Nothing here imports torch.
"""

# Paths stay strings here: a million Path objects cost seconds and a gigabyte.
# ruff: noqa: PTH114, PTH118

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from clip_al.images.pixels import HEIF_EXTENSIONS

IMAGE_EXTENSIONS = (
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg",
    ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""Endings, in any case, of the files that a folder is searched for."""

VIDEO_EXTENSIONS = (
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
    ".webm", ".wmv",
)  # fmt: skip
"""Endings of videos, of which `video` takes frames."""

LINKED, CLOSED, NO_ENDING = "linked folder", "closed folder", "without an ending"
_ENDINGS = {
    'HEIC photos are read with pillow-heif: `pip install "clip_al[heif]"`.': HEIF_EXTENSIONS,
    "Raw photos: develop them to JPEG or TIFF first.": (
        ".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".kdc", ".nef", ".nrw", ".orf", ".pef",
        ".raf", ".raw", ".rw2", ".sr2", ".srw", ".x3f",
    ),
    "Videos: `clip-al embed --every 2` takes a frame every 2 seconds.": VIDEO_EXTENSIONS,
    "Tar shards: `clip-al embed 'FOLDER/*.tar'` reads them as they are.": (".tar",),
    "Archives: unpack them.": (".7z", ".bz2", ".gz", ".rar", ".tgz", ".xz", ".zip", ".zst"),
    "Other images: convert them to PNG or JPEG.": (
        ".ai", ".cur", ".dcm", ".dds", ".dib", ".eps", ".exr", ".fits", ".hdr", ".heics", ".icns",
        ".ico", ".j2k", ".jp2k", ".jpe", ".jxl", ".pcx", ".pdf", ".pnm", ".psd", ".qoi", ".svg",
        ".svs", ".tga", ".xcf",
    ),
}  # fmt: skip
_REMEDIES = {ending: remedy for remedy, endings in _ENDINGS.items() for ending in endings}
_REMEDIES |= {
    LINKED: "Links to folders are not followed: put the folder itself there, or pass it.",
    CLOSED: "Folders that may not be listed: check their permissions.",
    NO_ENDING: "Files without an ending: give images one, such as .jpg.",
}


@dataclass
class FoundImages:
    """What a folder holds.

    Parameters
    ----------
    names : list of str
        Sorted paths of the images relative to the folder, with forward slashes.
    left_out : Counter of str
        How many of each kind were passed over: an ending, or `LINKED`, `CLOSED`, `NO_ENDING`.
    """

    names: list[str]
    left_out: Counter[str]


def image_extensions() -> tuple[str, ...]:
    """Return `IMAGE_EXTENSIONS`, with those of HEIF where pillow-heif is installed."""
    heif = importlib.util.find_spec("pillow_heif") is not None
    return IMAGE_EXTENSIONS + (HEIF_EXTENSIONS if heif else ())


def find_images(folder: str | os.PathLike[str]) -> FoundImages:
    """Search a folder and its subfolders for images.

    Hidden files and folders are left out without a word; links to files count, links to
    folders are not followed. Counted as left out: photos, videos and archives that are not
    read, files without an ending, linked folders, and folders that may not be listed. About 1 s
    for a million files that the system has in its cache.
    """
    found: list[str] = []
    left_out: Counter[str] = Counter()
    endings = image_extensions()

    def closed(_: OSError) -> None:
        left_out[CLOSED] += 1

    for directory, subfolders, names in os.walk(folder, onerror=closed):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        left_out[LINKED] += sum(os.path.islink(os.path.join(directory, n)) for n in subfolders)
        relative = os.path.relpath(directory, folder).replace(os.sep, "/")
        prefix = "" if relative == "." else f"{relative}/"
        for name in names:
            if name.startswith("."):
                continue
            lowered = name.lower()
            if lowered.endswith(endings):
                found.append(prefix + name)
                continue
            ending = os.path.splitext(lowered)[1]  # noqa: PTH122
            if not ending or ending in _REMEDIES:
                left_out[ending or NO_ENDING] += 1
    return FoundImages(sorted(found), +left_out)


def list_images(folder: str | os.PathLike[str]) -> list[str]:
    """Return the names of `find_images`."""
    return find_images(folder).names


def describe_left_out(left_out: Mapping[str, int]) -> str:
    """Return how many of each kind were left out, and what to do; empty where nothing was.

    Examples
    --------
    >>> describe_left_out({"linked folder": 1, ".zip": 4})
    'left out: 4 .zip, 1 linked folder. Archives: unpack them. Links to folders are not followed:
    put the folder itself there, or pass it.'
    """
    if not left_out:
        return ""
    counts = sorted(left_out.items(), key=lambda pair: (-pair[1], pair[0]))
    told = ", ".join(f"{n:,} {_named(kind, n)}" for kind, n in counts)
    remedies = dict.fromkeys(_REMEDIES[kind] for kind, _ in counts)
    return f"left out: {told}. {' '.join(remedies)}"


def _named(kind: str, n: int) -> str:
    if kind == NO_ENDING:
        return f"file{'' if n == 1 else 's'} {kind}"
    return kind if kind.startswith(".") or n == 1 else f"{kind}s"
