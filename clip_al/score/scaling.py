"""Scores of two kinds on one scale, so that they can be added."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_choice
from clip_al.arrays.given import array_of, labels_of
from clip_al.arrays.labels import encode_labels
from clip_al.errors import InvalidInputError

SCALES = ("class", "global", "none")
BEHIND = -100.0
"""Where the scores begin of images that are chosen after all others."""
SMALLEST_SPREAD = 1e-6
"""Standard deviations below this share of the mean are rounding: all scores are alike."""


def standardize_scores(
    score_n: ArrayLike, y: ArrayLike | None = None, scale: str = "class"
) -> NDArray[np.float32]:
    """Return scores with mean 0 and standard deviation 1, so that two kinds can be added.

    Parameters
    ----------
    score_n : array-like of shape (n,)
        Finite scores; not modified.
    y : array-like of shape (n,), optional
        Class numbers, whole and at least 0; needed for "class".
    scale : {"class", "global", "none"}
        Standardise within each class, over all images, or not at all.

    Returns
    -------
    ndarray of shape (n,), float32
        In standard deviations; 0 where all scores of the class (or of all images) are
        alike, so for the only image of a class. With "none", the scores.

    Raises
    ------
    InvalidInputError
        Where scores are not 1-D, not finite, or there are not as many labels.

    Notes
    -----
    Sums in float64; O(n) time and memory. The standard deviation is that of the images
    given (division by n); below 1e-6 of the mean it counts as 0.

    Examples
    --------
    >>> standardize_scores([1.0, 3.0, 5.0, 5.0], [0, 0, 1, 1])
    array([-1.,  1.,  0.,  0.], dtype=float32)
    """
    check_choice(scale, SCALES, "scale")
    scores = array_of(score_n, "score_n")
    if scores.ndim != 1 or not scores.size or scores.dtype.kind not in "fiu":
        raise InvalidInputError(
            "`score_n` must be a 1-D array of numbers, one an image; got shape "
            f"{scores.shape} and dtype {scores.dtype}. Pass what a score function returned."
        )
    scores = scores.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        raise InvalidInputError(
            f"`score_n` must be finite; got {scores[bad[0]]} at position {bad[0]}. "
            "Drop that image, or score it again."
        )
    if scale == "none":
        return scores.astype(np.float32)
    codes_n = np.zeros(len(scores), dtype=np.int64)
    if scale == "class":
        if y is None:
            raise InvalidInputError(
                "`y` must hold the labels for scale='class'; got None. Pass them, or "
                "scale='global'."
            )
        codes_n = labels_in_use(y, len(scores))[1]
    size_k = np.bincount(codes_n)
    mean_k = np.bincount(codes_n, weights=scores) / size_k
    deviation_n = scores - mean_k[codes_n]
    std_k = np.sqrt(np.bincount(codes_n, weights=deviation_n**2) / size_k)
    alike_k = std_k <= SMALLEST_SPREAD * np.abs(mean_k)
    deviation_n[alike_k[codes_n]] = 0.0
    standard_n: NDArray[np.float32] = (deviation_n / np.where(alike_k, 1.0, std_k)[codes_n]).astype(
        np.float32
    )
    return standard_n


def credible_first(
    sas_n: NDArray[np.float32],
    sds_n: NDArray[np.float32] | None,
    right_n: NDArray[np.float32],
    y: NDArray[np.int64],
    *,
    scale: str,
    noise_aware: bool,
    min_label_probability: float,
    largest_alpha: float = 1.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Return SAS and SDS on one scale, with images whose labels look wrong behind all others.

    Parameters
    ----------
    sas_n, sds_n : ndarray of shape (n,), float32
        As they were measured; `sds_n` may be None.
    right_n : ndarray of shape (n,), float32
        Probability that the label is right.
    y : ndarray of shape (n,), int64
        Class numbers.
    scale : {"class", "global", "none"}
        See `standardize_scores`; mean and spread are those of the credible images.
    noise_aware : bool
        Whether SDS is weighted by `right_n`.
    min_label_probability : float
        In [0, 1]. An image is credible where its label is at least as likely to be right; 0
        finds all so.
    largest_alpha : float
        The largest weight of SDS, either sign, that is to leave the others behind.

    Returns
    -------
    tuple of ndarray of shape (n,), float64
        SAS; SDS or None. Images that are not credible have SDS 0 and a SAS in [-100, -99] times
        `largest_alpha` (at least 1), which rises with `right_n`.

    Notes
    -----
    Ours, see decisions/0016. O(n) time and memory. Scaled scores below -25 count as -25 where
    some images are behind: with a spread of 1 none is there in practice.
    """
    credible_n = right_n >= min_label_probability
    if not credible_n.any():  # none to put the others behind
        credible_n[:] = True
    largest = max(1.0, abs(largest_alpha))
    # 1 / (1 - log p) rises from 0 to 1 with p, and keeps apart what is close to 0.
    log_right_n = np.log(np.maximum(right_n.astype(np.float64), np.finfo(np.float32).tiny))
    scaled_sas_n = BEHIND * largest + 1 / (1 - log_right_n)
    scaled_sas_n[credible_n] = standardize_scores(sas_n[credible_n], y[credible_n], scale)
    if not credible_n.all():
        scaled_sas_n[credible_n] = np.maximum(scaled_sas_n[credible_n], BEHIND / 4 * largest)
    if sds_n is None:
        return scaled_sas_n, None
    scaled_sds_n = np.zeros(len(right_n))
    scaled_sds_n[credible_n] = standardize_scores(sds_n[credible_n], y[credible_n], scale)
    if not credible_n.all():
        scaled_sds_n = np.maximum(scaled_sds_n, BEHIND / 4)
    return scaled_sas_n, scaled_sds_n * right_n if noise_aware else scaled_sds_n


def labels_in_use(y: ArrayLike, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the class numbers that occur, ascending, and the place of each label in them."""
    labels = labels_of(y, "y")
    is_number = labels.dtype.kind in "iub" and labels.size
    n_classes = int(labels.max()) + 1 if is_number else 1
    codes_n = encode_labels(labels, n_images=n, n_classes=max(1, n_classes))
    in_use, places_n = np.unique(codes_n, return_inverse=True)
    return in_use, places_n.ravel()
