"""Tests of `clip_al.arrays.labels`."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_al.arrays.labels import encode_labels, group_by_class, ordered_names
from clip_al.errors import InvalidInputError, InvalidTypeError
from tests.helpers import exactly
from tests.reference import contents

NAMES = ["cat", "dog", "ox"]


# Numbers


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4"])
def test_numbers_of_every_width(dtype):
    codes = encode_labels(np.array([2, 0, 1], dtype), n_images=3, n_classes=3)
    assert codes.dtype == np.int64
    assert codes.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    "y",
    [
        [1, 0, 1],
        (1, 0, 1),
        [True, False, True],
        np.array([1, 0, 1], dtype=object),
        pd.Series([1, 0, 1], index=[7, 8, 9]),
        pd.Series([1, 0, 1], dtype="Int64"),
        pd.Series([1, 0, 1], dtype=object),
        pd.Categorical([1, 0, 1]),
    ],
    ids=lambda y: type(y).__name__,
)
def test_numbers_in_every_container(y):
    codes = encode_labels(y, n_images=3, n_classes=2)
    assert codes.dtype == np.int64
    assert codes.tolist() == [1, 0, 1]


def test_numbers_stay_numbers_where_classes_have_names():
    assert encode_labels([2, 0], n_images=2, n_classes=3, class_names=NAMES).tolist() == [2, 0]


def test_an_array_of_numbers_is_not_copied():
    y = np.array([1, 0])
    assert np.shares_memory(encode_labels(y, n_images=2, n_classes=2), y)


@pytest.mark.parametrize(
    ("y", "bad"),
    [
        ([0, 3, 4], "3 at position 1"),
        ([0, 1, -1], "-1 at position 2"),
        (np.array([0, 1, 2**64 - 1], dtype=np.uint64), "18446744073709551615 at position 2"),
        (np.array([0, 255, 1], dtype=np.uint8), "255 at position 1"),
    ],
)
def test_a_number_that_is_no_class(y, bad):
    message = exactly(
        f"`y` must be in [0, 2], the numbers of the 3 classes; got {bad}. Count classes from 0, "
        "in the order of their names or embeddings."
    )
    with pytest.raises(InvalidInputError, match=message):
        encode_labels(y, n_images=3, n_classes=3)


@pytest.mark.parametrize(
    ("y", "dtype"),
    [
        ([0.0, 1.0], "float64"),
        ([0.0, np.nan], "float64"),
        (pd.Series([0, None]), "float64"),
        ([1j, 0], "complex128"),
        (np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]"), re.escape("datetime64[D]")),
    ],
    ids=["whole floats", "NaN", "a Series with a gap", "complex", "dates"],
)
def test_neither_numbers_nor_names(y, dtype):
    message = (
        rf"^`y` must hold class numbers or class names; got dtype {dtype}\. "
        r"Convert it, for instance with `astype\(int\)`, once no label is missing\.$"
    )
    with pytest.raises(InvalidTypeError, match=message):
        encode_labels(y, n_images=2, n_classes=2)


# Names


@pytest.mark.parametrize(
    "y",
    [
        ["dog", "cat", "dog", "ox"],
        np.array(["dog", "cat", "dog", "ox"]),
        np.array(["dog", "cat", "dog", "ox"], dtype=object),
        np.array([b"dog", b"cat", b"dog", b"ox"]),
        pd.Series(["dog", "cat", "dog", "ox"], index=[4, 3, 2, 1]),
        pd.Series(["dog", "cat", "dog", "ox"], dtype="string"),
        pd.Categorical(["dog", "cat", "dog", "ox"], categories=["ox", "dog", "cat"]),
        pd.Series(["dog", "cat", "dog", "ox"], dtype="category"),
    ],
    ids=["list", "U", "O", "S", "Series", "string Series", "Categorical", "category Series"],
)
@pytest.mark.parametrize("names", [NAMES, tuple(NAMES), np.array(NAMES), pd.Index(NAMES)])
def test_names_in_every_container(y, names):
    codes = encode_labels(y, n_images=4, n_classes=3, class_names=names)
    assert codes.dtype == np.int64
    assert codes.tolist() == [1, 0, 1, 2]


def test_names_are_numbered_in_the_order_given_and_not_in_their_own():
    codes = encode_labels(["a", "ü", "b"], n_images=3, n_classes=3, class_names=["ü", "b", "a"])
    assert codes.tolist() == [2, 0, 1]


def test_names_of_array_of_variable_width_strings():
    dtype = getattr(np.dtypes, "StringDType", None)
    if dtype is None:
        pytest.skip("NumPy 1 has no StringDType")
    y = np.array(["ox", "cat"], dtype=dtype())
    assert encode_labels(y, n_images=2, n_classes=3, class_names=NAMES).tolist() == [2, 0]


def test_a_name_that_is_no_class():
    message = exactly(
        "`y` must name one of the 3 classes (cat, dog, ox); got 'cow' at position 1. Add the "
        "class and its embedding, or correct the label."
    )
    with pytest.raises(InvalidInputError, match=message):
        encode_labels(["cat", "cow", "dgo", "cow"], n_images=4, n_classes=3, class_names=NAMES)


def test_a_long_list_of_classes_is_cut():
    names = [f"c{i}" for i in range(20)]
    with pytest.raises(InvalidInputError, match=r"20 classes \(c0, c1, .*, c7, …\); got 'x'"):
        encode_labels(["x"], n_images=1, n_classes=20, class_names=names)


@pytest.mark.parametrize(
    ("missing", "shown"), [(None, "None"), (np.nan, "nan"), (pd.NA, "<NA>"), (3, "3"), (1.5, "1.5")]
)
def test_a_missing_name_is_not_taken_for_its_text(missing, shown):
    y = np.array(["cat", missing, "dog"], dtype=object)
    names = ["cat", "dog", "None", "nan", "<NA>", "3", "1.5"]
    what = "a class name for each image (or numbers alone)"
    remedy = "Correct that label, or convert all."
    if shown not in ("3", "1.5"):
        what, remedy = "a label for each image", "Label those images, or drop them."
        shown += " at position 1, 1 such of 3"
    else:
        shown += " at position 1"
    message = exactly(f"`y` must hold {what}; got {shown}. {remedy}")
    with pytest.raises(InvalidTypeError, match=message):
        encode_labels(y, n_images=3, n_classes=7, class_names=names)


def test_a_missing_number_among_objects():
    with pytest.raises(InvalidTypeError, match=r"got None at position 1, 1 such of 2\. Label"):
        encode_labels(np.array([1, None], dtype=object), n_images=2, n_classes=2)


def test_names_without_class_names():
    message = exactly(
        "`y` must hold class numbers, as no class names were given; got ['cat']. Pass "
        "`class_names=`, in the order of the class embeddings."
    )
    with pytest.raises(InvalidTypeError, match=message):
        encode_labels(["cat", "dog"], n_images=2, n_classes=2)


@pytest.mark.parametrize(
    ("names", "got"),
    [
        (["cat", "dog"], "2 names"),
        (["cat", "dog", "ox", "ant"], "4 names"),
        ([], "0 names"),
    ],
)
@pytest.mark.parametrize("y", [["cat", "dog"], [0, 1]])
def test_class_names_are_one_a_class(y, names, got):
    message = exactly(
        f"`class_names` must name each of the 3 classes; got {got}. Pass one a class, in "
        "the order of the class embeddings."
    )
    with pytest.raises(InvalidInputError, match=message):
        encode_labels(y, n_images=2, n_classes=3, class_names=names)


@pytest.mark.parametrize("names", ["ab", [1, 2], [None, "a"]])
def test_class_names_are_strings(names):
    message = exactly(
        f"`class_names` must be a sequence of strings; got {names!r}. Pass one name a class."
    )
    with pytest.raises(InvalidTypeError, match=message):
        encode_labels([0, 1], n_images=2, n_classes=2, class_names=names)


# Length, and what the caller calls them


@pytest.mark.parametrize(
    ("y", "shape"), [([0, 1], "(2,)"), ([[0], [1], [0]], "(3, 1)"), (1, "()"), ([], "(0,)")]
)
def test_one_label_an_image(y, shape):
    message = exactly(
        f"`labels` must have one label for each of the 3 images; got shape {shape}. Pass the "
        "labels of the same images, in the same order."
    )
    with pytest.raises(InvalidInputError, match=message):
        encode_labels(y, n_images=3, n_classes=2, name="labels")


def test_no_images_have_no_labels():
    empty = encode_labels(np.empty(0, dtype=object), n_images=0, n_classes=1, class_names=["a"])
    assert empty.tolist() == []
    with pytest.raises(InvalidTypeError, match="no class names were given"):
        encode_labels(np.empty(0, dtype=str), n_images=0, n_classes=1)


@given(codes=st.lists(st.integers(0, 4), min_size=1, max_size=30), order=st.permutations("abcde"))
def test_names_and_back(codes, order):
    y = np.array([order[code] for code in codes])
    before = contents(y)
    encoded = encode_labels(y, n_images=len(y), n_classes=5, class_names=order)
    assert encoded.tolist() == codes
    assert contents(y) == before


# Groups


@pytest.mark.parametrize("n_classes", [5, 2**16, 2**16 + 1])
@given(codes=st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_groups_are_the_positions_of_each_class(n_classes, codes):
    groups = group_by_class(np.array(codes), n_classes)
    assert len(groups) == n_classes
    for label in range(5):
        expected = [i for i, code in enumerate(codes) if code == label]
        assert groups[label].tolist() == expected
        assert groups[label].dtype == np.int64
    assert sum(map(len, groups)) == len(codes)


def test_the_largest_class_number_of_sixteen_bits():
    groups = group_by_class(np.array([2**16 - 1, 0, 2**16 - 1]), 2**16)
    assert groups[0].tolist() == [1]
    assert groups[-1].tolist() == [0, 2]


def test_groups_of_a_single_class():
    assert [group.tolist() for group in group_by_class(np.zeros(3, np.int64), 1)] == [[0, 1, 2]]


# Names and numbers


@pytest.mark.parametrize(
    "names",
    [
        {"dog": 1, "ox": 2, "cat": 0},
        {1: "dog", 2: "ox", 0: "cat"},
        {"1": "dog", "0": "cat", "2": "ox"},
    ],
)
def test_a_mapping_of_names_goes_by_the_numbers(names):
    assert ordered_names(names) == ("cat", "dog", "ox")
    assert encode_labels(["ox", "cat"], n_images=2, n_classes=3, class_names=names).tolist() == [
        2,
        0,
    ]
    assert encode_labels([2, 0], n_images=2, n_classes=3, class_names=names).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ({"cat": 1, "dog": 2}, InvalidInputError, "from 0 to k - 1, each once; got [1, 2]."),
        ({"cat": 0, "dog": 0}, InvalidInputError, "from 0 to k - 1, each once; got [0, 0]."),
        ({"cat": 0.5}, InvalidTypeError, "must be of names and whole numbers; got {'cat': 0.5}."),
        ({}, InvalidInputError, "from 0 to k - 1, each once; got []."),
    ],
)
def test_a_mapping_must_number_the_classes(names, error, message):
    with pytest.raises(error, match=re.escape(message)):
        ordered_names(names)


def test_a_name_may_stand_twice_where_labels_are_numbers():
    names = ["crane", "cat", "crane"]
    assert encode_labels([2, 0], n_images=2, n_classes=3, class_names=names).tolist() == [2, 0]
    message = exactly(
        "`class_names` must name each class once where labels are names; got 'crane' more than "
        "once. Pass class numbers as labels, or rename one."
    )
    with pytest.raises(InvalidInputError, match=message):
        encode_labels(["cat", "crane"], n_images=2, n_classes=3, class_names=names)


def test_the_missing_label_is_blamed_and_not_the_first():
    y = [0, 1, 0, None, 1, None]
    message = exactly(
        "`y` must hold a label for each image; got None at position 3, 2 such of 6. Label those "
        "images, or drop them."
    )
    with pytest.raises(InvalidTypeError, match=message):
        encode_labels(y, n_images=6, n_classes=2)


def test_the_odd_label_is_blamed():
    with pytest.raises(InvalidTypeError, match="got 'x' at position 2"):
        encode_labels(np.array([0, 1, "x"], dtype=object), n_images=3, n_classes=2)
    with pytest.raises(InvalidTypeError, match="got 3 at position 1"):
        encode_labels(np.array(["x", 3, "x"], dtype=object), n_images=3, n_classes=2)
