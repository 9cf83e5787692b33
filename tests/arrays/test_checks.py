"""Tests of `clip_al.arrays.checks`: what comes back, and the exact words where it may not."""

from __future__ import annotations

import numpy as np
import pytest

from clip_al.arrays import checks
from clip_al.errors import InvalidInputError, InvalidTypeError
from tests.helpers import exactly
from tests.reference import contents, random_probabilities, random_unit

# check_embeddings


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_float_embeddings_come_back_as_they_are(rng, dtype, order):
    Z = np.array(random_unit(rng, 5, 3), dtype=dtype, order=order)
    before = contents(Z)
    assert checks.check_embeddings(Z) is Z
    assert contents(Z) == before


def test_a_memory_mapped_array_stays_one(rng, tmp_path):
    np.save(tmp_path / "z.npy", random_unit(rng, 5, 3))
    Z = np.load(tmp_path / "z.npy", mmap_mode="r")
    assert checks.check_embeddings(Z) is Z


@pytest.mark.parametrize("X", [[[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], dtype=np.uint8)])
def test_whole_numbers_become_float32(X):
    Z = checks.check_embeddings(X)
    assert Z.dtype == np.float32
    assert Z.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_finite_numbers_whose_sum_overflows_are_finite():
    Z = np.full((4, 2), 1e308)
    assert checks.check_embeddings(Z) is Z


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (
            [["a", "b"]],
            "`Z` must hold numbers, one row an image; got dtype <U1. Encode the images first, "
            "with `ClipEncoder.encode_images`.",
        ),
        (
            np.ones((2, 2), dtype=bool),
            "`Z` must hold numbers, one row an image; got dtype bool. Encode the images first, "
            "with `ClipEncoder.encode_images`.",
        ),
        (
            np.ones((2, 2), dtype=complex),
            "`Z` must hold numbers, one row an image; got dtype complex128. Encode the images "
            "first, with `ClipEncoder.encode_images`.",
        ),
        (
            None,
            "`Z` must hold numbers, one row an image; got dtype object. Encode the images "
            "first, with `ClipEncoder.encode_images`.",
        ),
    ],
)
def test_what_is_no_number_is_refused(X, message):
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        checks.check_embeddings(X, "Z")


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (
            np.ones(3),
            "`Z` must be 2-D, (images, features); got shape (3,). Reshape it; one image is "
            "`Z[None, :]`.",
        ),
        (
            np.ones((2, 3, 4)),
            "`Z` must be 2-D, (images, features); got shape (2, 3, 4). Reshape it.",
        ),
        (
            np.ones((0, 3)),
            "`Z` must hold at least one image; got shape (0, 3). Stop the loop when the pool is "
            "used up.",
        ),
        (
            np.ones((2, 3)),
            "`Z` must have 5 columns; got 3. Encode both with one model.",
        ),
    ],
)
def test_embeddings_of_another_shape_are_refused(X, message):
    with pytest.raises(InvalidInputError, match=exactly(message)):
        checks.check_embeddings(X, "Z", width=5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("block_bytes", [1, 2**25])
def test_rows_that_are_not_finite_are_named(rng, monkeypatch, dtype, bad, block_bytes):
    monkeypatch.setattr("clip_al.arrays.blocks.BLOCK_BYTES", block_bytes)
    Z = random_unit(rng, 9, 3, dtype)
    Z[4, 1] = Z[7, 2] = bad
    # Blocks are reported as they are read, so only what one block holds is named.
    rows = "4, 7" if block_bytes == 2**25 else "4"
    message = (
        f"`X` must be finite; row {rows} holds NaN or infinity. Drop those rows (images that an "
        "encoder skipped are NaN) or encode them again."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        checks.check_embeddings(Z)


def test_infinities_that_cancel_are_found():
    with pytest.raises(InvalidInputError, match="row 0 holds NaN or infinity"):
        checks.check_embeddings(np.array([[np.inf, -np.inf]]))


@pytest.mark.parametrize(("n_bad", "rows"), [(5, "0, 1, 2, 3, 4"), (6, "0, 1, 2, 3, 4 and others")])
def test_at_most_five_rows_are_named(n_bad, rows):
    Z = np.ones((8, 2))
    Z[:n_bad] = np.nan
    with pytest.raises(InvalidInputError, match=f"must be finite; row {rows} holds"):
        checks.check_embeddings(Z)


# check_probabilities


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_come_back_as_they_are(rng, dtype):
    P = random_probabilities(rng, 7, 3, dtype)
    before = contents(P)
    assert checks.check_probabilities(P, n_images=7) is P
    assert contents(P) == before


def test_probabilities_of_whole_numbers_become_floats():
    P = checks.check_probabilities([[1, 0], [0, 1]])
    assert P.dtype == np.float64
    assert P.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_rounding_in_probabilities_is_allowed():
    P = np.array([[0.505, 0.5], [1.0, -1e-7]])
    assert checks.check_probabilities(P) is P


@pytest.mark.parametrize(
    ("P", "message"),
    [
        (
            [0.5, 0.5],
            "`probabilities` must be a 2-D array of numbers, (images, classes); got shape (2,) "
            "and dtype float64. Pass what `predict_proba` returns.",
        ),
        (
            np.ones((2, 0)),
            "`probabilities` must be a 2-D array of numbers, (images, classes); got shape (2, 0) "
            "and dtype float64. Pass what `predict_proba` returns.",
        ),
        (
            [["a", "b"]],
            "`probabilities` must be a 2-D array of numbers, (images, classes); got shape (1, 2) "
            "and dtype <U1. Pass what `predict_proba` returns.",
        ),
        (
            np.ones((0, 2)),
            "`probabilities` must hold at least one image; got none. Pass a non-empty pool.",
        ),
        (
            [[0.5, 0.5], [0.3, np.nan]],
            "`probabilities` must be finite; row 1 holds NaN or infinity. Drop those rows (images "
            "that an encoder skipped are NaN) or encode them again.",
        ),
        (
            [[0.5, 0.5], [0.5, 0.6]],
            "`probabilities` must be at least 0 and each row must sum to 1; got row 1, which sums "
            "to 1.1. Apply a softmax to logits, and normalise scores. Where an image may have "
            "several labels, pass `multi_label=True`.",
        ),
        (
            [[0.5, 0.5], [0.5, 0.4]],
            "`probabilities` must be at least 0 and each row must sum to 1; got row 1, which sums "
            "to 0.9. Apply a softmax to logits, and normalise scores. Where an image may have "
            "several labels, pass `multi_label=True`.",
        ),
        (
            [[0.5, 0.5], [1.25, -0.25]],
            "`probabilities` must be at least 0 and each row must sum to 1; got a value of -0.25. "
            "Apply a softmax to logits, and normalise scores.",
        ),
    ],
)
def test_bad_probabilities_are_refused(P, message):
    with pytest.raises(InvalidInputError, match=exactly(message)):
        checks.check_probabilities(P)


@pytest.mark.parametrize("n", [2, 4])
def test_probabilities_of_another_pool_are_refused(n):
    message = (
        f"`probabilities` must have one row for each of the 3 images; got {n}. Predict on the "
        "same pool, in the same order."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        checks.check_probabilities(np.full((n, 2), 0.5), n_images=3)


# check_n_instances, check_int


@pytest.mark.parametrize("value", [1, 40, np.int64(7), np.uint8(7)])
def test_a_budget_comes_back_as_an_int(value):
    number = checks.check_n_instances(value, 40)
    assert type(number) is int
    assert number == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (41, "`budget` must be in [1, 40], the size of the pool; got 41. Lower it."),
        (0, "`budget` must be in [1, 40], the size of the pool; got 0. Raise it."),
        (-3, "`budget` must be in [1, 40], the size of the pool; got -3. Raise it."),
    ],
)
def test_a_budget_outside_the_pool_is_refused(value, message):
    with pytest.raises(InvalidInputError, match=exactly(message)):
        checks.check_n_instances(value, 40, "budget")


@pytest.mark.parametrize("n_instances", [1, 0, 5])
def test_an_empty_pool_is_refused(n_instances):
    message = "The pool must hold at least one image; got none. Stop the loop when it is used up."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        checks.check_n_instances(n_instances, 0)


@pytest.mark.parametrize("value", [True, False, 2.0, np.float64(2), "2", None, np.bool_(True)])
@pytest.mark.parametrize(
    "check",
    [lambda x: checks.check_n_instances(x, 40, "k"), lambda x: checks.check_int(x, "k")],
)
def test_what_is_no_whole_number_is_refused(check, value):
    message = f"`k` must be a whole number; got {value!r}. Pass an int."
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        check(value)


@pytest.mark.parametrize(("value", "largest"), [(1, None), (10**6, None), (5, 5), (np.int32(2), 5)])
def test_a_positive_number_comes_back_as_an_int(value, largest):
    number = checks.check_int(value, "m", largest=largest)
    assert type(number) is int
    assert number == value


@pytest.mark.parametrize(
    ("value", "largest", "message"),
    [
        (0, None, "`m` must be at least 1; got 0. Change it."),
        (0, 5, "`m` must be in [1, 5]; got 0. Change it."),
        (6, 5, "`m` must be in [1, 5]; got 6. Change it."),
    ],
)
def test_a_number_out_of_bounds_is_refused(value, largest, message):
    with pytest.raises(InvalidInputError, match=exactly(message)):
        checks.check_int(value, "m", largest=largest)


# check_indices

# Few indices of many and many of few are looked through in two ways.
SIZES = pytest.mark.parametrize("n", [5, 1000])


@SIZES
@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64])
def test_indices_come_back_as_int64_in_their_order(n, dtype):
    indices = np.array([4, 0, 2], dtype=dtype)
    rows = checks.check_indices(indices, n)
    assert rows.dtype == np.int64
    assert rows.tolist() == [4, 0, 2]
    assert indices.tolist() == [4, 0, 2]


