"""Images in tar shards, as webdataset writes them: each is read where it lies, nothing is unpacked.

webdataset's own reader streams samples from first to last. A table needs them by position: to go
on after an interrupt, to encode one again, to share them out to workers. So the members are listed
once, by the standard library, and read at their offsets.
"""

from __future__ import annotations

import glob
import hashlib
import os
import tarfile
from dataclasses import dataclass

from clip_al.errors import InvalidInputError
from clip_al.images.folders import image_extensions
from clip_al.images.sources import Fingerprint, ImageSource

TAR = ".tar"


@dataclass(frozen=True)
class TarMember:
    """One image in an archive.

    Parameters
    ----------
    archive : str
        Absolute path.
    name : str
        What the archive calls it.
    offset, size : int
        Where its bytes lie.
    mtime_s : int
        As the archive says.
    """

    archive: str
    name: str
    offset: int
    size: int
    mtime_s: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"

    def read(self) -> bytes:
        """Return the bytes of the image."""
        with open(self.archive, "rb") as file:  # noqa: PTH123
            file.seek(self.offset)
            return file.read(self.size)

    def fingerprint(self, *, hash_content: bool) -> Fingerprint:
        """Return what tells whether it is the same one; it has no path of its own."""
        sha256 = hashlib.sha256(self.read()).hexdigest() if hash_content else ""
        return Fingerprint("", str(self.size), "" if hash_content else str(self.mtime_s), sha256)


def is_tar(images: str) -> bool:
    """Return whether a path is that of a tar shard, or a pattern of several."""
    return images.lower().endswith(TAR) and not os.path.isdir(images)  # noqa: PTH112


def tar_source(pattern: str) -> ImageSource:
    """Return the images in tar shards, called ``shard.tar/member``.

    Parameters
    ----------
    pattern : str
        A file, or several with ``*``, ``?`` and ``**``; sorted by name.

    Raises
    ------
    InvalidInputError
        Where there is no such file, one is damaged or compressed, or none has an image.

    Notes
    -----
    Reads the headers of all members once, about 30 s for a million.
    """
    paths = [pattern] if os.path.isfile(pattern) else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH113, PTH207
    if not paths:
        raise InvalidInputError(
            f"`images` must name tar shards that are there; {pattern!r} matches none. Check the "
            "path; a pattern stands in quotes."
        )
    paths = [os.path.abspath(path) for path in paths]  # noqa: PTH100
    root = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    ids, items = [], []
    for path in paths:
        shard = os.path.relpath(path, root).replace(os.sep, "/")
        for member in _images_in(path):
            ids.append(f"{shard}/{member.name}")
            items.append(member)
    if not items:
        raise InvalidInputError(
            f"`images` must hold at least one image; found none in the {len(paths)} shards of "
            f"{pattern!r}. Looked for {', '.join(image_extensions())}."
        )
    return ImageSource(items, "stored", root, ids, is_folder=True)


def _images_in(path: str) -> list[TarMember]:
    endings, found = image_extensions(), []
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                is_image = name.lower().endswith(endings) and os.path.basename(name)[0] != "."  # noqa: PTH119
                if is_image and member.isreg() and not member.issparse():
                    at = (member.offset_data, member.size, int(member.mtime))
                    found.append(TarMember(path, name, *at))
                archive.members = []  # type: ignore[attr-defined]  # a million would stay in memory
    except (tarfile.TarError, EOFError) as exc:
        raise InvalidInputError(
            f"{path} must be a tar archive that is whole and not compressed, so that images can "
            f"be read where they lie; {exc}. Unpack it, or write it as .tar."
        ) from exc
    return found
