"""Several labels an image: zeros and ones, and the probability of each label by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.blocks import block_rows, map_blocks
from clip_al.arrays.given import array_of
from clip_al.errors import InvalidInputError, InvalidTypeError

TOLERANCE = 1e-6


def encode_indicator(
    Y: ArrayLike, *, n_images: int, n_labels: int | None = None, name: str = "Y"
) -> NDArray[np.bool_]:
    """Return which image has which label.

    Parameters
    ----------
    Y : array-like of shape (n, k)
        1 where an image has a label, else 0; SciPy's sparse arrays too. Not modified.
    n_images, n_labels : int
        The shape that it must have; without `n_labels` at least one column.
    name : str
        What the caller calls it, for the messages.

    Returns
    -------
    ndarray of shape (n, k), bool
        A copy.

    Examples
    --------
    >>> encode_indicator([[1, 0], [0, 0]], n_images=2)
    array([[ True, False],
           [False, False]])
    """
    array = array_of(Y, name)
    wanted = "k" if n_labels is None else n_labels
    if array.ndim != 2 or len(array) != n_images or array.shape[1] != (n_labels or array.shape[1]):
        raise InvalidInputError(
            f"`{name}` must be of shape ({n_images}, {wanted}), a row an image and a column a "
            f"label; got shape {array.shape}. Lists of names become one by scikit-learn's "
            "`MultiLabelBinarizer`."
        )
    if array.shape[1] == 0:
        raise InvalidInputError(f"`{name}` must have a column a label; got none. Add the labels.")
    if array.dtype.kind not in "biuf":
        raise InvalidTypeError(
            f"`{name}` must hold zeros and ones; got dtype {array.dtype}. Lists of names become "
            "zeros and ones by scikit-learn's `MultiLabelBinarizer`."
        )
    given_nk = array == 1
    odd = np.argwhere(~(given_nk | (array == 0)))
    if len(odd):
        i, j = odd[0]
        raise InvalidInputError(
            f"`{name}` must hold zeros and ones; got {array[i, j]} for label {j} of image {i}. "
            "Set 1 for each label that an image has, and 0 for the others."
        )
    return np.asarray(given_nk)


def stack_labels(probabilities: Any, classes: Sequence[Any] | None = None) -> Any:
    """Return probabilities as one array, (n, k), in whatever form a learner gives them.

    Parameters
    ----------
    probabilities : array-like of shape (n, k), or list of k arrays of shape (n, 2)
        The list, or one array (k, n, 2), is what scikit-learn's `MultiOutputClassifier`, trees
        and neighbours give. Anything else is returned as it is.
    classes : sequence of k arrays, optional
        `classes_` of such a learner: which of 0 and 1 a label had that always had the same.

    Examples
    --------
    >>> stack_labels([[[0.9, 0.1]], [[0.4, 0.6]]])
    array([[0.1, 0.6]])
    """
    is_list = isinstance(probabilities, list | tuple) and len(probabilities) > 0
    is_stack = isinstance(probabilities, np.ndarray) and probabilities.ndim == 3
    if not (is_list or is_stack):
        return probabilities
    parts = [array_of(part, "probabilities") for part in probabilities]
    if not all(part.ndim == 2 and part.shape[1] in (1, 2) for part in parts):
        return probabilities
    if not is_stack and all(part.shape == (1, 1) for part in parts):
        return probabilities
    columns = []
    for j, part in enumerate(parts):
        if part.shape[1] == 2:
            columns.append(part[:, 1])
            continue
        listed = classes is not None and len(classes) == len(parts)
        known: Any = np.ravel(classes[j]) if classes is not None and listed else ()
        if len(known) != 1 or known[0] not in (0, 1):
            raise InvalidInputError(
                f"`probabilities` of several labels must have two columns a label; got one for "
                f"label {j}, which always had the same value in what the learner was taught. "
                "Pass probabilities of shape (images, labels)."
            )
        columns.append(np.full(len(part), float(known[0])))
    return np.stack(columns, axis=1)


def check_label_probabilities(
    probabilities: Any, *, n_images: int | None = None, n_labels: int | None = None
) -> NDArray[Any]:
    """Return the probability of each label by itself, (n, k) float; read in blocks.

    Raises
    ------
    InvalidInputError
        Where the shape is another, or a number is not in [0, 1].
    """
    array = array_of(stack_labels(probabilities), "probabilities")
    if array.dtype.kind not in "biuf" or array.ndim != 2 or 0 in array.shape:
        raise InvalidInputError(
            "`probabilities` of several labels must be a 2-D array of numbers, (images, labels), "
            f"or a list of one (images, 2) a label; got shape {array.shape} and dtype "
            f"{array.dtype}. Pass what `predict_proba` returns."
        )
    for number, wanted, what in ((0, n_images, "row for each of the {} images"),
                                 (1, n_labels, "column for each of the {} labels")):  # fmt: skip
        if wanted is not None and array.shape[number] != wanted:
            raise InvalidInputError(
                f"`probabilities` must have one {what.format(wanted)}; got "
                f"{array.shape[number]}. Predict on the same images, in the same order."
            )
    if array.dtype not in (np.float16, np.float32, np.float64):
        array = array.astype(np.float64)
    for _ in map_blocks(lambda rows: label_block(array, rows), len(array), _step(array)):
        pass
    return array


def label_block(array: NDArray[Any], rows: slice) -> NDArray[Any]:
    """Return some rows as float32 or float64, checked to be in [0, 1]."""
    block = array[rows]
    if block.dtype == np.float16:
        block = block.astype(np.float32)
    if not (block.min() >= -TOLERANCE and block.max() <= 1.0 + TOLERANCE):  # nor where it is NaN
        bad = block[~((block >= -TOLERANCE) & (block <= 1.0 + TOLERANCE))][0]
        raise InvalidInputError(
            f"`probabilities` of several labels must each be in [0, 1]; got {bad:.4g}. "
            "Apply a sigmoid to logits."
        )
    return block


def _step(array: NDArray[Any]) -> int:
    return max(1, block_rows(array.shape[1]) // 16)
