"""Files that people bring for a table of embeddings: labels, groups, positions, probabilities.

    file or DataFrame ──tables.read_table──▶ text ──match.match_rows──▶ rows of the images

Rows are matched to images by the column that names them: by id, path, or a file name that is
unique. Rows are taken in the order of the table only where a file has no other column than the
one that is asked for, or in a .npy file. Each function also returns how it read the file.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clip_al.arrays.checks import check_indices, check_probabilities
from clip_al.arrays.given import check_flag, check_kind
from clip_al.arrays.several import check_label_probabilities
from clip_al.atomic import as_path
from clip_al.errors import InvalidInputError
from clip_al.handed_in.class_names import encode_given, names_in_file, warn_of_similar
from clip_al.handed_in.match import (
    ImageNames,
    Match,
    is_counter,
    match_rows,
    no_column,
    normal,
    told,
)
from clip_al.handed_in.rows import (
    by_position,
    check_once,
    notes_of,
    rows_of_images,
    value_column,
    whole_numbers,
)
from clip_al.handed_in.several_labels import read_several_labels as read_several_labels
from clip_al.handed_in.tables import (
    Source,
    TextTable,
    as_latin,
    is_missing,
    load_npy,
    numbers_of,
    read_table,
    read_text,
    short,
)
from clip_al.label.explain import PickExplanation
from clip_al.table.embedding_table import EmbeddingTable

FOLDERS = "folders"
"""In place of a file of labels: each image has the name of the folder that it is in."""

TEXT_COLUMNS = ("id", "path", "concepts", "added_concepts", "label", "group")
POSITIONS = ("rank", "index")


@dataclass(frozen=True)
class LabelsRead:
    """Labels of all images of a table.

    Attributes
    ----------
    labels : ndarray of shape (n,), int64
        Class numbers.
    class_names : list of str
        In the order of the numbers.
    how : str
        "12 labels by the column `filename` (as path)": what was taken.
    """

    labels: NDArray[np.int64]
    class_names: list[str]
    how: str


@dataclass(frozen=True)
class GroupsRead:
    """The group of each image of a table, by name, and how it was read."""

    groups: list[str]
    how: str


@dataclass(frozen=True)
class IndicesRead:
    """Images of a table as distinct positions, in the order of the file, and how they were read.

    `labels` are the texts of the column ``label``, one an image; None where there is none, or
    where they were not asked for.
    """

    indices: NDArray[np.int64]
    how: str
    labels: list[str] | None = None


@dataclass(frozen=True)
class ProbabilitiesRead:
    """Class probabilities of all images of a table.

    Attributes
    ----------
    probabilities : ndarray of shape (n, k), float
    class_names : list of str or None
        The columns; None in a .npy file.
    how : str
        What was taken.
    """

    probabilities: NDArray[Any]
    class_names: list[str] | None
    how: str


def read_labels(
    source: Source, table: EmbeddingTable, classes: str | os.PathLike[str] | None = None
) -> LabelsRead:
    """Read the label of each image of a table, and what the classes are called.

    Parameters
    ----------
    source : path, DataFrame or "folders"
        "folders": the name of the folder that each image is in. Otherwise a CSV or Parquet
        file with a column ``label`` and one that names the images; one label a line, in the
        order of the table; or .npy of shape (n,). Labels are names or numbers.
    table : EmbeddingTable
        Whose images they are of; a file may name more.
    classes : path, optional
        Names of the classes: see `read_class_names`. Left out, the classes are the names
        that occur, sorted; numbers need it.

    Returns
    -------
    LabelsRead

    Raises
    ------
    InvalidInputError
        Where no column names the images but others than ``label`` are there, an image has no
        row, two rows or no label, a label is no class, or all labels are one class.

    Warns
    -----
    SimilarNamesWarning
        Where names differ only in case, blanks or Unicode form.
    """
    if isinstance(source, str) and source == FOLDERS:
        given, how = _folder_names(table), f"{len(table):,} labels by the names of the folders"
        where = "`--labels folders`"
    else:
        given, how = _read_column(source, table, "label", _names_in(classes))
        where = _called(source)
    names = None if classes is None else read_class_names(classes, distinct=False)
    codes, listed = encode_given(given, table.ids, names, where, classes)
    return LabelsRead(codes, listed, f"{how}, {len(listed):,} classes")


def read_groups(source: Source, table: EmbeddingTable) -> GroupsRead:
    """Read the group of each image of a table: as labels, with a column ``group``."""
    groups, how = _read_column(source, table, "group", ())
    warn_of_similar(groups, _called(source), "group")
    return GroupsRead(groups, how)


def read_splits(source: Source, table: EmbeddingTable) -> GroupsRead:
    """Read which split each image of a table is in, as "train" and "test".

    Parameters
    ----------
    source : path, DataFrame or "folders"
        "folders": the first folder of each image's id, "train" of ``train/cat/0001.jpg``. Otherwise
        as for `read_groups`, with a column ``split``.
    table : EmbeddingTable
        Whose images they are.
    """
    if isinstance(source, str) and source == FOLDERS:
        _check_table(table)
        parts = [normal(name).partition("/") for name in table.ids]
        alone = [i for i, (_, _, rest) in enumerate(parts) if not rest]
        if alone:
            raise InvalidInputError(
                f"With `--splits {FOLDERS}`, each id must begin with the folder of a split, as "
                f"train/1.jpg; {table.ids[alone[0]]!r} does not. Pass a file of splits."
            )
        return GroupsRead([first for first, _, _ in parts], "by the first folders of the ids")
    splits, how = _read_column(source, table, "split", ())
    warn_of_similar(splits, _called(source), "split")
    return GroupsRead(splits, how)


def _names_in(classes: str | os.PathLike[str] | None) -> Collection[str]:
    return () if classes is None else read_class_names(classes, distinct=False)


def _called(source: Source) -> str:
    return "the DataFrame" if isinstance(source, pd.DataFrame) else str(source)


def _read_column(
    source: Source, table: EmbeddingTable, column: str, known: Collection[str]
) -> tuple[list[str], str]:
    """Return one text for each image of a table, in its order, and how it was found."""
    _check_table(table)
    called, n = _called(source), len(table)
    if _is_npy(source):
        array = load_npy(Path(str(source)))
        if array.ndim != 1 or array.dtype.kind not in "iuU":
            raise InvalidInputError(
                f"{called} must hold one name or whole number an image; got shape {array.shape} "
                f"and dtype {array.dtype}. Convert it, for instance with `astype(int)`."
            )
        values, how = array.astype(str).astype(object), by_position(called, len(array), n, column)
    else:
        cells = read_table(source)
        images = ImageNames(table.ids, table.paths)
        cells, at = value_column(cells, images, column)
        rows, how = rows_of_images(cells, images, {at}, column, f"Give each a {column}.")
        values = cells.columns[at][rows]
        how += notes_of(cells)
    values, how = _without_bytes(values, how)
    empty = np.flatnonzero(is_missing(values, known))
    if empty.size:
        has = "none"
        if values[empty[0]]:
            has = f"{values[empty[0]]!r}, which stands for none unless `--classes` names it"
        raise InvalidInputError(
            f"{called} must give each image a {column}; {empty.size:,} of {n:,} have none, the "
            f"first is {table.ids[empty[0]]!r} with {has}. Fill it in, or make a table without the "
            "image."
        )
    return values.tolist(), f"{n:,} {column}s {how}"


def _without_bytes(values: NDArray[Any], how: str) -> tuple[NDArray[Any], str]:
    """Return values with letters in place of bytes that are no UTF-8."""
    latin = np.array([as_latin(value) for value in values], dtype=object)
    if (latin != values).any():
        how += "; it is not UTF-8, and was read as Latin-1"
    return latin, how


def _is_npy(source: Source) -> bool:
    return (
        not isinstance(source, pd.DataFrame) and as_path(source, "source").suffix.lower() == ".npy"
    )


def _check_table(table: object) -> None:
    check_kind(table, EmbeddingTable, "table", "Open one with `EmbeddingTable.open`.")


def _folder_names(table: EmbeddingTable) -> list[str]:
    _check_table(table)
    folders = [os.path.split(os.path.dirname(path)) for path in table.paths]  # noqa: PTH120
    root = os.path.split(table.root)
    for index, folder in enumerate(folders):
        if folder == root or not folder[1]:
            raise InvalidInputError(
                f"With `--labels {FOLDERS}`, each image must be in a folder of its class below "
                f"{table.root}; {table.ids[index]!r} is not. Pass a file of labels."
            )
    return [name for _, name in folders]


def read_class_names(path: str | os.PathLike[str], *, distinct: bool = True) -> list[str]:
    """Read the names of the classes.

    Parameters
    ----------
    path : path
        One name a line, class 0 first; lines ``0,cat``, numbered from 0 in any order; or .json
        with a list of names, or names and numbers (`class_to_idx`, `id2label`).
    distinct : bool
        Refuse a name that stands there twice.
    """
    return names_in_file(path, distinct=check_flag(distinct, "distinct"))


def read_indices(source: Source, table: EmbeddingTable, name: str = "indices") -> IndicesRead:
    """Read which images of a table a file names.

    Parameters
    ----------
    source : path or DataFrame
        A column that names the images (ids, paths, unique file names), or a column ``index``
        of positions; one id a line; or .npy with positions.
    table : EmbeddingTable
        What the ids and positions belong to.
    name : str
        What the file was passed as, for the messages.

    Returns
    -------
    IndicesRead

    Raises
    ------
    InvalidInputError
        Where no column names images, a row names none of the table, or two rows name one.
    """
    indices, how, _ = _read_indices(source, table, name)
    return IndicesRead(indices, f"{len(indices):,} images {how}")


def read_labelled(
    source: Source,
    table: EmbeddingTable,
    name: str = "labelled",
    *,
    classes: Collection[str] = (),
) -> IndicesRead:
    """Read which images of a table have a label: as `read_indices`.

    Rows whose column ``label`` is empty do not count: these images stay in the pool. A class of
    `classes` may be called like what programs write for a missing value, such as ``None``.
    """
    indices, how, cells = _read_indices(source, table, name)
    label = None if cells is None else cells.find("label")
    if cells is None or label is None:
        return IndicesRead(indices, f"{len(indices):,} images have a label, {how}")
    kept = ~is_missing(cells.columns[label], classes)
    n, n_kept = len(indices), int(kept.sum())
    rest = "" if n == n_kept else f", {n - n_kept:,} stay in the pool"
    said = f"{n_kept:,} of {n:,} rows have a label{rest}, {how}"
    return IndicesRead(indices[kept], said, [as_latin(cell) for cell in cells.columns[label][kept]])


def _read_indices(
    source: Source, table: EmbeddingTable, name: str
) -> tuple[NDArray[np.int64], str, TextTable | None]:
    _check_table(table)
    n = len(table)
    if _is_npy(source):
        return check_indices(load_npy(Path(str(source))), n, name), "by position", None
    cells, images = read_table(source), ImageNames(table.ids, table.paths)
    match = match_rows(cells, images)
    if match is None and cells.separator:
        cells, match = _as_lines(cells, source, images)
    if len(cells.names) == 1 and cells.form == "csv" and cells.find("id", "index") is None:
        whole = cells.with_first_line()
        first = match_rows(whole, images)
        if first is not None and (match is None or first.n_images > match.n_images):
            cells, match = whole, first
    index = cells.find("index")
    if match is None and index is not None:
        found = whole_numbers(cells, index, n)
        return check_indices(found, n, name), "by the positions in the column `index`", cells
    if match is None:
        raise _names_none(cells, images)
    if (match.at < 0).any():
        raise _names_others(cells, images, match)
    check_once(cells, match, np.arange(len(cells)))
    return match.at, told(match, cells) + notes_of(cells), cells


def _as_lines(
    cells: TextTable, source: Source, images: ImageNames
) -> tuple[TextTable, Match | None]:
    """Return a file as one id a line, where all lines are ids that hold a separator."""
    text, notes = read_text(str(source))
    lines = np.array([line.strip() for line in text.splitlines() if line.strip()], dtype=object)
    whole = TextTable(cells.source, ("",), (lines,), notes)
    match = match_rows(whole, images)
    return (cells, None) if match is None or (match.at < 0).any() else (whole, match)


def _names_none(cells: TextTable, images: ImageNames) -> InvalidInputError:
    close = images.closest(str(cells.columns[0][0])) if len(cells) else []
    hint = f" The closest are {', '.join(map(repr, close))}." if close else ""
    return InvalidInputError(
        f"{cells.source} must have a column that names images of the table (`id`: ids, paths, or "
        "file names where those are unique) or a column `index` of positions, or be one id a "
        f"line; got the columns {cells.described()}, and the ids of the table are like "
        f"{short(images.ids[0])}.{hint} Correct the names."
    )


def _names_others(cells: TextTable, images: ImageNames, match: Match) -> InvalidInputError:
    others = np.flatnonzero(match.at < 0)
    cell = cells.columns[match.column][others[0]]
    close = images.closest(str(cell))
    hint = f" The closest are {', '.join(map(repr, close))}." if close else ""
    return InvalidInputError(
        f"{cells.source} must name images of the table; {others.size:,} of {len(cells):,} rows do "
        f"not, the first is {short(cell)}, where the table has ids like {short(images.ids[0])}."
        f"{hint} Correct them, or remove the rows."
    )


def read_probabilities(
    source: Source, table: EmbeddingTable, *, multi_label: bool = False
) -> ProbabilitiesRead:
    """Read one row of class probabilities for each image of a table.

    Parameters
    ----------
    source : path or DataFrame
        One column a class and one that names the images, as CSV (decimal points or commas)
        or Parquet; without a column of names, rows in the order of the table; or .npy of
        shape (n, k), in that order.
    table : EmbeddingTable
        Whose images they are of; a file may name more.
    multi_label : bool
        Of several labels an image, each by itself in [0, 1]: rows need not sum to 1.

    Returns
    -------
    ProbabilitiesRead

    Raises
    ------
    InvalidInputError
        Where images have no row, a cell is no number, or a row does not sum to 1.

    Notes
    -----
    A row whose sum is off by more than 0.01 is divided by it where rounding explains that:
    see `clip_al.arrays.checks.renormalised`.
    """
    _check_table(table)
    n, check = len(table), check_probabilities
    if check_flag(multi_label, "multi_label"):
        check = check_label_probabilities
    if _is_npy(source):
        array = check(load_npy(Path(str(source))), n_images=n)
        how = f"{len(array):,} rows of {array.shape[1]} classes in the order of the table"
        return ProbabilitiesRead(array, None, how)
    cells, images = read_table(source), ImageNames(table.ids, table.paths)
    numbers = [numbers_of(column) for column in cells.columns]
    shares = {
        i for i, column in enumerate(numbers)
        if not np.isnan(column).any() and not is_counter(cells, i)
    }  # fmt: skip
    match = match_rows(cells, images)
    named = set() if match is None else {match.column}
    if match is None:
        counters = {i for i in range(len(numbers)) if is_counter(cells, i)}
        named = counters | {i for i in (cells.find("index"),) if i is not None}
        rest = set(range(len(numbers))) - shares - named
        if rest and all(np.isnan(numbers[i]).all() for i in rest):
            raise no_column(cells, images, "the probabilities")
    used = [i for i in range(len(numbers)) if i not in named]
    odd = [i for i in used if i not in shares]
    if odd or not used:
        strange = [*cells.columns[odd[0]][np.isnan(numbers[odd[0]])]] if odd else []
        bad = strange[0] if strange else ""
        raise InvalidInputError(
            f"{cells.source} must hold numbers, one column a class; the column "
            f"`{cells.names[odd[0]] if odd else ''}` does not everywhere, it has {bad!r}. Have a "
            "header line, one column `id`, and else columns of probabilities."
        )
    rows, how = rows_of_images(
        cells, images, set(used), "row of probabilities", "Predict on all of them."
    )
    names = [cells.names[i] for i in used]
    array = check(np.column_stack([numbers[i][rows] for i in used]), n_images=n)
    said = f"{n:,} rows of {len(names)} classes {how}{notes_of(cells)}"
    return ProbabilitiesRead(array, names, said)


def read_picks(
    path: str | os.PathLike[str], table: EmbeddingTable
) -> tuple[IndicesRead, list[PickExplanation] | None, dict[str, NDArray[Any]]]:
    """Return positions, what the file says of each pick, and its columns of numbers."""
    indices, how, cells = _read_indices(path, table, str(path))
    read = IndicesRead(indices, f"{len(indices):,} images {how}")
    if cells is None:
        return read, None, {}
    rows = cells.frame()
    picks = None
    if {"concepts", "added_concepts"} <= set(rows.columns):
        lists = [
            [tuple(name for name in cell.split("; ") if name) for cell in rows[column]]
            for column in ("concepts", "added_concepts")
        ]
        picks = [PickExplanation(int(i), *said) for i, *said in zip(indices, *lists, strict=True)]
    others = [name for name in cells.names if name and name not in (*TEXT_COLUMNS, *POSITIONS)]
    numbers = {name: numbers_of(rows[name].to_numpy()) for name in others}
    return read, picks, {name: x for name, x in numbers.items() if not np.isnan(x).any()}
