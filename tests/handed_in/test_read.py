"""Tests of `clip_al.handed_in.read`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clip_al.errors import InvalidInputError
from clip_al.handed_in.read import (
    LabelsRead,
    read_groups,
    read_indices,
    read_labels,
    read_probabilities,
)
from clip_al.table.embedding_table import EmbeddingTable

IDS = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
EXPECTED = [1, 0, 1, 1]  # dog, cat, dog, dog


def told(read: LabelsRead) -> tuple[np.ndarray, list[str]]:
    return read.labels, read.class_names


@pytest.fixture
def table(tmp_path: Path) -> EmbeddingTable:
    Z = np.eye(4, dtype=np.float32)
    return EmbeddingTable.from_array(tmp_path / "table", Z, IDS, model_id="toy@00000000")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ids.txt", "c.jpg\na.jpg\n"),
        ("ids.csv", "id,label\nc.jpg,3\na.jpg,1\n"),
        ("index.csv", "index,label\n2,3\n0,1\n"),
    ],
)
def test_indices_from_text(table: EmbeddingTable, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_indices(tmp_path / name, table, "--labelled").indices.tolist() == [2, 0]


def test_indices_from_npy(table: EmbeddingTable, tmp_path: Path) -> None:
    np.save(tmp_path / "i.npy", np.array([2, 0]))
    assert read_indices(tmp_path / "i.npy", table, "--labelled").indices.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold at least one line; it is empty. Leave the option out instead."),
        ("id\nb.jpgg\n", "The closest are 'b.jpg'"),
        (
            "id\na.jpg\na.jpg\n",
            "must name each image once; got 'a.jpg' more than once. Remove the duplicate.",
        ),
        ("index\n4\n", "must be in [0, 3], the positions of 4 images; got 4. Count"),
        ("index\n1.5\n", "must hold whole numbers; got '1.5'. Use a column `id` for names."),
        ("name,label\nx.jpg,1\na.jpg,1\n", "1 of 2 rows do not, the first is 'x.jpg', where"),
    ],
)
def test_bad_indices(table: EmbeddingTable, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    message = re.escape(message.replace("{path}", str(tmp_path / "x.csv")))
    with pytest.raises(InvalidInputError, match=message):
        read_indices(tmp_path / "x.csv", table, "--labelled")


def test_probabilities_by_id_in_any_order(table: EmbeddingTable, tmp_path: Path) -> None:
    rows = {"d.jpg": (0.4, 0.6), "a.jpg": (0.1, 0.9), "b.jpg": (0.2, 0.8), "c.jpg": (0.3, 0.7)}
    lines = [f"{a},{name},{b}" for name, (a, b) in rows.items()]
    (tmp_path / "p.csv").write_text("\n".join(["cat,id,dog", *lines, "0.5,other.jpg,0.5"]))
    read = read_probabilities(tmp_path / "p.csv", table).probabilities
    np.testing.assert_array_equal(read, [rows[name] for name in IDS])


def test_probabilities_without_ids_are_in_order(table: EmbeddingTable, tmp_path: Path) -> None:
    expected = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]])
    pd.DataFrame(expected, columns=["cat", "dog"]).to_csv(tmp_path / "p.csv", index=False)
    np.save(tmp_path / "p.npy", expected)
    for name in ("p.csv", "p.npy"):
        read = read_probabilities(tmp_path / name, table).probabilities
        np.testing.assert_allclose(read, expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "cat,dog\n0.5,0.5\n",
            "must have one row of probabilities for each of the 4 images; got 1.",
        ),
        ("id,cat\na.jpg,1\n", "3 are missing, the first is 'b.jpg'. Predict on all of them."),
        ("id,cat\na.jpg,1\na.jpg,1\n", "must name each image once; got 'a.jpg' more than once."),
        ("cat,dog\n" + "0.5,.5\n" * 3 + "0.5,x", "`dog` does not everywhere, it has 'x'."),
        ("cat,dog\n" + "2,3\n" * 4, "each row must sum to 1; got row 0, which sums to 5."),
    ],
)
def test_bad_probabilities(table: EmbeddingTable, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        read_probabilities(tmp_path / "p.csv", table)


def test_a_file_that_is_no_array(table: EmbeddingTable, tmp_path: Path) -> None:
    (tmp_path / "p.npy").write_bytes(b"text")
    with pytest.raises(InvalidInputError, match=re.escape("as `numpy.save` writes it")):
        read_probabilities(tmp_path / "p.npy", table)


# Labels and groups


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
    codes, names = told(read_labels(tmp_path / "y.csv", table))
    assert codes.tolist() == EXPECTED
    assert codes.dtype == np.int64
    assert names == ["cat", "dog"]


def test_labels_that_are_numbers(table: EmbeddingTable, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\nbird\n")
    np.save(tmp_path / "y.npy", np.array(EXPECTED))
    # pandas writes whole numbers like this where a column once had gaps.
    (tmp_path / "y.csv").write_text("label\n1.0\n0.0\n1.0\n1.0\n")
    for name in ("y.npy", "y.csv"):
        codes, names = told(read_labels(tmp_path / name, table, tmp_path / "names.txt"))
        assert codes.tolist() == EXPECTED
        assert names == ["cat", "dog", "bird"]


def test_classes_give_names_their_order(table: EmbeddingTable, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("dog\ncat\n")
    (tmp_path / "y.csv").write_text("dog\ncat\ndog\ndog\n")
    codes, names = told(read_labels(tmp_path / "y.csv", table, tmp_path / "names.txt"))
    assert codes.tolist() == [0, 1, 0, 0]
    assert names == ["dog", "cat"]


def test_classes_that_are_called_by_numbers(table: EmbeddingTable, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("8\n7\n")
    (tmp_path / "y.csv").write_text("7\n8\n7\n7\n")
    codes, _ = told(read_labels(tmp_path / "y.csv", table, tmp_path / "names.txt"))
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
            "must have a column `label`, or be one label a line; got the columns `id` ('a.jpg'), "
            "`class` ('dog'). Name the column `label`.",
        ),
        (
            "class\ndog\ncat\ndog\ndog\n",
            "must have one label for each of the 4 images; got 5. Call a header line `label`, "
            "and have a column `id` where the order is not the table's.",
        ),
        (
            "id,label\na.jpg,dog\nb.jpg,\nc.jpg,dog\nd.jpg,dog\n",
            "must give each image a label; 1 of 4 have none, the first is 'b.jpg' with none. Fill "
            "it in, or make a table without the image.",
        ),
        (
            "3\n0\n1\n1\n",
            "Classes must have names where labels are numbers, as CLIP reads names; {path} has the "
            "label '3', and no file of classes was given. Pass `--classes FILE`: one name a line, "
            "class 0 first.",
        ),
        ("", "must hold at least one line; it is empty."),
    ],
)
def test_bad_labels(table: EmbeddingTable, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "y.csv").write_text(text)
    message = re.escape(message.replace("{path}", str(tmp_path / "y.csv")))
    with pytest.raises(InvalidInputError, match=message):
        read_labels(tmp_path / "y.csv", table)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ("0\n1\n2\n0\n", "cat\ndog\n", "must be in [0, 1], the numbers of the 2 classes of"),
        ("cat\ndog\nfox\ncat\n", "cat\ndog\n", "'c.jpg' has 'fox'."),
        (
            "cat\ncat\ncat\ncat\n",
            "cat\ncat\n",
            "must name each class once where labels are names; got 'cat' more than once. Pass",
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
    (tmp_path / "names.txt").write_bytes(b"PK\x03\x04")
    with pytest.raises(InvalidInputError, match=r"names\.txt must be text; it is an Excel file"):
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
    codes, names = told(read_labels("folders", table))
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
    assert read_groups(tmp_path / "g.csv", table).groups == ["day", "day", "night", "day"]
    (tmp_path / "g.csv").write_text("id,label\na.jpg,x\n")
    with pytest.raises(InvalidInputError, match="must have a column `group`, or be one group a"):
        read_groups(tmp_path / "g.csv", table)
