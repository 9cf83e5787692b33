"""Approximate SDS equals the exact one where nothing is left out, and comes near where it is."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
from scipy.stats import spearmanr

from clip_al import ClipSelector
from clip_al.errors import InvalidInputError, MissingDependencyError
from clip_al.score.alignment_diversity import sample_diversity_scores
from clip_al.score.neighbors import mean_neighbour_distances
from clip_al.score.neighbors_approximate import indexed_distances, sampled_distances
from tests.reference import random_unit

M, D = 600, 16


@pytest.fixture
def clustered(rng):
    Z = rng.standard_normal((12, D))[rng.integers(12, size=M)] + 0.3 * rng.standard_normal((M, D))
    return (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_sample_of_all_is_exact(rng, device):
    Z, members = random_unit(rng, 90, D), np.arange(10, 70)
    found = sampled_distances(Z, members, 0.2, len(members), device=device)
    np.testing.assert_allclose(found, mean_neighbour_distances(Z[members], 0.2), atol=1e-6)


def test_torch_measures_what_numpy_does(rng):
    torch = pytest.importorskip("torch")
    Z, members = random_unit(rng, 90, D), np.arange(90)
    numpy = sampled_distances(Z, members, 0.2, 40)
    on_torch = sampled_distances(Z, members, 0.2, 40, device=torch.device("cpu", 0))
    np.testing.assert_allclose(on_torch, numpy, atol=1e-6)


def test_a_sample_equals_the_loop(rng):
    Z, members = random_unit(rng, 40, D).astype(np.float64), np.arange(0, 40, 2)
    drawn = np.sort(np.random.default_rng(3).choice(20, 8, replace=False))
    expected = []
    for place, i in enumerate(members):
        others = [np.linalg.norm(Z[i] - Z[members[r]]) for r in drawn if r != place]
        expected.append(np.mean(sorted(others)[:2]))  # a quarter of 8
    found = sampled_distances(Z, members, 0.25, 8, random_state=3)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_chunks_and_seeds(rng, clustered, monkeypatch):
    members = np.arange(M)
    whole = sampled_distances(clustered, members, 0.1, 100)
    monkeypatch.setattr("clip_al.score.neighbors_approximate.CHUNK", 37)
    # Products of other shapes round otherwise in the last bit.
    parts = sampled_distances(clustered, members, 0.1, 100)
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    other = sampled_distances(clustered, members, 0.1, 100, random_state=1)
    assert not np.allclose(other, whole, rtol=1e-3)


def test_a_part_of_the_class_ranks_images_as_all_of_it_does(clustered):
    exact = sample_diversity_scores(clustered, np.zeros(M, int))
    parts = [sample_diversity_scores(clustered, np.zeros(M, int), exact_up_to=r) for r in (60, 400)]
    agreement = [spearmanr(exact, part).statistic for part in parts]
    assert 0.3 < agreement[0] < agreement[1] < 1.0
    assert agreement[1] > 0.75


def test_an_inverted_file_finds_nearly_all(clustered, caplog):
    y = np.zeros(M, int)
    exact = sample_diversity_scores(clustered, y, n_neighbors=5)
    with caplog.at_level(logging.INFO, "clip_al"):
        near = sample_diversity_scores(clustered, y, n_neighbors=5, exact_up_to=100)
    assert float(caplog.messages[0].split("recall ")[1]) >= 0.95
    assert np.isclose(near, exact, atol=1e-5).mean() > 0.8
    assert (near >= exact - 1e-5).all()  # what is missed is nearer than what is taken instead
    again = sample_diversity_scores(clustered, y, n_neighbors=5, exact_up_to=100)
    np.testing.assert_array_equal(near, again)


def test_an_inverted_file_that_is_probed_whole_is_exact(rng):
    Z = random_unit(rng, 50, D)  # one list
    found, recall = indexed_distances(Z, 3)
    assert recall == 1.0
    np.testing.assert_allclose(found, mean_neighbour_distances(Z, 3), atol=1e-5)


def test_more_neighbours_than_a_list_holds(clustered):
    count = M - 1
    found, recall = indexed_distances(clustered, count)
    assert recall == 1.0
    np.testing.assert_allclose(found, mean_neighbour_distances(clustered, count), atol=1e-4)


def test_small_classes_stay_exact(rng):
    Z, y = random_unit(rng, 60, D), np.repeat([0, 1], [45, 15])
    exact = sample_diversity_scores(Z, y, n_neighbors=4)
    near = sample_diversity_scores(Z, y, n_neighbors=0.1, exact_up_to=20)
    np.testing.assert_array_equal(near[y == 1], sample_diversity_scores(Z, y)[y == 1])
    np.testing.assert_array_equal(
        sample_diversity_scores(Z, y, n_neighbors=4, exact_up_to=45), exact
    )


@pytest.mark.parametrize("bad", [1, 0, -5])
def test_a_part_of_one_image_is_refused(rng, bad):
    Z, y = random_unit(rng, 10, D), np.zeros(10, int)
    for ask in (
        lambda: sample_diversity_scores(Z, y, exact_up_to=bad),
        lambda: ClipSelector(0.5, class_embeddings=Z[:2], exact_up_to=bad).fit(Z, y),
    ):
        with pytest.raises(InvalidInputError, match="`exact_up_to` must be at least 2"):
            ask()


def test_a_count_without_faiss_is_refused(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r"clip_al\[cpu\]"):
        indexed_distances(random_unit(rng, 10, D), 2)


def test_a_selector_passes_it_on(rng):
    Z, y = random_unit(rng, 120, D), np.arange(120) % 2
    settings = {"class_embeddings": random_unit(rng, 2, D), "adapter": False}
    found = ClipSelector(0.5, n_neighbors=0.1, exact_up_to=30, **settings).fit_select(Z, y)
    np.testing.assert_array_equal(
        found.scores["sds"], sample_diversity_scores(Z, y, exact_up_to=30)
    )
    assert found.settings["exact_up_to"] == 30
