"""What `ClipClassifier` is given, checked: class names, images, labels, weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_embeddings
from clip_al.arrays.given import array_of, labels_of
from clip_al.arrays.labels import Names, encode_labels, ordered_names
from clip_al.arrays.types import Embeddings, as_array
from clip_al.errors import InvalidInputError, InvalidTypeError, ModelMismatchError


def check_names(class_names: Names, *, distinct: bool = True) -> list[str]:
    """Return class names as a list, in the order of their numbers; see `ordered_names`."""
    names = list(ordered_names(class_names))
    if not names:
        raise InvalidTypeError(
            f"`class_names` must be a sequence of strings; got {class_names!r}. Pass one name a "
            "class."
        )
    twice = next((name for name in names if names.count(name) > 1), None) if distinct else None
    if twice is not None:
        raise InvalidInputError(
            f"`class_names` must be distinct where labels are names; got {twice!r} more than once. "
            "Merge the classes, say what tells them apart, or pass class numbers as labels."
        )
    return names


def check_images(Z: Embeddings, width: int | None) -> NDArray[Any]:
    """Return the embeddings of images, none as well, still in their own type."""
    Z = as_array(Z)
    shape = np.shape(Z)
    if len(shape) == 2 and shape[0] == 0 and shape[1]:
        array = np.empty(shape)
    else:
        array = check_embeddings(Z, "Z", finite=False)
    if width is not None and array.shape[1] != width:
        raise ModelMismatchError(
            f"`Z` must have {width} columns, as the classes; got {array.shape[1]}. Encode both "
            "with one model."
        )
    return array


def order_classes(
    y: ArrayLike | None,
    text_emb_kd: NDArray[Any] | None,
    *,
    classes: ArrayLike | None,
    class_names: Names | None,
    multi_label: bool,
) -> NDArray[Any]:
    """Return all classes in the order of the columns, in the type of the labels."""
    labels = np.empty(0, dtype=object) if y is None else labels_of(y, "y")
    if classes is not None:
        listed = labels_of(classes, "classes")
        k = len(listed) if text_emb_kd is None else len(text_emb_kd)
        if listed.shape != (k,) or len(np.unique(listed)) != k:
            raise InvalidInputError(
                f"`classes` must hold {k} distinct labels, one a class; got {listed.tolist()!r}. "
                "List them in the order of the class names or embeddings."
            )
        return listed
    if text_emb_kd is not None:
        if class_names is None or (labels.dtype.kind in "iub" and not multi_label):
            return np.arange(len(text_emb_kd))
        return np.array(check_names(class_names))
    if multi_label:
        return np.arange(labels.shape[1] if labels.ndim == 2 else 0)
    return np.unique(labels)


def encode_targets(
    y: ArrayLike, n: int, classes: NDArray[Any], multi_label: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return labels as an indicator matrix, and as numbers to draw folds by."""
    k = len(classes)
    if multi_label:
        target_nk = array_of(y, "y")
        right = target_nk.shape == (n, k) or (not n and not target_nk.size)
        if not right or not np.isin(target_nk, (0, 1)).all():
            raise InvalidInputError(
                f"`y` must be of shape ({n}, {k}) and hold zeros and ones with multi_label=True; "
                f"got shape {target_nk.shape}. Set 1 for each class that an image shows."
            )
        target_nk = target_nk.reshape(n, k).astype(np.float64)
        return target_nk, target_nk.argmax(axis=1) if n else np.empty(0, dtype=np.int64)
    labels = labels_of(y, "y")
    if not n and not labels.size:
        return np.zeros((0, k)), np.empty(0, dtype=np.int64)
    if classes.dtype.kind in "iub" and not np.array_equal(classes, np.arange(k)):
        place = {value: i for i, value in enumerate(classes.tolist())}
        at = next((i for i, value in enumerate(labels.tolist()) if value not in place), None)
        if at is not None:
            raise InvalidInputError(
                f"`y` must hold labels of `classes`; got {labels.tolist()[at]!r} at position {at}. "
                "Add the class, or correct the label."
            )
        labels = np.array([place[value] for value in labels.tolist()], dtype=np.int64)
    names = None if classes.dtype.kind in "iub" else [str(name) for name in classes]
    if names is not None and labels.dtype.kind in "iub":
        raise InvalidTypeError(
            f"`y` must hold labels of `classes`, which are text; got dtype {labels.dtype}. Pass "
            "the labels themselves, or leave `classes` out."
        )
    code_n = encode_labels(labels, n_images=n, n_classes=k, class_names=names)
    return np.eye(k)[code_n], code_n


def check_weights(sample_weight: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return the weight of each image; ones where none are given."""
    if sample_weight is None:
        return np.ones(n)
    weight_n = array_of(sample_weight, "sample_weight", np.float64)
    if weight_n.shape != (n,) or not np.isfinite(weight_n).all() or (weight_n < 0).any():
        raise InvalidInputError(
            f"`sample_weight` must hold {n} finite numbers of at least 0, one an image; got shape "
            f"{weight_n.shape}. Pass ones where all count alike."
        )
    return weight_n
