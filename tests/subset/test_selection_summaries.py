"""Tests of `clip_al.subset.selection_summaries`, through `Selection`."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.subset.selection import Selection
from clip_al.subset.selection_summaries import Suspect, label_noise_in_words
from tests.helpers import exactly
from tests.subset.selections import NAMES, make


@pytest.fixture
def selection():
    return make()


# Suspects


def test_suspects_come_lowest_score_first_ties_by_index(selection):
    assert selection.suspects(3) == [
        Suspect(4, "e.jpg", "dog", "ox", -5.0),
        Suspect(1, "b.jpg", "cat", "dog", -3.0),
        Suspect(5, "f.jpg", "ox", "cat", -3.0),
    ]
    assert [s.index for s in selection.suspects(6)] == [4, 1, 5, 3, 2, 0]


def test_suspects_by_alignment_where_there_is_no_score_of_the_label():
    selection = Selection([0], 3, scores={"sas": [0.3, 0.1, 0.2]})
    assert selection.suspects(2) == [
        Suspect(1, None, None, None, 0.1),
        Suspect(2, None, None, None, 0.2),
    ]


def test_suspects_without_names_are_numbers():
    selection = make(class_names=None, ids=None)
    assert selection.suspects(1) == [Suspect(4, None, 1, 2, -5.0)]


def test_twenty_suspects_unless_told():
    assert len(Selection([0], 30, scores={"sas": np.arange(30.0)}).suspects()) == 20


def test_suspects_need_a_score(selection):
    bare = Selection([0], 3, scores={"sds": np.zeros(3)})
    message = (
        "To rank suspects, `scores` must hold 'label_score' or 'sas'; got 'sds'. Pass the score "
        "of each label."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        bare.suspects(1)
    with pytest.raises(InvalidInputError, match=r"`n` must be in \[1, 6\]; got 7"):
        selection.suspects(7)


# The report


def test_the_report_counts_before_and_after(selection):
    report = selection.report()
    assert (report.n_images, report.n_selected) == (6, 3)
    assert report.classes.to_dict("list") == {
        "name": ["cat", "dog", "ox"],
        "before": [3, 2, 1],
        "after": [2, 1, 0],
        "share_before": pytest.approx([1 / 2, 1 / 3, 1 / 6]),
        "share_after": pytest.approx([2 / 3, 1 / 3, 0]),
        "kept": pytest.approx([2 / 3, 1 / 2, 0]),
    }
    assert report.class_balance == (pytest.approx(1 / 3), 0.0)
    assert report.groups["name"].tolist() == ["day", "night"]
    assert report.groups["after"].tolist() == [2, 1]
    assert report.group_balance == (0.5, 0.5)


def test_the_report_can_be_read(selection):
    text = str(selection.report())
    assert text.startswith("3 of 6 images selected (50.0%)\n")
    assert "least / most frequent class: 0.33 before, 0.00 after" in text
    assert "least / most frequent group: 0.50 before, 0.50 after" in text
    assert re.search(r"dog +2 +1 +0.333 +0.333 +0.500", text)


def test_classes_without_images_do_not_count_as_least():
    report = make(class_names=(*NAMES, "yak"), indices=(0, 3, 5)).report()
    assert report.class_balance == (pytest.approx(1 / 3), 1.0)
    assert np.isnan(report.classes["kept"].iloc[3])


def test_a_report_without_labels_and_groups():
    report = Selection([0], 4).report()
    assert report.classes is None
    assert report.class_balance is None
    assert str(report) == "1 of 4 images selected (25.0%)"


# Comparing


def test_compare_says_what_moves(selection):
    comparison = selection.compare(make(indices=(0, 1, 4, 5)))
    assert comparison.n_overlap == 2
    assert comparison.jaccard == 2 / 5
    assert comparison.added.tolist() == [0, 5]
    assert comparison.removed.tolist() == [2]
    assert comparison.moved == {"cat": (1, 1), "ox": (1, 0)}
    assert str(comparison) == (
        "2 images in both (Jaccard 0.400), 2 added, 1 removed\n  cat: +1 -1\n  ox: +1 -0"
    )


def test_compare_with_itself_and_without_labels(selection):
    comparison = selection.compare(selection)
    assert (comparison.n_overlap, comparison.jaccard) == (3, 1.0)
    assert comparison.moved == {}
    assert Selection([0], 6).compare(selection).moved is None


@given(seed=st.integers(0, 2**16), n=st.integers(1, 30))
def test_compare_is_the_reverse_the_other_way(seed, n):
    rng = np.random.default_rng(seed)
    one, other = (
        Selection.from_indices(rng.permutation(n)[: rng.integers(1, n + 1)], n) for _ in range(2)
    )
    there, back = one.compare(other), other.compare(one)
    assert (
        there.added.tolist()
        == back.removed.tolist()
        == sorted(set(other.indices) - set(one.indices))
    )
    union = set(one.indices) | set(other.indices)
    assert there.jaccard == back.jaccard == len(set(one.indices) & set(other.indices)) / len(union)


def test_selections_of_other_images_cannot_be_compared(selection):
    smaller, renamed = Selection([0], 5), make(ids=list("abcdef"))
    with pytest.raises(InvalidInputError, match="this one is of 6 images, the other of 5"):
        selection.compare(smaller)
    with pytest.raises(InvalidInputError, match=r"image 0 is 'a\.jpg' here and 'a' in the other"):
        selection.compare(renamed)
    with pytest.raises(InvalidTypeError, match="must be a Selection; got list"):
        selection.compare([1, 2])


def test_names_that_are_not_utf_8_are_shown():
    names = ["a", "caf\udce9"]
    selection = Selection.from_indices(
        [0], 2, y=[0, 1], class_names=names, groups=names, ids=names, scores={"likeliest": [1, 0]}
    )
    frame = selection.to_frame()
    for column in ("id", "given", "group"):
        assert frame[column].tolist() == names
    assert frame["likeliest"].tolist() == names[::-1]
    assert selection.report().classes["name"].tolist() == names


PAIR = {"true": "cat", "given": "dog", "share": 0.05, "low": 0.04, "high": 0.06}


@pytest.mark.parametrize(
    ("settings", "share", "pairs"),
    [
        ({}, "", []),
        ({"wrong_fraction": "?"}, "", []),
        ({"wrong_fraction": 0.123}, "12.3% of the labels look wrong, as if drawn by chance", []),
        (
            {"wrong_fraction": 0.1, "wrong_interval": [0.08, 0.12], "confused_pairs": [PAIR]},
            "10 % of the labels look wrong (8–12 %)",
            ["cat labelled dog: 4–6 % of cat"],
        ),
        (
            {"wrong_fraction": 0.0, "wrong_interval": [0.0, 0.031], "confused_pairs": "?"},
            "no sign of more than 4 % wrong labels",
            [],
        ),
        # A file that was written to by hand: what it still says is said.
        (
            {"wrong_fraction": 0.0, "wrong_interval": [0, "?"], "confused_pairs": [{"true": 1}]},
            "no sign of labels drawn by chance",
            [],
        ),
    ],
)
def test_wrong_labels_in_words(settings, share, pairs):
    assert label_noise_in_words(settings) == (share, pairs)
