"""What a selection is made from: classes, groups, scores, settings, ids; checked, as arrays.

Arrays that a `Selection` keeps are read-only copies.
"""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_count, check_indices, check_number
from clip_al.arrays.given import MOST_CLASSES, array_of, check_kind, labels_of, listed
from clip_al.arrays.labels import Names, check_distinct, encode_labels, ordered_names
from clip_al.errors import InvalidInputError, InvalidTypeError, not_finite

TAKEN = ("index", "id", "selected", "given", "group")
"""Columns of `Selection.to_frame` that are no scores."""


class Groups(NamedTuple):
    """An attribute of each image: (n,) int64 codes, and what each code is called."""

    codes: NDArray[np.int64]
    names: tuple[str, ...]


def encode_groups(groups: ArrayLike | Groups, *, n_images: int, name: str = "groups") -> Groups:
    """Return an attribute as codes and names, numbered in ascending order of the values.

    Examples
    --------
    >>> encode_groups(["night", "day", "night"], n_images=3)
    Groups(codes=array([1, 0, 1]), names=('day', 'night'))
    """
    if isinstance(groups, Groups):
        values, names = array_of(groups.codes, name), tuple(map(str, groups.names))
    else:
        values, names = labels_of(groups, name), ()
    if values.shape != (n_images,):
        raise InvalidInputError(
            f"`{name}` must have one entry for each of the {n_images} images; got shape "
            f"{values.shape}. Pass the attribute of the same images, in the same order."
        )
    if isinstance(groups, Groups):
        codes = encode_labels(values, n_images=n_images, n_classes=len(names), name=name)
        return Groups(frozen(codes), names)
    mixed = values.dtype == object and not all(isinstance(value, str) for value in values)
    if values.dtype.kind not in "OUiub" or mixed:
        raise InvalidTypeError(
            f"`{name}` must hold names or whole numbers; got dtype {values.dtype}. Convert it, "
            "for instance with `astype(str)`, and name what is missing."
        )
    distinct, codes = np.unique(values, return_inverse=True)
    return Groups(frozen(codes.astype(np.int64)), tuple(map(str, distinct.tolist())))


def encode_classes(
    y: ArrayLike,
    *,
    n_images: int,
    n_classes: int | None = None,
    class_names: Names | None = None,
) -> tuple[NDArray[np.int64], int, tuple[str, ...] | None]:
    """Return labels as numbers, how many classes there are, and their names where known.

    Without `n_classes` and `class_names`, the classes are those that occur: names in
    ascending order, or numbers up to the largest.
    """
    names = check_names(class_names)
    values = labels_of(y, "y")
    if names is None and _is_text(values):
        names = tuple(np.unique(values.astype(str)).tolist())
    if names is not None and n_classes not in (None, len(names)):
        raise InvalidInputError(
            f"`class_names` must name each of the {n_classes} classes; got {len(names)} names. "
            "Pass one a class, in the order of the class numbers."
        )
    if n_classes is None:
        numbers = names is None and values.size and values.dtype.kind in "iub"
        n_classes = max(0, int(values.max())) + 1 if numbers else len(names or ())
        if n_classes > MOST_CLASSES:
            raise InvalidInputError(
                f"`y` must be below {MOST_CLASSES} where it holds class numbers; got {values.max()}"
                ". Number the classes from 0: these are ids."
            )
    else:
        n_classes = check_count(n_classes, "n_classes", MOST_CLASSES)
    codes = encode_labels(y, n_images=n_images, n_classes=n_classes, class_names=names)
    return codes, n_classes, names


