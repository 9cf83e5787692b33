"""A file of paths: which column, relative to what, and what the images are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_al.errors import InvalidInputError
from clip_al.handed_in.image_lists import read_image_list


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    for name in ("a/1.jpg", "a/2.jpg"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("text", "ids", "told"),
    [
        ("path\na/1.jpg\na/2.jpg\n", ["a/1.jpg", "a/2.jpg"], "2 images by the column `path`, rel"),
        ("id;label;FileName\nx;cat;a/1.jpg\ny;dog;a/2.jpg\n", ["x", "y"], "ids by the column `id`"),
        ("a/1.jpg\na/2.jpg\n", ["a/1.jpg", "a/2.jpg"], "2 images by its lines"),
        ("where\na/1.jpg\na/2.jpg\n", ["a/1.jpg", "a/2.jpg"], "2 images by the column `where`"),
        ("id,label\na/1.jpg,cat\na/2.jpg,dog\n", ["a/1.jpg", "a/2.jpg"], "by the column `id`"),
    ],
)
def test_the_column_of_paths_is_found(photos: Path, text: str, ids: list[str], told: str) -> None:
    (photos / "list.csv").write_text(text)
    read = read_image_list(photos / "list.csv")
    assert read.paths == [str(photos / "a" / "1.jpg"), str(photos / "a" / "2.jpg")]
    assert read.ids == ids
    assert told in read.how


def test_paths_are_relative_to_the_file_or_to_where_one_is(
    photos: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "list.csv"
    elsewhere.write_text("path\na/1.jpg\na/gone.jpg\n")
    assert read_image_list(elsewhere).paths[0] == str(elsewhere.parent / "a" / "1.jpg")
    monkeypatch.chdir(photos)
    read = read_image_list(elsewhere)
    assert read.paths == [str(photos / "a" / "1.jpg"), str(photos / "a" / "gone.jpg")]
    assert f"relative to {photos}" in read.how


def test_a_first_path_of_an_image_that_is_gone_is_no_header(photos: Path) -> None:
    (photos / "list.txt").write_text("a/gone.JPG\na/1.jpg\n")
    assert read_image_list(photos / "list.txt").ids == ["a/gone.JPG", "a/1.jpg"]


def test_urls_and_absolute_paths_stay_as_they_are(photos: Path) -> None:
    file = photos / "list.txt"
    file.write_text("s3://bucket/1.jpg\ns3://bucket/2.jpg\n")
    assert read_image_list(file).paths == ["s3://bucket/1.jpg", "s3://bucket/2.jpg"]
    file.write_text(f"path\n{photos / 'a' / '1.jpg'}\n")
    assert read_image_list(file).paths == [str(photos / "a" / "1.jpg")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,score\ncat,1\n", "must say where images are, in a column `path`"),
        ("path,label\na/1.jpg,cat\n,dog\n", "must give each image a path; row 2 has none"),
        ("path\n", "it has no row"),
        ("path\na/1.jpg\ns3://bucket/1.jpg\n", "must name files or URLs alone; got both"),
    ],
)
def test_what_cannot_be_read_is_refused(photos: Path, text: str, message: str) -> None:
    (photos / "list.csv").write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        read_image_list(photos / "list.csv")
