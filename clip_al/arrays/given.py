"""What a caller hands over becomes an array here, or an error of ours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.foreign import plain, readable
from clip_al.errors import ClipAlError, InvalidInputError, InvalidTypeError

MOST_CLASSES = 2**24
"""Classes, concepts and groups are counted in arrays: more than this are ids, not numbers."""


def array_of(value: Any, name: str, dtype: Any = None) -> NDArray[Any]:
    """Return `value` as an array, without a copy where it is one.

    Parameters
    ----------
    value : array-like
        Whatever NumPy takes: arrays, memory maps, nested sequences; and what `readable` makes
        of pandas, Arrow, tensors and sparse arrays.
    name : str
        What the caller calls it, for the message.
    dtype : dtype, optional
        That it is converted to.

    Raises
    ------
    InvalidTypeError
        Where it is no array: rows of different lengths, text where numbers are wanted.
    InvalidInputError
        Where an entry is masked.

    Examples
    --------
    >>> array_of([1, 2], "y", np.float32)
    array([1., 2.], dtype=float32)
    """
    if np.ma.is_masked(value):
        raise InvalidInputError(
            f"`{name}` must have no masked entries; got {np.ma.count_masked(value)}. Fill them, or "
            "leave those images out."
        )
    try:
        array: NDArray[Any] = plain(np.asanyarray(readable(value, name)))
        array = array if dtype is None else array.astype(dtype, copy=False)
    except ClipAlError:
        raise
    except Exception as exc:  # an object's own `__array__` raises anything
        wanted = "an array" if dtype is None else f"an array of {np.dtype(dtype)}"
        raise InvalidTypeError(
            f"`{name}` must be {wanted}, or nested sequences of equal lengths; NumPy says: {exc}. "
            "Convert it, for instance with `numpy.array`."
        ) from exc
    # A matrix stays 2-D whatever is taken of it; other kinds, as memory maps, stay what they are.
    return np.asarray(array) if isinstance(array, np.matrix | np.ma.MaskedArray) else array


def whole_numbers(value: Any, name: str, n: int, low: int = 0) -> NDArray[np.int64]:
    """Return a 1-D array of n whole numbers of at least `low` and of a size that can be counted.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where it is not, with the first number that is out of range.
    """
    array = array_of(value, name)
    if array.dtype.kind not in "iu" or array.shape != (n,):
        raise InvalidTypeError(
            f"`{name}` must hold one whole number for each of {n}; got shape {array.shape} and "
            f"dtype {array.dtype}. Pass a 1-D array of ints."
        )
    # Compared before it is converted: a large unsigned number would turn negative.
    bad = array[(array < low) | (array >= MOST_CLASSES)]
    if bad.size:
        raise InvalidInputError(
            f"`{name}` must be in [{low}, {MOST_CLASSES - 1}]; got {bad[0]}. Number from 0."
        )
    return array.astype(np.int64, copy=False)


def check_kind(value: object, kinds: Any, name: str, remedy: str) -> None:
    """Raise unless a value is of one of some classes."""
    if not isinstance(value, kinds):
        asked = kinds if isinstance(kinds, tuple) else (kinds,)
        raise InvalidTypeError(
            f"`{name}` must be a {' or '.join(kind.__name__ for kind in asked)}; got "
            f"{type(value).__name__}. {remedy}"
        )


def method_of(value: object, method: str, name: str, remedy: str) -> Any:
    """Return a method of an object that only has to have it, such as an encoder."""
    found = getattr(value, method, None)
    if not callable(found):
        raise InvalidTypeError(
            f"`{name}` must have the method `{method}`; a {type(value).__name__} has none. {remedy}"
        )
    return found


def check_flag(value: object, name: str) -> bool:
    """Return True or False, of Python or NumPy, or 0 or 1, as a bool."""
    if isinstance(value, bool | np.bool_) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise InvalidTypeError(f"`{name}` must be True or False; got {value!r}. Choose one.")


def listed(
    values: Any, name: str, what: str = "a sequence", remedy: str = "Pass a list."
) -> list[Any]:
    """Return the entries of any iterable but a string as a list."""
    try:
        entries = None if isinstance(values, str | bytes) else list(values)
    except TypeError:
        entries = None
    if entries is None:
        raise InvalidTypeError(f"`{name}` must be {what}; got {values!r:.300}. {remedy}")
    return entries


def length_of(value: Any, name: str) -> int:
    """Return how many images a sequence, an array, sparse or not, or a table holds."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return int(shape[0])
    try:
        return len(value)
    except TypeError as exc:
        raise InvalidTypeError(
            f"`{name}` must be a sequence or an array, one entry an image; got a "
            f"{type(value).__name__}. Pass a list, for instance."
        ) from exc


def labels_of(value: Any, name: str) -> NDArray[Any]:
    """Return labels as an array; bytes become text, and nothing of a text is lost on the way.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where it is no array, bytes are not UTF-8, or a text ends in a NUL character.
    """
    array = array_of(value, name)
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError as exc:
            raise InvalidInputError(
                f"`{name}` must hold UTF-8 where it holds bytes; {exc}. Decode it first."
            ) from exc
    # An array of text has lost them already.
    if array.dtype.kind in "OU" and not (isinstance(value, np.ndarray) and value.dtype.kind == "U"):
        refuse_nul(value if array.ndim else (), name)
    return array


def refuse_nul(texts: Any, name: str) -> None:
    r"""Raise where a text ends in NUL characters, which NumPy drops: "a" and "a\0" would be one."""
    for text in texts:
        if isinstance(text, str) and text.endswith("\0"):
            raise InvalidInputError(
                f"`{name}` must hold no text that ends in a NUL character; got {text!r}. Strip it."
            )
