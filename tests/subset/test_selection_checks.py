"""Tests of `clip_al.subset.selection_checks`; scores, graphs and ratios in `test_optimizer`."""

from __future__ import annotations

import numpy as np
import pytest

from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.subset.selection_checks import Groups, encode_classes, encode_groups
from tests.subset.selections import make


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"scores": {"sas": np.zeros(5)}},
            InvalidInputError,
            "one number for each of the 6 images",
        ),
        (
            {"scores": {"selected": np.zeros(6)}},
            InvalidInputError,
            "none of index, id, selected, given, group, .* got 'selected'. Call it otherwise",
        ),
        ({"scores": {3: np.zeros(6)}}, InvalidInputError, "name must be text .*; got 3"),
        ({"scores": [1.0]}, InvalidTypeError, "a mapping of names to scores; got list"),
        ({"labels": list("ab") * 2 + ["a", "a\0"]}, InvalidInputError, r"got 'a\\x00'. Strip it"),
        ({"class_names": ["a", "b", "a\0"]}, InvalidInputError, r"got 'a\\x00'. Strip it"),
        ({"groups": ["a", "a\0"] * 3}, InvalidInputError, r"`groups` .* got 'a\\x00'. Strip it"),
        ({"scores": {"sas": list("abcdef")}}, InvalidInputError, "shape .6,. and dtype <U1"),
        ({"scores": {"likeliest": np.zeros(6)}}, InvalidTypeError, "got dtype float64. Pass what"),
        ({"settings": {"model": object()}}, InvalidTypeError, "JSON can hold; a object is not"),
        ({"settings": {"x": float("nan")}}, InvalidTypeError, "JSON can hold; Out of range"),
        ({"settings": {"x": {1, 2}}}, InvalidTypeError, "JSON can hold; a set is not"),
        ({"labels": [0, 1]}, InvalidInputError, "one label for each of the 6 images"),
        ({"labels": [0, 1, 2, 3, 0, 0]}, InvalidInputError, r"in \[0, 2\].*got 3 at position 3"),
        ({"class_names": "cat"}, InvalidTypeError, "must be a sequence of strings; got 'cat'"),
        ({"ids": ["a"]}, InvalidInputError, "`ids` must name each of the 6 images; got 1"),
        (
            {"groups": [1.5] * 6},
            InvalidTypeError,
            "`groups` must hold names or whole numbers; got ",
        ),
        ({"groups": ["a", None] * 3}, InvalidTypeError, "got dtype object. Convert it"),
        ({"groups": ["a"]}, InvalidInputError, "one entry for each of the 6 images; got shape .1,"),
        ({"groups": Groups(np.full(6, 2), ("a", "b"))}, InvalidInputError, "got 2 at position 0"),
    ],
)
def test_what_does_not_fit_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        make(**changes)


def test_groups_of_numbers_are_in_their_order():
    codes, names = encode_groups(np.array([10, 9, 10]), n_images=3)
    assert names == ("9", "10")
    assert codes.tolist() == [1, 0, 1]


def test_classes_are_those_that_occur_unless_told():
    codes, k, names = encode_classes([2, 0], n_images=2)
    assert (codes.tolist(), k, names) == ([2, 0], 3, None)
    codes, k, names = encode_classes(["b", "a"], n_images=2)
    assert (codes.tolist(), k, names) == ([1, 0], 2, ("a", "b"))
    assert encode_classes([0, 0], n_images=2, n_classes=4)[1] == 4
    with pytest.raises(InvalidInputError, match="name each of the 2 classes; got 3 names"):
        encode_classes([0, 0], n_images=2, n_classes=2, class_names=["a", "b", "c"])
