"""Class labels: checked, as codes, and grouped. Imports only `errors`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.errors import InvalidInputError, InvalidTypeError


def encode_labels(
    y: ArrayLike,
    *,
    n_images: int,
    n_classes: int,
    class_names: Sequence[str] | None = None,
    name: str = "y",
) -> NDArray[np.int64]:
    """Return labels as class numbers; `y` is not modified.

    Parameters
    ----------
    y : array-like of shape (n,)
        Class numbers in [0, n_classes), or, with `class_names`, names of classes.
    n_images : int
        The length that it must have.
    n_classes : int
        How many classes there are.
    class_names : sequence of str, optional
        What the classes are called, in order.
    name : str
        What the caller calls `y`, for the messages.

    Returns
    -------
    ndarray of shape (n,), int64

    Raises
    ------
    InvalidInputError
        Where the length differs or a label is no class; the message names the first.
    InvalidTypeError
        Where labels are neither whole numbers nor names.

    Examples
    --------
    >>> encode_labels(["dog", "cat"], n_images=2, n_classes=2, class_names=["cat", "dog"])
    array([1, 0])
    """
    labels = np.asarray(y)
    if labels.ndim != 1 or len(labels) != n_images:
        raise InvalidInputError(
            f"`{name}` must have one label for each of the {n_images} images; got shape "
            f"{labels.shape}. Pass the labels of the same images, in the same order."
        )
    if labels.dtype.kind in "OUS":
        return _numbers_of(labels, class_names, name)
    if labels.dtype.kind not in "iub":
        raise InvalidTypeError(
            f"`{name}` must hold class numbers or class names; got dtype {labels.dtype}. "
            "Convert it, for instance with `astype(int)`, once no label is missing."
        )
    codes = labels.astype(np.int64, copy=False)
    outside = np.flatnonzero((codes < 0) | (codes >= n_classes))
    if outside.size:
        raise InvalidInputError(
            f"`{name}` must be in [0, {n_classes - 1}], the numbers of the {n_classes} classes; "
            f"got {codes[outside[0]]} at position {outside[0]}. Count classes from 0, in the "
            "order of their names or embeddings."
        )
    return codes


def _numbers_of(
    labels: NDArray[Any], class_names: Sequence[str] | None, name: str
) -> NDArray[np.int64]:
    if class_names is None:
        raise InvalidTypeError(
            f"`{name}` must hold class numbers, as no class names were given; got "
            f"{labels[0]!r}. Pass `class_names=`, in the order of the class embeddings."
        )
    number = {class_name: i for i, class_name in enumerate(class_names)}
    values, inverse = np.unique(labels.astype(str), return_inverse=True)
    unknown = [value for value in values.tolist() if value not in number]
    if unknown:
        at = int(np.flatnonzero(labels.astype(str) == unknown[0])[0])
        raise InvalidInputError(
            f"`{name}` must name one of the {len(number)} classes "
            f"({_shortened(list(number))}); got {unknown[0]!r} at position {at}. "
            "Add the class and its embedding, or correct the label."
        )
    codes = np.array([number[value] for value in values.tolist()], dtype=np.int64)
    return codes[inverse.ravel()]


def _shortened(names: list[str], n: int = 8) -> str:
    return ", ".join(names[:n]) + (", …" if len(names) > n else "")


def group_by_class(y: NDArray[np.int64], n_classes: int) -> list[NDArray[np.int64]]:
    """Return the positions of each class, ascending; empty for a class without images.

    O(n) time and memory.

    Examples
    --------
    >>> group_by_class(np.array([1, 0, 1]), 3)
    [array([1]), array([0, 2]), array([], dtype=int64)]
    """
    # A stable sort of narrow integers is a radix sort, linear in n.
    narrow = y.astype(np.uint16) if n_classes <= 2**16 else y
    order = np.argsort(narrow, kind="stable")
    bounds = np.cumsum(np.bincount(y, minlength=n_classes))[:-1]
    return np.split(order, bounds)
