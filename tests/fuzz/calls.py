"""A call of a public callable, and what holds of its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Call:
    """Right values for one call, by name, so that they can be broken."""

    run: Callable[[dict, dict], Any]
    settings: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    check: Callable[[Any], None] = lambda result: None
    small: frozenset[str] = frozenset()
    """What takes long where it is large and is right all the same: a number of epochs."""
    repeats: bool = True
    """Whether a second call gives the same."""
    may_refuse: bool = False
    """Whether right values may be refused: a file that is there now."""


@dataclass
class Target:
    """How a public callable is called; the weight says how often."""

    make: Callable[[Any, np.random.Generator], Call]
    weight: int


def picks(n_pool, n):
    """Return the check of n distinct positions in a pool; with metrics where there are some."""

    def check(result):
        indices = result[0] if isinstance(result, tuple) else result
        if isinstance(result, tuple):
            assert result[1].shape == indices.shape
            assert np.isfinite(result[1]).all()
        assert indices.dtype == np.int64
        assert len(indices) == len(set(indices.tolist()))
        assert indices.min() >= 0
        # Where the pool or the number was changed, neither is known here.
        assert indices.max() < max(n_pool, 2 * 40)

    return check


def array(shape=None, low=-np.inf, high=np.inf, *, finite=True):
    """Return the check of an array: finite, in a range."""

    def check(result):
        assert isinstance(result, np.ndarray | np.floating), type(result)  # a number of one
        if finite and result.dtype.kind == "f":
            assert np.isfinite(result).all()
        if result.size and result.dtype.kind in "fiu":
            assert low <= result.min() <= result.max() <= high, (result.min(), result.max())

    return check


def number(low=-np.inf, high=np.inf):
    """Return the check of a number in a range; infinite where the range is."""

    def check(result):
        assert isinstance(result, int | float)
        assert low <= result <= high

    return check


def selection(result):
    """Check a selection, or several."""
    for one in result if isinstance(result, list) else [result]:
        assert 1 <= len(one) <= one.n_images
        assert one.mask.sum() == len(one)
        assert (np.diff(one.indices) > 0).all()
        assert one.indices.min() >= 0
        assert one.indices.max() < one.n_images
        for score in one.scores.values():
            assert score.shape == (one.n_images,)


def profiles(result):
    """Check profiles: ids are positions, distinct in a row; similarities fall."""
    assert result.ids.shape == result.similarities.shape
    assert result.ids.dtype == np.int32
    if len(result):
        assert result.ids.min() >= 0
        assert result.ids.max() < result.n_concepts
        assert (np.diff(np.sort(result.ids, axis=1), axis=1) > 0).all()
        assert (np.diff(result.similarities, axis=1) <= 0).all()
    assert np.isfinite(result.similarities).all()


def counts(result):
    """Check counts of concepts."""
    assert result.count_v.min() >= 0
    assert result.n >= 0
    assert np.isfinite(result.sum_v).all()
    if result.n:
        assert 0 <= result.diversity() <= 1
