"""Wrong labels of known share: labels turned to any other class, or to the next one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_choice, check_int, check_number
from clip_al.errors import InvalidInputError

FLIP_SEED = 100  # kept apart from the seeds of everything that looks at the labels
KINDS = ("symmetric", "pair")


def flip_labels(
    y: ArrayLike, share: float, seed: int, n_classes: int = 10, kind: str = "symmetric"
) -> NDArray[np.int64]:
    """Turn exactly a share of the labels into another class.

    Parameters
    ----------
    y : array-like of shape (n,), int
        Classes 0 to n_classes - 1; not modified.
    share : float
        In [0, 1]; round(share · n) labels are turned, drawn without replacement from all
        (halves round to the even number).
    seed : int
        One seed turns the labels of the same places, whatever the kind.
    n_classes : int
        At least 2.
    kind : {"symmetric", "pair"}
        To what a label is turned: one of the other classes, all alike; or class c to c + 1,
        the last to class 0.

    Returns
    -------
    ndarray of shape (n,), int64
        Differs from `y` in exactly the places that were drawn.

    Raises
    ------
    InvalidInputError
        Where a label is no class, or an argument is out of its range.

    Notes
    -----
    O(n) time and memory.

    References
    ----------
    Symmetric: van Rooyen, Menon and Williamson, "Learning with Symmetric Label Noise: The
    Importance of Being Unhinged", NeurIPS 2015. Pair: Han et al., "Co-teaching: Robust
    Training of Deep Neural Networks with Extremely Noisy Labels", NeurIPS 2018, section 4.

    Examples
    --------
    >>> flip_labels([0, 1, 2, 0, 1, 2], 1.0, seed=0, n_classes=3, kind="pair")
    array([1, 2, 0, 1, 2, 0])
    """
    n_classes = check_int(n_classes, "n_classes", smallest=2)
    share = check_number(share, "share", low=0, high=1)
    seed = check_int(seed, "seed", smallest=0)
    kind = check_choice(kind, KINDS, "kind")
    given_n = _labels(y, n_classes)
    rng = np.random.default_rng((FLIP_SEED, seed))
    turned = rng.choice(len(given_n), round(share * len(given_n)), replace=False)
    step = rng.integers(1, n_classes, len(turned)) if kind == "symmetric" else 1
    given_n[turned] = (given_n[turned] + step) % n_classes
    return given_n


def _labels(y: Any, n_classes: int) -> NDArray[np.int64]:
    """Return a copy of the labels as int64, if they are classes."""
    array = np.asarray(y)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise InvalidInputError(
            f"`y` must be whole numbers of shape (n,), at least one; got {array.dtype} of shape "
            f"{array.shape}. Pass the number of each image's class."
        )
    bad = np.flatnonzero((array < 0) | (array >= n_classes))
    if bad.size:
        raise InvalidInputError(
            f"`y` must hold classes 0 to {n_classes - 1}; got {array[bad[0]]} at place {bad[0]}. "
            "Set `n_classes`, or number the classes from 0."
        )
    return array.astype(np.int64)
