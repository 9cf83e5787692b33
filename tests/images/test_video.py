"""Frames of a video: which ones, what they show, and tables of them."""

from __future__ import annotations

import sys

import av
import numpy as np
import pytest

from clip_al import EmbeddingTable
from clip_al.errors import InvalidInputError, MissingDependencyError
from clip_al.images import sources as images
from clip_al.images.parents import parent_codes
from clip_al.images.video import video_source
from tests.command_line import flat, run

RATE, SECONDS = 10, 5
IDENTITY = b"\0\1\0\0" + bytes(12) + b"\0\1\0\0" + bytes(12) + b"\x40\0\0\0"
CLOCKWISE = bytes(4) + b"\0\1\0\0" + bytes(4) + b"\xff\xff\0\0" + bytes(16) + b"\x40\0\0\0"


def grey_of(second):
    return 20 + 40 * second


def write_video(path, seconds=SECONDS, picture=None):
    """Write a video whose grey says which second it is."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(seconds * RATE):
            pixels = np.full((48, 64, 3), grey_of(i // RATE), dtype=np.uint8)
            if picture is not None:
                pixels = picture
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "clip.mp4")


@pytest.mark.parametrize(("every", "times"), [(1, [0, 1, 2, 3, 4]), (2.5, [0, 2.5]), (60, [0])])
def test_a_frame_every_so_many_seconds(clip, every, times):
    source = video_source(clip, every)
    assert source.ids == [f"clip.mp4#t={time:g}" for time in times]
    for index, time in reversed(list(enumerate(times))):  # in any order
        shown = np.asarray(source.load(index))
        assert shown.shape == (48, 64, 3)
        assert abs(shown.mean() - grey_of(int(time))) < 4


def test_each_frame_is_what_playing_it_shows(clip):
    with av.open(str(clip)) as container:
        played = [np.asarray(frame.to_image()) for frame in container.decode(video=0)]
    source = video_source(clip, 0.1)
    assert len(source) == len(played) == RATE * SECONDS
    for index in (0, 1, 9, 10, 33, 49):
        np.testing.assert_array_equal(np.asarray(source.load(index)), played[index])


def test_a_phone_that_was_held_upright(tmp_path):
    picture = np.zeros((48, 64, 3), dtype=np.uint8)
    picture[:, :32, 0] = 255  # red on the left as it lies: on top when turned clockwise
    path = write_video(tmp_path / "tall.mp4", seconds=1, picture=picture)
    content = path.read_bytes()
    at = content.index(IDENTITY, content.index(b"tkhd"))
    path.write_bytes(content[:at] + CLOCKWISE + content[at + 36 :])
    shown = np.asarray(video_source(path, 1).load(0)).astype(int)
    assert shown.shape == (64, 48, 3)
    assert shown[:28, :, 0].mean() > 200
    assert shown[36:, :, 0].mean() < 50


def test_a_table_of_a_folder_of_videos_follows_it(tmp_path, encoder):
    folder = tmp_path / "videos"
    (folder / "in").mkdir(parents=True)
    write_video(folder / "b.mp4", seconds=2)
    write_video(folder / "in" / "a.mkv", seconds=1)
    (folder / "photo.jpg").write_bytes(b"not a video")
    table = EmbeddingTable.create(tmp_path / "t", video_source(folder, 1), encoder)
    assert table.ids.tolist() == ["b.mp4#t=0", "b.mp4#t=1", "in/a.mkv#t=0"]
    assert parent_codes(table.ids).tolist() == [0, 0, 1]
    again = EmbeddingTable.create(tmp_path / "t", video_source(folder, 1), encoder)
    assert again.changes == (0, 0, 0, 0)
    write_video(folder / "a.mp4", seconds=1)
    grown = EmbeddingTable.create(tmp_path / "t", video_source(folder, 1), encoder)
    assert grown.ids.tolist() == [*table.ids, "a.mp4#t=0"]


def test_a_video_is_hashed_once_for_all_its_frames(tmp_path, monkeypatch):
    source = video_source(write_video(tmp_path / "clip.mp4"), 0.5)
    read, file_hash = [], images._file_hash
    monkeypatch.setattr(images, "_file_hash", lambda file: read.append(1) or file_hash(file))
    found = {source.fingerprint(i, hash_content=True) for i in range(len(source))}
    assert (len(source), len(found), len(read)) == (10, 1, 1)


def test_the_command_takes_a_video(clip, tmp_path):
    result = run("embed", clip, "--every", 2, "-o", tmp_path / "t")
    assert result.exit_code == 0, result.output
    assert "3 frames, one every 2 s" in flat(result)
    assert len(EmbeddingTable.open(tmp_path / "t")) == 3
    result = run("embed", clip, "-o", tmp_path / "u")
    assert result.exit_code == 2
    assert "`--every SECONDS` must come with a video" in flat(result)
    result = run("embed", clip, "--every", 0, "-o", tmp_path / "u")
    assert "`--every` must be at least 0.001" in flat(result)


def test_what_is_no_video_is_refused(tmp_path, clip, monkeypatch):
    with pytest.raises(InvalidInputError, match="must be a video, or a folder that holds some"):
        video_source(tmp_path, 1)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(InvalidInputError, match=r"bad\.mp4 must be a video that can be opened"):
        video_source(tmp_path / "bad.mp4", 1)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"need PyAV.*clip_al\[video\]"):
        video_source(clip, 1)
