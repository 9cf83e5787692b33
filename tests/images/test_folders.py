"""What a folder holds, and what of it is named as left out."""

import os
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from clip_al.cli.main import app
from clip_al.errors import InvalidInputError, LeftOutWarning
from clip_al.images import folders
from clip_al.images.folders import describe_left_out, find_images
from clip_al.images.sources import image_source


@pytest.fixture(autouse=True)
def _without_heif(monkeypatch):
    monkeypatch.setattr(folders, "image_extensions", lambda: folders.IMAGE_EXTENSIONS)


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "photos"
    (home / "sub").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(home / "a.jpg")
    for name in (
        "1.heic", "2.HEIC", "sub/3.heic", "sub/4.heif", "b.CR2", "c.mp4", "sub/d.tar.gz", "e.zip",
        "README", "notes.txt", "labels.csv", ".hidden.heic", ".DS_Store",
    ):  # fmt: skip
        (home / name).write_bytes(b"x")
    (tmp_path / "elsewhere").mkdir()
    (home / "linked").symlink_to(tmp_path / "elsewhere")
    return home


def test_what_is_left_out_is_counted(folder):
    found = find_images(folder)
    assert found.names == ["a.jpg"]
    assert found.left_out == {
        ".heic": 3, ".heif": 1, ".cr2": 1, ".mp4": 1, ".gz": 1, ".zip": 1, "linked folder": 1,
        "without an ending": 1,
    }  # fmt: skip


def test_what_is_left_out_is_said_with_what_to_do(folder):
    with pytest.warns(LeftOutWarning) as caught:
        image_source(folder)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert message.startswith(f"In {str(folder)!r} left out: 3 .heic, 1 .cr2, 1 .gz, 1 .heif, ")
    for part in (
        "1 linked folder", "1 file without an ending", '`pip install "clip_al[heif]"`', "--every 2",
        "Archives: unpack them.", "Raw photos: develop",
    ):  # fmt: skip
        assert part in message


def test_the_command_says_it(folder, tmp_path):
    with pytest.warns(LeftOutWarning, match=r"left out: 3 .heic, .* 1 linked folder"):
        done = CliRunner().invoke(app, ["embed", str(folder), "-o", str(tmp_path / "t")])
    assert done.exit_code == 0, done.output


def test_a_folder_of_nothing_else_says_it_too(folder):
    (folder / "a.jpg").unlink()
    with pytest.raises(InvalidInputError, match=r"found none .* In it left out: 3 .heic, 1 .cr2"):
        image_source(folder)


def test_nothing_is_said_where_nothing_was_left_out(tmp_path, recwarn):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("of no interest")
    assert image_source(tmp_path).ids == ["a.jpg"]
    assert not recwarn.list
    assert describe_left_out({}) == ""


def test_many_of_a_kind():
    assert describe_left_out({"linked folder": 2}).startswith("left out: 2 linked folders. Links")
    assert "4,000 files without an ending" in describe_left_out({"without an ending": 4000})


@pytest.mark.skipif(sys.platform == "win32", reason="other permissions")
def test_a_folder_that_may_not_be_listed_is_named(folder, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("sub"):  # root may list everything
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert find_images(Path(folder)).left_out["closed folder"] == 1
