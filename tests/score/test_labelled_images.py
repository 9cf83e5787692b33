"""Tests of `clip_al.score.labelled_images`."""

from __future__ import annotations

import numpy as np
import pytest

from clip_al.adapt.adapter import DatasetAdapter
from clip_al.adapt.cross_fit import CrossFitAdapter
from clip_al.score.alignment_diversity import (
    label_log_probabilities,
    sample_diversity_scores,
    semantic_alignment_scores,
)
from clip_al.score.label_noise.estimate import estimate_label_noise
from clip_al.score.labelled_images import distance_space, score_images
from tests.reference import contents, random_unit

N, K, D = 200, 4, 16
SETTINGS = {
    "alignment": "contrastive",
    "noise_aware": False,
    "text_weight": 1.0,
    "n_neighbors": 0.1,
    "noise_model": "symmetric",
}


@pytest.fixture
def T(rng):
    return random_unit(rng, K, D)


@pytest.fixture
def y(rng):
    labels = np.arange(N) % K
    labels[:40] = rng.integers(K, size=40)
    return labels


@pytest.fixture
def images(rng, T):
    return (T[np.arange(N) % K] + 0.2 * rng.standard_normal((N, D))).astype(np.float32)


@pytest.fixture
def adapter(images, y, T):
    return DatasetAdapter(epochs=2, learning_rate=1e-2, device="cpu").fit(images, y, T)


@pytest.fixture
def folds(images, y, T):
    adapter = DatasetAdapter(epochs=2, learning_rate=1e-2, device="cpu")
    return CrossFitAdapter(adapter, n_splits=3).fit(images, y, T)


@pytest.mark.parametrize("adapted", [False, True])
def test_scores_are_those_of_the_functions(images, y, T, adapter, adapted):
    one = adapter if adapted else None
    scores = score_images(images, y, T, one, **SETTINGS)
    noise = estimate_label_noise(images, y, T, adapter=one, model="symmetric")
    assert scores.noise.temperature == pytest.approx(noise.temperature, rel=1e-4)
    assert scores.noise.uniform_share == pytest.approx(noise.uniform_share, rel=1e-3)
    log_prob, likeliest = label_log_probabilities(
        images, y, T, temperature=noise.temperature, adapter=one
    )
    np.testing.assert_allclose(scores.log_prob_n, log_prob, rtol=1e-3, atol=1e-4)
    assert scores.sas_n.tolist() == scores.log_prob_n.tolist()
    aware = score_images(images, y, T, one, **{**SETTINGS, "noise_aware": True})
    expected = aware.noise.label_log_likelihood(aware.log_prob_n)
    assert aware.sas_n.tolist() == expected.tolist()
    assert (aware.sas_n != scores.sas_n).any()
    assert scores.likeliest_n.tolist() == likeliest.tolist()
    np.testing.assert_allclose(scores.right_n, noise.label_probability(log_prob), atol=1e-3)
    assert scores.label_score_n.tolist() == scores.log_prob_n.tolist()
    expected = sample_diversity_scores(images, y, 0.1, adapter=one)
    np.testing.assert_array_equal(scores.sds_n, expected)


def test_cosine_alignment(images, y, T, adapter):
    for one in (None, adapter):
        scores = score_images(images, y, T, one, **{**SETTINGS, "alignment": "cosine"})
        expected = semantic_alignment_scores(images, y, T, adapter=one)
        np.testing.assert_allclose(scores.sas_n, expected, atol=1e-6)
        assert (scores.log_prob_n != scores.sas_n).any()


