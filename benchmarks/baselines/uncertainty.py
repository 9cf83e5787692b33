"""The images whose class probabilities say least, by one network's word or an ensemble's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.tasks import Indices, highest
from clip_al.label.uncertainty import ensemble_variance, entropy, least_confidence, margin


def pick_by_margin(prob_nk: NDArray[np.float32], n_wanted: int) -> Indices:
    """Return the images whose two most probable classes are closest, closest first.

    Parameters
    ----------
    prob_nk : ndarray of shape (n, k)
        Class probabilities, rows sum to 1; not modified.
    n_wanted : int
        In [1, n].

    Returns
    -------
    ndarray of shape (n_wanted,), int64
        Best first, ties by lowest index.

    References
    ----------
    Scheffer, Decomain, Wrobel: "Active Hidden Markov Models for Information Extraction",
    IDA 2001.
    """
    return highest(-margin(prob_nk), n_wanted)


def pick_by_entropy(prob_nk: NDArray[np.float32], n_wanted: int) -> Indices:
    """Return the images of largest Shannon entropy; shapes and ties as for `pick_by_margin`.

    References
    ----------
    Shannon: "A Mathematical Theory of Communication", Bell System Technical Journal 1948;
    as a query: Settles: "Active Learning Literature Survey", Wisconsin TR 1648, 2009, § 3.1.
    """
    return highest(entropy(prob_nk), n_wanted)


def pick_by_least_confidence(prob_nk: NDArray[np.float32], n_wanted: int) -> Indices:
    """Return the images of lowest top probability; shapes and ties as for `pick_by_margin`.

    References
    ----------
    Lewis, Gale: "A Sequential Algorithm for Training Text Classifiers", SIGIR 1994.
    """
    return highest(least_confidence(prob_nk), n_wanted)


def pick_by_gini(prob_nk: NDArray[np.float32], n_wanted: int) -> Indices:
    """Return the images of largest ``1 − Σ p²``; shapes and ties as for `pick_by_margin`.

    With two classes this is the order of the other three; with more it is its own.

    References
    ----------
    Feng, Shi, Gao, Wan, Fang, Chen: "DeepGini: Prioritizing Massive Tests to Enhance the
    Robustness of Deep Neural Networks", ISSTA 2020.
    """
    impurity_n = 1.0 - np.einsum("nk,nk->n", prob_nk, prob_nk, dtype=np.float64)
    return highest(impurity_n, n_wanted)


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
