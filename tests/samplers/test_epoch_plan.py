"""Tests of `clip_al.samplers.epoch_plan`."""

from __future__ import annotations

import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.samplers.epoch_plan import as_positions, make_plan
from tests.helpers import exactly
from tests.reference import contents

INDICES = [7, 3, 5, 11, 2, 13]


def selection(indices, n_images, fingerprint="of a selection"):
    return SimpleNamespace(indices=np.array(indices), n_images=n_images, fingerprint=fingerprint)


# Reference


def inclusion_probabilities(weights, n):
    """Chance of each item to be among n drawn one after another, without replacement."""
    chance = np.zeros(len(weights))
    for drawn in itertools.permutations(range(len(weights)), n):
        p, left = 1.0, sum(weights)
        for i in drawn:
            p *= weights[i] / left
            left -= weights[i]
        chance[list(drawn)] += p
    return chance


# What comes, and in which order


def test_without_shuffling_the_order_stays_and_replay_follows():
    plan = make_plan(INDICES, shuffle=False, replay=[3, 1, 9], replay_fraction=0.25)
    assert plan.order(0, 0).tolist() == [*INDICES, 1, 9]


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=40, unique=True),
    st.booleans(),
    st.integers(0, 5),
)
def test_the_whole_subset_comes_once(indices, shuffle, epoch):
    plan = make_plan(indices, shuffle=shuffle)
    assert sorted(plan.order(0, epoch)) == sorted(indices)
    assert len(plan) == len(indices)


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=30, unique=True),
    st.lists(st.integers(61, 99), min_size=1, max_size=10, unique=True),
    st.floats(0.01, 0.9),
)
def test_replay_has_its_share_and_is_spread_evenly(indices, earlier, fraction):
    plan = make_plan(indices, shuffle=True, replay=earlier, replay_fraction=fraction)
    order = plan.order(3, 1)
    n, n_replay = len(indices), int((order > 60).sum())
    assert n_replay == max(1, round(n * fraction / (1 - fraction)))
    assert len(order) == len(plan) == n + n_replay
    counts = [int((order == i).sum()) for i in earlier]
    assert max(counts) - min(counts) <= 1
    assert sorted(order[order <= 60]) == sorted(indices)


def test_replay_is_drawn_anew_each_epoch():
    plan = make_plan(range(20), shuffle=False, replay=range(20, 1000), replay_fraction=0.2)
    drawn = [tuple(plan.order(0, epoch)[20:]) for epoch in range(4)]
    assert len(set(drawn)) == 4
    assert [len(set(items)) for items in drawn] == [5] * 4


def test_what_is_in_the_subset_is_not_replayed():
    plan = make_plan([1, 2, 3], shuffle=True, replay=[1, 2, 3, 9], replay_fraction=0.5)
    assert sorted(plan.order(0, 0)) == [1, 2, 3, 9, 9, 9]


def test_weights_set_the_share_of_each_image():
    weights = np.array([1.0, 0.0, 3.0, 6.0])
    plan = make_plan([4, 5, 6, 7], shuffle=True, weights=weights, n_samples=200_000)
    counts = np.bincount(plan.order(0, 0), minlength=8)[4:]
    # Five standard errors of a binomial share.
    assert np.abs(counts / 200_000 - weights / 10).max() < 5 * 0.5 / np.sqrt(200_000)
    assert counts[1] == 0


