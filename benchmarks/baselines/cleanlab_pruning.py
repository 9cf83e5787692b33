"""Pruning by cleanlab: keep the labels that a classifier which did not see them believes."""

from __future__ import annotations

import numpy as np
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

N_FOLDS = 5


def label_quality(
    emb_nd: NDArray[np.float32], given_n: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """Return how credible each label is, by cleanlab's self-confidence.

    Parameters
    ----------
    emb_nd : ndarray of shape (n, d), float32
        Embeddings; not modified.
    given_n : ndarray of shape (n,), int64
        Labels of at least two classes, of at least 5 images each; not modified.
    seed : int
        Draws the folds.

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 1], high is credible: the probability of the given label by a logistic
        regression that was fitted to the other four folds.

    Notes
    -----
    scikit-learn's `LogisticRegression` with its own defaults, but for the number of steps,
    and cleanlab's `get_label_quality_scores`. O(n d k) time a step of each of five fits.

    References
    ----------
    Northcutt, Jiang, Chuang: "Confident Learning: Estimating Uncertainty in Dataset
    Labels", JAIR 2021. Kuan, Mueller: "Model-agnostic label quality scoring to detect
    real-world label errors", ICML DataPerf workshop 2022.
    """
    # cleanlab wants class numbers without gaps.
    codes_n = np.unique(given_n, return_inverse=True)[1]
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    model = LogisticRegression(max_iter=1000)
    prob_nk = cross_val_predict(model, emb_nd, codes_n, cv=folds, method="predict_proba")
    quality_n: NDArray[np.float64] = get_label_quality_scores(codes_n, prob_nk)
    return quality_n
