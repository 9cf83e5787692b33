"""Tests of `clip_al.handed_in.write`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clip_al.errors import InvalidInputError
from clip_al.handed_in.read import read_indices, read_labels, read_picks
from clip_al.handed_in.write import suspect_frame, write_picks, write_subset, write_suspects
from clip_al.label.explain import PickExplanation
from clip_al.subset.selection import Selection
from clip_al.table.embedding_table import EmbeddingTable

IDS = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
EXPECTED = [1, 0, 1, 1]  # dog, cat, dog, dog


@pytest.fixture
def table(tmp_path: Path) -> EmbeddingTable:
    Z = np.eye(4, dtype=np.float32)
    return EmbeddingTable.from_array(tmp_path / "table", Z, IDS, model_id="toy@00000000")


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
    read = read_labels(tmp_path / "s.csv", table)
    assert read.labels.tolist() == EXPECTED
    assert read.class_names == ["cat", "dog"]


def test_suspects_as_a_table(selection: Selection) -> None:
    frame = suspect_frame(selection.suspects(2))
    assert frame.columns.tolist() == ["index", "id", "given", "likelier", "score"]
    assert frame.iloc[0].tolist() == [3, "d.jpg", "dog", "cat", -4.0]
    assert frame.iloc[1].tolist() == [0, "a.jpg", "dog", "cat", -3.0]


def test_picks_read_back_as_indices(table: EmbeddingTable, tmp_path: Path) -> None:
    picks = [PickExplanation(2, ("dog", "a, b"), ("dog",)), PickExplanation(0, ("dog",), ())]
    path = tmp_path / "selection.csv"
    write_picks(path, picks, ids=IDS, paths=IDS, metric=np.array([0.1, 0.2]))
    written = pd.read_csv(path, keep_default_na=False)
    assert written.columns.tolist() == [
        "rank", "index", "id", "path", "margin", "concepts", "added_concepts",
    ]  # fmt: skip
    assert written["concepts"].tolist() == ["dog; a, b", "dog"]
    assert written["added_concepts"].tolist() == ["dog", ""]
    assert read_indices(path, table, "--labelled").indices.tolist() == [2, 0]
    read, told, numbers = read_picks(path, table)
    assert read.indices.tolist() == [2, 0]
    assert told == picks
    assert {name: column.tolist() for name, column in numbers.items()} == {"margin": [0.1, 0.2]}
    write_picks(path, picks, ids=IDS, concepts=False, overwrite=True)
    assert pd.read_csv(path).columns.tolist() == ["rank", "index", "id"]
    assert read_picks(path, table)[1] is None


def test_suspects_with_the_truth(selection: Selection, tmp_path: Path) -> None:
    suspects = selection.suspects(2)
    write_suspects(tmp_path / "s.csv", suspects, truth=["cat", "dog"])
    written = pd.read_csv(tmp_path / "s.csv")
    assert written["truth"].tolist() == ["cat", "dog"]
    assert written.drop(columns="truth").equals(suspect_frame(suspects))


def test_suspects_have_paths_and_room_for_decisions(selection: Selection, tmp_path: Path) -> None:
    paths = [f"/x/{name}" for name in IDS]
    write_suspects(tmp_path / "s.csv", selection.suspects(2), paths=paths)
    written = pd.read_csv(tmp_path / "s.csv", keep_default_na=False)
    assert written.columns.tolist() == [
        "index", "id", "path", "given", "likelier", "score", "decision",
    ]  # fmt: skip
    assert written["path"].tolist() == ["/x/d.jpg", "/x/a.jpg"]
    assert written["decision"].tolist() == ["", ""]


@pytest.mark.parametrize("kind", ["picks", "subset", "suspects"])
def test_a_file_is_replaced_only_on_request(
    selection: Selection, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "a.csv"

    def write(**options: bool) -> None:
        if kind == "picks":
            write_picks(path, [PickExplanation(2, ("dog",), ())], ids=IDS, **options)
        elif kind == "subset":
            write_subset(path, selection, paths=IDS, **options)
        else:
            write_suspects(path, selection.suspects(2), **options)

    path.write_text("mine")
    with pytest.raises(InvalidInputError, match=r"`path` must be new; .*a.csv' is there"):
        write()
    assert path.read_text() == "mine"
    write(overwrite=True)
    assert len(pd.read_csv(path)) > 0
    assert list(tmp_path.iterdir()) == [path]
