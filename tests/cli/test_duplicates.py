"""`clip-al duplicates`, and one of a group in `clip-al select`."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from clip_al.find.near_duplicates import near_duplicates
from clip_al.table.embedding_table import EmbeddingTable
from tests.command_line import flat, run
from tests.reference import random_unit

N = 40


@pytest.fixture
def place(tmp_path):
    """A table of 40 images: 0, 10 and 20 are near-copies, and so are 1 and 31."""
    rows = random_unit(np.random.default_rng(0), N, 16)
    for i, of in ((10, 0), (20, 0), (31, 1)):
        rows[i] = rows[of] + 0.02 * random_unit(np.random.default_rng(i), 1, 16)[0]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = [f"{'train' if i < 30 else 'test'}/{i:02d}.jpg" for i in range(N)]
    EmbeddingTable.from_array(tmp_path / "t", rows, ids, model_id="toy")
    return tmp_path


def test_groups_are_printed_and_written(place):
    result = run("duplicates", place / "t", "-o", place / "copies.csv")
    assert result.exit_code == 0, result.output
    assert "2 groups: 5 of 40 images have a near-copy; one of each leaves 37" in flat(result)
    assert "Wrote 5 rows to" in flat(result)
    written = pd.read_csv(place / "copies.csv")
    assert written["id"].tolist() == [f"{p}.jpg" for p in (
        "train/00", "train/10", "train/20", "train/01", "test/31")]  # fmt: skip
    assert written["group"].tolist() == [1, 1, 1, 2, 2]
    assert written["representative"].tolist() == ["train/00.jpg"] * 3 + ["train/01.jpg"] * 2
    assert written["similarity"].between(0.99, 1).all()
    again = run("duplicates", place / "t", "-o", place / "copies.csv")
    assert again.exit_code == 2
    assert "must not exist yet" in flat(again)


def test_copies_across_splits_are_named(place):
    result = run("duplicates", place / "t", "--splits", "folders")
    assert "1 group has images of test and train: 1 of test, 1 of train." in flat(result)
    frame = pd.DataFrame({"id": EmbeddingTable.open(place / "t").ids, "split": "a"})
    frame.loc[[0, 20], "split"] = "b"
    frame.to_csv(place / "splits.csv", index=False)
    result = run("duplicates", place / "t", "--splits", place / "splits.csv", "--json")
    said = json.loads(result.stdout)
    assert said["leaks"] == [
        {"first": "a", "second": "b", "n_groups": 1, "n_first": 1, "n_second": 2}
    ]
    assert (said["groups"], said["images_in_groups"], said["distinct"]) == (2, 5, 37)
    assert said["exact"] is True
    frame["split"] = "a"
    frame.to_csv(place / "one.csv", index=False)
    none = run("duplicates", place / "t", "--splits", place / "one.csv")
    assert "No group has images of two splits." in flat(none)


def test_nothing_found(place):
    result = run("duplicates", place / "t", "--threshold", "1.0")
    assert "None of the 40 images has a near-copy (cosine at least 1)." in flat(result)


def test_links_over_images_between_are_pointed_out(tmp_path):
    angle = np.arange(8) * 0.3
    Z = np.column_stack([np.cos(angle), np.sin(angle)])
    EmbeddingTable.from_array(tmp_path / "t", Z, model_id="toy")
    result = run("duplicates", tmp_path / "t", "--threshold", "0.95")
    assert "Where they are no copies, raise --threshold." in flat(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--threshold", "1.2"), "`--threshold` must be finite, above 0, at most 1; got 1.2"),
        (("--splits", "none.csv"), "none.csv"),
    ],
)
def test_what_is_refused(place, options, message):
    result = run("duplicates", place / "t", *options)
    assert result.exit_code == 2
    assert message in flat(result)


def test_folders_need_a_folder_in_each_id(tmp_path):
    EmbeddingTable.from_array(tmp_path / "t", np.eye(3), ["a/1", "2", "b/3"], model_id="toy")
    result = run("duplicates", tmp_path / "t", "--splits", "folders")
    assert result.exit_code == 2
    assert "each id must begin with the folder of a split, as train/1.jpg; '2' does not" in flat(
        result
    )


def test_select_takes_one_of_a_group_and_none_of_a_labelled_one(place):
    (place / "labelled.txt").write_text("train/20.jpg\ntrain/05.jpg\n")
    result = run(
        "select", place / "t", "--budget", 35, "--one-of-copies", "0.95", "-o",
        place / "picks.csv", "--labelled", place / "labelled.txt",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    picks = pd.read_csv(place / "picks.csv")["index"]
    assert sorted(picks) == [i for i in range(N) if i not in (0, 5, 10, 20, 31)]
    assert "3 near-copies left out" in flat(result)
    groups = near_duplicates(EmbeddingTable.open(place / "t")).representative[picks]
    assert len(set(groups.tolist())) == 35


def test_one_of_copies_is_a_cosine(place):
    result = run(
        "select", place / "t", "--budget", 3, "--one-of-copies", "95", "-o", place / "p.csv"
    )
    assert result.exit_code == 2
    assert "`--one-of-copies` must be finite, above 0, at most 1; got 95" in flat(result)


def test_a_budget_larger_than_what_is_distinct_is_refused(place):
    result = run(
        "select", place / "t", "--budget", 38, "--one-of-copies", "0.95", "-o", place / "p.csv"
    )
    assert result.exit_code == 2
    assert "`--budget` must be in [1, 37]" in flat(result)


def test_one_of_copies_belongs_to_a_budget(place):
    result = run(
        "select", place / "t", "--ratio", 0.5, "--labels", "folders", "--one-of-copies", "0.9",
        "-o", place / "p.csv",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "`--one-of-copies` must come with `--budget`" in flat(result)
