"""Greedy Geometric Diversity: each pick adds the largest volume to the set's features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.tasks import Indices
from clip_al.label.greedy import pick_by_geometric_diversity


def pick_by_volume(emb_nd: NDArray[np.float32], n_wanted: int) -> Indices:
    """Pick the set of largest ``log det (Z Zᵀ + 0.001 I)``, greedily.

    Parameters
    ----------
    emb_nd : ndarray of shape (n, d), float32
        Of unit length; not modified.
    n_wanted : int
        In [1, n].

    Returns
    -------
    ndarray of shape (n_wanted,), int64
        Best first, ties by lowest index.

    Notes
    -----
    The set is the pool's alone: what is labelled does not count. O(n_wanted n d) time.

    References
    ----------
    Aghababaeyan, Abdellatif, Briand, Ramesh, Bagherzadeh: "Black-Box Testing of Deep Neural
    Networks through Test Case Diversity", IEEE TSE 2023 (the measure); Chen, Zhang,
    Zhou: "Fast Greedy MAP Inference for Determinantal Point Process to Improve
    Recommendation Diversity", NeurIPS 2018 (the greedy step).
    """
    return pick_by_geometric_diversity(emb_nd, n_wanted)
