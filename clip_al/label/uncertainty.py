"""How unsure a model is of each image, from its class probabilities. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

from clip_al.arrays.blocks import block_rows, map_blocks
from clip_al.arrays.checks import check_probabilities, check_probability_shape, probability_block
from clip_al.arrays.given import array_of
from clip_al.errors import InvalidInputError


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
