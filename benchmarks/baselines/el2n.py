"""EL2N: images whose label a young network is far from are the ones to keep."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def el2n_scores(prob_rnk: NDArray[np.float32], given_n: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the length of the error of the probabilities, averaged over r networks.

    Parameters
    ----------
    prob_rnk : ndarray of shape (r, n, k), float32
        Probabilities that networks of different seeds give early in training.
    given_n : ndarray of shape (n,), int64
        Labels, in [0, k).

    Returns
    -------
    ndarray of shape (n,), float64
        Mean of ‖p − onehot(y)‖₂, in [0, √2]. Highest kept first.

    Notes
    -----
    O(r·n·k).

    References
    ----------
    Paul, Ganguli and Dziugaite, "Deep Learning on a Data Diet: Finding Important Examples
    Early in Training", NeurIPS 2021, section 2 (EL2N).

    Examples
    --------
    >>> import numpy as np
    >>> el2n_scores(np.array([[[1.0, 0.0], [0.0, 1.0]]], np.float32), np.array([0, 0])).round(3)
    array([0.   , 1.414])
    """
    error_rnk = prob_rnk.astype(np.float64)
    error_rnk[:, np.arange(len(given_n)), given_n] -= 1
    scores_n: NDArray[np.float64] = np.linalg.norm(error_rnk, axis=2).mean(0)
    return scores_n