def _is_text(labels: NDArray[Any]) -> bool:
    if labels.dtype.kind == "O":
        return any(isinstance(label, str) for label in labels.ravel())
    return labels.dtype.kind in "UT"


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only copy."""
    copy = array.copy()
    copy.setflags(write=False)
    return copy


def check_chosen(indices: ArrayLike, n: int) -> NDArray[np.int64]:
    """Return the positions of the chosen images: at least one, ascending."""
    array = check_indices(indices, n)
    if array.size == 0:
        raise InvalidInputError("A selection must hold at least one image; got none. Choose one.")
    if (np.diff(array) < 0).any():
        raise InvalidInputError(
            "`indices` must be in ascending order; got others. Use `Selection.from_indices`."
        )
    return array


def check_scores(scores: Mapping[str, Any], n: int) -> dict[str, NDArray[Any]]:
    """Return scores of all images as read-only arrays of one byte order."""
    if not isinstance(scores, Mapping):
        raise InvalidTypeError(
            f"`scores` must be a mapping of names to scores; got {type(scores).__name__}. Pass "
            "{'sas': scores}, for instance."
        )
    checked: dict[str, NDArray[Any]] = {}
    for name, values in scores.items():
        if not isinstance(name, str) or name in TAKEN:
            raise InvalidInputError(
                f"A score's name must be text and none of {', '.join(TAKEN)}, the other columns "
                f"of `to_frame`; got {name!r}. Call it otherwise."
            )
        array = array_of(values, f"scores[{name!r}]")
        if array.shape != (n,) or array.dtype.kind not in "fiu":
            raise InvalidInputError(
                f"`scores[{name!r}]` must be one number for each of the {n} images; got shape "
                f"{array.shape} and dtype {array.dtype}. Score all images, chosen or not."
            )
        # One byte order, so that a fingerprint is the same everywhere; extended floats have none.
        dtype = array.dtype.newbyteorder("<")
        if array.dtype.kind in "iu":
            dtype = np.dtype(np.int64)
        elif array.dtype.itemsize > 8:
            dtype = np.dtype(np.float64)
        checked[str(name)] = frozen(array.astype(dtype))
    if "likeliest" in checked and checked["likeliest"].dtype != np.int64:
        raise InvalidTypeError(
            "`scores['likeliest']` must hold class numbers; got dtype "
            f"{checked['likeliest'].dtype}. Pass what `argmax` over the classes returns."
        )
    return checked


def check_likeliest(scores: Mapping[str, NDArray[Any]], names: tuple[str, ...] | None) -> None:
    """Raise where the likeliest class of an image is none of the classes."""
    likeliest_n = scores.get("likeliest")
    if likeliest_n is None:
        return
    most = MOST_CLASSES if names is None else len(names)
    bad = likeliest_n[(likeliest_n < 0) | (likeliest_n >= most)]
    if bad.size:
        raise InvalidInputError(
            f"`scores['likeliest']` must be in [0, {most - 1}], the numbers of the classes; got "
            f"{bad[0]}. Pass what `argmax` over the classes returns."
        )


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as JSON gives them back."""
    check_kind(settings, Mapping, "settings", "Pass a dict.")
    try:
        text = json.dumps(dict(settings), default=_to_plain, allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise InvalidTypeError(
            f"`settings` must hold what JSON can hold; {exc}. Pass numbers, strings, lists and "
            "mappings."
        ) from exc
    plain: dict[str, Any] = json.loads(text)
    return plain


def _to_plain(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is not")


def check_names(names: Names | None, *, distinct: bool = False) -> tuple[str, ...] | None:
    """Return the names of classes in the order of their numbers; see `ordered_names`.

    Two classes may share a name, as their numbers tell them apart, unless `distinct`.
    """
    if names is None:
        return None
    ordered = ordered_names(names)
    if distinct:
        check_distinct(ordered)
    return ordered


def check_labels(
    labels: ArrayLike | None, n: int, names: tuple[str, ...] | None
) -> NDArray[np.int64] | None:
    """Return class numbers as a read-only array."""
    if labels is None:
        return None
    codes, _, _ = encode_classes(labels, n_images=n, class_names=names)
    return frozen(codes)


def check_ids(ids: Iterable[object], n: int) -> NDArray[np.object_]:
    """Return ids as a read-only array of strings."""
    names = [str(value) for value in listed(ids, "ids")]
    if len(names) != n:
        raise InvalidInputError(
            f"`ids` must name each of the {n} images; got {len(names)}. Pass one an image."
        )
    array = np.empty(n, dtype=object)
    array[:] = names
    array.setflags(write=False)
    return array


def check_score(score: ArrayLike, name: str) -> NDArray[Any]:
    """Return one score of all images, of its own float type, as a 1-D array without NaN."""
    array = array_of(score, name)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "fiu":
        raise InvalidInputError(
            f"`{name}` must be a 1-D array of numbers, one an image, of at least one; got shape "
            f"{array.shape} and dtype {array.dtype}. Pass what the score returned."
        )
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise not_finite(name, bad.tolist())
    return array


def check_ratio(ratio: object, n: int) -> int:
    """Return how many images a ratio of n is: the nearest, halves up."""
    value = check_number(ratio, "ratio")
    if not 0 < value <= 1:
        raise InvalidInputError(
            f"`ratio` must be in (0, 1], a share of the images; got {ratio}. Pass 0.3 for 30 %."
        )
    n_wanted = math.floor(value * n + 0.5)
    if n_wanted == 0:
        raise InvalidInputError(
            f"`ratio` must select at least one of the {n} images; {ratio} selects none. Raise "
            f"it to {1 / n:.2g} or more."
        )
    return n_wanted


def check_alpha(alpha: object) -> float | str:
    """Return the weight of SDS: a number, or "ratio" for the share that is chosen.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where it is neither.

    Examples
    --------
    >>> check_alpha(0), check_alpha("ratio")
    (0.0, 'ratio')
    """
    if isinstance(alpha, str) and alpha == "ratio":
        return alpha
    if isinstance(alpha, bool) or not isinstance(alpha, numbers.Real):
        error = InvalidInputError if isinstance(alpha, str) else InvalidTypeError
        raise error(
            f"`alpha` must be a number or 'ratio', the share that is chosen; got {alpha!r}. Pass "
            "0 to leave SDS out."
        )
    return check_number(alpha, "alpha")
