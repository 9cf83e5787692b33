"""Tests of `clip_al.find.cosines`."""

from __future__ import annotations

import numpy as np
import pytest

from clip_al.errors import InvalidInputError
from clip_al.find.cosines import cosines_with, pair_cosines
from tests.reference import random_unit

N, D = 300, 37
DTYPES = [np.float16, np.float32, np.float64, ">f4", ">f2"]


def rows_of(dtype, seed=0):
    """Rows of lengths from 0.1 to 30, and float16's smallest numbers among them."""
    rng = np.random.default_rng(seed)
    rows = random_unit(rng, N, D, np.float64) * rng.uniform(0.1, 30, (N, 1))
    rows[:20, :5] = 3e-7
    return rows.astype(dtype)


def unit(rows):
    wide = rows.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cosines_are_those_of_unit_rows(dtype):
    rows, query = rows_of(dtype), random_unit(np.random.default_rng(1), 1, D)[0]
    np.testing.assert_allclose(cosines_with(rows, query), unit(rows) @ query, atol=3e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cosines_of_pairs_have_more_digits(dtype):
    rows, rng = rows_of(dtype), np.random.default_rng(1)
    left, right = rng.integers(N, size=(2, 500))
    expected = np.einsum("pd,pd->p", unit(rows)[left], unit(rows)[right])
    np.testing.assert_allclose(pair_cosines(rows, left, right), expected, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_equal_rows_have_equal_cosines_wherever_they_stand(dtype):
    rows = rows_of(dtype)
    rows[[7, 100, 299]] = rows[50]
    found = cosines_with(rows, random_unit(np.random.default_rng(1), 1, D)[0])
    assert len(set(found[[7, 50, 100, 299]].tolist())) == 1
    assert len(set(found.tolist())) > N // 2


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_rows_beyond_the_squares_of_float32(scale):
    rows = (rows_of(np.float64) * scale).astype(np.float32)
    query = random_unit(np.random.default_rng(1), 1, D)[0]
    np.testing.assert_allclose(cosines_with(rows, query), unit(rows) @ query, atol=1e-6)
    found = pair_cosines(rows, np.array([0, 1]), np.array([30, 40]))
    np.testing.assert_allclose(found, (unit(rows)[[0, 1]] * unit(rows)[[30, 40]]).sum(1), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(dtype, bad):
    rows = rows_of(dtype)
    rows[40, 2] = bad
    with pytest.raises(InvalidInputError, match="row 40 holds NaN or infinity"):
        cosines_with(rows, random_unit(np.random.default_rng(1), 1, D)[0])


def test_a_row_of_zeros_has_no_direction():
    rows = rows_of(np.float16)
    rows[3] = 0
    with pytest.raises(InvalidInputError, match="must have a direction; row 3 is all zeros"):
        cosines_with(rows, random_unit(np.random.default_rng(1), 1, D)[0])
