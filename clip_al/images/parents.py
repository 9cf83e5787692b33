"""Rows that are parts of one thing: frames of a video, crops of a photo.

Their ids end in a media fragment, as the W3C calls it: ``clip.mp4#t=12.5`` for a time in
seconds, ``photo.jpg#xywh=10,20,64,48`` for a box in pixels. What stands before is the parent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_FRAGMENT = re.compile(r"#(?:t=\d+(?:\.\d+)?|xywh=\d+,\d+,\d+,\d+)$")


def frame_id(video: str, time_s: float) -> str:
    """Return what a frame is called, to the millisecond.

    Examples
    --------
    >>> frame_id("a/clip.mp4", 2.5), frame_id("clip.mp4", 12345.0)
    ('a/clip.mp4#t=2.5', 'clip.mp4#t=12345')
    """
    return f"{video}#t={f'{time_s:.3f}'.rstrip('0').rstrip('.')}"


def crop_id(photo: str, box: tuple[int, int, int, int]) -> str:
    """Return what a crop is called: left, top, width and height in pixels.

    Examples
    --------
    >>> crop_id("photo.jpg", (10, 20, 64, 48))
    'photo.jpg#xywh=10,20,64,48'
    """
    return f"{photo}#xywh={','.join(map(str, box))}"


def parent_of(name: str) -> str:
    """Return what a row is a part of; of one that is whole, itself.

    Examples
    --------
    >>> parent_of("clip.mp4#t=12.5"), parent_of("a#1.jpg")
    ('clip.mp4', 'a#1.jpg')
    """
    return _FRAGMENT.sub("", name)


def parent_codes(ids: Iterable[str]) -> NDArray[np.int64]:
    """Return a number for each row, the same for rows of one parent.

    Returns
    -------
    ndarray of shape (n,), int64
        Counted from 0 in the order in which parents come.
    """
    known: dict[str, int] = {}
    codes = [known.setdefault(parent_of(name), len(known)) for name in ids]
    return np.array(codes, dtype=np.int64)
