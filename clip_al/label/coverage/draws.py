"""Draws from a pool with unequal probabilities, of which no group is missed by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def inclusion_probabilities(weight_n: NDArray[np.float64], n_wanted: int) -> NDArray[np.float64]:
    """Return how probably each image is drawn: half evenly, half by its weight.

    Parameters
    ----------
    weight_n : ndarray of shape (n,), float64
        At least 0; not modified.
    n_wanted : int
        How many to draw; all, where there are no more.

    Returns
    -------
    ndarray of shape (n,), float64
        In (0, 1]; sums to `n_wanted` up to rounding. Where a weight is so large that its
        image is certain, the others share what is left.

    Examples
    --------
    >>> inclusion_probabilities(np.array([5.0, 2.0, 1.0, 0.0]), 2)
    array([0.875, 0.5  , 0.375, 0.25 ])
    """
    n = len(weight_n)
    if n_wanted >= n:
        return np.ones(n)
    total = weight_n.sum()
    share_n = 1.0 + weight_n * (n / total) if total else np.ones(n)
    certain_n = np.zeros(n, dtype=bool)
    while True:
        left = n_wanted - np.count_nonzero(certain_n)
        scale = left / share_n[~certain_n].sum()
        more_n = ~certain_n & (share_n * scale >= 1.0)
        if not more_n.any():
            return np.where(certain_n, 1.0, share_n * scale)
        certain_n |= more_n


def draw_evenly(
    chance_n: NDArray[np.float64], stratum_n: NDArray[Any] | None, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw images with given probabilities, systematically along the strata.

    Parameters
    ----------
    chance_n : ndarray of shape (n,), float64
        In [0, 1]; those at 1 are drawn, those at 0 are not.
    stratum_n : ndarray of shape (n,), int, or None
        A group of each image.
    rng : Generator
        Gives one number: where the steps start.

    Returns
    -------
    ndarray of shape (s,), int64
        Distinct positions, ascending. Of the images below 1, each stratum, and each run of
        images within one, gives its expected number rounded up or down.

    References
    ----------
    Madow: "On the Theory of Systematic Sampling, II", Annals of Mathematical Statistics 1949.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> draw_evenly(np.full(6, 0.5), np.array([0, 1, 0, 1, 0, 1]), rng)
    array([1, 2, 5])
    """
    certain = np.flatnonzero(chance_n >= 1.0)
    maybe = np.flatnonzero((chance_n > 0.0) & (chance_n < 1.0))
    if not len(maybe):
        return certain
    if stratum_n is not None:
        maybe = maybe[np.argsort(stratum_n[maybe], kind="stable")]
    reached = np.cumsum(chance_n[maybe])
    steps = np.arange(rng.random(), reached[-1], 1.0)
    places = np.minimum(np.searchsorted(reached, steps, side="right"), len(maybe) - 1)
    return np.sort(np.concatenate([certain, maybe[np.unique(places)]]))
