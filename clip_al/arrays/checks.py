"""Validation of arrays and numbers at the public boundary.

Each check returns its value in the form that the kernels trust, never modifies it, and
copies only where the type must change.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.blocks import block_rows
from clip_al.arrays.given import array_of
from clip_al.arrays.types import Embeddings, as_array
from clip_al.errors import InvalidInputError, InvalidTypeError, not_finite

SUM_TOLERANCE = 1e-2
"""How far the sum of a row of probabilities may be from 1."""
MOST_ROUNDING = 0.1
"""How far at most where the numbers are rounded."""


def check_embeddings(
    X: Embeddings, name: str = "X", *, width: int | None = None, finite: bool = True
) -> NDArray[Any]:
    """Return `X` as a non-empty 2-D array of finite floats; float arrays are not copied.

    Parameters
    ----------
    X : array-like, EmbeddingTable or DeviceEmbeddings of shape (n, d)
        One row an image; a memory-mapped array stays one, and so do rows on a device.
    name : str
        What the caller calls it, for the messages.
    width : int, optional
        The number of columns that it must have.
    finite : bool
        Whether to look for NaN and infinity here; `unit_block` does it on the way.

    Raises
    ------
    InvalidInputError
        Where `X` is not 2-D, is empty, has another width, or holds NaN or infinity.
    InvalidTypeError
        Where `X` does not hold numbers.

    Notes
    -----
    One pass over `X` in blocks; O(n d) time, O(block) memory.
    """
    given = as_array(X)
    on_device = getattr(given, "is_on_device", False)  # looked at when they were sent there
    array: NDArray[Any] = given if on_device else array_of(given, name)
    if array.dtype.kind not in "fiu":
        raise InvalidTypeError(
            f"`{name}` must hold numbers, one row an image; got dtype {array.dtype}. "
            "Encode the images first, with `ClipEncoder.encode_images`."
        )
    if 0 in array.shape and array.ndim <= 2:
        raise InvalidInputError(
            f"`{name}` must hold at least one image; got shape {array.shape}. "
            "Stop the loop when the pool is used up."
        )
    if array.ndim != 2:
        raise InvalidInputError(
            f"`{name}` must be 2-D, (images, features); got shape {array.shape}. "
            f"Reshape it{'; one image is `' + name + '[None, :]`' if array.ndim == 1 else ''}."
        )
    if width is not None and array.shape[1] != width:
        raise InvalidInputError(
            f"`{name}` must have {width} columns; got {array.shape[1]}. Encode both with one model."
        )
    if array.dtype.kind != "f":
        array = array.astype(np.float32)
    elif array.dtype.itemsize > 8:  # of more digits than any function takes
        array = array.astype(np.float64)
    if finite and not on_device:
        check_finite(array, name)
    return array


def check_host_embeddings(T: Embeddings, name: str, *, width: int | None = None) -> NDArray[Any]:
    """Return embeddings as `check_embeddings` does, in memory also where they were on a device."""
    array = check_embeddings(T, name, width=width)
    return array[:] if getattr(array, "is_on_device", False) else array


def check_finite(array: NDArray[Any], name: str) -> None:
    """Raise an error that names the first rows of a 2-D array that hold NaN or infinity."""
    step = block_rows(array.shape[1], array.itemsize)
    for start in range(0, array.shape[0], step):
        block = array[start : start + step]
        # A finite sum proves finite entries at the cost of one addition each; only a
        # block whose sum is not finite (rarely: overflow) is looked at entry by entry.
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(block.sum(dtype=np.float64)):
                continue
        bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if bad.size:
            raise not_finite(name, [start + int(row) for row in bad])


def check_probabilities(probabilities: ArrayLike, *, n_images: int | None = None) -> NDArray[Any]:
    """Return class probabilities as a 2-D float array whose rows sum to 1, read in blocks.

    Parameters
    ----------
    probabilities : array-like of shape (n, k)
        One row an image, one column a class.
    n_images : int, optional
        The number of rows that it must have.

    Returns
    -------
    ndarray of shape (n, k), float
        `probabilities` itself, or a copy where `renormalised` changed rows.
    """
    array = check_probability_shape(probabilities, n_images=n_images)
    step, checked = max(1, block_rows(array.shape[1]) // 16), array
    for start in range(0, len(array), step):
        rows = slice(start, start + step)
        block, given = probability_block(array, rows), array[rows]
        if block.dtype == given.dtype and block is not given and not np.shares_memory(block, given):
            checked = array.copy() if checked is array else checked
            checked[rows] = block
    return checked


def check_probability_shape(
    probabilities: ArrayLike, *, n_images: int | None = None
) -> NDArray[Any]:
    """Do the part of `check_probabilities` that reads no numbers."""
    array = array_of(probabilities, "probabilities")
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] == 0:
        raise InvalidInputError(
            "`probabilities` must be a 2-D array of numbers, (images, classes); got shape "
            f"{array.shape} and dtype {array.dtype}. Pass what `predict_proba` returns."
        )
    if n_images is not None and array.shape[0] != n_images:
        raise InvalidInputError(
            f"`probabilities` must have one row for each of the {n_images} images; got "
            f"{array.shape[0]}. Predict on the same pool, in the same order."
        )
    if array.shape[0] == 0:
        raise InvalidInputError(
            "`probabilities` must hold at least one image; got none. Pass a non-empty pool."
        )
    if array.dtype not in (np.float16, np.float32, np.float64):  # whole numbers, byte order
        array = array.astype(np.float64)
    return array


def probability_block(array: NDArray[Any], rows: slice) -> NDArray[Any]:
    """Return some rows of probabilities as float32 or float64, checked."""
    block = array[rows]
    if block.dtype == np.float16:
        block = block.astype(np.float32)
    # einsum sums a narrow row several times faster than ndarray.sum(axis=1) does.
    sum_b = np.einsum("ij->i", block, dtype=np.float64)
    off_b = np.abs(sum_b - 1.0)
    low = float(block.min())
    if low >= -1e-6 and off_b.max() <= SUM_TOLERANCE:  # neither holds where a number is NaN
        return block
    if low >= 0:
        rounded = renormalised(block, sum_b)
        if rounded is not None:
            return rounded
    bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
    if bad.size:
        raise not_finite("probabilities", [(rows.start or 0) + int(row) for row in bad])
    worst = int(np.argmax(off_b))
    what = (
        f"a value of {low:.4g}"
        if low < -1e-6
        else f"row {(rows.start or 0) + worst}, which sums to {sum_b[worst]:.4g}"
    )
    several = ""
    if low >= 0 and block.max() <= 1:
        several = " Where an image may have several labels, pass `multi_label=True`."
    raise InvalidInputError(
        f"`probabilities` must be at least 0 and each row must sum to 1; got {what}. "
        f"Apply a softmax to logits, and normalise scores.{several}"
    )


def renormalised(prob_bk: NDArray[Any], sum_b: NDArray[np.float64]) -> NDArray[Any] | None:
    """Return rows that rounding took away from a sum of 1, brought back to it.

    Parameters
    ----------
    prob_bk : ndarray of shape (b, k), float
        At least 0.
    sum_b : ndarray of shape (b,), float
        The sum of each row.

    Returns
    -------
    ndarray of shape (b, k) or None
        A copy in which the rows whose sum is off by more than 0.01 are divided by it; None
        where one of them is off by more than rounding explains.

    Notes
    -----
    The rule: numbers with d decimals, d = 2, 3 or 4, each off by less than one unit of the last,
    whether rounded or cut off, are off by less than k 10⁻ᵈ together; so much is allowed, and
    never more than 0.1.

    Examples
    --------
    >>> renormalised(np.array([[0.34, 0.34, 0.34]]), np.array([1.02])).round(4)
    array([[0.3333, 0.3333, 0.3333]])
    >>> renormalised(np.array([[0.5, 0.6]]), np.array([1.1])) is None
    True
    """
    odd = np.flatnonzero(~(np.abs(sum_b - 1.0) <= SUM_TOLERANCE))
    rows = prob_bk[odd].astype(np.float64)
    for decimals in (2, 3, 4):
        scaled = rows * 10**decimals
        if np.allclose(scaled, np.round(scaled), rtol=0, atol=1e-3):
            allowed = min(rows.shape[1] * 10.0**-decimals, MOST_ROUNDING) + 1e-6
            if np.abs(sum_b[odd] - 1.0).max() > allowed:
                return None
            fixed = prob_bk.copy()
            fixed[odd] = rows / rows.sum(axis=1, keepdims=True)
            return fixed
    return None


def check_n_instances(n_instances: object, n_pool: int, name: str = "n_instances") -> int:
    """Return a budget as an int in [1, n_pool]."""
    number = _whole(n_instances, name)
    if n_pool == 0:
        raise InvalidInputError(
            "The pool must hold at least one image; got none. Stop the loop when it is used up."
        )
    if not 1 <= number <= n_pool:
        what = "Lower it" if number > n_pool else "Raise it"
        raise InvalidInputError(
            f"`{name}` must be in [1, {n_pool}], the size of the pool; got {number}. {what}."
        )
    return number


def check_indices(
    indices: ArrayLike, n: int, name: str = "indices", *, distinct: bool = True
) -> NDArray[np.int64]:
    """Return (distinct) positions in [0, n) as an int64 array; a boolean mask is converted."""
    array = array_of(indices, name)
    if array.dtype == np.bool_:
        if array.shape != (n,):
            raise InvalidInputError(
                f"`{name}`, as a mask, must have shape ({n},); got {array.shape}. "
                "Make one entry for each image."
            )
        return np.flatnonzero(array).astype(np.int64)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InvalidTypeError(
            f"`{name}` must be a 1-D array of whole numbers or a boolean mask; got shape "
            f"{array.shape} and dtype {array.dtype}. Pass positions in the array of images."
        )
    array = array.astype(np.int64, copy=False)  # in this machine's byte order as well
    if array.size and (array.min() < 0 or array.max() >= n):
        bad = array[(array < 0) | (array >= n)][0]
        raise InvalidInputError(
            f"`{name}` must be in [0, {n - 1}], the positions of {n} images; got {bad}. "
            "Count from 0 in the array that was passed in."
        )
    if not distinct:
        return array
    # Counting is linear where np.unique sorts, but only pays off when n is not far larger.
    if array.size * 8 > n:
        repeated = np.flatnonzero(np.bincount(array, minlength=1) > 1)
    else:
        values, counts = np.unique(array, return_counts=True)
        repeated = values[counts > 1]
    if repeated.size:
        raise InvalidInputError(
            f"`{name}` must name each image once; got {repeated[0]} more than once. "
            "Remove the duplicates, for instance with `np.unique`."
        )
    return array


def check_choice(value: object, choices: Collection[str], name: str) -> str:
    """Return `value` if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise InvalidInputError(f"`{name}` must be one of {listed}; got {value!r}. Choose one.")
    return value


