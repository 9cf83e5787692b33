"""The images on which an ensemble's members disagree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.tasks import Indices, highest
from clip_al.label.uncertainty import ensemble_variance


def pick_by_variance(member_prob_enk: NDArray[np.float32], n_wanted: int) -> Indices:
    """Return the images whose class probabilities vary most over the members.

    Parameters
    ----------
    member_prob_enk : ndarray of shape (e, n, k)
        Class probabilities of at least two members, rows sum to 1; not modified.
    n_wanted : int
        In [1, n].

    Returns
    -------
    ndarray of shape (n_wanted,), int64
        Best first, ties by lowest index.

    Notes
    -----
    The order is that of the variance over members, averaged over classes: the sum that
    `clip_al.label.uncertainty.ensemble_variance` gives is k times that. O(e n k) time.

    References
    ----------
    Lakshminarayanan, Pritzel, Blundell: "Simple and Scalable Predictive Uncertainty
    Estimation using Deep Ensembles", NeurIPS 2017; as a query: Beluch, Genewein,
    Nürnberger, Köhler: "The Power of Ensembles for Active Learning in Image
    Classification", CVPR 2018.
    """
    return highest(ensemble_variance(member_prob_enk), n_wanted)
