"""Tests of `clip_al.score.label_noise`: `evidence`, `kernel`, `fit`, `confusion`, `estimate`."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from clip_al.adapt.adapter import DatasetAdapter
from clip_al.errors import InvalidInputError
from clip_al.score.label_noise import confusion
from clip_al.score.label_noise.confusion import LabelConfusion, mean_confusion
from clip_al.score.label_noise.estimate import estimate_label_noise
from clip_al.score.label_noise.evidence import fit_evidence
from clip_al.score.label_noise.fit import N_BINS, Likelihood
from clip_al.score.label_noise.symmetric import LabelNoise
from tests.reference import contents, random_unit

# Reference


def log_likelihood(logit_sk, look_sk, y, rate_sk, excess_kk):
    """Sum over images, straight from the model; look_sk are probabilities to the power of κ."""
    total = 0.0
    for logit, look, label, rate in zip(logit_sk, look_sk, y, rate_sk, strict=True):
        weights = [math.exp(value - max(logit)) for value in logit]
        likelihood = 0.0
        for true, weight in enumerate(weights):
            p = weight / sum(weights)
            if true == label:
                likelihood += p * (1 - rate[true])
            else:
                others = [j for j in range(len(look)) if j != true]
                norm = sum(excess_kk[true, j] * look[j] for j in others)
                likelihood += p * rate[true] * excess_kk[true, label] * look[label] / norm
        total += math.log(likelihood)
    return total


# A world in which classes are confused: `planted[t, j]` of the images of t are labelled j


def make_world(planted, n_each, d=32, spread=0.12, seed=0):
    rng = np.random.default_rng(seed)
    k = len(planted)
    T = random_unit(rng, k, d)
    truth = rng.permutation(np.repeat(np.arange(k), n_each))
    Z = (T[truth] + spread * rng.standard_normal((len(truth), d))).astype(np.float32)
    y = np.array([rng.choice(k, p=planted[t]) for t in truth])
    return Z, y, T, truth


def flips(k, wrong, kind):
    other = (1 - np.eye(k)) / (k - 1) if kind == "symmetric" else np.roll(np.eye(k), 1, axis=1)
    return (1 - wrong) * np.eye(k) + wrong * other


@pytest.mark.parametrize("k", [3, 70])
def test_the_likelihood_is_that_of_the_reference(k):
    rng = np.random.default_rng(0)
    sim_fsk = rng.standard_normal((2, 40, k)).astype(np.float32)
    y = rng.integers(k, size=40)
    likelihood = Likelihood(sim_fsk, y, 0.3)
    x = likelihood.start()
    likelihood.look(x)
    density = likelihood.cost(x)[0] * -40
    excess = likelihood.excess(x) if likelihood.full else 1 - np.eye(k)
    rate_sk = likelihood.rates(x)[likelihood.bin_s]
    logit_sk = (likelihood.scale_f[:, None, None] * sim_fsk).sum(axis=0) / 2
    expected = log_likelihood(logit_sk, likelihood.look_sk, y, rate_sk, excess)
    # The density holds the prior as well: of the rate and slope of `start`, and of the pairs.
    log_prior = -((2 / 3) ** 2) / 2 - 0.5**2 / 2
    if likelihood.full:
        log_prior += 2 * k * math.log(1 / (k - 1))
    assert density == pytest.approx(expected + log_prior, rel=1e-4)


@pytest.mark.parametrize("k", [4, 70])
def test_the_slope_is_that_of_the_cost(k):
    rng = np.random.default_rng(1)
    sim_fsk = rng.standard_normal((2, 300, k)).astype(np.float32)
    likelihood = Likelihood(sim_fsk, rng.integers(k, size=300), 0.3)
    x = likelihood.start() + rng.normal(0, 0.2, len(likelihood.start()))
    likelihood.look(x)
    slope = likelihood.cost(x)[1]
    for place in [part.start for part in likelihood.parts if part.stop > part.start]:
        step = np.zeros(len(x))
        step[place] = 1e-3
        change = likelihood.cost(x + step)[0] - likelihood.cost(x - step)[0]
        assert slope[place] == pytest.approx(change / 2e-3, abs=2e-4)


@pytest.mark.parametrize(
    ("kind", "wrong"), [("symmetric", 0.2), ("symmetric", 0.5), ("pair", 0.1), ("pair", 0.2)]
)
def test_the_share_of_wrong_labels_is_recovered(kind, wrong):
    Z, y, T, truth = make_world(flips(6, wrong, kind), 300)
    noise = estimate_label_noise(Z, y, T)
    assert noise.wrong_fraction == pytest.approx((y != truth).mean(), abs=0.02)
    assert noise.interval[0] <= (y != truth).mean() <= noise.interval[1]


def test_a_planted_confusion_is_recovered():
    planted = np.eye(5)
    planted[1, 1], planted[1, 3] = 0.8, 0.2
    planted[2, 2], planted[2, 0] = 0.9, 0.1
    Z, y, T, truth = make_world(planted, 400)
    noise = estimate_label_noise(Z, y, T)
    drawn = np.zeros((5, 5))
    np.add.at(drawn, (truth, y), 1 / 400)
    np.testing.assert_allclose(noise.confusion.toarray(), drawn, atol=0.02)
    names = ["bird", "cat", "deer", "dog", "ship"]
    first, second = noise.confused_pairs(class_names=names)
    assert (first.true, first.given, second.true, second.given) == ("cat", "dog", "deer", "bird")
    assert first.low < 0.2 < first.high
    assert re.fullmatch(r"cat labelled dog: 1\d–2\d % of cat", str(first))
    assert noise.confused_pairs(1) == [first._replace(true="1", given="3")]


def test_right_labels_are_never_said_to_be_beyond_doubt():
    Z, y, T, _ = make_world(np.eye(4), 300)
    noise = estimate_label_noise(Z, y, T)
    assert str(noise) == "no sign of more than 2 % wrong labels"
    assert noise.interval[0] == 0 < noise.interval[1] < 0.025
    assert noise.confused_pairs() == []


def test_wrong_labels_are_said_with_their_interval():
    noise = LabelConfusion(0.01, 0.2, 2, share=0.1, interval=(0.08, 0.12))
    assert str(noise) == "10 % of the labels look wrong (8–12 %)"
    assert isinstance(noise, LabelNoise)
    assert noise.wrong_fraction == pytest.approx(0.1)


def test_wrong_labels_are_found_and_probabilities_are_calibrated():
    Z, y, T, truth = make_world(flips(5, 0.2, "pair"), 400, spread=0.2)
    right_n, odds_n, likeliest_n = estimate_label_noise(Z, y, T).score(Z, y)
    np.testing.assert_allclose(1 / (1 + np.exp(-odds_n.astype(float))), right_n, atol=1e-5)
    assert right_n.dtype == np.float32
    assert 0 <= right_n.min() <= right_n.max() <= 1
    assert right_n[y == truth].mean() > 0.9 > 0.4 > right_n[y != truth].mean()
    assert (likeliest_n == truth).mean() > 0.93
    for low, high in ((0.0, 0.3), (0.7, 1.0)):
        part = (right_n >= low) & (right_n <= high)
        assert right_n[part].mean() == pytest.approx((y == truth)[part].mean(), abs=0.07)


def rows_of(Z):
    return (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32)


def test_evidence_is_that_of_a_fit_without_the_image():
    """Against class means and a ridge regression fitted anew, each image left out in turn."""
    Z, y, T, _ = make_world(flips(3, 0.2, "pair"), 20, d=12)
    n, unit = len(y), rows_of(Z)
    evidence = fit_evidence(Z, y, T.astype(np.float32), np.arange(n), None)
    found = evidence.of(unit, y, np.ones(n, dtype=bool))
    np.testing.assert_allclose(found[0], (unit - unit.mean(axis=0)) @ T.T, atol=1e-5)
    penalty = _penalty_of(evidence, unit)
    for i in range(0, n, 7):
        rest = np.arange(n) != i
        means = np.stack(
            [(unit[rest & (y == c)] - unit.mean(axis=0)).sum(axis=0) for c in range(3)]
        )
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        np.testing.assert_allclose(found[1, i], (unit[i] - unit.mean(axis=0)) @ means.T, atol=1e-4)
        # The regression has a constant that is not penalised.
        X, target = unit[rest].astype(float), np.eye(3)[y[rest]]
        centred = X - X.mean(axis=0)
        coef = np.linalg.solve(
            centred.T @ centred + penalty * np.eye(12), centred.T @ (target - target.mean(axis=0))
        )
        expected = (
            target.mean(axis=0) + (unit[i] - X.mean(axis=0)) @ coef - np.eye(3)[y].mean(axis=0)
        )
        np.testing.assert_allclose(found[2, i], expected, atol=1e-3)


def _penalty_of(evidence, unit):
    """Return the penalty of a fit from its whitening W: W Wᵀ is the inverse of C + penalty."""
    centred = (unit - unit.mean(axis=0)).astype(float)
    inverse = evidence.whitening_dd.astype(float) @ evidence.whitening_dd.T
    penalties = np.diag(np.linalg.inv(inverse) - centred.T @ centred)
    np.testing.assert_allclose(penalties, penalties[0], rtol=1e-2)
    return float(penalties.mean())


def test_no_label_votes_for_itself():
    Z, y, T, _ = make_world(flips(3, 0.1, "pair"), 60)
    rows, unit = np.arange(len(y)), rows_of(Z)
    seen = np.ones(len(y), dtype=bool)
    changed = y.copy()
    changed[0] = (y[0] + 1) % 3
    before, after = (
        fit_evidence(Z, labels, T.astype(np.float32), rows, None) for labels in (y, changed)
    )
    # The image whose label changed finds the means that it found before.
    own, other = (e.of(unit, labels, seen) for e, labels in ((before, y), (after, changed)))
    np.testing.assert_allclose(other[1, 0], own[1, 0], atol=1e-5)
    assert abs(other[1, 1:] - own[1, 1:]).max() > 1e-3


def test_an_image_alone_in_its_class_finds_no_mean():
    Z = np.concatenate([np.eye(4), np.eye(4)[:3] + 0.1]).astype(np.float32)
    y = np.array([0, 1, 2, 3, 0, 1, 2])
    evidence = fit_evidence(Z, y, np.eye(4, dtype=np.float32), np.arange(7), None)
    found = evidence.of(rows_of(Z), y, np.ones(7, dtype=bool))
    assert found[1, 3, 3] == 0
    assert np.isfinite(found).all()


def test_the_order_of_classes_does_not_matter():
    Z, y, T, _ = make_world(flips(5, 0.2, "pair"), 200)
    order = np.random.default_rng(0).permutation(5)
    noise = estimate_label_noise(Z, y, T)
    other = estimate_label_noise(Z, np.argsort(order)[y], T[order])
    assert other.wrong_fraction == pytest.approx(noise.wrong_fraction, abs=2e-3)
    moved = noise.confusion.toarray()[order][:, order]
    np.testing.assert_allclose(other.confusion.toarray(), moved, atol=0.01)


def test_the_order_of_images_does_not_matter():
    Z, y, T, _ = make_world(flips(5, 0.2, "symmetric"), 200)
    order = np.random.default_rng(0).permutation(len(y))
    noise, other = (estimate_label_noise(Z[o], y[o], T) for o in (slice(None), order))
    assert other.wrong_fraction == pytest.approx(noise.wrong_fraction, abs=1e-3)
    right, moved = noise.score(Z, y)[0], other.score(Z[order], y[order])[0]
    assert np.corrcoef(right[order], moved)[0, 1] > 0.999


def test_inputs_are_left_alone_and_a_second_call_says_the_same():
    Z, y, T, _ = make_world(flips(4, 0.2, "pair"), 100)
    before = contents(Z, y, T)
    first, second = (estimate_label_noise(Z, y, T) for _ in range(2))
    assert first == second
    np.testing.assert_array_equal(first.confusion.toarray(), second.confusion.toarray())
    np.testing.assert_array_equal(first.score(Z, y)[0], second.score(Z, y)[0])
    assert contents(Z, y, T) == before


def test_texts_and_means_are_weighed():
    """Texts that say nothing are outvoted by the means."""
    Z, y, _, truth = make_world(flips(5, 0.2, "symmetric"), 300)
    nonsense = random_unit(np.random.default_rng(9), 5, 32)
    noise = estimate_label_noise(Z, y, nonsense)
    assert noise.wrong_fraction == pytest.approx((y != truth).mean(), abs=0.03)


def test_few_images_a_class_stay_near_the_prior():
    Z, y, T, _ = make_world(np.eye(10), 3)
    noise = estimate_label_noise(Z, y, T)
    assert noise.wrong_fraction < 0.1
    assert noise.confused_pairs() == []


def test_one_image_identical_images_and_one_class_in_use():
    for Z, y in (
        (np.eye(3)[:1], [0]),
        (np.ones((50, 3)), [0] * 50),
        (np.eye(3)[[0] * 50], [0] * 50),
    ):
        noise = estimate_label_noise(Z, y, np.eye(3))
        assert np.isfinite([noise.wrong_fraction, *noise.interval, noise.temperature]).all()
        np.testing.assert_allclose(noise.confusion.sum(axis=1), 1)
        assert np.isfinite(noise.score(Z, y)[0]).all()


def test_many_classes_have_a_sparse_matrix(monkeypatch):
    Z, y, T, truth = make_world(flips(80, 0.2, "symmetric"), 25, d=64, spread=0.08)
    noise = estimate_label_noise(Z, y, T)
    assert noise.wrong_fraction == pytest.approx((y != truth).mean(), abs=0.04)
    assert noise.confusion.nnz < 80 * 40
    monkeypatch.setattr(confusion, "MAX_ENTRIES", 1)
    sampled = []
    fits = confusion._fits
    monkeypatch.setattr(
        confusion, "_fits", lambda sim, y: sampled.append(sim.shape) or fits(sim, y)
    )
    estimate_label_noise(Z, y, T)
    assert sampled == [(3, confusion.MIN_SAMPLE, 80)]


def test_more_images_than_the_limit_are_sampled(monkeypatch):
    Z, y, T, truth = make_world(flips(4, 0.2, "symmetric"), 500)
    monkeypatch.setattr(confusion, "MAX_SAMPLE", 1000)
    monkeypatch.setattr(confusion, "MAX_FITTED", (1200, 1500))
    noise = estimate_label_noise(Z, y, T, random_state=3)
    assert noise.wrong_fraction == pytest.approx((y != truth).mean(), abs=0.03)
    assert noise == estimate_label_noise(Z, y, T, random_state=3)
    assert noise != estimate_label_noise(Z, y, T, random_state=4)
    assert noise.score(Z, y)[0].shape == (2000,)


def test_an_adapter_is_applied_to_both():
    Z, y, T, _ = make_world(flips(4, 0.2, "pair"), 100)
    adapter = DatasetAdapter(epochs=2, learning_rate=1e-2, device="cpu").fit(Z, y, T)
    noise = estimate_label_noise(Z, y, T, adapter=adapter)
    adapted = adapter.transform_images(Z), y, adapter.transform_texts(T)
    expected = estimate_label_noise(*adapted)
    assert noise.wrong_fraction == pytest.approx(expected.wrong_fraction, abs=5e-3)


def test_harder_images_are_wrong_more_often():
    rng = np.random.default_rng(0)
    sim_fsk = rng.standard_normal((1, 500, 3)).astype(np.float32)
    likelihood = Likelihood(sim_fsk, rng.integers(3, size=500), 0.3)
    rate_bk = likelihood.rates(likelihood.start())
    assert rate_bk.shape == (N_BINS, 3)
    assert (np.diff(rate_bk, axis=0) > 0).all()


# Errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"T": np.eye(3)[:1]},
            "`T` must hold at least two classes for labels to be wrong; got 1. Add the embeddings "
            "of the other classes.",
        ),
        ({"T": np.eye(4)}, "`T` must have 3 columns; got 4. Encode both with one model."),
        (
            {"y": [0, 1]},
            "`y` must have one label for each of the 3 images; got shape (2,). Pass the labels of "
            "the same images, in the same order.",
        ),
        (
            {"y": [0, 1, 3]},
            "`y` must be in [0, 2], the numbers of the 3 classes; got 3 at position 2. Count "
            "classes from 0, in the order of their names or embeddings.",
        ),
        (
            {"Z": [[1, 0, 0], [0, 1, 0], [0, 0, 0]]},
            "Every embedding must have a direction; row 2 is all zeros. Encode it again.",
        ),
    ],
)
def test_what_is_refused(change, message):
    arguments = {"Z": np.eye(3), "y": [0, 1, 2], "T": np.eye(3), **change}
    with pytest.raises(InvalidInputError, match=f"^{re.escape(message)}$"):
        estimate_label_noise(**arguments)


def test_names_must_be_one_a_class():
    noise = estimate_label_noise(np.eye(3), [0, 1, 2], np.eye(3))
    message = "`class_names` must name each of the 3 classes; got 2 names. Pass one a class."
    with pytest.raises(InvalidInputError, match=f"^{re.escape(message)}$"):
        noise.confused_pairs(class_names=["a", "b"])


def test_images_of_another_number_need_to_be_told():
    Z, y, T, _ = make_world(flips(3, 0.1, "pair"), 30)
    noise = estimate_label_noise(Z, y, T)
    message = (
        "`Z` must hold the 90 images of the estimate; got 60. For others pass `seen`: whether the "
        "estimate was fitted to each of them."
    )
    with pytest.raises(InvalidInputError, match=f"^{re.escape(message)}$"):
        noise.score(Z[:60], y[:60])
    part, whole = noise.score(Z[:60], y[:60], seen=np.ones(60, bool)), noise.score(Z, y)
    np.testing.assert_allclose(part.odds_n, whole.odds_n[:60], atol=1e-3)


def test_the_mean_of_two_estimates():
    Z, y, T, _ = make_world(flips(3, 0.2, "pair"), 100)
    parts = [estimate_label_noise(Z[a::2], y[a::2], T) for a in (0, 1)]
    both = mean_confusion(parts, [150, 150])
    assert both.wrong_fraction == pytest.approx(np.mean([p.wrong_fraction for p in parts]))
    assert both.interval[0] == pytest.approx(np.mean([p.interval[0] for p in parts]))
    np.testing.assert_allclose(both.confusion.sum(axis=1), 1)
    message = (
        "This estimate is the mean over several adapters, which have no space in common, or was "
        "made by hand. Read 'label_probability' in the scores of the selection."
    )
    with pytest.raises(InvalidInputError, match=f"^{re.escape(message)}$"):
        both.score(Z, y)
    assert mean_confusion(parts[:1], [150]) is parts[0]


def test_few_images_leave_room_for_wrong_labels():
    """Of 60 images without a wrong label, one in twenty may still be wrong."""
    Z, y, T, _ = make_world(np.eye(3), 20)
    noise = estimate_label_noise(Z, y, T)
    assert noise.interval[1] >= 3 / 60
    assert str(noise) == "no sign of more than 6 % wrong labels"


def test_the_model_must_be_known():
    message = "`model` must be one of 'confusion', 'symmetric'; got 'dice'. Choose one."
    with pytest.raises(InvalidInputError, match=f"^{re.escape(message)}$"):
        estimate_label_noise(np.eye(3), [0, 1, 2], np.eye(3), model="dice")


def test_right_pixels_of_digits_are_not_called_wrong():
    """Class means read digits badly; what the regression reads is not noise."""
    from sklearn.datasets import load_digits

    Z, y = load_digits(return_X_y=True)
    T = np.random.default_rng(0).standard_normal((10, 64))
    assert str(estimate_label_noise(Z, y, T)) == "no sign of more than 2 % wrong labels"
