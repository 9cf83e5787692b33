"""Arrays of other libraries, in a form that NumPy reads without loss: pandas, Arrow, torch, SciPy.

Nothing is imported for them: what a value is, its class says.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.errors import InvalidInputError, InvalidTypeError


def readable(value: Any, name: str) -> Any:
    """Return a value of another library as NumPy reads it; any other as it is.

    Tensors are detached and copied to the CPU, bfloat16 as float32; sparse arrays become dense.
    Of pandas and Arrow, numbers that may be missing keep their type where none is, and are
    floats with NaN otherwise. A column of rows of equal lengths becomes 2-D. Other data frames
    are read by the dataframe protocol.

    Raises
    ------
    InvalidTypeError
        Where a tensor has no values that can be copied.
    InvalidInputError
        Where rows of an Arrow column have several lengths, or one is missing.
    """
    library = type(value).__module__.partition(".")[0]
    if library == "torch" and hasattr(value, "detach"):
        return _of_torch(value, name)
    if library == "pandas":
        return _of_pandas(value)
    if library == "pyarrow":
        return _of_arrow(value, name)
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        return value.toarray()
    if hasattr(value, "__dataframe__") and not hasattr(value, "__array__"):
        import warnings

        from pandas.api.interchange import from_dataframe

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas 3 asks developers for another protocol
            return _of_pandas(from_dataframe(value))
    return value


def plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of objects as one of numbers or of rows, where all are; text as objects.

    Examples
    --------
    >>> plain(np.array([1, 2], dtype=object))
    array([1, 2])
    """
    if array.dtype.kind == "T":  # NumPy's StringDType: a missing entry is then an object
        return array.astype(object)
    if array.dtype.kind != "O" or not array.size:
        return array
    first = array.flat[0]
    if isinstance(first, np.ndarray | list | tuple):
        lengths = {len(row) if isinstance(row, np.ndarray | list | tuple) else -1 for row in array}
        return np.array(array.tolist()) if len(lengths) == 1 else array
    for kind in (numbers.Integral, numbers.Real):
        if all(isinstance(one, kind) and not isinstance(one, bool) for one in array.flat):
            found = np.array(array.tolist())
            # A missing number stays an object, so that the message can say where it is.
            return found if found.dtype.kind in "iu" or np.isfinite(found).all() else array
    return array


def _of_torch(value: Any, name: str) -> NDArray[Any]:
    try:
        tensor = value.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":
            tensor = tensor.float()
        if str(tensor.layout) != "torch.strided":
            tensor = tensor.to_dense()
        array: NDArray[Any] = tensor.numpy()
    except (RuntimeError, TypeError, NotImplementedError) as exc:
        raise InvalidTypeError(
            f"`{name}` must be an array, or a tensor that NumPy can read; got one of {value.dtype} "
            f"on {value.device}. Convert it, for instance with `.float().cpu()`."
        ) from exc
    return array


def _of_pandas(value: Any) -> Any:
    """Return numbers of nullable types as numbers; all else as it is."""
    is_frame = hasattr(value, "columns")
    dtypes = list(value.dtypes) if is_frame else [getattr(value, "dtype", None)]
    plain_types = [getattr(dtype, "numpy_dtype", dtype) for dtype in dtypes]
    nullable = any(one is not dtype for one, dtype in zip(plain_types, dtypes, strict=True))
    if not nullable or not all(getattr(one, "kind", "O") in "iufb" for one in plain_types):
        return value
    wanted = np.result_type(*plain_types)
    missing = value.isna()
    if bool(np.asarray(missing).any()):
        return value.to_numpy(dtype=np.result_type(wanted, np.float32), na_value=np.nan)
    return value.to_numpy(dtype=wanted)


def _of_arrow(value: Any, name: str) -> Any:
    if hasattr(value, "to_pandas") and hasattr(value, "columns"):  # a table
        return _of_pandas(value.to_pandas())
    if not hasattr(value, "to_numpy"):
        return value
    if not hasattr(value.type, "value_field"):
        return value.to_pandas() if hasattr(value.type, "index_type") else _numpy_of(value)
    n, flat = len(value), _numpy_of(value.combine_chunks() if hasattr(value, "chunks") else value)
    lengths = {-1 if row is None else len(row) for row in flat}
    if len(lengths) > 1 or -1 in lengths:
        raise InvalidInputError(
            f"`{name}` must have rows of one length; got {len(lengths)} lengths in {n} rows, a "
            "missing row counted as one. Leave out what is missing."
        )
    return np.stack(list(flat)) if n else np.empty((0, 0))


def _numpy_of(value: Any) -> NDArray[Any]:
    array: NDArray[Any] = (
        value.to_numpy() if hasattr(value, "chunks") else value.to_numpy(zero_copy_only=False)
    )
    return array
