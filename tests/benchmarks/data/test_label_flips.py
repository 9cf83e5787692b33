"""Labels are turned in exactly the share of places that was asked for."""

import numpy as np
import pytest

from benchmarks.data.label_flips import FLIP_SEED, flip_labels
from clip_al.errors import InvalidInputError, InvalidTypeError

Y = np.random.default_rng(0).integers(0, 4, 203)


def symmetric_reference(y, share, seed, n_classes):
    rng = np.random.default_rng((FLIP_SEED, seed))
    turned = rng.choice(len(y), round(share * len(y)), replace=False)
    steps = rng.integers(1, n_classes, len(turned))
    given = list(y)
    for place, step in zip(turned, steps, strict=True):
        given[place] = (given[place] + step) % n_classes
    return given


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("kind", ["symmetric", "pair"])
def test_exactly_the_share_is_turned_to_another_class(share, kind):
    given = flip_labels(Y, share, 3, 4, kind)
    assert (given != Y).sum() == round(share * len(Y))
    assert set(given) <= set(range(4))
    assert given.dtype == np.int64


def test_symmetric_equals_the_reference():
    assert flip_labels(Y, 0.4, 7, 4).tolist() == symmetric_reference(Y, 0.4, 7, 4)


def test_symmetric_keeps_its_draws():
    """The same places and classes as in the results that were measured before."""
    given = flip_labels(np.arange(10), 0.5, seed=0)
    assert given.tolist() == [9, 1, 2, 3, 0, 3, 6, 7, 7, 3]


def test_symmetric_turns_to_all_other_classes_alike():
    given = flip_labels(np.zeros(3000, dtype=int), 1.0, 0, 4)
    counts = np.bincount(given, minlength=4)
    assert counts[0] == 0
    assert np.all(abs(counts[1:] - 1000) < 100)


def test_pair_turns_to_the_next_class():
    given = flip_labels(Y, 0.5, 1, 4, "pair")
    turned = given != Y
    assert np.array_equal(given[turned], (Y[turned] + 1) % 4)
    assert np.any(Y[turned] == 3)


def test_both_kinds_turn_the_same_places():
    pair, symmetric = (flip_labels(Y, 0.3, 5, 4, kind) != Y for kind in ("pair", "symmetric"))
    assert np.array_equal(pair, symmetric)


def test_the_seed_decides_and_the_input_is_untouched():
    before = Y.copy()
    first, again, other = (flip_labels(Y, 0.5, seed, 4) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(Y, before)
    assert not np.shares_memory(flip_labels(Y, 0.0, 1, 4), Y)


def test_small_unsigned_labels_do_not_overflow():
    y = np.full(50, 250, dtype=np.uint8)
    assert flip_labels(y, 1.0, 0, 300).max() < 300
    assert np.all(flip_labels(y, 1.0, 0, 300, "pair") == 251)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Y, 1.2, 0, 4), "`share` must be"),
        ((Y, 0.2, -1, 4), "`seed` must be at least 0; got -1"),
        ((Y, 0.2, 0, 1), "`n_classes` must be at least 2; got 1"),
        ((Y, 0.2, 0, 4, "cyclic"), "`kind` must be one of 'symmetric', 'pair'; got 'cyclic'"),
        ((Y, 0.2, 0, 3), r"`y` must hold classes 0 to 2; got 3 at place \d+. Set `n_classes`"),
        (([0, -1], 0.2, 0, 3), "`y` must hold classes 0 to 2; got -1 at place 1"),
        (([0.5, 1.0], 0.2, 0, 3), "`y` must be whole numbers of shape .* got float64"),
        (([], 0.2, 0, 3), "at least one; got"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        flip_labels(*arguments)


def test_a_share_that_is_no_number_is_named():
    with pytest.raises(InvalidTypeError, match="`share` must be a number"):
        flip_labels(Y, "half", 0, 4)
