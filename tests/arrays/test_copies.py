"""Tests of `clip_al.arrays.copies`, and that every strategy picks one of each image."""

from __future__ import annotations

import numpy as np
import pytest

from clip_al import (
    AlignmentDiversitySampling,
    CBDMarginSampling,
    CBDSampling,
    ConceptProfiles,
    UncertaintyCoverageSampling,
    pick_by_geometric_diversity,
)
from clip_al.arrays.copies import first_profiles, first_rows
from tests.reference import make_vocabulary, random_probabilities, random_unit

N_ALONE, N_COPIES, OF = 120, 60, 5


@pytest.fixture(scope="module")
def pool():
    """Return 120 images and 60 copies of one, in random order, and which image each is."""
    rng = np.random.default_rng(0)
    alone = random_unit(rng, N_ALONE, 12)
    image = rng.permutation(np.concatenate([np.arange(N_ALONE), np.full(N_COPIES, OF)]))
    return alone[image], image


def vocabulary():
    return make_vocabulary(random_unit(np.random.default_rng(2), 40, 12), "toy")


def probabilities(image):
    P = random_probabilities(np.random.default_rng(3), N_ALONE, 4)
    P[OF] = 0.25  # the least certain of all
    return P[image]


T = random_unit(np.random.default_rng(4), 4, 12)
STRATEGIES = {
    "cbd": lambda Z, P, n: CBDSampling(vocabulary(), m=6).select(Z, n),
    "cbd, uniform": lambda Z, P, n: CBDSampling(vocabulary(), m=6, target="uniform").select(Z, n),
    "cbd margin": lambda Z, P, n: CBDMarginSampling(vocabulary(), m=6).select(
        Z, n, probabilities=P
    ),
    "coverage": lambda Z, P, n: UncertaintyCoverageSampling().select(Z, n),
    "coverage, probabilities": lambda Z, P, n: UncertaintyCoverageSampling().select(
        Z, n, probabilities=P
    ),
    "coverage, classes": lambda Z, P, n: UncertaintyCoverageSampling(T).select(Z, n),
    "alignment": lambda Z, P, n: AlignmentDiversitySampling(T).select(Z, n),
    "alignment alone": lambda Z, P, n: AlignmentDiversitySampling(T, alpha=0.0).select(Z, n),
}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("n", [30, 100, 120, 150, 180])
def test_one_of_each_as_far_as_the_budget_allows(pool, name, n):
    Z, image = pool
    picks = STRATEGIES[name](Z, probabilities(image), n)
    assert len(set(picks.tolist())) == n
    assert len(set(image[picks].tolist())) == min(n, N_ALONE)
    first = picks[:N_ALONE]
    assert len(set(image[first].tolist())) == len(first)


def test_the_most_diverse_set_holds_no_copies(pool):
    Z, image = pool
    assert len(set(image[pick_by_geometric_diversity(Z, 100)].tolist())) == 100


def test_copies_of_the_best_aligned_image():
    Z = np.concatenate([np.tile(T[0], (20, 1)), random_unit(np.random.default_rng(1), 20, 12)])
    picks = AlignmentDiversitySampling(T, alpha=0.0, class_balance="none").select(Z, 10)
    assert (picks < 20).sum() <= 1


def test_a_pool_of_one_image_many_times(pool):
    Z = np.tile(pool[0][:1], (8, 1))
    P = np.full((8, 4), 0.25)
    for name in ("cbd margin", "coverage", "alignment"):
        assert sorted(STRATEGIES[name](Z, P, 8).tolist()) == list(range(8))


def test_profiles_alone_say_which_images_are_copies(pool):
    Z, image = pool
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary(), 6)
    picks = CBDSampling().select(None, 60, profiles=profiles)
    assert len(set(image[picks].tolist())) == 60


def expected_first(image):
    seen = set()
    return [not (one in seen or seen.add(one)) for one in image.tolist()]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_first_rows_are_those_of_a_loop(pool, dtype, monkeypatch):
    Z, image = pool
    assert first_rows(Z.astype(dtype)).tolist() == expected_first(image)
    monkeypatch.setattr("clip_al.arrays.copies.block_rows", lambda *_: 7)
    assert first_rows(Z.astype(dtype)).tolist() == expected_first(image)


def test_first_profiles_are_those_of_a_loop_and_bear_rounding(pool, rng):
    Z, image = pool
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary(), 6)
    ids, sims = profiles.ids, profiles.similarities
    assert first_profiles(ids, sims).tolist() == expected_first(image)
    rounded = sims * (1 + 3e-7 * rng.choice([-1, 1], sims.shape)).astype(np.float32)
    assert first_profiles(ids, rounded).sum() == N_ALONE


def test_equal_concepts_that_show_less_are_no_copies():
    ids = np.array([[1, 2], [1, 2], [2, 1]])
    sims = np.array([[0.5, 0.4], [0.5, 0.3], [0.5, 0.4]])
    assert first_profiles(ids, sims).tolist() == [True, True, True]
