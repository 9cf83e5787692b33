"""What some more labels would add to the share of right labels of a pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_al.label.expected.calibration import Calibration, beta_interval
from clip_al.label.expected.outlook import Promise

Array = NDArray[np.float64]
STEEPEST = 1.0
"""Power of the number of labels that the error falls by, at most."""


class Pool(NamedTuple):
    """Images without a label, or some drawn of them, as the calibrated head sees them.

    Parameters
    ----------
    odds_n : ndarray of shape (n,)
        Log-odds of the head's own confidence.
    doubt_n : ndarray of shape (n,)
        How likely the top class of each image is wrong.
    code_n : ndarray of shape (n,), int64
        The top class.
    prob_nk : ndarray of shape (n, k)
        Calibrated: the top class has 1 − doubt, the others share the doubt as before.
    """

    odds_n: Array
    doubt_n: Array
    code_n: NDArray[np.int64]
    prob_nk: Array


class Counts(NamedTuple):
    """How many images have a label, have none, and get one next."""

    labelled: int
    unlabelled: int
    more: int

    @property
    def all(self) -> int:
        """All images of the pool."""
        return self.labelled + self.unlabelled


def calibrated_pool(prob_nk: Array, odds_n: Array, fit: Calibration) -> Pool:
    """Return a pool as the calibrated head sees it; `prob_nk` is not modified."""
    rows, code_n = np.arange(len(prob_nk)), prob_nk.argmax(axis=1)
    chance_n = fit.chance(odds_n)
    others_n = 1 - prob_nk[rows, code_n]
    factor_n = np.divide(1 - chance_n, others_n, out=np.zeros(len(rows)), where=others_n > 0)
    scaled_nk = prob_nk * factor_n[:, None]
    scaled_nk[rows, code_n] = chance_n
    return Pool(odds_n, 1 - chance_n, code_n, scaled_nk)


def promise(
    pool: Pool,
    fit: Calibration,
    counts: Counts,
    of_halves: Sequence[NDArray[np.int64]],
    picks_odds: Array | None,
) -> Promise:
    """Return what the next labels would bring.

    Parameters
    ----------
    pool : Pool
    fit : Calibration
    counts : Counts
    of_halves : sequence of ndarray of shape (n,), int64
        Top classes by heads that saw half of the labels.
    picks_odds : ndarray of shape (counts.more,) or None
        Log-odds of the head's confidence for what is labelled next. Without, images are thought
        to be picked in proportion to their doubt.

    Notes
    -----
    Wrong picks are set right by hand. The others' error falls as `fall_with_labels` says; it may
    as well be nothing or twice that, so that its standard deviation is itself.
    """
    odds_b, weight_b = pool.odds_n, pool.doubt_n
    if picks_odds is not None:
        odds_b, weight_b = picks_odds, np.ones(len(picks_odds))
    total = weight_b.sum()
    weight_b = counts.more * weight_b / total if total > 0 else np.zeros(len(weight_b))
    chance_b = fit.chance(odds_b)
    by_hand = float(weight_b @ (1 - chance_b))
    wrong = max(counts.unlabelled * float(pool.doubt_n.mean()) - by_hand, 0.0)
    by_head = wrong * fall_with_labels(pool, of_halves, counts)
    slope = fit.slope(weight_b, odds_b)
    variance = weight_b @ (chance_b * (1 - chance_b)) + slope @ fit.covariance @ slope
    variance += by_head + by_head**2
    gain = (by_hand + by_head) / counts.all
    interval = beta_interval(gain, float(variance) / counts.all**2)
    return Promise(counts.more, gain, interval, by_hand / counts.all)


def fall_with_labels(pool: Pool, of_halves: Sequence[NDArray[np.int64]], counts: Counts) -> float:
    """Return the share of a head's wrong predictions that some more labels would set right.

    Parameters
    ----------
    pool : Pool
    of_halves : sequence of ndarray of shape (n,), int64
        Top classes by heads that saw half of the labels.
    counts : Counts

    Returns
    -------
    float
        In [0, 1).

    Notes
    -----
    The error falls with a power β of the number of labels, in [0, 1]. All heads are judged by
    the calibrated probabilities, so that what differs between them is not lost in the noise of
    the few labels: β = log(error of half / error) / log 2.
    """
    error = float(pool.doubt_n.mean())
    rows = np.arange(len(pool.doubt_n))
    halves = float(np.mean([1 - pool.prob_nk[rows, code_n].mean() for code_n in of_halves]))
    if error <= 0 or halves <= error:
        return 0.0
    power = min(float(np.log2(halves / error)), STEEPEST)
    return float(1 - ((counts.labelled + counts.more) / counts.labelled) ** -power)
