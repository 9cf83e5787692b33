from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clip_al.encode.table import EmbeddingTable
from clip_al.errors import InvalidInputError
from clip_al.handed_in.picks_and_probabilities import (
    read_indices,
    read_probabilities,
    write_selection,
)
from clip_al.label.concept_sampling import PickExplanation

IDS = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


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
    assert read_indices(tmp_path / name, table, "--labelled").tolist() == [2, 0]


def test_indices_from_npy(table: EmbeddingTable, tmp_path: Path) -> None:
    np.save(tmp_path / "i.npy", np.array([2, 0]))
    assert read_indices(tmp_path / "i.npy", table, "--labelled").tolist() == [2, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold at least one line; it is empty. Leave the option out instead."),
        ("id\nb.jpgg\n", "The closest are 'b.jpg'"),
        ("id\na.jpg\na.jpg\n", "`--labelled` must name each image once; got 0 more than once."),
        ("index\n4\n", "`--labelled` must be in [0, 3], the positions of 4 images; got 4."),
        ("index\n1.5\n", "must hold whole numbers; got '1.5'. Use a column `id` for names."),
        ("name,label\na.jpg,1\n", "must have a column `id` or `index`, or be one id a line; got"),
    ],
)
def test_bad_indices(table: EmbeddingTable, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        read_indices(tmp_path / "x.csv", table, "--labelled")


def test_probabilities_by_id_in_any_order(table: EmbeddingTable, tmp_path: Path) -> None:
    rows = {"d.jpg": (0.4, 0.6), "a.jpg": (0.1, 0.9), "b.jpg": (0.2, 0.8), "c.jpg": (0.3, 0.7)}
    lines = [f"{a},{name},{b}" for name, (a, b) in rows.items()]
    (tmp_path / "p.csv").write_text("\n".join(["cat,id,dog", *lines, "0.5,other.jpg,0.5"]))
    read = read_probabilities(tmp_path / "p.csv", table)
    np.testing.assert_array_equal(read, [rows[name] for name in IDS])


def test_probabilities_without_ids_are_in_order(table: EmbeddingTable, tmp_path: Path) -> None:
    expected = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]])
    pd.DataFrame(expected, columns=["cat", "dog"]).to_csv(tmp_path / "p.csv", index=False)
    np.save(tmp_path / "p.npy", expected)
    np.testing.assert_allclose(read_probabilities(tmp_path / "p.csv", table), expected)
    np.testing.assert_array_equal(read_probabilities(tmp_path / "p.npy", table), expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat,dog\n0.5,0.5\n", "must have one row for each of the 4 images; got 1."),
        ("id,cat\na.jpg,1\n", "3 are missing, the first is 'b.jpg'. Predict on all of them."),
        ("id,cat\na.jpg,1\na.jpg,1\n", "must name each image once; got 'a.jpg' more than once."),
        ("cat,dog\n" + "0.5,x\n" * 4, "the column `dog` does not everywhere."),
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


def test_selection_reads_back_as_indices(table: EmbeddingTable, tmp_path: Path) -> None:
    picks = [PickExplanation(2, ("dog", "a, b"), ("dog",)), PickExplanation(0, ("dog",), ())]
    path = tmp_path / "selection.csv"
    write_selection(path, picks, ids=IDS, paths=IDS, metric=np.array([0.1, 0.2]))
    written = pd.read_csv(path, keep_default_na=False)
    assert written.columns.tolist() == [
        "rank", "index", "id", "path", "margin", "concepts", "added_concepts",
    ]  # fmt: skip
    assert written["concepts"].tolist() == ["dog; a, b", "dog"]
    assert written["added_concepts"].tolist() == ["dog", ""]
    assert read_indices(path, table, "--labelled").tolist() == [2, 0]
