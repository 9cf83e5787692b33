"""Moderate-DS: images neither close to the centre of their class nor far from it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.tasks import Indices, highest
from clip_al.arrays.labels import group_by_class
from clip_al.subset.quotas import share_out


def moderate_indices(
    features_nf: NDArray[Any], given_n: NDArray[np.int64], n_wanted: int
) -> Indices:
    """Keep the images of each class whose distance to its centre is closest to the median.

    Parameters
    ----------
    features_nf : ndarray of shape (n, f), any float type
        Last hidden layer of a network trained on all images; not modified.
    given_n : ndarray of shape (n,), int64
        Labels, at least 0; not modified.
    n_wanted : int
        How many, in [1, n].

    Returns
    -------
    ndarray of shape (n_wanted,), int64
        Class after class, closest to the median first; ties by lowest index. Classes get
        shares proportional to their sizes, by largest remainder.

    Notes
    -----
    The centre is the mean of the class, distances are Euclidean. O(n f) time and memory.

    References
    ----------
    Xia, Liu, Yu, Shen, Han, Liu: "Moderate Coreset: A Universal Method of Data Selection
    for Real-world Data-efficient Deep Learning", ICLR 2023, its method section.
    """
    sizes_k = np.bincount(given_n)
    quota_k = share_out(sizes_k, n_wanted, sizes_k)
    picks = []
    for members, quota in zip(group_by_class(given_n, len(sizes_k)), quota_k, strict=True):
        if not quota:
            continue
        features_mf = features_nf[members].astype(np.float64)
        dist_m = np.linalg.norm(features_mf - features_mf.mean(axis=0), axis=1)
        picks.append(members[highest(-np.abs(dist_m - np.median(dist_m)), int(quota))])
    return np.concatenate(picks).astype(np.int64)