@pytest.mark.parametrize("weights", [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
def test_a_weight_of_zero_is_never_drawn_at_either_end(weights):
    plan = make_plan([0, 1, 2], shuffle=False, weights=weights, n_samples=1000)
    assert set(plan.order(0, 0).tolist()) == {weights.index(1)}


def test_the_ends_of_the_random_numbers_fall_on_images_with_weight():
    class Ends:
        def random(self, n):
            return np.array([0.0, 1 - 2**-53])

    plan = make_plan(range(5), shuffle=True, weights=[0, 3, 0.1, 0.7, 0], n_samples=2)
    assert plan._with_replacement(Ends()).tolist() == [1, 3]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_without_replacement_the_draw_is_sequential(n):
    weights = [1.0, 2.0, 5.0, 0.5]
    plan = make_plan(range(4), shuffle=False, weights=weights, replacement=False, n_samples=n)
    n_epochs = 4000
    orders = [plan.order(0, epoch) for epoch in range(n_epochs)]
    assert all(len(set(order.tolist())) == n for order in orders)
    share = np.bincount(np.concatenate(orders), minlength=4) / n_epochs
    assert np.abs(share - inclusion_probabilities(weights, n)).max() < 5 * 0.5 / np.sqrt(n_epochs)


def test_tiny_weights_are_drawn_all_the_same():
    weights = [5e-324, 1e-320, 0.0, 2e-310]
    plan = make_plan(range(4), shuffle=False, weights=weights, replacement=False, n_samples=3)
    assert [plan.order(0, epoch).tolist() for epoch in range(20)] == [[0, 1, 3]] * 20


def test_a_smaller_epoch_is_an_even_draw_in_the_order_of_the_subset():
    plan = make_plan([9, 8, 7, 6], shuffle=False, n_samples=2)
    orders = [plan.order(0, epoch).tolist() for epoch in range(2000)]
    assert all(first > second for first, second in orders)
    share = np.bincount(np.concatenate(orders), minlength=10)[6:] / 2000
    assert np.abs(share - 0.5).max() < 5 * 0.5 / np.sqrt(2000)


def test_replacement_without_weights_draws_evenly():
    plan = make_plan(range(4), shuffle=True, replacement=True, n_samples=100_000)
    share = np.bincount(plan.order(0, 0), minlength=4) / 100_000
    assert np.abs(share - 0.25).max() < 5 * 0.5 / np.sqrt(100_000)


@pytest.mark.parametrize("given_as", ["selection", "mask"])
def test_weights_may_be_of_all_images(given_as):
    mask = np.zeros(6, dtype=bool)
    mask[[1, 4]] = True
    subset = selection([4, 1], 6) if given_as == "selection" else mask
    everyone = make_plan(subset, shuffle=True, weights=[9, 1, 9, 9, 0, 9])
    assert set(everyone.order(0, 0).tolist()) == {1}
    own = make_plan(subset, shuffle=True, weights=[1, 0])
    assert set(own.order(0, 0).tolist()) == {4 if given_as == "selection" else 1}


# Fingerprint

PLANS = {
    "plain": {},
    "other indices": {"indices": [7, 3, 5, 11, 2, 14]},
    "other order": {"indices": [3, 7, 5, 11, 2, 13]},
    "in order": {"shuffle": False},
    "replacement": {"replacement": True},
    "fewer": {"n_samples": 5},
    "weights": {"weights": [1, 1, 1, 1, 1, 1]},
    "other weights": {"weights": [1, 1, 1, 1, 1, 2]},
    "replay": {"replay": [20, 21], "replay_fraction": 0.2},
    "other replay": {"replay": [20, 22], "replay_fraction": 0.2},
    "more replay": {"replay": [20, 21], "replay_fraction": 0.4},
}


def test_whatever_changes_an_order_changes_the_fingerprint():
    prints = {
        name: make_plan(**{"indices": INDICES, "shuffle": True, **settings}).fingerprint
        for name, settings in PLANS.items()
    }
    assert len(set(prints.values())) == len(PLANS)
    assert all(re.fullmatch("[0-9a-f]{32}", value) for value in prints.values())


def test_a_fingerprint_does_not_hang_on_how_the_subset_was_given():
    mask = np.isin(np.arange(14), INDICES)
    ways = [sorted(INDICES), mask, np.flatnonzero(mask).astype(np.uint8)]
    ways += [selection(sorted(INDICES), 14), selection(sorted(INDICES), 20, "another")]
    assert len({make_plan(way, shuffle=True).fingerprint for way in ways}) == 1


def test_a_fingerprint_is_the_same_in_every_version():
    # A change here means that no stored state can be resumed: raise the plan's number.
    assert make_plan([7, 3, 5], shuffle=True).fingerprint == "7b62e9279e671ef5a565e9fe4caecb34"


# What is refused


@pytest.mark.parametrize("replacement", [False, None])
def test_more_than_there_are_is_refused(replacement):
    message = (
        "`n_samples` must be at most 6, the images that can be drawn without replacement; got "
        "7. Lower it or pass `replacement=True`."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        make_plan(INDICES, shuffle=True, n_samples=7, replacement=replacement)


def test_images_without_weight_do_not_count_for_a_draw_without_replacement():
    with pytest.raises(InvalidInputError, match=r"^`n_samples` must be at most 1, .* got 2\."):
        make_plan([1, 2], shuffle=True, weights=[0, 1], replacement=False)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            [1.0, 2.0],
            "`weights` must be one for each of the 3 images of the subset; got shape (2,). Pass "
            "them in the order of the subset.",
        ),
        (
            [1.0, -2.0, np.nan],
            "`weights` must be finite and at least 0; got -2.0 for image 5. Shift or clip them "
            "first.",
        ),
        (
            [0.0, 0.0, 0.0],
            "`weights` must have a sum that is positive and finite; got 0.0. Give at least one "
            "image of the subset a weight, and none a vast one.",
        ),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(InvalidInputError, match=exactly(message)):
        make_plan([7, 5, 3], shuffle=True, weights=weights)


def test_weights_of_neither_length_are_refused():
    with pytest.raises(InvalidInputError, match=r"2 images of the subset or of all 6 images; got"):
        make_plan(selection([1, 2], 6), shuffle=True, weights=[1, 2, 3])


def test_weights_that_are_no_numbers_are_refused():
    with pytest.raises(InvalidTypeError, match=r"^`weights` must hold numbers; got dtype <U1"):
        make_plan([1, 2], shuffle=True, weights=["a", "b"])


@pytest.mark.parametrize(
    ("replay", "fraction", "only"), [([1], None, "replay"), (None, 0.5, "replay_fraction")]
)
def test_replay_and_its_share_belong_together(replay, fraction, only):
    message = (
        "`replay` and `replay_fraction` must be given together; got only "
        f"`{only}`. Pass both or neither."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        make_plan(INDICES, shuffle=True, replay=replay, replay_fraction=fraction)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_that_is_none_is_refused(fraction):
    message = (
        "`replay_fraction` must be above 0 and below 1, a share of the epoch; got "
        f"{fraction}. For none, leave `replay` out."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        make_plan(INDICES, shuffle=True, replay=[1], replay_fraction=fraction)


@pytest.mark.parametrize("fraction", ["0.5", True])
def test_a_share_that_is_no_number_is_refused(fraction):
    with pytest.raises(InvalidTypeError, match=r"^`replay_fraction` must be a number; got "):
        make_plan(INDICES, shuffle=True, replay=[1], replay_fraction=fraction)


def test_replay_within_the_subset_is_refused():
    message = (
        "`replay` must name at least one image outside the subset; got 2, all of them in it. "
        "Leave `replay` out."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        make_plan(INDICES, shuffle=True, replay=[3, 5], replay_fraction=0.5)


def test_a_selection_beyond_its_images_is_refused():
    message = (
        "`indices` must be in [0, 5], the positions of the 6 images of its selection; got 6. "
        "Select again."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        as_positions(selection([1, 6], 6), "indices")


def test_an_empty_mask_is_refused():
    message = "`replay` must name at least one image; got none. Pass what a selection returned."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        as_positions([False, False], "replay")


def test_nothing_that_is_given_is_changed_or_shared():
    indices, weights, replay = np.arange(5), np.arange(5.0), np.arange(5, 9)
    before = contents(indices, weights, replay)
    plan = make_plan(indices, shuffle=True, weights=weights, replay=replay, replay_fraction=0.5)
    first = plan.order(0, 0)
    assert contents(indices, weights, replay) == before
    indices[:] = weights[:] = replay[:] = 0
    assert contents(plan.order(0, 0)) == contents(first)
    first[:] = -1
    assert plan.order(0, 0).min() >= 0


def test_the_order_without_shuffling_cannot_be_written_through():
    plan = make_plan([2, 1], shuffle=False)
    with pytest.raises(ValueError, match="read-only"):
        plan.order(0, 0)[0] = 9
