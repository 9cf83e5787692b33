"""Tests of `clip_al.show.learning_curves`, the one reader of what plots and reports take."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from clip_al.errors import InvalidInputError
from clip_al.show.learning_curves import mean_curves, read_rounds

ROWS = [
    {"name": "b", "labels": 20, "accuracy": 0.6},
    {"name": "a", "labels": 10, "accuracy": 0.4},
    {"name": "b", "labels": 10, "accuracy": 0.5},
]
FORMS = {
    "list of dict": ROWS,
    "frame": pd.DataFrame(ROWS, index=[7, 7, 9]),
    "columns": {name: [row[name] for row in ROWS] for name in ("accuracy", "labels", "name")},
    "pairs": {"b": ([20, 10], [0.6, 0.5]), "a": (np.array([10]), [0.4])},
}
CURVES = [
    {"name": "b", "labels": [10, 20], "accuracy": [0.5, 0.6]},
    {"name": "a", "labels": [10], "accuracy": [0.4]},
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_curves(form):
    frame = read_rounds(FORMS[form])
    assert frame.columns.tolist() == ["name", "labels", "accuracy"]
    assert mean_curves(frame) == CURVES


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_file_gives_the_same_curves(tmp_path, kind):
    path = tmp_path / "rounds.csv"
    pd.DataFrame(ROWS).to_csv(path, index=False)
    assert mean_curves(read_rounds(kind(path))) == CURVES


def test_a_frame_is_not_changed():
    frame = pd.DataFrame(ROWS)
    before = frame.copy()
    read_rounds(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_repetitions_are_kept_and_averaged():
    frame = read_rounds({"a": ([10, 20, 10], [0.4, 0.9, 0.6])})
    assert len(frame) == 3
    assert mean_curves(frame) == [{"name": "a", "labels": [10, 20], "accuracy": [0.5, 0.9]}]


def test_one_curve_needs_no_name():
    frame = read_rounds({"labels": [1, 2], "accuracy": [0.0, 1.0]})
    assert frame["name"].tolist() == ["", ""]


@pytest.mark.parametrize(
    ("rounds", "message"),
    [
        ({}, "and rows; got the columns none and 0 rows. Write one row a round"),
        (
            {"labels": [1]},
            "must have the columns .* got the columns labels and 1",
        ),
        (pd.DataFrame({"labels": [1], "score": [0.5]}), "columns labels, score and 1 rows"),
        (pd.DataFrame({"labels": [], "accuracy": []}), "columns labels, accuracy and 0 rows"),
        ({"a": ([10], [65.0])}, r"in \[0, 1\]; got 10.* and 65.0 in row 1. .* divide per cents by"),
        ({"a": ([10], [-0.1])}, r"in \[0, 1\]; got 10.* and -0.1 in row 1"),
        ({"a": ([10, np.nan], [0.5, 0.6])}, "finite numbers .* got nan and 0.6 in row 2"),
        ({"a": ([10], ["much"])}, "got 10 and much in row 1. Correct that row"),
        ({"a": ([10, 20], [0.5])}, r"^`rounds\['a'\]` must be as many labels as accuracies; got 2"),
        ({"a": 3}, "^`rounds` must be a table with the columns"),
        (7, "^`rounds` must be a table with the columns"),
        ([1, 2], "^`rounds` must have the columns"),
    ],
)
def test_what_is_refused(rounds, message):
    with pytest.raises(InvalidInputError, match=message):
        read_rounds(rounds)


def test_a_file_is_named_in_the_message(tmp_path):
    path = tmp_path / "rounds.csv"
    path.write_text("labels,accuracy\n10,0.5\n20,high\n")
    with pytest.raises(InvalidInputError, match=r"rounds.csv must hold .* 20 and high in row 2"):
        read_rounds(path)
