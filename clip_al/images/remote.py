"""Images behind a URL that fsspec reads: ``s3://``, ``gs://``, ``https://`` and others.

fsspec comes with torch; what it needs for a protocol (s3fs, gcsfs) is an extra.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clip_al.errors import InvalidInputError, missing_extra
from clip_al.images.folders import image_extensions
from clip_al.images.sources import Fingerprint, ImageSource

VERSIONS = (
    "ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "updated", "mtime",
    "created",
)  # fmt: skip
"""What file systems say of a file that changes with it, the likeliest first."""
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


@dataclass(frozen=True)
class RemoteImage:
    """One image behind a URL.

    Parameters
    ----------
    url : str
    size, version : str
        What its file system said of it; empty where nothing was asked.
    """

    url: str
    size: str = ""
    version: str = ""

    def __str__(self) -> str:
        return self.url

    def read(self) -> bytes:
        """Return the bytes of the image."""
        # Found again in each process: fsspec keeps one connection a process.
        system, path = _open(self.url)
        content: bytes = system.cat_file(path)
        return content

    def fingerprint(self, *, hash_content: bool) -> Fingerprint:
        """Return what tells whether it is the same one."""
        if hash_content:
            return Fingerprint("", self.size, "", hashlib.sha256(self.read()).hexdigest())
        return Fingerprint("", self.size, self.version, "")


def is_url(images: object) -> bool:
    """Return whether something is a URL."""
    return isinstance(images, str) and "://" in images


def remote_folder(url: str) -> ImageSource:
    """Return the images below a URL, called by their paths below it.

    Raises
    ------
    InvalidInputError
        Where it cannot be listed, or has no image.
    MissingDependencyError
        Where the package for its protocol is not installed.
    """
    system, path = _open(url)
    try:
        found = system.find(path, detail=True)
    except Exception as exc:  # each file system raises its own
        raise InvalidInputError(
            f"{url} must be a folder that can be listed; {_reason(exc)}. Check the address and "
            "the right to read it."
        ) from exc
    base, endings = path.rstrip("/") + "/", image_extensions()
    entries = sorted(
        (name[len(base) :], name, info)
        for name, info in found.items()
        if name.startswith(base) and name.lower().endswith(endings)
    )
    entries = [entry for entry in entries if not any(p[:1] == "." for p in entry[0].split("/"))]
    if not entries:
        raise InvalidInputError(
            f"`images` must hold at least one image; found none below {url}. Looked for "
            f"{', '.join(endings)}."
        )
    items = [
        RemoteImage(system.unstrip_protocol(name), _text(info.get("size")), _version(info))
        for _, name, info in entries
    ]
    return ImageSource(items, "stored", "", [entry[0] for entry in entries], is_folder=True)


def remote_list(urls: Sequence[str]) -> ImageSource:
    """Return the images behind URLs, called by these; whether one has changed is not asked."""
    _open(urls[0])
    return ImageSource([RemoteImage(url) for url in urls], "stored", "", list(urls))


def _open(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it."""
    import fsspec

    protocol = url.partition("://")[0]
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as exc:
        extra = EXTRAS.get(protocol)
        if extra is not None:
            raise missing_extra(f"{protocol}:// needs {extra}fs", extra) from exc
        raise InvalidInputError(
            f"{protocol}:// must be a protocol that fsspec reads with what is installed; {exc}."
        ) from exc
    except Exception as exc:
        raise InvalidInputError(
            f"{url} must be an address that fsspec can open; {_reason(exc)}. Check it."
        ) from exc
    return system, str(path)


def _reason(exc: Exception) -> str:
    text = " ".join(str(exc).split()).rstrip(".")
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def _version(info: dict[str, Any]) -> str:
    return next((_text(info[name]) for name in VERSIONS if info.get(name)), "")


def _text(value: object) -> str:
    return "" if value is None else str(value)
