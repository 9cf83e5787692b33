"""Tests of `clip_al.score.label_noise.symmetric`, where labels are drawn by chance alone."""

from __future__ import annotations

import math
import re
from functools import partial

import numpy as np
import pytest

from clip_al.adapt.adapter import DatasetAdapter
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.score.alignment_diversity import label_log_probabilities
from clip_al.score.label_noise import symmetric as label_noise
from clip_al.score.label_noise.estimate import estimate_label_noise
from clip_al.score.label_noise.symmetric import LabelNoise
from tests.reference import contents, random_unit

estimate_symmetric = partial(estimate_label_noise, model="symmetric")

# Reference


def negative_log_likelihood(sim_nk, y, temperature, uniform_share):
    """Mean over images, straight from the mixture."""
    n, k = sim_nk.shape
    total = 0.0
    for row, label in zip(sim_nk, y, strict=True):
        weights = np.exp((row - max(row)) / temperature)
        right = weights[label] / sum(weights)
        total -= math.log((1 - uniform_share) * right + uniform_share / k)
    return total / n


# A world in which the model is true: labels are drawn from the softmax, then some are flipped


def make_world(n, k, d, temperature, wrong, seed=0):
    rng = np.random.default_rng(seed)
    T = random_unit(rng, k, d)
    Z = 0.35 * T[rng.integers(k, size=n)] + 0.9 / np.sqrt(d) * rng.standard_normal((n, d))
    Z = (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32)
    y = (Z @ T.T / temperature + rng.gumbel(size=(n, k))).argmax(axis=1)
    flipped = rng.permutation(n)[: round(wrong * n)]
    noisy = y.copy()
    noisy[flipped] = (y[flipped] + rng.integers(1, k, size=len(flipped))) % k
    return Z, noisy, T, noisy != y


CASES = [(k, wrong) for k in (10, 100) for wrong in (0.0, 0.2, 0.5)]


@pytest.mark.parametrize("temperature", [0.01, 0.07])
@pytest.mark.parametrize(("k", "wrong"), [*CASES, (2, 0.0), (2, 0.2), (10, 0.7)])
def test_the_share_of_wrong_labels_is_recovered(k, wrong, temperature):
    Z, y, T, _ = make_world(4000, k, 64, temperature, wrong)
    noise = estimate_symmetric(Z, y, T)
    assert noise.n_classes == k
    assert noise.wrong_fraction == pytest.approx(wrong, abs=0.03)
    # Never worse than the truth; a lower cost than that of the truth is chance.
    sim_nk, truth = Z.astype(float) @ T.T.astype(float), wrong / (1 - 1 / k)
    found = negative_log_likelihood(sim_nk, y, noise.temperature, noise.uniform_share)
    assert found <= negative_log_likelihood(sim_nk, y, temperature, truth) + 1e-4


@pytest.mark.parametrize("temperature", [0.01, 0.07])
@pytest.mark.parametrize(("k", "wrong"), CASES)
def test_the_temperature_is_recovered(k, wrong, temperature):
    noise = estimate_symmetric(*make_world(4000, k, 64, temperature, wrong)[:3])
    assert noise.temperature == pytest.approx(temperature, rel=0.25)


def test_both_are_those_of_the_highest_likelihood():
    Z, y, T, _ = make_world(400, 5, 16, 0.05, 0.2)
    noise = estimate_symmetric(Z, y, T)
    sim_nk = Z.astype(float) @ T.T.astype(float)
    best = negative_log_likelihood(sim_nk, y, noise.temperature, noise.uniform_share)
    for factor in (0.9, 1 / 0.9):
        other = noise.temperature * factor
        assert negative_log_likelihood(sim_nk, y, other, noise.uniform_share) > best + 1e-5
    for step in (-0.03, 0.03):
        other = noise.uniform_share + step
        assert negative_log_likelihood(sim_nk, y, noise.temperature, other) > best + 1e-5


def test_labels_without_any_information():
    rng = np.random.default_rng(0)
    Z, T = random_unit(rng, 2000, 16), random_unit(rng, 10, 16)
    noise = estimate_symmetric(Z, rng.integers(10, size=2000), T)
    # Noise, or a softmax so flat that it says the same.
    assert noise.uniform_share > 0.9 or noise.temperature > 0.9


