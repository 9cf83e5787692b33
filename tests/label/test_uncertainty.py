"""Tests of `clip_al.label.uncertainty`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_al.errors import InvalidInputError
from clip_al.label import uncertainty
from tests import reference
from tests.reference import contents, random_probabilities

SCORES = ["margin", "entropy", "least_confidence"]
TOLERANCE = {np.float16: 5e-3, np.float32: 1e-5, np.float64: 1e-12}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("n", "k"), [(1, 2), (30, 2), (30, 10), (5, 100)])
def test_scores_equal_the_loop(rng, score, dtype, order, n, k):
    P = np.array(random_probabilities(rng, n, k), dtype=dtype, order=order)
    before = contents(P)
    values = getattr(uncertainty, score)(P)
    np.testing.assert_allclose(values, getattr(reference, score)(P), atol=TOLERANCE[dtype])
    assert values.dtype == np.float64
    assert values.shape == (n,)
    assert contents(P) == before


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("kind", ["list", "memmap", "strided", "readonly", ">f8", "longdouble"])
def test_scores_of_every_kind_of_array(rng, tmp_path, score, kind):
    P = random_probabilities(rng, 9, 4)
    np.save(tmp_path / "p.npy", P)
    readonly = P.copy()
    readonly.setflags(write=False)
    X = {
        "list": P.tolist(),
        "memmap": np.load(tmp_path / "p.npy", mmap_mode="r"),
        "strided": np.repeat(P, 2, axis=0)[::2],
        "readonly": readonly,
        ">f8": P.astype(">f8"),
        "longdouble": P.astype(np.longdouble),
    }[kind]
    values = getattr(uncertainty, score)(X)
    np.testing.assert_allclose(values, getattr(reference, score)(P), atol=1e-12)


@pytest.mark.parametrize("score", SCORES)
@given(seed=st.integers(0, 2**16), n=st.integers(1, 20), k=st.integers(2, 6))
def test_scores_follow_a_permutation_of_images_and_ignore_one_of_classes(score, seed, n, k):
    rng = np.random.default_rng(seed)
    P, rows = random_probabilities(rng, n, k), rng.permutation(n)
    values = getattr(uncertainty, score)(P)
    permuted = getattr(uncertainty, score)(P[rows][:, rng.permutation(k)])
    np.testing.assert_allclose(permuted, values[rows], atol=1e-12)


@pytest.mark.parametrize("k", [2, 3, 10])
def test_the_ends_of_each_range(k):
    P = np.array([np.full(k, 1 / k), np.eye(k)[1]])
    np.testing.assert_allclose(uncertainty.margin(P), [0, 1], atol=1e-12)
    np.testing.assert_allclose(uncertainty.entropy(P), [math.log(k), 0], atol=1e-12)
    np.testing.assert_allclose(uncertainty.least_confidence(P), [1 - 1 / k, 0], atol=1e-12)


def test_one_class_leaves_no_doubt():
    P = np.ones((2, 1))
    assert uncertainty.margin(P).tolist() == [1.0, 1.0]
    assert uncertainty.entropy(P).tolist() == [0.0, 0.0]
    assert uncertainty.least_confidence(P).tolist() == [0.0, 0.0]


def test_the_two_largest_may_be_equal_and_stand_anywhere():
    P = [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.1, 0.2, 0.7], [0.7, 0.2, 0.1], [0.2, 0.7, 0.1]]
    np.testing.assert_allclose(uncertainty.margin(P), [0, 0, 0.5, 0.5, 0.5], atol=1e-12)


def test_a_zero_that_rounding_made_negative_counts_as_zero():
    P = [[1.0, -1e-8, 1e-8]]
    assert uncertainty.entropy(P)[0] == pytest.approx(-1e-8 * math.log(1e-8))
    assert uncertainty.margin(P)[0] == pytest.approx(1.0)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("P", "message"),
    [
        ([[0.5, np.nan]], "must be finite; row 0 holds NaN or infinity"),
        ([[0.5, 0.6]], "each row must sum to 1; got row 0, which sums to 1.1"),
        ([[1.5, -0.5]], "must be at least 0 .* got a value of -0.5"),
        (np.ones((0, 2)), "must hold at least one image; got none"),
        ([1.0], r"must be a 2-D array of numbers, .* got shape \(1,\)"),
    ],
)
def test_what_is_no_probability_is_refused(score, P, message):
    function = getattr(uncertainty, score)
    with pytest.raises(InvalidInputError, match=message):
        function(P)


# Ensembles


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_models", [2, 5])
def test_variance_equals_the_loop(rng, n_models, dtype):
    P = np.array([random_probabilities(rng, 8, 3, dtype) for _ in range(n_models)])
    before = contents(P)
    values = uncertainty.ensemble_variance(P)
    np.testing.assert_allclose(values, reference.ensemble_variance(P), atol=1e-7)
    assert values.dtype == np.float64
    assert contents(P) == before


def test_models_that_agree_have_no_variance(rng):
    P = random_probabilities(rng, 8, 3)
    assert uncertainty.ensemble_variance([P, P, P]).max() < 1e-12


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3), (0, 2, 3), (2, 2, 2, 2)])
def test_fewer_than_two_models_are_refused(shape):
    with pytest.raises(
        InvalidInputError, match=r"\(models, images, classes\) of at least 2 models"
    ):
        uncertainty.ensemble_variance(np.full(shape, 1 / 3))


def test_a_member_without_probabilities_is_refused(rng):
    P = np.array([random_probabilities(rng, 4, 3)] * 2)
    P[1, 2] *= 2
    with pytest.raises(InvalidInputError, match="got row 2, which sums to 2"):
        uncertainty.ensemble_variance(P)