@pytest.mark.parametrize("text_weight", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("alignment", ["contrastive", "cosine"])
def test_each_image_is_scored_by_an_adapter_that_never_saw_its_label(
    images, y, T, folds, alignment, text_weight
):
    settings = {**SETTINGS, "alignment": alignment, "text_weight": text_weight}
    scores = score_images(images, y, T, folds, **settings)
    for i in range(0, N, 17):
        # Whatever this image's label, the adapter of its fold scores it by that label alone.
        fold = folds.fold_[i]
        one, seen = folds.adapters_[fold], folds.fold_ != fold
        vectors = one.transform_texts(T)
        if text_weight < 1:
            adapted = one.transform_images(images[seen])
            means = np.stack([adapted[y[seen] == label].mean(axis=0) for label in range(K)])
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            vectors = text_weight * vectors + (1 - text_weight) * means
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines = one.transform_images(images[i : i + 1])[0] @ vectors.T
        assert scores.likeliest_n[i] == cosines.argmax()
        if alignment == "cosine":
            assert scores.sas_n[i] == pytest.approx(cosines[y[i]], abs=1e-5)


def test_a_spy_sees_each_adapter_asked_for_images_of_its_own_fold_alone(images, y, T, folds):
    asked = {fold: [] for fold in range(3)}
    for fold, one in enumerate(folds.adapters_):
        transform = one.transform_images

        def spy(Z, fold=fold, transform=transform):
            asked[fold].append(np.array(Z))
            return transform(Z)

        one.transform_images = spy
    score_images(images, y, T, folds, **SETTINGS)
    unit = images / np.linalg.norm(images, axis=1, keepdims=True)
    for fold, parts in asked.items():
        assert parts
        nearest = (np.concatenate(parts) @ unit.T).argmax(axis=1)
        assert set(nearest.tolist()) == set(np.flatnonzero(folds.fold_ == fold).tolist())


def test_several_adapters_have_no_common_space_for_distances(images, y, T, folds, adapter):
    scores = score_images(images, y, T, folds, **SETTINGS)
    np.testing.assert_array_equal(scores.sds_n, sample_diversity_scores(images, y, 0.1))
    assert distance_space(folds) is None
    assert distance_space(adapter) is adapter
    assert distance_space(None) is None


def test_the_noise_of_folds_is_their_mean(images, y, T, folds):
    noise = score_images(images, y, T, folds, **SETTINGS).noise
    parts = [
        estimate_label_noise(images[of], y[of], T, adapter=one, model="symmetric")
        for one, of in ((one, folds.fold_ == f) for f, one in enumerate(folds.adapters_))
    ]
    assert noise.temperature == pytest.approx(np.mean([p.temperature for p in parts]), rel=1e-4)
    assert noise.uniform_share == pytest.approx(np.mean([p.uniform_share for p in parts]), rel=1e-3)


@pytest.mark.parametrize("adapted", [False, True])
def test_the_confusion_says_which_labels_are_right(images, y, T, adapter, adapted):
    """And SAS goes by chance alone, as it does with the symmetric model."""
    one = adapter if adapted else None
    settings = {**SETTINGS, "noise_aware": True}
    scores = score_images(images, y, T, one, **{**settings, "noise_model": "confusion"})
    noise = estimate_label_noise(images, y, T, adapter=one)
    right_n, odds_n, likeliest_n = noise.score(images, y)
    assert scores.noise.wrong_fraction == pytest.approx(noise.wrong_fraction, abs=1e-3)
    np.testing.assert_allclose(scores.right_n, right_n, atol=1e-2)
    np.testing.assert_allclose(scores.label_score_n, odds_n, rtol=0.02, atol=0.2)
    assert (scores.likeliest_n == likeliest_n).mean() > 0.98
    plain = score_images(images, y, T, one, **settings)
    np.testing.assert_array_equal(scores.sas_n, plain.sas_n)
    assert (scores.right_n != plain.right_n).any()


def test_the_confusion_of_folds_is_their_mean(images, y, T, folds):
    scores = score_images(images, y, T, folds, **{**SETTINGS, "noise_model": "confusion"})
    parts = [
        estimate_label_noise(images[of], y[of], T, adapter=one)
        for one, of in ((one, folds.fold_ == f) for f, one in enumerate(folds.adapters_))
    ]
    sizes = np.bincount(folds.fold_)
    mean = np.average([part.wrong_fraction for part in parts], weights=sizes)
    assert scores.noise.wrong_fraction == pytest.approx(mean, abs=1e-3)
    wrong = y != np.arange(N) % K
    assert scores.right_n[wrong].mean() < 0.3 < 0.9 < scores.right_n[~wrong].mean()


def test_without_text_mean_images_decide(images, y, T):
    wrong_texts = np.roll(T, 1, axis=0)
    by_text = score_images(images, y, wrong_texts, None, **SETTINGS)
    by_mean = score_images(images, y, wrong_texts, None, **{**SETTINGS, "text_weight": 0.0})
    truth = np.arange(N) % K
    assert (by_mean.likeliest_n == truth).mean() > 0.9
    assert (by_text.likeliest_n == truth).mean() < 0.1


def test_inputs_are_left_alone(images, y, T, folds):
    before = contents(images, y, T)
    score_images(images, y, T, folds, **{**SETTINGS, "text_weight": 0.5})
    score_images(images, y, T, None, **{**SETTINGS, "text_weight": 0.5})
    assert contents(images, y, T) == before