def test_right_labels_have_a_higher_probability_than_wrong_ones():
    Z, y, T, wrong = make_world(4000, 10, 64, 0.02, 0.2)
    noise = estimate_symmetric(Z, y, T)
    log_prob_n, _ = label_log_probabilities(Z, y, T, temperature=noise.temperature)
    right_n = noise.label_probability(log_prob_n)
    assert right_n.dtype == np.float32
    assert right_n.min() >= 0
    assert right_n.max() <= 1
    assert right_n[wrong].mean() < 0.4
    assert right_n[~wrong].mean() > 0.85
    # Calibrated: of the labels called right with probability p, p are right.
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        part = (right_n >= low) & (right_n <= high)
        assert right_n[part].mean() == pytest.approx((~wrong)[part].mean(), abs=0.07)


def test_one_image_and_identical_images():
    one = estimate_symmetric(np.eye(3)[:1], [0], np.eye(3))
    assert 0 <= one.wrong_fraction < 0.01
    same = estimate_symmetric(np.ones((50, 3)), np.zeros(50, int), np.eye(3))
    assert np.isfinite([same.temperature, same.uniform_share]).all()


def test_one_class_in_use_of_several():
    noise = estimate_symmetric(np.eye(3)[np.zeros(50, int)], np.zeros(50, int), np.eye(3))
    assert noise.n_classes == 3
    assert noise.wrong_fraction < 0.01


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_type_a_memmap_and_any_scale(tmp_path, dtype):
    Z, y, T, _ = make_world(500, 5, 16, 0.05, 0.2)
    expected = estimate_symmetric(Z, y, T)
    np.save(tmp_path / "z.npy", (3 * Z).astype(dtype))
    mapped = np.load(tmp_path / "z.npy", mmap_mode="r")
    noise = estimate_symmetric(mapped, y, 0.1 * T)
    assert noise.wrong_fraction == pytest.approx(expected.wrong_fraction, abs=5e-3)
    assert noise.temperature == pytest.approx(expected.temperature, rel=1e-2)


def test_inputs_are_left_alone_and_a_second_call_says_the_same():
    Z, y, T, _ = make_world(500, 5, 16, 0.05, 0.2)
    before = contents(Z, y, T)
    assert estimate_symmetric(Z, y, T) == estimate_symmetric(Z, y, T)
    assert contents(Z, y, T) == before


def test_an_adapter_is_applied_to_both():
    Z, y, T, _ = make_world(500, 5, 16, 0.05, 0.2)
    adapter = DatasetAdapter(epochs=2, learning_rate=1e-2, device="cpu").fit(Z, y, T)
    adapted = estimate_symmetric(adapter.transform_images(Z), y, adapter.transform_texts(T))
    noise = estimate_symmetric(Z, y, T, adapter=adapter)
    assert noise.wrong_fraction == pytest.approx(adapted.wrong_fraction, abs=1e-3)
    assert noise.temperature != pytest.approx(estimate_symmetric(Z, y, T).temperature, rel=1e-3)


def test_more_images_than_the_limit_are_sampled(monkeypatch):
    Z, y, T, _ = make_world(3000, 5, 16, 0.05, 0.2)
    everything = estimate_symmetric(Z, y, T)
    looked_at = []
    unit_rows = label_noise.unit_rows

    def spy(X, rows, **kwargs):
        looked_at.append(rows)
        return unit_rows(X, rows, **kwargs)

    monkeypatch.setattr(label_noise, "unit_rows", spy)
    monkeypatch.setattr(label_noise, "MAX_IMAGES", 2000)
    part = estimate_symmetric(Z, y, T, random_state=3)
    assert len(looked_at[0]) == 2000
    assert (np.diff(looked_at[0]) > 0).all()
    assert part != everything
    assert part.wrong_fraction == pytest.approx(everything.wrong_fraction, abs=0.03)
    assert part == estimate_symmetric(Z, y, T, random_state=3)
    assert part != estimate_symmetric(Z, y, T, random_state=4)
    assert estimate_symmetric(Z, y, T, random_state=None).n_classes == 5


def test_many_classes_are_looked_at_with_fewer_images(monkeypatch):
    monkeypatch.setattr(label_noise, "MAX_COSINES", 1200 * 50)
    shapes = []
    likeliest = label_noise._likeliest

    def spy(difference_sk):
        shapes.append(difference_sk.shape)
        return likeliest(difference_sk)

    monkeypatch.setattr(label_noise, "_likeliest", spy)
    Z, y, T, _ = make_world(3000, 50, 32, 0.03, 0.2)
    assert estimate_symmetric(Z, y, T).wrong_fraction == pytest.approx(0.2, abs=0.04)
    assert shapes == [(1200, 50)]
    monkeypatch.setattr(label_noise, "MAX_COSINES", 1)
    estimate_symmetric(Z, y, T)
    assert shapes[1] == (label_noise.MIN_IMAGES, 50)