def test_no_indices_are_allowed():
    rows = checks.check_indices([], 5)
    assert rows.dtype == np.int64
    assert rows.shape == (0,)


def test_a_mask_becomes_positions():
    rows = checks.check_indices([False, True, True], 3)
    assert rows.dtype == np.int64
    assert rows.tolist() == [1, 2]


@pytest.mark.parametrize("shape", [(2,), (4,), (3, 1)])
def test_a_mask_of_another_shape_is_refused(shape):
    message = (
        f"`rows`, as a mask, must have shape (3,); got {shape}. Make one entry for each image."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        checks.check_indices(np.ones(shape, dtype=bool), 3, "rows")


@pytest.mark.parametrize(
    ("indices", "what"),
    [
        ([1.0], "shape (1,) and dtype float64"),
        ([[1]], "shape (1, 1) and dtype int64"),
        (1, "shape () and dtype int64"),
        (["a"], "shape (1,) and dtype <U1"),
    ],
)
def test_indices_of_another_kind_are_refused(indices, what):
    message = (
        f"`indices` must be a 1-D array of whole numbers or a boolean mask; got {what}. Pass "
        "positions in the array of images."
    )
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        checks.check_indices(indices, 5)


@SIZES
@pytest.mark.parametrize("bad", [-1, 1000, 2000])
def test_indices_out_of_range_are_refused(n, bad):
    message = (
        f"`indices` must be in [0, {n - 1}], the positions of {n} images; got {bad}. Count from 0 "
        "in the array that was passed in."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        checks.check_indices([0, bad], n)


def test_the_last_index_of_the_range_is_refused_one_further():
    assert checks.check_indices([4], 5).tolist() == [4]
    with pytest.raises(InvalidInputError, match="got 5"):
        checks.check_indices([5], 5)


@SIZES
def test_repeated_indices_are_refused(n):
    message = (
        "`indices` must name each image once; got 3 more than once. Remove the duplicates, for "
        "instance with `np.unique`."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        checks.check_indices([4, 3, 0, 3], n)


# check_choice


def test_a_choice_comes_back():
    assert checks.check_choice("b", ("a", "b"), "kind") == "b"


@pytest.mark.parametrize("value", ["c", "A", "", None, 1, ["a"]])
def test_what_is_no_choice_is_refused_and_the_choices_listed(value):
    message = f"`kind` must be one of 'a', 'b'; got {value!r}. Choose one."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        checks.check_choice(value, ("a", "b"), "kind")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rounded_probabilities_are_brought_back_to_one(dtype):
    P = np.array([[0.34, 0.34, 0.34], [0.2, 0.3, 0.5], [0.33, 0.33, 0.32]], dtype=dtype)
    given = P.copy()
    read = checks.check_probabilities(P)
    np.testing.assert_array_equal(P, given)
    np.testing.assert_allclose(read.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(read[1], P[1])
    np.testing.assert_allclose(read[0], 1 / 3, rtol=1e-6)
    assert read.dtype == dtype


@pytest.mark.parametrize(
    "row",
    [
        [0.34, 0.34, 0.36],  # off by 0.04: three numbers of two decimals explain 0.03
        [0.341, 0.342, 0.343],  # off by 0.026: of three decimals, 0.003
        [0.12345, 0.5, 0.4],  # no rounding
    ],
)
def test_what_rounding_does_not_explain_is_refused(row):
    with pytest.raises(InvalidInputError, match="each row must sum to 1; got row 0"):
        checks.check_probabilities([row])


def test_many_rounded_classes_may_be_off_by_a_tenth_at_most():
    P = np.zeros((1, 200))
    P[0, :91] = 0.01
    np.testing.assert_allclose(checks.check_probabilities(P).sum(), 1)
    P[0, 80:] = 0
    with pytest.raises(InvalidInputError, match=r"which sums to 0\.8"):
        checks.check_probabilities(P)
