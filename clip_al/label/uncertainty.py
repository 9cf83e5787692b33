"""How unsure a model is of each image, from its class probabilities. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

from clip_al.arrays.blocks import block_rows, map_blocks
from clip_al.arrays.checks import (
    check_choice,
    check_probabilities,
    check_probability_shape,
    probability_block,
)
from clip_al.arrays.given import array_of
from clip_al.arrays.several import check_label_probabilities, label_block
from clip_al.errors import InvalidInputError

LABEL_DOUBTS = ("mean", "worst")


def margin(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the difference of the two largest class probabilities.

    Parameters
    ----------
    probabilities : array-like of shape (n, k)
        Rows sum to 1; not modified.

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 1]; **low is uncertain**. 1 where there is one class.

    Notes
    -----
    One pass, O(n k) time on all cores, O(n) memory; a memory-mapped array is read in blocks.

    References
    ----------
    Scheffer, Decomain, Wrobel: "Active Hidden Markov Models for Information Extraction",
    IDA 2001.

    Examples
    --------
    >>> margin([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    array([0.2, 1. ])
    """
    return _of_each_row(probabilities, _margin)


def _of_each_row(
    probabilities: ArrayLike, score: Callable[[NDArray[Any], NDArray[np.float64]], None]
) -> NDArray[np.float64]:
    """Check and score rows in blocks that stay in a core's cache; `score` writes its result."""
    array = check_probability_shape(probabilities)
    score_n = np.empty(len(array))

    def of_block(rows: slice) -> None:
        score(probability_block(array, rows), score_n[rows])

    n_rows = max(1, block_rows(array.shape[1]) // 16)
    if len(array) <= n_rows:  # threads would take longer to start
        of_block(slice(0, len(array)))
        return score_n
    for _ in map_blocks(of_block, len(array), n_rows):
        pass
    return score_n


@numba.njit(nogil=True, cache=True)
def _margin(probabilities_nk, margin_n):  # type: ignore[no-untyped-def]
    n, k = probabilities_nk.shape
    for i in range(n):
        first, second = 0.0, 0.0
        for j in range(k):
            p = probabilities_nk[i, j]
            if p > first:
                first, second = p, first
            elif p > second:
                second = p
        margin_n[i] = first - second


def entropy(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the Shannon entropy of each row, in nats, in [0, log k]; high is uncertain.

    Examples
    --------
    >>> entropy([[0.5, 0.5], [1.0, 0.0]]).round(3)
    array([0.693, 0. ])
    """

    def score(block: NDArray[Any], entropy_b: NDArray[np.float64]) -> None:
        entr(np.maximum(block, 0.0)).sum(axis=1, out=entropy_b, dtype=np.float64)

    return _of_each_row(probabilities, score)


def least_confidence(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return 1 minus the largest class probability, in [0, 1 − 1/k]; high is uncertain.

    Examples
    --------
    >>> least_confidence([[0.5, 0.5], [1.0, 0.0]])
    array([0.5, 0. ])
    """

    def score(block: NDArray[Any], doubt_b: NDArray[np.float64]) -> None:
        np.subtract(1.0, block.max(axis=1), out=doubt_b)

    return _of_each_row(probabilities, score)


def ensemble_variance(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the variance of the class probabilities over an ensemble, summed over classes.

    Parameters
    ----------
    probabilities : array-like of shape (n_models, n, k)
        Of at least two models (or passes with dropout), rows sum to 1; not modified.

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 1); high is uncertain.

    Raises
    ------
    InvalidInputError
        Where the array is not 3-D, has fewer than two models, or a member is no
        probabilities.

    Examples
    --------
    >>> ensemble_variance([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])
    array([0.5, 0. ])
    """
    array = array_of(probabilities, "probabilities")
    if array.ndim != 3 or array.shape[0] < 2:
        raise InvalidInputError(
            "`probabilities` must be (models, images, classes) of at least 2 models; got shape "
            f"{array.shape}. Stack what each model's `predict_proba` returns."
        )
    for member in array:
        check_probabilities(member)
    variance_n = np.empty(array.shape[1])
    step = max(1, block_rows(array.shape[2]) // (4 * len(array)))
    for start in range(0, array.shape[1], step):
        block = array[:, start : start + step]
        variance_n[start : start + step] = block.var(axis=0, dtype=np.float64).sum(axis=1)
    return variance_n


def label_uncertainty(
    probabilities: ArrayLike, *, measure: str = "margin", label_doubt: str = "mean"
) -> NDArray[np.float64]:
    """Return how unsure a model is of images that may have several labels, or none.

    Parameters
    ----------
    probabilities : array-like of shape (n, k), or list of k arrays of shape (n, 2)
        Of each label by itself, in [0, 1]: rows need not sum to 1. Not modified. For
        "ensemble_variance" (n_models, n, k).
    measure : {"margin", "entropy", "least_confidence", "ensemble_variance"}
        Of each label as of two classes, p and 1 − p: the function of that name.
    label_doubt : {"mean", "worst"}
        The mean over labels, or the value of the label that is most in doubt.

    Returns
    -------
    ndarray of shape (n,), float64
        **Low is uncertain** for "margin", high is uncertain for the others, as in their functions.

    References
    ----------
    Esuli, Sebastiani: "Active Learning Strategies for Multi-Label Text Classification", ECIR
    2009, section 2.

    Examples
    --------
    >>> label_uncertainty([[0.5, 0.9], [1.0, 0.0]])
    array([0.4, 1. ])
    >>> label_uncertainty([[0.5, 0.9], [1.0, 0.0]], label_doubt="worst")
    array([0., 1.])
    """
    check_choice(measure, (*_OF_LABEL, "ensemble_variance"), "measure")
    check_choice(label_doubt, LABEL_DOUBTS, "label_doubt")
    if measure == "ensemble_variance":
        return _label_variance(probabilities, label_doubt)
    array = check_label_probabilities(probabilities)
    value_n = np.empty(len(array))

    def of_block(rows: slice) -> None:
        block = np.clip(label_block(array, rows).astype(np.float64, copy=False), 0.0, 1.0)
        value_n[rows] = _over_labels(_OF_LABEL[measure](block), label_doubt, measure == "margin")

    for _ in map_blocks(of_block, len(array), max(1, block_rows(array.shape[1]) // 16)):
        pass
    return value_n


_OF_LABEL: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "margin": lambda prob_bk: np.abs(2.0 * prob_bk - 1.0),
    "entropy": lambda prob_bk: entr(prob_bk) + entr(1.0 - prob_bk),
    "least_confidence": lambda prob_bk: np.minimum(prob_bk, 1.0 - prob_bk),
}


def _over_labels(
    value_bk: NDArray[np.float64], label_doubt: str, low_is_uncertain: bool
) -> NDArray[np.float64]:
    if label_doubt == "mean":
        mean_b: NDArray[np.float64] = value_bk.mean(axis=1)
        return mean_b
    worst_b: NDArray[np.float64] = (np.min if low_is_uncertain else np.max)(value_bk, axis=1)
    return worst_b


def _label_variance(probabilities: ArrayLike, label_doubt: str) -> NDArray[np.float64]:
    array = array_of(probabilities, "probabilities")
    if array.ndim != 3 or array.shape[0] < 2:
        raise InvalidInputError(
            "`probabilities` must be (models, images, labels) of at least 2 models; got shape "
            f"{array.shape}. Stack what each model's `predict_proba` returns."
        )
    for member in array:
        check_label_probabilities(member)
    value_n = np.empty(array.shape[1])
    step = max(1, block_rows(array.shape[2]) // (4 * len(array)))
    for start in range(0, array.shape[1], step):
        rows = slice(start, start + step)
        variance_bk = 2.0 * array[:, rows].var(axis=0, dtype=np.float64)  # of p and of 1 − p
        value_n[rows] = _over_labels(variance_bk, label_doubt, False)
    return value_n
