"""BADGE: k-means++ over the gradients that the network's own guesses would send back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.tasks import Indices


def pick_by_badge(
    prob_nk: NDArray[np.float32], features_nf: NDArray[np.float32], n_wanted: int, seed: int
) -> Indices:
    """Pick images whose gradients are long and unlike those of the others picked.

    Parameters
    ----------
    prob_nk : ndarray of shape (n, k), float32
        Class probabilities; not modified.
    features_nf : ndarray of shape (n, f), float32
        What the last layer is applied to; not modified.
    n_wanted : int
        In [1, n].
    seed : int
        Of the draws.

    Returns
    -------
    ndarray of shape (n_wanted,), int64
        In the order they were drawn. The first has the longest gradient, ties by lowest
        index; each other is drawn with probability proportional to its squared distance to
        the nearest drawn before. Where all those are 0, any other image is as likely.

    Notes
    -----
    The gradient of the loss at the predicted class by the last layer's weights is
    ``g = a ⊗ h`` with ``a = p − onehot(argmax p)``, so
    ``‖g_i − g_j‖² = ‖a_i‖²‖h_i‖² + ‖a_j‖²‖h_j‖² − 2 (a_i·a_j)(h_i·h_j)`` and no matrix of
    n × k f is built. O(n_wanted n (k + f)) time, O(n k) memory.

    References
    ----------
    Ash, Zhang, Krishnamurthy, Langford, Agarwal: "Deep Batch Active Learning by Diverse,
    Uncertain Gradient Lower Bounds", ICLR 2020, Algorithm 1.
    """
    rng = np.random.default_rng(seed)
    n = len(prob_nk)
    error_nk = prob_nk.copy()
    error_nk[np.arange(n), prob_nk.argmax(axis=1)] -= 1.0
    square_n = np.einsum("nk,nk->n", error_nk, error_nk, dtype=np.float64)
    square_n *= np.einsum("nf,nf->n", features_nf, features_nf, dtype=np.float64)
    nearest_n = np.full(n, np.inf)
    picks = np.empty(n_wanted, dtype=np.int64)
    picks[0] = np.argmax(square_n)
    for step in range(1, n_wanted):
        last = picks[step - 1]
        product_n = (error_nk @ error_nk[last]) * (features_nf @ features_nf[last])
        square_dist_n = square_n + square_n[last] - 2.0 * product_n
        np.minimum(nearest_n, np.maximum(square_dist_n, 0.0), out=nearest_n)
        nearest_n[picks[:step]] = 0.0  # what rounding leaves there must not be drawn
        picks[step] = _draw(rng, nearest_n, picks[:step])
    return picks


def _draw(rng: np.random.Generator, weight_n: NDArray[np.float64], taken: Indices) -> int:
    total = weight_n.sum()
    if total == 0.0:
        weight_n = np.ones(len(weight_n))
        weight_n[taken] = 0.0
        total = weight_n.sum()
    return int(rng.choice(len(weight_n), p=weight_n / total))
