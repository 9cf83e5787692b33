"""Tests of `clip_al.atomic`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from clip_al import atomic
from clip_al.atomic import as_folder, as_path, check_new, replacing, write_bytes
from clip_al.errors import InvalidInputError, InvalidTypeError


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_file_is_there_when_it_is_complete(tmp_path):
    with replacing(tmp_path / "a.txt") as file:
        file.write("ä\udcff\n")
        assert not (tmp_path / "a.txt").exists()
    assert contents(tmp_path) == {"a.txt": "ä".encode() + b"\xff\n"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_is_not_finished_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as file:  # noqa: PT012
        file.write("half")
        file.flush()
        raise error
    assert contents(tmp_path) == {"a.txt": b"old"}


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError("disk full")

    monkeypatch.setattr(atomic, "sync_file", full)
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"new")
    assert contents(tmp_path) == {"a.txt": b"old"}


def test_two_writers_of_one_name_do_not_mix(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as one, replacing(path) as two:
        one.write("one" * 10)
        two.write("two")
    assert contents(tmp_path) == {"a.txt": b"one" * 10}


def test_a_file_is_replaced_only_on_request(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("mine")
    with pytest.raises(InvalidInputError, match=r"^`path` must be new; .*a.txt' is there. Name an"):
        write_bytes(path, b"new", overwrite=False)
    assert contents(tmp_path) == {"a.txt": b"mine"}
    write_bytes(path, b"new", overwrite=True)
    assert contents(tmp_path) == {"a.txt": b"new"}


def test_a_file_that_came_meanwhile_is_kept(tmp_path):
    path = tmp_path / "a.txt"
    writing = replacing(path, overwrite=False)
    writing.__enter__().write("mine")
    path.write_text("theirs")
    with pytest.raises(InvalidInputError, match="`path` must be new"):
        writing.__exit__(None, None, None)
    assert contents(tmp_path) == {"a.txt": b"theirs"}


@pytest.mark.parametrize("name", ["folder", "none/a.txt", "folder/../none/a.txt"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_must_have_a_place(tmp_path, name, overwrite):
    (tmp_path / "folder").mkdir()
    message = "^`path` must be a file in a folder that exists; got "
    with pytest.raises(InvalidInputError, match=message):
        write_bytes(tmp_path / name, b"", overwrite=overwrite)
    with pytest.raises(InvalidInputError, match=message):
        check_new(tmp_path / name, overwrite=overwrite)


def test_a_link_goes_on_pointing_to_the_file(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_a_device_is_written_to_as_it_is():
    write_bytes("/dev/null", b"gone", overwrite=False)
    with replacing(Path("/dev/null")) as file:
        file.write("gone")
    assert not os.path.isfile("/dev/null")  # noqa: PTH113


@pytest.mark.parametrize("path", [None, 3, b"x", ["x"], np.arange(2)])
def test_what_is_no_path_is_an_error_of_ours(path):
    with pytest.raises(InvalidTypeError, match="`path` must be a path, a string or"):
        as_path(path)
    with pytest.raises(InvalidTypeError, match="`path` must be a path"):
        write_bytes(path, b"x")


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "\ud800"])
def test_a_path_that_cannot_be_looked_up_is_an_error_of_ours(path):
    with pytest.raises(InvalidInputError, match="must be a path that the system can look up") as e:
        as_path(path)
    assert len(str(e.value)) < 400
    with pytest.raises(InvalidInputError):
        write_bytes(path, b"x")


def test_a_name_that_is_not_utf_8_is_a_path(tmp_path):
    assert as_path(tmp_path / "caf\udce9.txt").parent == tmp_path


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    assert as_folder(tmp_path / "new") == tmp_path / "new"
    with pytest.raises(InvalidInputError, match="a file stands in place of one"):
        as_folder(tmp_path / "file" / "below")


@pytest.mark.parametrize("overwrite", ["no", None, np.array([True, False])])
def test_overwrite_is_a_flag(tmp_path, overwrite):
    with pytest.raises(InvalidTypeError, match="`overwrite` must be True or False"):
        write_bytes(tmp_path / "a", b"x", overwrite=overwrite)
