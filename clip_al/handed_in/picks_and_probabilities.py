"""What people hand over in files: ids of images, probabilities; and the selection they get.

Rows of a file are matched to the images of a table by id; without ids, by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clip_al.arrays.checks import check_indices, check_probabilities
from clip_al.encode.table import EmbeddingTable
from clip_al.errors import InvalidInputError
from clip_al.label.concept_sampling import PickExplanation


def read_indices(path: str | Path, table: EmbeddingTable, name: str) -> NDArray[np.int64]:
    """Read which images of a table a file names.

    Parameters
    ----------
    path : str or Path
        A text or CSV file: a column ``id``, or a column ``index`` of positions, or, without
        a header, one id a line; or .npy with positions.
    table : EmbeddingTable
        What the ids and positions belong to.
    name : str
        The option that the file was passed to, for the messages.

    Returns
    -------
    ndarray of shape (n,), int64
        Distinct positions, in the order of the file.
    """
    if Path(path).suffix == ".npy":
        return check_indices(load_npy(path), len(table), name)
    lines = read_csv(path)
    if "id" in lines.columns:
        return check_indices(table.index_of(lines["id"].tolist()), len(table), name)
    if "index" in lines.columns:
        values = pd.to_numeric(lines["index"], errors="coerce")
        if values.isna().any() or (values % 1 != 0).any():
            bad = lines["index"][values.isna() | (values % 1 != 0)].iloc[0]
            raise InvalidInputError(
                f"The column `index` of {path} must hold whole numbers; got {bad!r}. "
                "Use a column `id` for names."
            )
        return check_indices(values.to_numpy(dtype=np.int64), len(table), name)
    if len(lines.columns) > 1:
        raise InvalidInputError(
            f"{path} must have a column `id` or `index`, or be one id a line; got the columns "
            f"{', '.join(map(str, lines.columns))}. Name the column of ids `id`."
        )
    # No header: the first line is an id like the others.
    ids = [str(lines.columns[0]), *lines.iloc[:, 0].tolist()]
    return check_indices(table.index_of(ids), len(table), name)


def read_probabilities(path: str | Path, table: EmbeddingTable) -> NDArray[Any]:
    """Read one row of class probabilities for each image of a table.

    Parameters
    ----------
    path : str or Path
        .npy of shape (n, k), in the table's order; or a CSV file with one column a class,
        and a column ``id`` or else rows in the table's order.
    table : EmbeddingTable
        Whose images they are of; a CSV with ids may name more.

    Returns
    -------
    ndarray of shape (n, k), float
    """
    if Path(path).suffix == ".npy":
        return check_probabilities(load_npy(path), n_images=len(table))
    rows = read_csv(path)
    if "id" in rows.columns:
        rows = in_order(rows, path, table, "Predict on all of them.").drop(columns="id")
    numbers = rows.apply(pd.to_numeric, errors="coerce")
    if numbers.isna().any().any():
        column = numbers.columns[numbers.isna().any()][0]
        raise InvalidInputError(
            f"{path} must hold numbers, one column a class; the column `{column}` does not "
            "everywhere. Name the column of ids `id`, and have a header line."
        )
    return check_probabilities(numbers.to_numpy(dtype=np.float64), n_images=len(table))


def in_order(rows: pd.DataFrame, path: str | Path, table: EmbeddingTable, do: str) -> pd.DataFrame:
    """Return the rows of a table's images in its order, matched by the column `id`."""
    if rows["id"].duplicated().any():
        twice = rows["id"][rows["id"].duplicated()].iloc[0]
        raise InvalidInputError(
            f"{path} must name each image once; got {twice!r} more than once. Remove the duplicate."
        )
    at = pd.Index(rows["id"]).get_indexer(pd.Index(table.ids))
    missing = np.flatnonzero(at < 0)
    if missing.size:
        raise InvalidInputError(
            f"{path} must have a row for each of the {len(table)} images of the table; "
            f"{missing.size} are missing, the first is {table.ids[missing[0]]!r}. {do}"
        )
    ordered: pd.DataFrame = rows.iloc[at]
    return ordered


def read_csv(path: str | Path) -> pd.DataFrame:
    """Read a file with a header line, every cell as text."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except pd.errors.EmptyDataError as exc:
        raise InvalidInputError(
            f"{path} must hold at least one line; it is empty. Leave the option out instead."
        ) from exc
    except (pd.errors.ParserError, UnicodeDecodeError) as exc:
        raise InvalidInputError(
            f"{path} must be UTF-8 text, comma separated; {exc}. Save it as CSV."
        ) from exc


def load_npy(path: str | Path) -> NDArray[Any]:
    """Map an array into memory, without running code that a file may hold."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as exc:
        raise InvalidInputError(
            f"{path} must be an array of numbers as `numpy.save` writes it; {exc}. Save it again."
        ) from exc
    return array


def write_selection(
    path: str | Path,
    explanations: Sequence[PickExplanation],
    *,
    ids: Sequence[str] | NDArray[Any],
    paths: Sequence[str] | NDArray[Any] | None = None,
    metric: NDArray[np.float64] | None = None,
    metric_name: str = "margin",
) -> None:
    """Write picks to a CSV file, best first, one line an image.

    Parameters
    ----------
    path : str or Path
        Replaced where it exists.
    explanations : sequence of PickExplanation
        The picks in order.
    ids, paths : sequence of str
        Of all images, by position.
    metric : ndarray of shape (n_picks,), optional
        A number for each pick, in the same order.
    metric_name : str
        Its column.
    """
    frame = pd.DataFrame(
        {
            "rank": np.arange(1, len(explanations) + 1),
            "index": [pick.index for pick in explanations],
            "id": [ids[pick.index] for pick in explanations],
        }
    )
    if paths is not None:
        frame["path"] = [paths[pick.index] for pick in explanations]
    if metric is not None:
        frame[metric_name] = metric
    frame["concepts"] = ["; ".join(pick.concepts) for pick in explanations]
    frame["added_concepts"] = ["; ".join(pick.added) for pick in explanations]
    frame.to_csv(path, index=False)
