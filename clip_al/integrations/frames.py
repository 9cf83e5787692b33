"""pandas and Arrow: embeddings out of frames, selections back into them.

    DataFrame, pyarrow Table ──embeddings_of──▶ array      Selection ──join_selection──▶ DataFrame

pyarrow is imported where it is needed. Files: see `parquet`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clip_al.arrays.checks import check_embeddings
from clip_al.errors import InvalidInputError, InvalidTypeError, missing_extra

if TYPE_CHECKING:
    from clip_al.subset.selection import Selection


def embeddings_of(frame: Any, column: str | Sequence[str] = "embedding") -> NDArray[Any]:
    """Return the embeddings in a frame as one array.

    Parameters
    ----------
    frame : DataFrame or pyarrow Table
        Not modified.
    column : str or sequence of str
        A column of lists of one length, or, in a DataFrame, one column per dimension.

    Returns
    -------
    ndarray of shape (n, d), float
        A read-only view where the frame holds the numbers in one piece: adjacent columns of
        one dtype, or a list column of Arrow's in one chunk. Otherwise copied, once.

    Raises
    ------
    InvalidInputError
        Where a column or a value is missing, lists differ in length, or a row is not finite.
    InvalidTypeError
        Where the column holds no lists of numbers, or `frame` is neither of the two.

    Notes
    -----
    O(n d) time. Rows need not be of unit length, as everywhere but in an `EmbeddingTable`.
    """
    if not isinstance(frame, pd.DataFrame) and not hasattr(frame, "column_names"):
        raise InvalidTypeError(
            f"`frame` must be a DataFrame or a pyarrow Table; got {type(frame).__name__}. Pass "
            "files to `clip_al.integrations.parquet.table_from_parquet`."
        )
    if isinstance(column, str):
        check_columns(_names(frame), [column])
        return check_embeddings(_of_lists(frame[column], column), f"column {column}")
    if not isinstance(frame, pd.DataFrame):
        raise InvalidTypeError(
            "Of a pyarrow Table, `column` must name one column of lists; got several. Pass "
            "`table.to_pandas()`."
        )
    check_columns(_names(frame), column)
    at = frame.columns.get_indexer(pd.Index(column))
    adjacent = bool((np.diff(at) == 1).all())
    part = frame.iloc[:, at[0] : at[-1] + 1] if adjacent else frame[list(column)]
    return check_embeddings(part.to_numpy(), f"columns {column[0]} …")


def join_selection(
    frame: pd.DataFrame, selection: Selection, *, id_column: str = "id", prefix: str = ""
) -> pd.DataFrame:
    """Return a frame with what a selection says of each row's image.

    Parameters
    ----------
    frame : DataFrame
        In any order, with several rows an image where it has them; not modified.
    selection : Selection
        With ids, each once.
    id_column : str
        Strings, or whole numbers, which are compared as text.
    prefix : str
        Before the name of each new column.

    Returns
    -------
    DataFrame
        The rows and index of `frame`, with the columns of `Selection.to_frame` but for the id.
        Images that the selection does not know have missing values, in ``selected`` too.

    Raises
    ------
    InvalidInputError
        Where the selection has no ids, none is in the frame, or a new column is there already.
    """
    if selection.ids is None or len(set(selection.ids)) < len(selection.ids):
        what = "no ids" if selection.ids is None else "one id twice"
        raise InvalidInputError(
            f"The selection must name each image once; it has {what}. Pass `ids=` to select."
        )
    check_columns(_names(frame), [id_column])
    told = selection.to_frame().drop(columns="id").add_prefix(prefix)
    there = [name for name in told.columns if name in frame.columns]
    if there:
        raise InvalidInputError(
            f"The new columns must not be there; {there[0]!r} is. Rename it, or pass `prefix=`."
        )
    names = [str(name) for name in frame[id_column]]
    at = pd.Index(selection.ids).get_indexer(pd.Index(names, dtype=object))
    if (at < 0).all():
        raise InvalidInputError(
            f"The column `{id_column}` must hold ids of the selection, such as "
            f"{selection.ids[0]!r}; it knows none of {', '.join(map(repr, names[:3])) or 'none'}. "
            "Convert them."
        )
    told = told.reindex(at)
    if (at < 0).any():
        told[f"{prefix}selected"] = told[f"{prefix}selected"].astype("boolean")
    return pd.concat([frame, told.set_axis(frame.index)], axis=1)


def _of_lists(values: Any, column: str) -> NDArray[Any]:
    """Return a column of lists as an array."""
    if isinstance(values, pd.Series) and not isinstance(values.dtype, pd.ArrowDtype):
        return _in_one(np.stack, values.to_list(), column)
    if isinstance(values, pd.Series):
        values = pyarrow_module("").chunked_array(values)
    parts = [list_rows(chunk, column) for chunk in values.chunks if len(chunk)]
    return parts[0] if len(parts) == 1 else _in_one(np.concatenate, parts, column)


def _names(frame: Any) -> list[str]:
    return list(frame.columns if isinstance(frame, pd.DataFrame) else frame.column_names)


def _in_one(
    join: Callable[[list[Any]], NDArray[Any]], parts: list[Any], column: str
) -> NDArray[Any]:
    try:
        return join(parts)
    except (TypeError, ValueError) as exc:
        raise InvalidInputError(
            f"The column `{column}` must hold lists of one length, at least one; {exc}. Leave out "
            "images without one, and encode all with one model."
        ) from exc


def list_rows(chunk: Any, column: str) -> NDArray[Any]:
    """Return an Arrow array of lists of floats as a view, (rows, d)."""
    types, compute = pyarrow_module("types"), pyarrow_module("compute")
    chunk = getattr(chunk, "storage", chunk)  # of an extension type, such as a tensor
    kind = chunk.type
    is_list = types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)
    if not is_list or not types.is_floating(kind.value_type):
        raise InvalidTypeError(
            f"The column `{column}` must hold lists of floats; got {kind}. Name the column of the "
            "embeddings."
        )
    flat = chunk.flatten()
    n_missing = chunk.null_count + flat.null_count
    lengths = compute.list_value_length(chunk).unique().to_pylist()
    if n_missing or len(lengths) != 1:
        raise InvalidInputError(
            f"The column `{column}` must hold lists of one length; got {n_missing} missing values "
            f"and the lengths {lengths[:5]}. Leave out images without one, and encode all with "
            "one model."
        )
    rows: NDArray[Any] = flat.to_numpy(zero_copy_only=True).reshape(len(chunk), -1)
    return rows


def check_columns(present: Sequence[str], names: Sequence[str]) -> None:
    """Raise an error that names the columns there are, where one is missing."""
    missing = [name for name in names if name not in present]
    if missing or not names:
        what = f"The column {missing[0]!r} must be there" if missing else "Name a column"
        raise InvalidInputError(
            f"{what}; got {', '.join(map(repr, present[:20])) or 'none'}. Name those of yours."
        )


def pyarrow_module(part: str) -> Any:
    """Return pyarrow, or a part of it."""
    try:
        return importlib.import_module(f"pyarrow.{part}" if part else "pyarrow")
    except ImportError as exc:
        raise missing_extra("Arrow and Parquet need pyarrow", "parquet") from exc
