"""Glister: the subset that lowers the loss of all images most, by one step of the last layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from benchmarks.baselines.tasks import Indices, highest

ROUNDS = 15
STEP = 0.1


def glister_indices(
    features_nf: NDArray[np.float32],
    prob_nk: NDArray[np.float32],
    given_n: NDArray[np.int64],
    n_wanted: int,
) -> Indices:
    """Pick greedily, in 15 rounds, the images whose gradient lowers the loss of all most.

    Parameters
    ----------
    features_nf : ndarray of shape (n, f), float32
        What the last layer of a trained network sees.
    prob_nk : ndarray of shape (n, k), float32
        Probabilities that it gives.
    given_n : ndarray of shape (n,), int64
        Labels, in [0, k).
    n_wanted : int
        How many to pick, at most n.

    Returns
    -------
    ndarray of shape (n_wanted,), int64
        In the order of picking, best first within a round; ties by lowest index.

    Notes
    -----
    GLISTER-ONLINE. The gradient of image i in the last layer is g_i = (p_i − y_i) ⊗ [f_i, 1].
    In a round the last layer has taken one step of 0.1 along the mean gradient of those
    picked so far, and the gain of another image is, to first order, ⟨g_i, G⟩ with G the mean
    gradient of the validation loss there. As in the paper, images are picked over all
    classes at once, and one round, here a fifteenth of the wanted, is picked before G is
    computed anew; up to 15 images this is the plain greedy choice. Validation images are the
    training images themselves. The paper steps along the sum of the gradients: our step is
    its step over the number picked, that of a batch, so that it does not grow with the subset.
    O(15·n·k·f) time and O(n·(f + k)) memory: no gradient is ever written out.

    References
    ----------
    Killamsetty et al., "GLISTER: Generalization based Data Subset Selection for Efficient and
    Robust Learning", AAAI 2021, section on GLISTER-ONLINE.
    """
    n = len(given_n)
    rows_nf = np.hstack([features_nf, np.ones((n, 1))])
    onehot_nk = np.eye(prob_nk.shape[1])[given_n]
    error_nk = prob_nk - onehot_nk
    # The softmax of these is prob_nk: as good as the logits themselves.
    logits_nk = np.log(np.maximum(prob_nk, np.finfo(np.float32).tiny), dtype=np.float64)
    left = np.ones(n, dtype=bool)
    step_kf = np.zeros((prob_nk.shape[1], rows_nf.shape[1]))
    picked = np.empty(0, dtype=np.int64)
    ends = -(-np.arange(1, ROUNDS + 1) * n_wanted // ROUNDS)
    for end in np.unique(ends):
        moved_nk = softmax(logits_nk - STEP * rows_nf @ step_kf.T, axis=1)
        loss_kf = (moved_nk - onehot_nk).T @ rows_nf / n
        gain_n = (error_nk * (rows_nf @ loss_kf.T)).sum(1)
        best = highest(np.where(left, gain_n, -np.inf), end - len(picked))
        left[best] = False
        picked = np.concatenate([picked, best])
        step_kf = error_nk[picked].T @ rows_nf[picked] / len(picked)
    return picked
