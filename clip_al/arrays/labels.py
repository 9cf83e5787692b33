"""Class labels: checked, as codes, and grouped."""

from __future__ import annotations

import numbers
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
        What the classes are called, in order; one name a class.
    name : str
        What the caller calls `y`, for the messages.

    Returns
    -------
    ndarray of shape (n,), int64
        `y` itself where it is such an array: copy it before you keep it.

    Raises
    ------
    InvalidInputError
        Where the length differs, a label is no class (the message names the first), or the
        names are not as many as the classes or not distinct.
    InvalidTypeError
        Where labels are neither whole numbers nor names, or one is missing.

    Notes
    -----
    O(n) time and memory for numbers; names are sorted, O(n log n).

    Examples
    --------
    >>> encode_labels(["dog", "cat"], n_images=2, n_classes=2, class_names=["cat", "dog"])
    array([1, 0])
    """
    number = None if class_names is None else _number_of_name(class_names, n_classes)
    labels = np.asarray(y)
    if labels.ndim != 1 or len(labels) != n_images:
        raise InvalidInputError(
            f"`{name}` must have one label for each of the {n_images} images; got shape "
            f"{labels.shape}. Pass the labels of the same images, in the same order."
        )
    if labels.dtype.kind == "O":
        labels = _of_one_kind(labels, name)
    elif labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8")
    if labels.dtype.kind in "UT":
        return _numbers_of(labels, number, name)
    if labels.dtype.kind not in "iub":
        raise InvalidTypeError(
            f"`{name}` must hold class numbers or class names; got dtype {labels.dtype}. "
            "Convert it, for instance with `astype(int)`, once no label is missing."
        )
    # Compared before it is converted: a large unsigned number would turn negative.
    outside = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if outside.size:
        raise InvalidInputError(
            f"`{name}` must be in [0, {n_classes - 1}], the numbers of the {n_classes} classes; "
            f"got {labels[outside[0]]} at position {outside[0]}. Count classes from 0, in the "
            "order of their names or embeddings."
        )
    return labels.astype(np.int64, copy=False)


def _number_of_name(class_names: Sequence[str], n_classes: int) -> dict[str, int]:
    """Return the number of each class name, checked."""
    names = [] if isinstance(class_names, str) else list(class_names)
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in names):
        raise InvalidTypeError(
            f"`class_names` must be a sequence of strings; got {class_names!r}. Pass one name a "
            "class."
        )
    number = {name: i for i, name in enumerate(names)}
    if len(names) != n_classes or len(number) != n_classes:
        raise InvalidInputError(
            f"`class_names` must name each of the {n_classes} classes once; got {len(names)} "
            f"names, {len(number)} of them distinct. Pass one a class, in the order of the class "
            "embeddings."
        )
    return number


def _of_one_kind(labels: NDArray[Any], name: str) -> NDArray[Any]:
    """Return an array of objects as one of numbers or of text; refuse a missing label."""
    if labels.size and all(isinstance(label, numbers.Integral) for label in labels):
        return np.array(labels.tolist())
    for position, label in enumerate(labels):
        if not isinstance(label, str):
            raise InvalidTypeError(
                f"`{name}` must hold a class name for each image (or numbers alone); got {label!r} "
                f"at position {position}. Label that image, or drop it."
            )
    return labels.astype(np.str_)


def _numbers_of(
    labels: NDArray[Any], number: dict[str, int] | None, name: str
) -> NDArray[np.int64]:
    if number is None:
        raise InvalidTypeError(
            f"`{name}` must hold class numbers, as no class names were given; got "
            f"{labels.tolist()[:1]}. Pass `class_names=`, in the order of the class embeddings."
        )
    values, inverse = np.unique(labels, return_inverse=True)
    unknown = next((value for value in values.tolist() if value not in number), None)
    if unknown is not None:
        at = int(np.flatnonzero(labels == unknown)[0])
        raise InvalidInputError(
            f"`{name}` must name one of the {len(number)} classes "
            f"({_shortened(list(number))}); got {unknown!r} at position {at}. "
            "Add the class and its embedding, or correct the label."
        )
    codes = np.array([number[value] for value in values.tolist()], dtype=np.int64)
    return codes[inverse.ravel()]


def _shortened(names: list[str], n: int = 8) -> str:
    return ", ".join(names[:n]) + (", …" if len(names) > n else "")


def group_by_class(y: NDArray[np.int64], n_classes: int) -> list[NDArray[np.int64]]:
    """Return the positions of each class, ascending; empty for a class without images.

    O(n) time and memory.

    Parameters
    ----------
    y : ndarray of shape (n,), int64
        Class numbers in [0, n_classes), as `encode_labels` returns them; not checked.
    n_classes : int
        How many classes there are.

    Returns
    -------
    list of n_classes ndarrays, int64
        Together they hold each position once.

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
