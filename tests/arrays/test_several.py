"""Tests of several labels an image: zeros and ones, and probabilities in the forms of learners."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import sparse

from clip_al.arrays.labels import encode_labels
from clip_al.arrays.several import check_label_probabilities, encode_indicator, stack_labels
from clip_al.errors import InvalidInputError, InvalidTypeError

Y = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 1]])


@pytest.mark.parametrize(
    "given", [Y, Y.astype(bool), Y.astype(float), Y.tolist(), sparse.csr_array(Y)]
)
def test_zeros_and_ones_of_any_type(given):
    found = encode_indicator(given, n_images=3)
    assert found.dtype == bool
    assert found.tolist() == Y.astype(bool).tolist()
    assert not np.shares_memory(found, given)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (Y[:2], InvalidInputError, "`Y` must be of shape (3, k), a row an image and a column a la"),
        (Y[:, 0], InvalidInputError, "got shape (3,). Lists of names become one by scikit-learn"),
        (Y[:, :0], InvalidInputError, "`Y` must have a column a label; got none"),
        (Y * 2, InvalidInputError, "must hold zeros and ones; got 2 for label 0 of image 0. Set 1"),
        (np.where(Y, np.nan, 0.0), InvalidInputError, "got nan for label 0 of image 0"),
        (Y.astype(str), InvalidTypeError, "`Y` must hold zeros and ones; got dtype <U21"),
    ],
)
def test_what_is_no_indicator_is_refused(given, error, message):
    with pytest.raises(error, match=re.escape(message)):
        encode_indicator(given, n_images=3)


def test_labels_of_one_class_say_what_to_do_with_several():
    message = (
        "`y` must have one label for each image here; got shape (3, 3), several an image. "
        "Alignment, label noise and quotas go by the one class of an image"
    )
    with pytest.raises(InvalidInputError, match=f"^{re.escape(message)}.*multi_label_suspects"):
        encode_labels(Y, n_images=3, n_classes=3)


def test_a_list_of_two_columns_a_label_becomes_one_array():
    P = np.random.default_rng(0).random((4, 3))
    parts = [np.stack([1 - p, p], axis=1) for p in P.T]
    for given in (parts, tuple(parts), [part.tolist() for part in parts], np.stack(parts)):
        np.testing.assert_array_equal(stack_labels(given), P)
    assert stack_labels(P) is P
    ensemble = np.stack([P, P])  # (models, images, labels) stays what it is
    assert stack_labels(ensemble) is ensemble


def test_a_label_that_always_was_the_same_is_what_the_learner_says_it_was():
    parts = [np.array([[0.2, 0.8], [0.9, 0.1]]), np.ones((2, 1)), np.ones((2, 1))]
    classes = [np.array([0, 1]), np.array([0]), np.array([1])]
    assert stack_labels(parts, classes).tolist() == [[0.8, 0.0, 1.0], [0.1, 0.0, 1.0]]
    with pytest.raises(InvalidInputError, match="got one for label 1, which always had the same"):
        stack_labels(parts)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[0.5, 1.5]], "must each be in [0, 1]; got 1.5. Apply a sigmoid to logits."),
        ([[0.5, np.nan]], "must each be in [0, 1]; got nan"),
        ([0.5], "must be a 2-D array of numbers, (images, labels), or a list of one (images, 2)"),
        ([[0.5, 0.5]] * 3, "must have one row for each of the 1 images; got 3"),
        ([[0.5, 0.5, 0.5]], "must have one column for each of the 2 labels; got 3"),
    ],
)
def test_what_are_no_probabilities_of_labels_is_refused(given, message):
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        check_label_probabilities(given, n_images=1, n_labels=2)


def test_rows_of_labels_need_not_sum_to_one():
    P = np.array([[0.9, 0.8], [0.0, 0.1]], dtype=np.float16)
    assert check_label_probabilities(P) is P
    assert check_label_probabilities([[1, 0]]).dtype == np.float64
