"""Tests of `clip_al.label.greedy`: each step takes what the slow loop takes."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_al.concepts.diversity import ConceptCounts
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.label import greedy
from clip_al.label.greedy import pick_by_geometric_diversity, pick_diverse
from tests import reference
from tests.helpers import exactly
from tests.reference import contents, random_profiles, random_unit

# pick_diverse


def pick(profiles, weighting, n, chosen=(), target=None):
    """Pick from profiles after the images at `chosen`, among all the others."""
    others = np.setdiff1d(np.arange(len(profiles)), chosen)
    part = profiles.take(others)
    counts = ConceptCounts.from_profiles(
        profiles, np.array(chosen, dtype=np.int64), weighting=weighting
    )
    vectors = reference.concept_vectors(profiles, weighting)
    picks, cost = pick_diverse(
        part.ids,
        part.weights(weighting),
        n,
        sum_v=counts.sum_v,
        n_chosen=counts.n,
        target_v=target,
    )
    return picks, cost, vectors[others], vectors[list(chosen)]


@pytest.mark.parametrize("weighting", ["binary", "softmax"])
@given(
    seed=st.integers(0, 2**16),
    c=st.integers(1, 12),
    v=st.integers(4, 12),
    m=st.integers(1, 4),
    n_chosen=st.integers(0, 3),
)
def test_each_pick_has_the_largest_gain_of_cbd(weighting, seed, c, v, m, n_chosen):
    rng = np.random.default_rng(seed)
    profiles = random_profiles(rng, c + n_chosen, v, m)
    chosen = rng.permutation(c + n_chosen)[:n_chosen]
    picks, _, vectors, chosen_vectors = pick(profiles, weighting, min(c, 6), chosen)
    assert len(set(picks)) == min(c, 6)
    # Near-ties may fall either way; `test_ties_...` below has exact ones.
    assert reference.shortfall(reference.cbd_scores, vectors, picks, chosen_vectors) < 1e-5


@pytest.mark.parametrize("seed", range(5))
def test_picks_are_those_of_the_slow_loop(seed):
    profiles = random_profiles(np.random.default_rng(seed), 20, 10, 4)
    # Two chosen images: from the first step on there is something to differ from.
    picks, _, vectors, chosen = pick(profiles, "softmax", 7, [4, 9])
    assert picks.tolist() == reference.greedy(reference.cbd_scores, vectors, 7, chosen)


@pytest.mark.parametrize("weighting", ["binary", "softmax"])
@pytest.mark.parametrize("kind", ["pool", "random"])
@given(
    seed=st.integers(0, 2**16),
    c=st.integers(1, 12),
    m=st.integers(1, 4),
    n_chosen=st.integers(0, 3),
)
def test_each_pick_brings_the_mean_nearest_to_the_target(weighting, kind, seed, c, m, n_chosen):
    rng = np.random.default_rng(seed)
    profiles = random_profiles(rng, c + n_chosen, 8, m)
    chosen = rng.permutation(c + n_chosen)[:n_chosen]
    target = (
        reference.concept_vectors(profiles, weighting).mean(axis=0)
        if kind == "pool"
        else rng.random(8)
    )
    picks, _, vectors, chosen_vectors = pick(profiles, weighting, min(c, 6), chosen, target)
    scores = partial(reference.target_scores, target=target)
    assert len(set(picks)) == min(c, 6)
    assert reference.shortfall(scores, vectors, picks, chosen_vectors) < 1e-4


@pytest.mark.parametrize("weighting", ["binary", "softmax"])
@pytest.mark.parametrize("with_target", [False, True])
def test_the_cost_is_what_each_step_minimised(rng, weighting, with_target):
    profiles = random_profiles(rng, 20, 8, 3)
    target = rng.random(8) if with_target else None
    picks, cost, vectors, chosen = pick(profiles, weighting, 10, [3, 5], target)
    total, n = chosen.sum(axis=0), len(chosen)
    for step, index in enumerate(picks):
        pull = 0.0 if target is None else (n + step + 1) * (vectors[index] @ target)
        assert cost[step] == pytest.approx(vectors[index] @ total - pull, abs=1e-5)
        total = total + vectors[index]


@pytest.mark.parametrize("m", [1, 2, 3, 5, 7, 10])
@pytest.mark.parametrize("n_chosen", [0, 40])
def test_ties_of_plain_concept_vectors_go_to_the_lowest_position(rng, m, n_chosen):
    # Binary vectors tie all the time; in whole numbers the ties are exact.
    profiles = random_profiles(rng, 40 + n_chosen, 30, m)
    chosen = np.arange(n_chosen)
    picks, *_ = pick(profiles, "binary", 40, chosen)
    counts = np.bincount(profiles.ids[chosen].ravel(), minlength=30)
    left, expected = list(range(40)), []
    for _ in range(40):
        overlap = [int(counts[profiles.ids[n_chosen + i]].sum()) for i in left]
        best = left.pop(overlap.index(min(overlap)))
        expected.append(best)
        counts[profiles.ids[n_chosen + best]] += 1
    assert picks.tolist() == expected


def test_all_candidates_are_picked_once(rng):
    picks, cost, *_ = pick(random_profiles(rng, 15, 8, 3), "softmax", 15)
    assert sorted(picks) == list(range(15))
    assert np.isfinite(cost).all()
    assert picks.dtype == np.int64
    assert cost.dtype == np.float64


def test_identical_candidates_are_picked_in_order(rng):
    profiles = random_profiles(rng, 1, 8, 3).take(np.zeros(1, dtype=int))
    ids, weights = np.repeat(profiles.ids, 6, 0), np.repeat(profiles.weights("softmax"), 6, 0)
    picks, cost = pick_diverse(ids, weights, 6, sum_v=np.zeros(8))
    assert picks.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(cost, np.arange(6), atol=1e-5)


def test_a_longer_pick_starts_with_a_shorter_one(rng):
    profiles = random_profiles(rng, 30, 8, 3)
    for target in (None, rng.random(8)):
        longer, *_ = pick(profiles, "softmax", 20, [1], target)
        shorter, *_ = pick(profiles, "softmax", 7, [1], target)
        assert longer[:7].tolist() == shorter.tolist()


def test_picking_leaves_its_inputs_alone(rng):
    profiles = random_profiles(rng, 10, 8, 3)
    weights, sum_v, target = profiles.weights("softmax"), rng.random(8), rng.random(8)
    before = contents(profiles.ids, weights, sum_v, target)
    pick_diverse(profiles.ids, weights, 5, sum_v=sum_v, n_chosen=2, target_v=target)
    assert contents(profiles.ids, weights, sum_v, target) == before


# GD


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d", "b"), [(1, 3, 1), (12, 20, 12), (15, 4, 10), (20, 6, 6)])
@pytest.mark.parametrize("jitter", [1e-3, 1.0])
def test_each_pick_has_the_largest_gain_of_gd(rng, dtype, n, d, b, jitter):
    features = rng.standard_normal((n, d)).astype(dtype)
    before = contents(features)
    picks = pick_by_geometric_diversity(features, b, jitter=jitter)
    scores = partial(reference.gd_scores, jitter=jitter)
    assert picks.tolist() == reference.greedy(scores, features, b)
    assert picks.dtype == np.int64
    assert contents(features) == before


@pytest.mark.parametrize("seed", range(10))
def test_float16_features_are_picked_by_what_they_hold(seed):
    features = np.random.default_rng(seed).standard_normal((15, 6)).astype(np.float16)
    scores = partial(reference.gd_scores, jitter=1e-3)
    picks = pick_by_geometric_diversity(features, 8)
    assert reference.shortfall(scores, features.astype(np.float64), picks) < 1e-3


@pytest.mark.parametrize("kind", ["fortran", "memmap", "list"])
def test_gd_picks_of_every_kind_of_input(rng, tmp_path, kind):
    features = rng.standard_normal((15, 6))
    np.save(tmp_path / "f.npy", features)
    X = {
        "fortran": np.asfortranarray(features),
        "memmap": np.load(tmp_path / "f.npy", mmap_mode="r"),
        "list": features.tolist(),
    }[kind]
    expected = pick_by_geometric_diversity(features, 8).tolist()
    assert pick_by_geometric_diversity(X, 8).tolist() == expected


def test_a_duplicate_is_picked_last(rng):
    features = random_unit(rng, 5, 8)
    features[3] = features[1]
    assert pick_by_geometric_diversity(features, 5)[-1] == 3


def test_identical_images_are_picked_in_order():
    picks = pick_by_geometric_diversity(np.tile([[0.6, 0.8]], (4, 1)), 4)
    assert picks.tolist() == [0, 1, 2, 3]


@given(seed=st.integers(0, 2**16))
def test_permuted_features_have_permuted_picks(seed):
    rng = np.random.default_rng(seed)
    features, order = rng.standard_normal((12, 8)), rng.permutation(12)
    picks = pick_by_geometric_diversity(features, 6)
    assert order[pick_by_geometric_diversity(features[order], 6)].tolist() == picks.tolist()


@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        (
            0,
            InvalidInputError,
            "`n_instances` must be in [1, 4], the size of the pool; got 0. Rais",
        ),
        (
            5,
            InvalidInputError,
            "`n_instances` must be in [1, 4], the size of the pool; got 5. Lowe",
        ),
        (True, InvalidTypeError, "`n_instances` must be a whole number; got True. Pass an int."),
        (2.0, InvalidTypeError, "`n_instances` must be a whole number; got 2.0. Pass an int."),
    ],
)
def test_a_bad_budget_is_refused(rng, n, error, message):
    features = random_unit(rng, 4, 3)
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        pick_by_geometric_diversity(features, n)


@pytest.mark.parametrize("jitter", [0, -1.0, float("nan")])
def test_a_jitter_that_is_not_above_zero_is_refused(rng, jitter):
    features = random_unit(rng, 4, 3)
    message = f"`jitter` must be above 0; got {jitter}. Pass 1e-3, for instance."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        pick_by_geometric_diversity(features, 2, jitter=jitter)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((0, 3)), "`features` must hold at least one image"),
        ([[1.0, np.inf]], "`features` must be finite; row 0 holds NaN or infinity"),
    ],
)
def test_bad_features_are_refused(features, message):
    with pytest.raises(InvalidInputError, match=message):
        pick_by_geometric_diversity(features, 1)


# Postings, where the heap would look too often


def even_concepts(c, v, m, weighted):
    rng = np.random.default_rng(5)
    ids_cm = np.argsort(rng.random((c, v)), axis=1)[:, :m].astype(np.int32)
    weights_cm = np.ones((c, m), dtype=np.float32)
    if weighted:
        weights_cm = rng.dirichlet(np.ones(m), c).astype(np.float32)
    return ids_cm, weights_cm / np.linalg.norm(weights_cm, axis=1, keepdims=True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_done", [0, 7])
def test_postings_pick_what_the_heap_picks(weighted, n_done):
    ids_cm, weights_cm = even_concepts(700, 12, 4, weighted)
    unit = greedy.UNIT if weighted else float(weights_cm[0, 0])
    start_v = np.arange(12)
    picks, cost = np.empty(700, np.int64), np.empty(700)
    n_picked = greedy._pick_lazily(ids_cm, weights_cm, unit, start_v.copy(), picks, cost)
    n_done = min(n_done, n_picked)
    sum_v = start_v.copy()
    for pick in picks[:n_done]:
        for concept, weight in zip(ids_cm[pick], weights_cm[pick], strict=True):
            sum_v[concept] += int(float(weight) / unit + 0.5)
    again, cost_again = picks.copy(), cost.copy()
    again[n_done:] = -1
    greedy._pick_by_postings(ids_cm, weights_cm, unit, sum_v, n_done, again, cost_again)
    np.testing.assert_array_equal(again[:n_picked], picks[:n_picked])
    np.testing.assert_array_equal(cost_again[:n_picked], cost[:n_picked])
    assert sorted(again) == list(range(700))


def test_the_heap_gives_up_where_candidates_are_alike():
    ids_cm, weights_cm = even_concepts(3000, 12, 4, False)
    picks, cost = np.full(2000, -1), np.empty(2000)
    done = greedy._pick_lazily(ids_cm, weights_cm, 0.5, np.zeros(12, np.int64), picks, cost)
    assert 0 < done < 2000
    assert (picks[:done] >= 0).all()
    assert (picks[done:] == -1).all()
    whole, _ = greedy.pick_diverse(ids_cm, weights_cm, 2000, sum_v=np.zeros(12))
    np.testing.assert_array_equal(whole[:done], picks[:done])
    sum_v, taken = np.zeros(12, np.int64), np.zeros(3000, bool)
    for pick in whole:  # the slow loop
        cost_c = sum_v[ids_cm].sum(axis=1)
        cost_c[taken] = 10**9
        assert pick == cost_c.argmin()
        taken[pick] = True
        sum_v[ids_cm[pick]] += 1


def test_features_that_cannot_be_squared_are_refused():
    features = np.full((40, 8), 1e30, np.float32)
    features[:, 0] = np.arange(40)
    with pytest.raises(InvalidInputError, match="must be of a size that can be squared"):
        pick_by_geometric_diversity(features, 5)
