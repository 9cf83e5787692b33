"""CoreSet: each pick is the image farthest from everything labelled or picked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.tasks import Indices
from clip_al.arrays.blocks import block_rows


def pick_k_centers(
    features_nf: NDArray[np.float32],
    n_wanted: int,
    *,
    centers_lf: NDArray[np.float32],
    seed: int,
) -> Indices:
    """Pick farthest-first, from the centers that there are.

    Parameters
    ----------
    features_nf : ndarray of shape (n, f), float32
        Of the pool; not modified.
    n_wanted : int
        In [1, n].
    centers_lf : ndarray of shape (l, f), float32
        Features of what is labelled; not modified. Where l is 0, the first pick is drawn.
    seed : int
        That pick's.

    Returns
    -------
    ndarray of shape (n_wanted,), int64
        Best first, ties by lowest index.

    Notes
    -----
    The greedy 2-approximation, without the paper's integer program, as its authors and
    everyone since compare with. Euclidean distance, from products in float32: exact to
    about 1e-6 of the largest squared length. O((l + n_wanted) n f) time; O(n) memory and
    one block of distances.

    References
    ----------
    Sener, Savarese: "Active Learning for Convolutional Neural Networks: A Core-Set
    Approach", ICLR 2018, Algorithm 1.
    """
    square_n = np.einsum("nf,nf->n", features_nf, features_nf)
    nearest_n = _squares_to_nearest(features_nf, square_n, centers_lf)
    picks = np.empty(n_wanted, dtype=np.int64)
    if len(centers_lf) == 0:
        nearest_n[np.random.default_rng(seed).integers(len(features_nf))] = np.inf
    for step in range(n_wanted):
        pick = int(np.argmax(nearest_n))
        picks[step] = pick
        np.minimum(nearest_n, _squares_to(features_nf, square_n, pick), out=nearest_n)
        nearest_n[picks[: step + 1]] = -np.inf
    return picks


def _squares_to(
    features_nf: NDArray[np.float32], square_n: NDArray[np.float32], pick: int
) -> NDArray[np.float32]:
    product_n = features_nf @ features_nf[pick]
    square_dist_n: NDArray[np.float32] = square_n + square_n[pick] - 2.0 * product_n
    return square_dist_n.clip(min=0.0)


def _squares_to_nearest(
    features_nf: NDArray[np.float32],
    square_n: NDArray[np.float32],
    centers_lf: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return squared distances to the nearest center; the largest float32 where there is none."""
    nearest_n = np.full(len(features_nf), np.finfo(np.float32).max, dtype=np.float32)
    if len(centers_lf) == 0:
        return nearest_n
    square_l = np.einsum("lf,lf->l", centers_lf, centers_lf)
    step = block_rows(len(centers_lf))
    for start in range(0, len(features_nf), step):
        rows = slice(start, start + step)
        square_dist_bl = square_l - 2.0 * (features_nf[rows] @ centers_lf.T)
        nearest_n[rows] = np.maximum(square_n[rows] + square_dist_bl.min(axis=1), 0.0)
    return nearest_n
