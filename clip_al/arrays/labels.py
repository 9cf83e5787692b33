"""Class labels: checked, as codes, and grouped."""

from __future__ import annotations

import numbers
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.given import labels_of, listed, refuse_nul
from clip_al.errors import InvalidInputError, InvalidTypeError

Names: TypeAlias = "Sequence[str] | Mapping[Any, Any]"
"""Names of classes: class 0 first, or name to number, or number to name."""


def encode_labels(
    y: ArrayLike,
    *,
    n_images: int,
    n_classes: int,
    class_names: Names | None = None,
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
    class_names : sequence of str or mapping, optional
        What the classes are called, in order, one name a class; see `ordered_names`. Two may
        share a name where labels are numbers.
    name : str
        What the caller calls `y`, for the messages.

    Returns
    -------
    ndarray of shape (n,), int64
        `y` itself where it is such an array: copy it before you keep it.

    Raises
    ------
    InvalidInputError
        Where the length differs, a label is no class (the message names the first), the
        names are not as many as the classes, or not distinct and `y` holds names.
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
    names = None if class_names is None else _check_names(class_names, n_classes)
    labels = labels_of(y, name)
    if labels.ndim == 2 and len(labels) == n_images and labels.shape[1] > 1:
        raise InvalidInputError(
            f"`{name}` must have one label for each image here; got shape {labels.shape}, several "
            "an image. Alignment, label noise and quotas go by the one class of an image, and an "
            "image of two would count in both. Find wrong labels by `multi_label_suspects`, pick "
            "what to label by `UncertaintyCoverageSampling(multi_label=True)`; for quotas pass "
            "one label an image, such as its rarest."
        )
    if labels.ndim != 1 or len(labels) != n_images:
        raise InvalidInputError(
            f"`{name}` must have one label for each of the {n_images} images; got shape "
            f"{labels.shape}. Pass the labels of the same images, in the same order."
        )
    if labels.dtype.kind == "O":
        labels = _of_one_kind(labels, name)
    if labels.dtype.kind in "UT":
        return _numbers_of(labels, names, name)
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


def ordered_names(class_names: Names, name: str = "class_names") -> tuple[str, ...]:
    """Return the names of classes in the order of their numbers.

    Parameters
    ----------
    class_names : sequence of str, or mapping
        Names, class 0 first, a name there twice where two classes share it; or name to number,
        as `class_to_idx` of torchvision's `ImageFolder`; or number to name, as `id2label` of
        transformers.
    name : str
        What the caller calls it, for the messages.

    Raises
    ------
    InvalidTypeError
        Where there are no strings, or a mapping has no numbers.
    InvalidInputError
        Where the numbers of a mapping are not 0 to k - 1, each once.

    Examples
    --------
    >>> ordered_names({"dog": 1, "cat": 0})
    ('cat', 'dog')
    """
    if isinstance(class_names, Mapping):
        return _by_number(class_names, name)
    names = listed(class_names, name, "a sequence of strings", "Pass one name a class.")
    if not all(isinstance(one, str) for one in names):
        raise InvalidTypeError(
            f"`{name}` must be a sequence of strings; got {class_names!r:.300}. Pass one name a "
            "class."
        )
    refuse_nul(names, name)
    return tuple(map(str, names))


def _by_number(class_names: Mapping[Any, Any], name: str) -> tuple[str, ...]:
    pairs = list(class_names.items())
    if pairs and all(isinstance(value, str) for _, value in pairs):
        pairs = [(value, _as_number(key)) for key, value in pairs]
    if not all(isinstance(key, str) and _as_number(value) is not None for key, value in pairs):
        raise InvalidTypeError(
            f"`{name}`, as a mapping, must be of names and whole numbers; got "
            f"{class_names!r:.300}. Pass name to number, number to name, or a list of names."
        )
    names = {_as_number(value): key for key, value in pairs}
    if not pairs or set(names) != set(range(len(pairs))):
        numbers = sorted(_as_number(value) or 0 for _, value in pairs)
        raise InvalidInputError(
            f"`{name}`, as a mapping, must number k classes from 0 to k - 1, each once; got "
            f"{numbers[:10]}. Count from 0, and leave no number out."
        )
    refuse_nul(names.values(), name)
    return tuple(names[i] for i in range(len(pairs)))


def _as_number(value: object) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isdecimal() else None
    is_number = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return int(value) if is_number else None  # type: ignore[call-overload]


def check_distinct(names: Sequence[str], name: str = "class_names") -> None:
    """Raise an error that names what is there twice, where names tell the classes apart."""
    repeated = [one for one, n in Counter(names).items() if n > 1]
    if repeated:
        raise InvalidInputError(
            f"`{name}` must name each class once where labels are names; got "
            f"{', '.join(map(repr, repeated[:5]))} more than once. Pass class numbers as labels, "
            "or rename one."
        )


def _check_names(class_names: Names, n_classes: int) -> tuple[str, ...]:
    """Return class names, as many as there are classes."""
    names = ordered_names(class_names)
    if len(names) != n_classes:
        raise InvalidInputError(
            f"`class_names` must name each of the {n_classes} classes; got {len(names)} names. "
            "Pass one a class, in the order of the class embeddings."
        )
    return names


def _of_one_kind(labels: NDArray[Any], name: str) -> NDArray[Any]:
    """Return an array of objects as one of numbers or of text; refuse a missing label."""
    if labels.size and all(isinstance(label, numbers.Integral) for label in labels):
        return _integers(labels, name)
    gaps = [i for i, label in enumerate(labels) if _is_gap(label)]
    if gaps:
        raise InvalidTypeError(
            f"`{name}` must hold a label for each image; got {labels[gaps[0]]!r} at position "
            f"{gaps[0]}, {len(gaps)} such of {len(labels)}. Label those images, or drop them."
        )
    kinds = [isinstance(label, str) for label in labels]
    if not all(kinds):
        # The odd one out is the mistake: one name among numbers, or the other way round.
        some_text = any(kinds)
        position = kinds.index(some_text and 2 * sum(kinds) < len(kinds))
        raise InvalidTypeError(
            f"`{name}` must hold a class name for each image (or numbers alone); got "
            f"{labels[position]!r} at position {position}. Correct that label, or convert all."
        )
    return labels.astype(np.str_)


def _integers(labels: NDArray[Any], name: str) -> NDArray[Any]:
    numbers = np.array(labels.tolist())
    if numbers.dtype.kind not in "iub":  # beyond 64 bits they stay objects, or become floats
        raise InvalidInputError(
            f"`{name}` must hold class numbers that fit 64 bits; got {max(labels, key=abs)}. "
            "Number classes from 0."
        )
    return numbers


def _is_gap(label: object) -> bool:
    """Return whether an object stands for no label: None, NaN, pandas' NA and NaT."""
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(label, float) and label != label


def _numbers_of(labels: NDArray[Any], names: Sequence[str] | None, name: str) -> NDArray[np.int64]:
    if names is None:
        raise InvalidTypeError(
            f"`{name}` must hold class numbers, as no class names were given; got "
            f"{labels.tolist()[:1]}. Pass `class_names=`, in the order of the class embeddings."
        )
    check_distinct(names)
    number = {one: i for i, one in enumerate(names)}
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
