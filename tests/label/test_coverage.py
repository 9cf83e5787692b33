"""Tests of `coverage`, `coverage_kernel`, `coverage_weights` and `draws`."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_al.errors import InvalidInputError
from clip_al.label.coverage import kernel as coverage_kernel
from clip_al.label.coverage import pick as coverage
from clip_al.label.coverage.draws import draw_evenly, inclusion_probabilities
from clip_al.label.coverage.pick import pick_by_coverage, pick_equal_shares
from clip_al.label.coverage.weights import coverage_weights
from tests import coverage_reference as slow
from tests.reference import contents, random_probabilities, random_unit


@pytest.fixture
def weight_n(rng):
    return rng.random(60)


@pytest.fixture
def drawn_from(monkeypatch):
    """Draw from small pools as from large ones."""

    def shrink(n_candidates, n_references):
        monkeypatch.setattr(coverage, "EXACT_UP_TO", 10)
        monkeypatch.setattr(coverage, "N_CANDIDATES", n_candidates)
        monkeypatch.setattr(coverage, "CANDIDATES_A_PICK", 1)
        monkeypatch.setattr(coverage, "N_REFERENCES", n_references)
        monkeypatch.setattr(coverage, "REFERENCES_A_PICK", 1)

    return shrink


# The greedy loop


@pytest.mark.parametrize("radius", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("cover", [1.0, 0.3, 0.0])
def test_each_pick_adds_most(Z, weight_n, radius, cover):
    labelled = random_unit(np.random.default_rng(5), 7, 12)
    found = pick_by_coverage(
        Z, 20, weights=weight_n, labelled=labelled, labelled_cover=cover, radius=radius
    )
    K = slow.kernel(Z, radius)
    cover_n = cover * slow.kernel(Z, radius, labelled).max(axis=0)
    assert slow.shortfall(K, weight_n, cover_n, found.indices) < 1e-5
    np.testing.assert_allclose(found.gain[0], slow.gains(K, weight_n, cover_n).max(), rtol=1e-4)
    assert len(set(found.indices.tolist())) == 20
    assert (np.diff(found.gain) <= 1e-6).all()


def test_the_slow_check_notices_a_bad_pick(Z, weight_n):
    K = slow.kernel(Z, 0.6)
    worst = [int(np.argmin(slow.gains(K, weight_n, np.zeros(60))))]
    assert slow.shortfall(K, weight_n, np.zeros(60), worst) > 1e-3


def test_all_that_matters_is_covered_by_all_images(Z, weight_n):
    found = pick_by_coverage(Z, 60, weights=weight_n)
    assert sorted(found.indices) == list(range(60))
    np.testing.assert_allclose(found.gain.sum(), 1.0, rtol=1e-4)


def test_what_is_labelled_is_not_picked_again(Z):
    first = pick_by_coverage(Z, 5).indices
    after = pick_by_coverage(Z, 5, labelled=Z[first]).indices
    assert not set(first.tolist()) & set(after.tolist())


def test_a_copy_is_picked_after_everything_that_is_uncovered(Z):
    doubled = np.concatenate([Z, Z])
    picks = pick_by_coverage(doubled, 60).indices
    assert len({int(i) % 60 for i in picks}) == 60


def test_identical_images_are_picked_in_order(Z):
    picks = pick_by_coverage(np.repeat(Z[:1], 20, axis=0), 5).indices
    assert picks.tolist() == [0, 1, 2, 3, 4]
    assert pick_by_coverage(Z[:1], 1).indices.tolist() == [0]


def test_images_of_no_weight_are_picked_where_others_are_used_up(Z):
    weights = np.zeros(60)
    assert len(pick_by_coverage(Z, 3, weights=weights).indices) == 3


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_the_type_of_the_embeddings_does_not_matter(Z, dtype, tmp_path):
    picks = pick_by_coverage(Z.astype(dtype), 6).indices
    np.save(tmp_path / "table.npy", Z.astype(dtype))
    mapped = np.load(tmp_path / "table.npy", mmap_mode="r")
    assert pick_by_coverage(mapped, 6).indices.tolist() == picks.tolist()
    assert slow.shortfall(slow.kernel(Z, 0.6), np.ones(60), np.zeros(60), picks) < 1e-3


@given(st.permutations(range(60)))
def test_picks_follow_a_permutation(order):
    Z = random_unit(np.random.default_rng(1), 60, 12)
    order = np.array(order)
    plain, moved = pick_by_coverage(Z, 6).indices, pick_by_coverage(Z[order], 6).indices
    assert order[moved].tolist() == plain.tolist()


def test_inputs_are_left_alone_and_a_second_call_picks_the_same(Z, weight_n):
    labelled = Z[:3].copy()
    before = contents(Z, weight_n, labelled)
    first = pick_by_coverage(Z, 6, weights=weight_n, labelled=labelled)
    second = pick_by_coverage(Z, 6, weights=weight_n, labelled=labelled)
    assert contents(*first) == contents(*second)
    assert contents(Z, weight_n, labelled) == before


# Draws


def test_a_drawn_pool_is_covered_nearly_as_well(rng, drawn_from):
    centres = random_unit(rng, 12, 16)
    Z = centres[rng.integers(12, size=600)] + 0.1 * rng.standard_normal((600, 16))
    weight_n = rng.random(600)

    def covered(picks):
        return float(slow.kernel(Z, 0.6)[picks].max(axis=0) @ weight_n / weight_n.sum())

    whole = covered(pick_by_coverage(Z, 12, weights=weight_n).indices)
    drawn_from(200, 100)
    part = covered(pick_by_coverage(Z, 12, weights=weight_n).indices)
    assert part > 0.95 * whole
    assert part > covered(rng.choice(600, 12, replace=False)) + 0.02


def test_a_draw_repeats_and_depends_on_its_state(rng, drawn_from):
    Z = random_unit(rng, 400, 12)
    drawn_from(100, 50)
    picks = [pick_by_coverage(Z, 9, random_state=s).indices.tolist() for s in (0, 0, 1)]
    assert picks[0] == picks[1] != picks[2]


def test_a_class_of_one_in_a_thousand_is_not_lost(rng):
    """Six of 6,000 images are of a class that the model knows; one of the picks is of it."""
    common, rare = random_unit(rng, 2, 16)
    y = np.zeros(6000, dtype=int)
    y[::1000] = 1
    Z = np.where(y[:, None] == 1, rare, common) + 0.15 * rng.standard_normal((6000, 16))
    p = np.where(y == 1, 0.7, 0.02)
    P = np.stack([1 - p, p], axis=1)
    for state in range(5):
        picks = pick_by_coverage(
            Z, 10, weights=coverage_weights(P), strata=P.argmax(axis=1), random_state=state
        ).indices
        assert y[picks].any()


def test_many_picks_are_made_in_parts(Z, weight_n, monkeypatch):
    monkeypatch.setattr(coverage, "PICKS_A_DRAW", 7)
    found = pick_by_coverage(Z, 60, weights=weight_n)
    assert sorted(found.indices) == list(range(60))
    first = pick_by_coverage(Z, 7, weights=weight_n).indices
    assert found.indices[:7].tolist() == first.tolist()


def test_of_many_labelled_images_some_are_looked_at(Z, monkeypatch):
    labelled = np.repeat(Z[:5], 100, axis=0)
    whole = pick_by_coverage(Z, 5, labelled=labelled).indices
    monkeypatch.setattr(coverage_kernel, "KERNEL_ENTRIES", 60 * 50)
    assert pick_by_coverage(Z, 5, labelled=labelled).indices.tolist() == whole.tolist()


@given(st.lists(st.floats(0, 100), min_size=3, max_size=50), st.integers(1, 60))
def test_chances_sum_to_what_is_wanted(weights, n_wanted):
    chance = inclusion_probabilities(np.array(weights), n_wanted)
    assert ((chance > 0) & (chance <= 1)).all()
    assert chance.sum() == pytest.approx(min(n_wanted, len(weights)))


@given(st.integers(0, 1000), st.integers(1, 5))
def test_each_stratum_is_drawn_its_share(seed, n_strata):
    rng = np.random.default_rng(seed)
    chance, stratum = rng.random(200), rng.integers(n_strata, size=200)
    drawn = draw_evenly(chance, stratum, rng)
    assert len(np.unique(drawn)) == len(drawn)
    for k in range(n_strata):
        assert abs((stratum[drawn] == k).sum() - chance[stratum == k].sum()) < 1 + 1e-9


def test_a_draw_has_the_chances_it_was_given():
    chance = np.array([1.0, 0.1, 0.5, 0.9, 0.0, 0.5])
    count = np.zeros(6)
    for seed in range(2000):
        count[draw_evenly(chance, None, np.random.default_rng(seed))] += 1
    np.testing.assert_allclose(count / 2000, chance, atol=0.04)


# Equal shares


def test_each_group_gives_the_same(Z):
    groups = np.repeat([0, 1, 2], [40, 15, 5])
    picks = pick_equal_shares(Z, 9, groups).indices
    assert groups[picks].tolist() == [0, 1, 2] * 3
    K = slow.kernel(Z, 0.6)
    for k in range(3):
        members = np.flatnonzero(groups == k)
        own = np.searchsorted(members, picks[groups[picks] == k])
        block = K[np.ix_(members, members)]
        assert slow.shortfall(block, np.ones(len(members)), np.zeros(len(members)), own) < 1e-5


def test_a_group_that_is_used_up_leaves_the_rest_to_others(Z):
    groups = np.repeat([0, 2], [57, 3])
    picks = pick_equal_shares(Z, 10, groups).indices
    assert np.bincount(groups[picks]).tolist() == [7, 0, 3]


def test_labelled_images_count_towards_their_group(Z):
    groups = np.repeat([0, 1], 30)
    found = pick_equal_shares(Z, 4, groups, labelled=Z[:2], labelled_groups=[0, 0])
    assert groups[found.indices].tolist() == [1, 1, 0, 1]


# Weights


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_are_those_of_the_equation(rng, dtype):
    P = random_probabilities(rng, 50, 5, dtype)
    before = contents(P)
    np.testing.assert_allclose(coverage_weights(P), slow.weights(P), rtol=1e-5)
    assert contents(P) == before


def test_classes_weigh_about_the_same_however_rare(rng):
    p = np.where(np.arange(1000) < 20, 0.7, 0.01)
    P = np.stack([p, 1 - p], axis=1)
    w = coverage_weights(P)
    assert w[:20].min() > 10 * w[20:].max()


@pytest.mark.parametrize(("kind", "expected"), [("mean", 0.5), ("worst", 1.0)])
def test_doubt_of_several_labels(kind, expected):
    P = np.array([[0.5, 1.0], [1.0, 1.0]])
    w = coverage_weights(P, multi_label=True, label_doubt=kind)
    balance = 0.5 / 0.751 + 1 / 1.001
    np.testing.assert_allclose(w, [np.sqrt(expected) * balance, 0.0], rtol=1e-9)


def test_several_labels_need_not_sum_to_one_and_one_must():
    P = [[0.9, 0.9], [0.1, 0.0]]
    assert np.isfinite(coverage_weights(P, multi_label=True)).all()
    with pytest.raises(InvalidInputError, match="each row must sum to 1"):
        coverage_weights(P)


@pytest.mark.parametrize("bad", [1.2, -0.1, np.nan])
def test_labels_outside_of_their_range(bad):
    message = f"`probabilities` of several labels must each be in [0, 1]; got {bad:.4g}. Apply a"
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        coverage_weights([[0.5, bad]], multi_label=True)


# Bad input


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"weights": [1.0]}, "`weights` must hold one number for each of the 60 images; got shape"),
        ({"weights": -np.ones(60)}, "`weights` must be finite and at least 0; got -1.0. Clip them"),
        ({"strata": np.ones(60)}, "`strata` must hold one whole number, at least 0, for each"),
        ({"radius": 0}, "`radius` must be finite, above 0; got 0"),
        ({"labelled_cover": 2}, "`labelled_cover` must be finite, at least 0, at most 1; got 2"),
        ({"labelled": np.ones((2, 5))}, "`labelled` must have 12 columns; got 5"),
    ],
)
def test_bad_arguments(Z, bad, message):
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        pick_by_coverage(Z, 3, **bad)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite(Z, bad):
    Z[4, 4] = bad
    with pytest.raises(InvalidInputError, match="`Z` must be finite; row 4 holds NaN or infinity"):
        pick_by_coverage(Z, 3)
