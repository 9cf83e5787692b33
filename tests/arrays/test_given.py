"""Tests of `clip_al.arrays.given`: what a caller hands over, and the errors of what is no array."""

from __future__ import annotations

import numpy as np
import pytest

from clip_al.arrays.checks import check_seed
from clip_al.arrays.given import (
    MOST_CLASSES,
    array_of,
    check_flag,
    check_kind,
    labels_of,
    length_of,
    listed,
    method_of,
    whole_numbers,
)
from clip_al.arrays.labels import encode_labels
from clip_al.errors import InvalidInputError, InvalidTypeError
from tests.helpers import exactly


class Odd:
    def __array__(self, *_, **__):
        raise RuntimeError("no array today")


def test_an_array_is_not_copied():
    array = np.arange(6.0).reshape(2, 3)
    assert array_of(array, "Z") is array
    assert array_of(array, "Z", np.float64) is array


@pytest.mark.parametrize(
    ("value", "dtype"),
    [([[1, 2], [3]], None), (Odd(), None), (["a", "b"], np.float64), ([None, {}], np.float64)],
)
def test_what_is_no_array_is_an_error_of_ours(value, dtype):
    with pytest.raises(InvalidTypeError, match="`Z` must be an array"):
        array_of(value, "Z", dtype)


def test_masked_entries_are_refused_and_a_mask_of_none_is_taken():
    whole = np.ma.array([1.0, 2.0], mask=[False, False])
    assert type(array_of(whole, "Z")) is np.ndarray
    with pytest.raises(InvalidInputError, match="`Z` must have no masked entries; got 1"):
        array_of(np.ma.array([1.0, 2.0], mask=[True, False]), "Z")


def test_a_matrix_becomes_an_array_and_a_memory_map_stays_one(tmp_path):
    assert type(array_of(np.asmatrix(np.eye(2)), "Z")) is np.ndarray
    np.save(tmp_path / "a.npy", np.eye(2))
    assert isinstance(array_of(np.load(tmp_path / "a.npy", mmap_mode="r"), "Z"), np.memmap)


@pytest.mark.parametrize("labels", [["a", "a\0"], np.array(["a", "a\0"], dtype=object)])
def test_labels_that_differ_in_nul_characters_are_not_one_class(labels):
    with pytest.raises(InvalidInputError, match=r"ends in a NUL character; got 'a\\x00'"):
        labels_of(labels, "y")
    with pytest.raises(InvalidInputError, match="NUL"):
        encode_labels(labels, n_images=2, n_classes=1, class_names=["a"])


def test_labels_of_bytes_become_text():
    assert labels_of([b"caf\xc3\xa9"], "y").tolist() == ["café"]
    with pytest.raises(InvalidInputError, match="must hold UTF-8"):
        labels_of([b"caf\xe9"], "y")


@pytest.mark.parametrize("number", [2**63, 10**30, -(10**30)])
def test_labels_beyond_64_bits_are_refused(number):
    with pytest.raises((InvalidInputError, InvalidTypeError)):
        encode_labels(np.array([0, number], dtype=object), n_images=2, n_classes=2)


@pytest.mark.parametrize("bad", [-1, MOST_CLASSES, 2**62])
def test_numbers_that_cannot_be_counted_are_refused(bad):
    with pytest.raises(InvalidInputError, match=f"got {bad}. Number from 0"):
        whole_numbers([0, bad], "groups", 2)
    with pytest.raises(InvalidTypeError, match="one whole number for each of 3"):
        whole_numbers([0, 1], "groups", 3)


@pytest.mark.parametrize("value", [True, False, np.bool_(True), 0, 1])
def test_flags(value):
    assert check_flag(value, "shuffle") is bool(value)


@pytest.mark.parametrize("value", ["yes", None, 2, np.array([True, False]), 1.0])
def test_what_is_no_flag(value):
    with pytest.raises(InvalidTypeError, match="`shuffle` must be True or False"):
        check_flag(value, "shuffle")


@pytest.mark.parametrize("value", ["abc", b"abc", 3, None, np.array(3)])
def test_what_is_no_list(value):
    with pytest.raises(InvalidTypeError, match="`ids` must be a sequence"):
        listed(value, "ids")


def test_lists_of_every_kind():
    assert listed(iter([1, 2]), "ids") == listed((1, 2), "ids") == listed(np.array([1, 2]), "ids")


@pytest.mark.parametrize("value", [3, None, np.array(3), iter([1])])
def test_what_has_no_length(value):
    with pytest.raises(InvalidTypeError, match="`X` must be a sequence or an array"):
        length_of(value, "X")


def test_objects_of_another_kind_are_named():
    message = "`m` must be a int or str; got dict. Do."
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        check_kind({}, (int, str), "m", "Do.")
    message = "`encoder` must have the method `encode_texts`; a dict has none. Do."
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        method_of({}, "encode_texts", "encoder", "Do.")
    assert method_of("a b", "split", "m", "Do.")() == ["a", "b"]


def test_seeds():
    assert check_seed(None) is None
    assert check_seed(np.int64(3)) == 3
    for bad in (-1, "3", 2.5, b"3", [1]):
        with pytest.raises((InvalidInputError, InvalidTypeError), match="`random_state` must be"):
            check_seed(bad)
