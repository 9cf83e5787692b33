"""What people hand over in files: labels, groups, positions, picks, probabilities.

Rows of a file are matched to the images of a table by id; without ids, by position.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clip_al.arrays.checks import check_indices, check_probabilities
from clip_al.arrays.labels import encode_labels
from clip_al.encode.table import EmbeddingTable
from clip_al.errors import InvalidInputError
from clip_al.label.explain import PickExplanation

FOLDERS = "folders"
"""In place of a file of labels: each image has the name of the folder that it is in."""

TEXT_COLUMNS = ("id", "path", "concepts", "added_concepts", "label", "group")
POSITIONS = ("rank", "index")


def read_labels(
    source: str | Path, table: EmbeddingTable, classes: str | Path | None = None
) -> tuple[NDArray[np.int64], list[str]]:
    """Read the label of each image of a table, and what the classes are called.

    Parameters
    ----------
    source : str or Path
        "folders": the name of the folder that each image is in. Otherwise a CSV file with
        the columns ``id`` and ``label``, or ``label`` alone in the table's order; a text
        file with one label a line; or .npy of shape (n,). Labels are names or numbers.
    table : EmbeddingTable
        Whose images they are of; a file with ids may name more.
    classes : str or Path, optional
        A text file, one name a line, class 0 first. Left out, the classes are the names
        that occur, sorted; numbers need it.

    Returns
    -------
    ndarray of shape (n,), int64
        Class numbers.
    list of str
        Class names.
    """
    given = _folder_names(table) if str(source) == FOLDERS else _read_column(source, table, "label")
    numbers = pd.to_numeric(pd.Series(given), errors="coerce")
    are_numbers = bool((numbers % 1 == 0).all())
    if classes is None and are_numbers:
        raise InvalidInputError(
            "`--classes` must name the classes where labels are numbers, as CLIP reads names; "
            f"got the label {given[0]!r} and no names. Pass a text file, one name a line, "
            "class 0 first."
        )
    names = sorted(set(given)) if classes is None else read_class_names(classes)
    labels: Any = given
    # Classes may be called "0", "1" …: then the labels are their names.
    if are_numbers and not set(given) <= set(names):
        labels = numbers.to_numpy(dtype=np.int64)
    codes = encode_labels(
        labels, n_images=len(table), n_classes=len(names), class_names=names, name="--labels"
    )
    return codes, names


def read_groups(path: str | Path, table: EmbeddingTable) -> list[str]:
    """Read the group of each image of a table: as labels, with a column ``group``."""
    return _read_column(path, table, "group")


def _read_column(path: str | Path, table: EmbeddingTable, column: str) -> list[str]:
    """Return one text for each image of a table, in its order."""
    values: list[str]
    if Path(path).suffix == ".npy":
        array = load_npy(path)
        if array.ndim != 1 or array.dtype.kind not in "iuU":
            raise InvalidInputError(
                f"{path} must hold one name or whole number an image; got shape {array.shape} "
                f"and dtype {array.dtype}. Convert it, for instance with `astype(int)`."
            )
        values = array.astype(str).tolist()
    else:
        rows = read_csv(path)
        if column in rows.columns:
            if "id" in rows.columns:
                rows = in_order(rows, path, table, f"Give each a {column}.")
            values = rows[column].tolist()
        elif len(rows.columns) > 1:
            raise InvalidInputError(
                f"{path} must have a column `{column}`, or be one {column} a line; got the "
                f"columns {', '.join(map(str, rows.columns))}. Name the column `{column}`."
            )
        else:  # no header: the first line is like the others
            values = [str(rows.columns[0]), *rows.iloc[:, 0].tolist()]
    if len(values) != len(table):
        raise InvalidInputError(
            f"{path} must have one {column} for each of the {len(table)} images; got "
            f"{len(values)}. Call a header line `{column}`, and have a column `id` where the "
            "order is not the table's."
        )
    if "" in values:
        raise InvalidInputError(
            f"{path} must give each image a {column}; {table.ids[values.index('')]!r} has none. "
            "Fill it in, or make a table without the image."
        )
    return values


def _folder_names(table: EmbeddingTable) -> list[str]:
    folders = [os.path.split(os.path.dirname(path)) for path in table.paths]  # noqa: PTH120
    root = os.path.split(table.root)
    for index, folder in enumerate(folders):
        if folder == root or not folder[1]:
            raise InvalidInputError(
                f"With `--labels {FOLDERS}`, each image must be in a folder of its class below "
                f"{table.root}; {table.ids[index]!r} is not. Pass a file of labels."
            )
    return [name for _, name in folders]


def read_class_names(path: str | Path) -> list[str]:
    """Read the names of the classes, one a line, each once."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as exc:
        raise InvalidInputError(f"{path} must be UTF-8 text; {exc}. Save it as UTF-8.") from exc
    names = [line.strip() for line in lines] or [""]
    if len(set(names)) != len(names) or not all(names):
        bad = next(name for i, name in enumerate(names) if not name or name in names[:i])
        raise InvalidInputError(
            f"{path} must name each class once, one a line; got "
            f"{f'{bad!r} more than once' if bad else 'an empty line'}. Correct it."
        )
    return names


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


def read_picks(
    path: str | Path, table: EmbeddingTable
) -> tuple[NDArray[np.int64], list[PickExplanation] | None, dict[str, NDArray[Any]]]:
    """Return positions, what the file says of each pick, and its columns of numbers."""
    indices = read_indices(path, table, str(path))
    rows = read_csv(path)
    if len(rows) != len(indices):  # no header line, so no columns
        return indices, None, {}
    picks = None
    if {"concepts", "added_concepts"} <= set(rows.columns):
        lists = [
            [tuple(name for name in cell.split("; ") if name) for cell in rows[column]]
            for column in ("concepts", "added_concepts")
        ]
        picks = [PickExplanation(int(i), *said) for i, *said in zip(indices, *lists, strict=True)]
    others = rows.columns.difference([*TEXT_COLUMNS, *POSITIONS], sort=False)
    numbers = rows[others].apply(pd.to_numeric, errors="coerce")
    kept = [name for name in others if numbers[name].notna().all()]
    return indices, picks, {str(name): numbers[name].to_numpy(np.float64) for name in kept}


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
