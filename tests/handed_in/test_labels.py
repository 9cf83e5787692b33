from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clip_al.encode.table import EmbeddingTable
from clip_al.errors import InvalidInputError
from clip_al.handed_in.labels import read_groups, read_labels, suspect_frame, write_subset
from clip_al.subset.selection import Selection

IDS = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
EXPECTED = [1, 0, 1, 1]  # dog, cat, dog, dog


@pytest.fixture
def table(tmp_path: Path) -> EmbeddingTable:
    Z = np.eye(4, dtype=np.float32)
    return EmbeddingTable.from_array(tmp_path / "table", Z, IDS, model_id="toy@00000000")


@pytest.mark.parametrize(
    "text",
    [
        "id,label\nd.jpg,dog\na.jpg,dog\nb.jpg,cat\nother.jpg,bird\nc.jpg,dog\n",
        "label\ndog\ncat\ndog\ndog\n",
        "dog\ncat\ndog\ndog\n",
    ],
)
def test_labels_by_id_or_in_order(table: EmbeddingTable, tmp_path: Path, text: str) -> None:
    (tmp_path / "y.csv").write_text(text)
    codes, names = read_labels(tmp_path / "y.csv", table)
    assert codes.tolist() == EXPECTED
    assert codes.dtype == np.int64
    assert names == ["cat", "dog"]


def test_labels_that_are_numbers(table: EmbeddingTable, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\nbird\n")
    np.save(tmp_path / "y.npy", np.array(EXPECTED))
    # pandas writes whole numbers like this where a column once had gaps.
    (tmp_path / "y.csv").write_text("label\n1.0\n0.0\n1.0\n1.0\n")
    for name in ("y.npy", "y.csv"):
        codes, names = read_labels(tmp_path / name, table, tmp_path / "names.txt")
        assert codes.tolist() == EXPECTED
        assert names == ["cat", "dog", "bird"]


def test_classes_give_names_their_order(table: EmbeddingTable, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("dog\ncat\n")
    (tmp_path / "y.csv").write_text("dog\ncat\ndog\ndog\n")
    codes, names = read_labels(tmp_path / "y.csv", table, tmp_path / "names.txt")
    assert codes.tolist() == [0, 1, 0, 0]
    assert names == ["dog", "cat"]


def test_classes_that_are_called_by_numbers(table: EmbeddingTable, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("8\n7\n")
    (tmp_path / "y.csv").write_text("7\n8\n7\n7\n")
    codes, _ = read_labels(tmp_path / "y.csv", table, tmp_path / "names.txt")
    assert codes.tolist() == EXPECTED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,label\na.jpg,dog\n",
            "3 are missing, the first is 'b.jpg'. Give each a label.",
        ),
        (
            "id,label\na.jpg,dog\na.jpg,cat\n",
            "must name each image once; got 'a.jpg' more than once. Remove the duplicate.",
        ),
        (
            "id,class\na.jpg,dog\n",
            "must have a column `label`, or be one label a line; got the columns id, class. "
            "Name the column `label`.",
        ),
        (
            "class\ndog\ncat\ndog\ndog\n",
            "must have one label for each of the 4 images; got 5. Call a header line `label`, "
            "and have a column `id` where the order is not the table's.",
        ),
        (
            "id,label\na.jpg,dog\nb.jpg,\nc.jpg,dog\nd.jpg,dog\n",
            "must give each image a label; 'b.jpg' has none. Fill it in, or make a table "
            "without the image.",
        ),
        (
            "3\n0\n1\n1\n",
            "`--classes` must name the classes where labels are numbers, as CLIP reads names; "
            "got the label '3' and no names. Pass a text file, one name a line, class 0 first.",
        ),
        ("", "must hold at least one line; it is empty."),
    ],
)
def test_bad_labels(table: EmbeddingTable, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "y.csv").write_text(text)
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        read_labels(tmp_path / "y.csv", table)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ("0\n1\n2\n0\n", "cat\ndog\n", "`--labels` must be in [0, 1], the numbers of the 2"),
        ("cat\ndog\nfox\ncat\n", "cat\ndog\n", "got 'fox' at position 2."),
        (
            "0\n1\n0\n0\n",
            "cat\ncat\n",
            "must name each class once, one a line; got 'cat' more than once. Correct it.",
        ),
        ("0\n1\n0\n0\n", "cat\n\ndog\n", "one a line; got an empty line. Correct it."),
        ("0\n1\n0\n0\n", "", "one a line; got an empty line. Correct it."),
    ],
)
def test_bad_classes(
    table: EmbeddingTable, tmp_path: Path, labels: str, classes: str, message: str
) -> None:
    (tmp_path / "y.csv").write_text(labels)
    (tmp_path / "names.txt").write_text(classes)
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        read_labels(tmp_path / "y.csv", table, tmp_path / "names.txt")


