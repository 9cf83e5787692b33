"""CCS: without the hardest images, equally many from each range of difficulty."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.tasks import Indices, highest
from clip_al.arrays.labels import group_by_class
from clip_al.subset.quotas import share_equally

N_RANGES = 50
HARD_SHARE = {0.3: 0.0, 0.5: 0.0, 0.7: 0.1, 0.8: 0.1, 0.9: 0.3}
"""Pruning rate to share of the hardest images that is dropped: the paper's, CIFAR-10."""


def area_under_margin(
    prob_enk: NDArray[np.float32], given_n: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the mean over epochs of the given label's lead over the best other label.

    Parameters
    ----------
    prob_enk : ndarray of shape (e, n, k), float32
        Probabilities after each epoch, k at least 2; not modified.
    given_n : ndarray of shape (n,), int64
        Labels in [0, k); not modified.

    Returns
    -------
    ndarray of shape (n,), float64
        In [-1, 1]; low is hard, or wrongly labelled.

    Notes
    -----
    Pleiss and others take margins of logits; CCS takes them of probabilities, as we do.
    O(e n k) time, O(n k) memory.

    References
    ----------
    Pleiss, Zhang, Elenberg, Weinberger: "Identifying Mislabeled Data using the Area Under
    the Margin Ranking", NeurIPS 2020, Section 3.
    """
    places_n = np.arange(len(given_n))
    total_n = np.zeros(len(given_n))
    for prob_nk in prob_enk:
        others_nk = prob_nk.astype(np.float64)
        own_n = others_nk[places_n, given_n]
        others_nk[places_n, given_n] = -np.inf
        total_n += own_n - others_nk.max(axis=1)
    return total_n / len(prob_enk)


def hard_share(pruning_rate: float) -> float:
    """Return the share that the paper drops at the nearest of its rates; ties to the lower."""
    # Rounded, as 1 - 0.4 is not quite 0.6 and a tie must be one.
    return HARD_SHARE[min(HARD_SHARE, key=lambda rate: (round(abs(rate - pruning_rate), 9), rate))]


def ccs_indices(aum_n: NDArray[Any], n_wanted: int, seed: int) -> Indices:
    """Drop the hardest images, then draw equally many from each range of the score.

    Parameters
    ----------
    aum_n : ndarray of shape (n,), any float type
        Area under the margin, low is hard; not modified.
    n_wanted : int
        How many, in [1, n].
    seed : int
        Draws the images of each range.

    Returns
    -------
    ndarray of shape (n_wanted,), int64
        Range after range, hardest first, at random within a range.

    Notes
    -----
    The score's span after dropping is cut into 50 ranges of one width. From the emptiest
    range to the fullest, each gives an equal part of what is still wanted, or all it has.
    How many of the hardest to drop depends on the ratio; the paper tunes it, and
    we take its values for CIFAR-10 and AUM. O(n log n) time.

    References
    ----------
    Zheng, Liu, Lai, Prakash: "Coverage-centric Coreset Selection for High Pruning Rates",
    ICLR 2023, Algorithm 1; the shares to drop: Appendix B.
    """
    n = len(aum_n)
    n_dropped = int(n * hard_share(1.0 - n_wanted / n))
    kept = np.sort(highest(aum_n, n - n_dropped))
    low, high = aum_n[kept].min(), aum_n[kept].max()
    width = (high - low) / N_RANGES or 1.0  # one score for all: they share the first range
    range_n = np.minimum((aum_n[kept] - low) / width, N_RANGES - 1).astype(np.int64)
    ranges = group_by_class(range_n, N_RANGES)
    quota_r = share_equally(n_wanted, [len(members) for members in ranges])
    rng = np.random.default_rng(seed)
    picks = [
        kept[rng.permutation(members)[:quota]]
        for members, quota in zip(ranges, quota_r, strict=True)
    ]
    return np.concatenate(picks).astype(np.int64)