def test_the_slope_is_that_of_the_cost():
    Z, y, T, _ = make_world(200, 5, 16, 0.05, 0.2)
    difference = Z @ T.T
    difference -= difference[np.arange(200), y][:, None]
    for temperature in (0.003, 0.05, 0.5):
        right, pull = label_noise._softmax_at_label(difference, temperature)
        step = 1e-4
        lower, upper = (
            label_noise._softmax_at_label(difference, temperature * math.exp(sign * step))[0]
            for sign in (-1, 1)
        )
        slope = (upper - lower) / (2 * step)
        np.testing.assert_allclose(right * pull / temperature, slope, atol=2e-3)


def test_an_overflow_is_a_probability_of_zero():
    difference = np.array([[0.0, 2.0], [0.0, -2.0]], dtype=np.float32)
    right, pull = label_noise._softmax_at_label(difference, 1e-3)
    assert right.tolist() == [0.0, 1.0]
    assert np.isfinite(pull).all()


# The result


def test_wrong_fraction_counts_random_labels_that_are_right():
    assert LabelNoise(0.01, 0.4, 4).wrong_fraction == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("share", "log_prob", "expected"),
    [
        (0.0, 0.0, 1.0),
        (0.0, -1e4, 1.0),
        (0.5, 0.0, 0.5 / (0.5 + 0.05)),
        (0.5, -math.log(10), 0.5),
        (0.5, -1e4, 0.0),
    ],
)
def test_the_probability_of_a_label_is_bayes_rule(share, log_prob, expected):
    found = LabelNoise(0.01, share, 10).label_probability(np.array([log_prob], np.float32))
    assert found[0] == pytest.approx(expected, rel=1e-5)


# Errors


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"T": np.eye(3)[:1]},
            InvalidInputError,
            "`T` must hold at least two classes for labels to be wrong; got 1. Add the embeddings "
            "of the other classes.",
        ),
        (
            {"T": np.eye(4)},
            InvalidInputError,
            "`T` must have 3 columns; got 4. Encode both with one model.",
        ),
        (
            {"y": [0, 1]},
            InvalidInputError,
            "`y` must have one label for each of the 3 images; got shape (2,). Pass the labels of "
            "the same images, in the same order.",
        ),
        (
            {"y": [0, 1, 3]},
            InvalidInputError,
            "`y` must be in [0, 2], the numbers of the 3 classes; got 3 at position 2. Count "
            "classes from 0, in the order of their names or embeddings.",
        ),
        (
            {"y": [0, 1, np.nan]},
            InvalidTypeError,
            "`y` must hold class numbers or class names; got dtype float64. Convert it, for "
            "instance with `astype(int)`, once no label is missing.",
        ),
        (
            {"Z": [[1, 0, 0], [0, np.nan, 0], [0, 0, 1]]},
            InvalidInputError,
            "`Z` must be finite; row 1 holds NaN or infinity. Drop those rows (images that an "
            "encoder skipped are NaN) or encode them again.",
        ),
        (
            {"Z": [[1, 0, 0], [0, 1, 0], [0, 0, 0]]},
            InvalidInputError,
            "Every embedding must have a direction; row 2 is all zeros. Encode it again.",
        ),
    ],
)
def test_what_is_refused(change, error, message):
    arguments = {"Z": np.eye(3), "y": [0, 1, 2], "T": np.eye(3), **change}
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        estimate_symmetric(**arguments)


def test_log_likelihood_is_that_of_the_mixture():
    noise = LabelNoise(0.05, 0.3, 4)
    log_prob = np.log([0.9, 0.5, 1e-3, 1e-30])
    expected = np.log(0.7 * np.exp(log_prob) + 0.3 / 4)
    np.testing.assert_allclose(noise.label_log_likelihood(log_prob), expected, rtol=1e-6)


def test_log_likelihood_without_noise_is_the_log_probability():
    log_prob = np.array([-0.1, -50.0, -1000.0], dtype=np.float32)
    found = LabelNoise(0.05, 0.0, 4).label_log_likelihood(log_prob)
    np.testing.assert_array_equal(found, log_prob)
