"""Herding: images whose mean stays close to the mean of their class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.tasks import Indices
from clip_al.arrays.labels import group_by_class
from clip_al.subset.quotas import share_out


def herding_indices(
    features_nf: NDArray[Any], given_n: NDArray[np.int64], n_wanted: int
) -> Indices:
    """Pick images of each class, greedily, so that their mean matches the mean of the class.

    Parameters
    ----------
    features_nf : ndarray of shape (n, f), any float type
        Where means are taken; not modified.
    given_n : ndarray of shape (n,), int64
        Labels, at least 0; not modified.
    n_wanted : int
        How many, in [1, n].

    Returns
    -------
    ndarray of shape (n_wanted,), int64
        Class after class, in the order of picking; ties by lowest index. Classes get
        shares proportional to their sizes, by largest remainder.

    Notes
    -----
    With φ the features less the mean of their class and s their sum over what is picked,
    a step takes the image that minimises ``‖s + φ_i‖²``: the mean of the picked after it
    is then as close as it can be to the mean of the class, which is 0. Welling's weights
    are ``-s``, and his step, ``argmax w · φ``, is this one for features of one length.
    Each image is taken once, as a training set needs. ``φ_i · s`` is kept up to date, one
    product of the class with the image picked: O(c n_c f) time for c picks of a class of
    n_c images, O(n_c f) memory.

    References
    ----------
    Welling: "Herding Dynamical Weights to Learn", ICML 2009. As a greedy match of means:
    Chen, Welling, Smola: "Super-Samples from Kernel Herding", UAI 2010, Eq. 8.
    """
    sizes_k = np.bincount(given_n)
    quota_k = share_out(sizes_k, n_wanted, sizes_k)
    picks = [
        members[_herd(features_nf[members], int(quota))]
        for members, quota in zip(group_by_class(given_n, len(sizes_k)), quota_k, strict=True)
        if quota
    ]
    return np.concatenate(picks).astype(np.int64)


def _herd(features_mf: NDArray[Any], n_wanted: int) -> Indices:
    centred_mf = features_mf - features_mf.mean(axis=0, dtype=np.float64)
    square_m = np.einsum("mf,mf->m", centred_mf, centred_mf)
    product_m = np.zeros(len(centred_mf))
    picks = np.empty(n_wanted, dtype=np.int64)
    for i in range(n_wanted):
        pick = int(np.argmin(square_m + 2.0 * product_m))
        picks[i] = pick
        product_m += centred_mf @ centred_mf[pick]
        square_m[pick] = np.inf
    return picks
