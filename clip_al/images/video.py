"""Frames of videos, one every few seconds, as images; PyAV is imported on first use."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from clip_al.errors import InvalidInputError, InvalidTypeError, missing_extra
from clip_al.images.folders import VIDEO_EXTENSIONS
from clip_al.images.parents import frame_id
from clip_al.images.sources import Fingerprint, ImageSource, digest_of


@dataclass(frozen=True)
class VideoFrame:
    """What a video shows at a time.

    Parameters
    ----------
    path : str
        Absolute.
    time_s : float
        Since its first frame.
    size, mtime_ns : int
        Of the file.
    """

    path: str
    time_s: float
    size: int
    mtime_ns: int

    def __str__(self) -> str:
        return frame_id(self.path, self.time_s)

    def read(self) -> Image.Image:
        """Return the frame, upright: sought from the last one that stands alone before it."""
        av = av_module()
        with av.open(self.path) as container:
            stream = container.streams.video[0]
            target = (stream.start_time or 0) + round(self.time_s / stream.time_base)
            container.seek(target, stream=stream, backward=True)
            shown = None
            for frame in container.decode(stream):
                if shown is not None and frame.pts is not None and frame.pts > target:
                    break
                shown = frame
            if shown is None:
                raise InvalidInputError(f"the video shows nothing at {self.time_s:g} s")
            return _upright(shown)

    def fingerprint(self, *, hash_content: bool) -> Fingerprint:
        """Return what tells whether it is of the same file; it has no path of its own."""
        if hash_content:
            digest = digest_of(self.path, self.size, self.mtime_ns)
            return Fingerprint("", str(self.size), "", digest)
        return Fingerprint("", str(self.size), str(self.mtime_ns), "")


def is_video(name: str) -> bool:
    """Return whether a file is one that holds frames, by its ending."""
    return name.lower().endswith(VIDEO_EXTENSIONS)


def video_source(videos: str | os.PathLike[str], every_s: float) -> ImageSource:
    """Return a frame of each so many seconds of a video, or of all videos of a folder.

    Parameters
    ----------
    videos : path
        A file, or a folder that is searched recursively.
    every_s : float
        Seconds between two frames, from the first on; at least 0.001.

    Returns
    -------
    ImageSource
        Frames in the order of the files and of time, called ``clip.mp4#t=12.5``. The frame at a
        time is the one that a player shows then.

    Raises
    ------
    InvalidInputError
        Where there is no video, or one cannot be opened or has no picture.
    MissingDependencyError
        Where PyAV is not installed.
    """
    if isinstance(every_s, bool) or not isinstance(every_s, int | float):
        raise InvalidTypeError(f"`every_s` must be a number of seconds; got {every_s!r}. Pass 2.0.")
    if not 1e-3 <= every_s < math.inf:
        raise InvalidInputError(
            f"`every_s` must be at least 0.001, in seconds; got {every_s}. Pass 2.0, for instance."
        )
    home = Path(os.path.abspath(videos))  # noqa: PTH100
    root = home if home.is_dir() else home.parent
    files = [home]
    if home.is_dir():
        files = sorted(path for path in home.rglob("*") if is_video(path.name) and path.is_file())
    if not files or not files[0].is_file():
        raise InvalidInputError(
            f"`images` must be a video, or a folder that holds some, where frames are wanted; "
            f"{str(videos)!r} is not. Looked for {', '.join(VIDEO_EXTENSIONS)}."
        )
    ids, items = [], []
    for path in files:
        status = path.stat()
        for i in range(max(1, math.ceil(_duration_s(path) / every_s - 1e-6))):
            time_s = round(i * every_s, 3)
            ids.append(frame_id(path.relative_to(root).as_posix(), time_s))
            items.append(VideoFrame(str(path), time_s, status.st_size, status.st_mtime_ns))
    return ImageSource(items, "stored", str(root), ids, is_folder=True)


def _duration_s(path: Path) -> float:
    """Return how long a video is: as its header says, else until its last packet."""
    av = av_module()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InvalidInputError(f"{path} must have a picture; it has none. Leave it out.")
            stream = container.streams.video[0]
            if stream.duration is not None:
                return float(stream.duration * stream.time_base)
            if container.duration is not None:
                return float(container.duration / av.time_base)
            start = stream.start_time or 0
            ends = [p.pts - start for p in container.demux(stream) if p.pts is not None]
            return float(max(ends, default=0) * stream.time_base) + 1e-3
    except (av.FFmpegError, OSError) as exc:
        raise InvalidInputError(
            f"{path} must be a video that can be opened; {exc}. Copy it again, or leave it out."
        ) from exc


def _upright(frame: Any) -> Image.Image:
    """Return a frame turned as its file says, as phones hold it."""
    image: Image.Image = frame.to_image()
    angle = round(frame.rotation / 90.0) * 90  # counterclockwise, as Pillow counts
    return image.rotate(angle, expand=True) if angle % 360 else image


def av_module() -> Any:
    """Return PyAV."""
    try:
        import av
    except ImportError as exc:
        raise missing_extra("Frames of a video need PyAV", "video") from exc
    return av
