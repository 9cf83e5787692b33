"""Tests of `baselines.covering` and `baselines.clustering` against slow loops."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.baselines.clustering import pick_by_drop_query, pick_by_k_means
from benchmarks.baselines.covering import (
    pick_by_max_herding,
    pick_by_prob_cover,
    pick_by_uncertainty_herding,
)
from tests import coverage_reference as slow
from tests import reference

NONE = np.empty((0, 12), np.float32)


def gaussian(first, second, square):
    return np.exp(-((first[:, None].astype(float) - second[None]) ** 2).sum(-1) / square)


@pytest.mark.parametrize("n_labelled", [0, 5])
def test_max_herding_covers_most_at_each_step(Z, n_labelled):
    pool, known = Z[n_labelled:], Z[:n_labelled]
    picks = pick_by_max_herding(pool, 10, labelled_emb_ld=known)
    cover = gaussian(known, pool, 1.0).max(axis=0) if n_labelled else np.zeros(len(pool))
    assert len(set(picks.tolist())) == 10
    assert slow.shortfall(gaussian(pool, pool, 1.0), np.ones(len(pool)), cover, picks) < 1e-9


@pytest.mark.parametrize("n_labelled", [0, 1, 5])
def test_uncertainty_herding_weighs_doubt_and_shrinks_its_radius(Z, probabilities, n_labelled):
    pool, known, P = Z[n_labelled:], Z[:n_labelled], probabilities[n_labelled:]
    picks = pick_by_uncertainty_herding(pool, P, 10, labelled_emb_ld=known)
    pairs = [
        ((known[i].astype(float) - known[j]) ** 2).sum()
        for i in range(n_labelled)
        for j in range(i)
    ]
    square = min(pairs, default=1.0)
    cover = gaussian(known, pool, square).max(axis=0) if n_labelled else np.zeros(len(pool))
    doubt = 1.0 - reference.margin(P)
    assert slow.shortfall(gaussian(pool, pool, square), doubt, cover, picks) < 1e-6


def test_prob_cover_takes_the_fullest_ball(rng):
    # Two heaps of 10 and 5 images and one image apart; a ball holds its heap.
    corners = np.eye(12, dtype=np.float32)
    heaps = np.repeat([0, 1, 2], [10, 5, 1])
    Z = corners[heaps] + 0.01 * rng.standard_normal((16, 12)).astype(np.float32)
    picks = pick_by_prob_cover(Z, 3, labelled_emb_ld=NONE, n_classes=3, seed=0)
    assert heaps[picks].tolist() == [0, 1, 2]
    known = pick_by_prob_cover(Z, 2, labelled_emb_ld=Z[:1], n_classes=3, seed=0)
    assert heaps[known].tolist() == [1, 2]


def test_k_means_takes_an_image_of_each_cluster(rng):
    heaps = np.repeat([0, 1, 2], [10, 5, 3])
    Z = np.eye(12, dtype=np.float32)[heaps]
    Z += 0.01 * rng.standard_normal(Z.shape).astype(np.float32)
    picks = pick_by_k_means(Z, 3, seed=0)
    assert heaps[picks].tolist() == [0, 1, 2]
    for heap, pick in enumerate(picks):
        own = Z[heaps == heap]
        dist = ((own - own.mean(axis=0)) ** 2).sum(axis=1)
        assert pick == np.flatnonzero(heaps == heap)[dist.argmin()]


def test_k_means_of_identical_images_is_distinct(Z):
    with pytest.warns(UserWarning, match="distinct clusters"):
        picks = pick_by_k_means(np.repeat(Z[:1], 9, axis=0), 4, seed=0)
    assert sorted(set(picks.tolist())) == sorted(picks.tolist())
    assert len(picks) == 4


def test_drop_query_asks_about_what_dropout_changes(Z):
    def predict(emb):
        return (emb[:, :4]).argmax(axis=1)

    picks = pick_by_drop_query(Z, predict, np.ones(60), 4, seed=1)
    rng, changed = np.random.default_rng(1), np.zeros(60)
    for _ in range(3):
        kept = rng.random(Z.shape) >= 0.75
        changed += [predict(row[None] * k)[0] != predict(row[None])[0]
                    for row, k in zip(Z, kept, strict=True)]  # fmt: skip
    confused = np.flatnonzero(changed >= 2)
    assert 4 < len(confused) < 60
    assert picks.tolist() == confused[pick_by_k_means(Z[confused], 4, 1)].tolist()


def test_drop_query_fills_up_with_doubt(Z):
    margin = np.linspace(1, 0, 60)
    picks = pick_by_drop_query(Z, lambda emb: np.zeros(len(emb), np.int64), margin, 5, seed=0)
    assert sorted(picks) == [55, 56, 57, 58, 59]