def check_int(value: object, name: str, *, smallest: int = 1, largest: int | None = None) -> int:
    """Return `value` as an int of at least `smallest` and at most `largest`."""
    number = _whole(value, name)
    if number < smallest or (largest is not None and number > largest):
        bound = f"at least {smallest}" if largest is None else f"in [{smallest}, {largest}]"
        raise InvalidInputError(f"`{name}` must be {bound}; got {number}. Change it.")
    return number


def check_seed(value: object, name: str = "random_state") -> int | None:
    """Return a seed as an int of at least 0, or None."""
    return None if value is None else check_int(value, name, smallest=0)


def check_number(
    value: object,
    name: str,
    *,
    low: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    high: float = math.inf,
) -> float:
    """Return `value` as a finite float of [low, high], beyond `above` and under `below`."""
    number = check_real(value, name)
    if not (low <= number <= high and above < number < below and math.isfinite(number)):
        limits = {"at least": low, "above": above, "below": below, "at most": high}
        bounds = [f", {word} {bound:g}" for word, bound in limits.items() if math.isfinite(bound)]
        raise InvalidInputError(
            f"`{name}` must be finite{''.join(bounds)}; got {value}. Change it."
        )
    return number


def check_count(value: object, name: str, most: int) -> int:
    """Return `value` as an int of at least 1, and of a size that fits a computer."""
    number = check_int(value, name)
    if number > most:
        raise InvalidInputError(f"`{name}` must be at most {most}; got {number}. Lower it.")
    return number


def check_real(value: object, name: str) -> float:
    """Return a number of any size as a float, infinity and NaN among them."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidTypeError(f"`{name}` must be a number; got {value!r}. Pass a float.")
    try:
        return float(value)
    except OverflowError as exc:  # an int
        raise InvalidInputError(
            f"`{name}` must be a number that a float can hold; got one of more digits. Change it."
        ) from exc


def _whole(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InvalidTypeError(f"`{name}` must be a whole number; got {value!r}. Pass an int.")
    return int(value)