def test_class_names_that_are_no_text(table: EmbeddingTable, tmp_path: Path) -> None:
    (tmp_path / "y.csv").write_text("0\n1\n0\n0\n")
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInputError, match=r"names\.txt must be UTF-8 text; .* Save it as"):
        read_labels(tmp_path / "y.csv", table, tmp_path / "names.txt")


def test_an_array_of_another_kind(table: EmbeddingTable, tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.eye(4))
    message = "must hold one name or whole number an image; got shape (4, 4) and dtype float64."
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        read_labels(tmp_path / "y.npy", table)


def in_folders(folder: Path, paths: list[str]) -> EmbeddingTable:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    Z = np.eye(len(paths), dtype=np.float32)
    return EmbeddingTable.from_array(
        folder / "table", Z, model_id="toy", paths=[folder / path for path in paths]
    )


def test_labels_from_folders(tmp_path: Path) -> None:
    table = in_folders(tmp_path, ["train/dog/1.png", "train/cat/1.png", "test/dog/2.png"])
    codes, names = read_labels("folders", table)
    assert codes.tolist() == [1, 0, 1]
    assert names == ["cat", "dog"]


def test_an_image_in_no_folder_of_a_class(tmp_path: Path) -> None:
    table = in_folders(tmp_path, ["dog/1.png", "2.png"])
    with pytest.raises(InvalidInputError, match=r"With `--labels folders`, .*2\.png' is not\."):
        read_labels("folders", table)


def test_images_without_a_file_are_in_no_folder(table: EmbeddingTable) -> None:
    with pytest.raises(InvalidInputError, match=r"'a\.jpg' is not\. Pass a file of labels\."):
        read_labels("folders", table)


def test_groups(table: EmbeddingTable, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("group,id\nday,d.jpg\nnight,c.jpg\nday,b.jpg\nday,a.jpg\n")
    assert read_groups(tmp_path / "g.csv", table) == ["day", "day", "night", "day"]
    (tmp_path / "g.csv").write_text("id,label\na.jpg,x\n")
    with pytest.raises(InvalidInputError, match="must have a column `group`, or be one group a"):
        read_groups(tmp_path / "g.csv", table)


@pytest.fixture
def selection() -> Selection:
    scores = {
        "sas": np.array([0.1, 0.2, 0.3, 0.4]),
        "sds": np.array([4.0, 3.0, 2.0, 1.0]),
        "label_score": np.array([-3.0, -1.0, -2.0, -4.0]),
        "likeliest": np.array([0, 1, 1, 0]),
        "total": np.array([1.1, 1.2, 1.3, 1.4]),
    }
    return Selection.from_indices(
        [3, 1], 4, scores=scores, y=EXPECTED, class_names=["cat", "dog"], ids=IDS
    )


def test_a_subset_holds_what_was_chosen(selection: Selection, tmp_path: Path) -> None:
    write_subset(tmp_path / "s.csv", selection, paths=[f"/x/{name}" for name in IDS])
    written = pd.read_csv(tmp_path / "s.csv")
    assert written.columns.tolist() == ["index", "id", "path", "label", "sas", "sds", "total"]
    assert written.iloc[0].tolist() == [1, "b.jpg", "/x/b.jpg", "cat", 0.2, 3.0, 1.2]
    assert written.iloc[1].tolist() == [3, "d.jpg", "/x/d.jpg", "dog", 0.4, 1.0, 1.4]
    assert len(written) == 2


def test_a_subset_reads_back_as_labels(
    selection: Selection, table: EmbeddingTable, tmp_path: Path
) -> None:
    write_subset(tmp_path / "s.csv", selection, paths=IDS, all_images=True)
    written = pd.read_csv(tmp_path / "s.csv")
    assert written["selected"].tolist() == [False, True, False, True]
    assert written["likeliest"].tolist() == ["cat", "dog", "dog", "cat"]
    codes, names = read_labels(tmp_path / "s.csv", table)
    assert codes.tolist() == EXPECTED
    assert names == ["cat", "dog"]


def test_suspects_as_a_table(selection: Selection) -> None:
    frame = suspect_frame(selection.suspects(2))
    assert frame.columns.tolist() == ["index", "id", "given", "likelier", "score"]
    assert frame.iloc[0].tolist() == [3, "d.jpg", "dog", "cat", -4.0]
    assert frame.iloc[1].tolist() == [0, "a.jpg", "dog", "cat", -3.0]
