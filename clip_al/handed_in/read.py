"""Files that people bring for a table of embeddings: labels, groups, positions, probabilities.

    file or DataFrame ──tables.read_table──▶ text ──match.match_rows──▶ rows of the images

Rows are matched to images by the column that names them: by id, path, or a file name that is
unique. Rows are taken in the order of the table only where a file has no other column than the
one that is asked for, or in a .npy file. Each function also returns how it read the file.
"""

from __future__ import annotations

import difflib
import json
import os
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clip_al.arrays.checks import check_indices, check_probabilities
from clip_al.arrays.labels import ordered_names
from clip_al.encode.table import EmbeddingTable
from clip_al.errors import InvalidInputError, SimilarNamesWarning
from clip_al.handed_in.match import (
    ImageNames,
    Match,
    is_counter,
    match_rows,
    no_column,
    side_by_side,
    told,
)
from clip_al.handed_in.tables import (
    Source,
    TextTable,
    as_latin,
    counted,
    is_missing,
    numbers_of,
    read_bytes,
    read_table,
    read_text,
    short,
    similar_names,
)
from clip_al.label.explain import PickExplanation

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
    """Images of a table as distinct positions, in the order of the file, and how they were read."""

    indices: NDArray[np.int64]
    how: str


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
    codes, listed = _encode(given, table, names, where, classes)
    return LabelsRead(codes, listed, f"{how}, {len(listed):,} classes")


def read_groups(source: Source, table: EmbeddingTable) -> GroupsRead:
    """Read the group of each image of a table: as labels, with a column ``group``."""
    groups, how = _read_column(source, table, "group", ())
    _warn_of_similar(groups, _called(source), "group")
    return GroupsRead(groups, how)


def _names_in(classes: str | os.PathLike[str] | None) -> Collection[str]:
    return () if classes is None else read_class_names(classes, distinct=False)


def _called(source: Source) -> str:
    return "the DataFrame" if isinstance(source, pd.DataFrame) else str(source)


def _encode(
    given: list[str],
    table: EmbeddingTable,
    names: list[str] | None,
    where: str,
    classes: object,
) -> tuple[NDArray[np.int64], list[str]]:
    """Return class numbers, and the names of the classes."""
    numbers = pd.to_numeric(pd.Series(given, dtype=object), errors="coerce")
    are_numbers = bool((numbers % 1 == 0).all())
    if names is None and are_numbers:
        raise InvalidInputError(
            f"Classes must have names where labels are numbers, as CLIP reads names; {where} has "
            f"the label {given[0]!r}, and no file of classes was given. Pass `--classes FILE`: one "
            "name a line, class 0 first."
        )
    listed = sorted(set(given)) if names is None else names
    _warn_of_similar(given if names is None else listed, where, "class")
    if len(listed) == 1:
        raise InvalidInputError(
            f"Labels must be of two classes or more; all {len(given):,} of {where} are "
            f"{listed[0]!r}. Name the other classes in `--classes FILE`, or check the column."
        )
    # Classes may be called "0", "1" …: then the labels are their names.
    if are_numbers and not set(given) <= set(listed):
        codes = numbers.to_numpy(dtype=np.int64)
        bad = np.flatnonzero((codes < 0) | (codes >= len(listed)))
        if bad.size:
            raise InvalidInputError(
                f"The labels of {where} must be in [0, {len(listed) - 1}], the numbers of the "
                f"{len(listed)} classes of {classes}; {table.ids[bad[0]]!r} has {given[bad[0]]}. "
                "Count classes from 0."
            )
        return codes, listed
    repeated = [name for name, n in Counter(listed).items() if n > 1]
    if repeated:
        raise InvalidInputError(
            f"{classes} must name each class once where labels are names; got "
            f"{', '.join(map(repr, repeated[:5]))} more than once. Use numbers as labels, or "
            "rename one."
        )
    number = {name: i for i, name in enumerate(listed)}
    for i, name in enumerate(given):
        if name not in number:
            raise _no_class(name, table.ids[i], listed, where, classes)
    return np.fromiter((number[name] for name in given), np.int64, len(given)), listed


def _no_class(
    name: str, image: str, classes: Sequence[str], where: str, source: object
) -> InvalidInputError:
    alike = [group for group in similar_names([name, *classes]) if name in group]
    close = difflib.get_close_matches(name, classes, n=3)
    hint = f"The closest are {', '.join(map(repr, close))}. " if close else ""
    if alike:
        other = next(known for known in alike[0] if known != name)
        hint = f"It differs from {other!r} only in case, blanks or Unicode form. "
    shown = ", ".join(classes[:8]) + (", …" if len(classes) > 8 else "")
    return InvalidInputError(
        f"Each label of {where} must be one of the {len(classes)} classes of {source} ({shown}); "
        f"{image!r} has {name!r}. {hint}Correct the label, or add the class."
    )


def _warn_of_similar(names: Sequence[str], where: str, what: str) -> None:
    groups = similar_names(names)
    if groups:
        shown = "; ".join(counted(group, names) for group in groups[:5])
        warnings.warn(
            f"{where} has names that differ only in case, blanks or Unicode form, and each counts "
            f"as a {what} of its own: {shown}. Give one {what} one name.",
            SimilarNamesWarning,
            stacklevel=4,
        )


def _read_column(
    source: Source, table: EmbeddingTable, column: str, known: Collection[str]
) -> tuple[list[str], str]:
    """Return one text for each image of a table, in its order, and how it was found."""
    called, n = _called(source), len(table)
    if _is_npy(source):
        array = load_npy(Path(str(source)))
        if array.ndim != 1 or array.dtype.kind not in "iuU":
            raise InvalidInputError(
                f"{called} must hold one name or whole number an image; got shape {array.shape} "
                f"and dtype {array.dtype}. Convert it, for instance with `astype(int)`."
            )
        values, how = array.astype(str).astype(object), _by_position(called, len(array), n, column)
    else:
        cells = read_table(source)
        images = ImageNames(table.ids, table.paths)
        cells, at = value_column(cells, images, column)
        rows, how = _rows_of_images(cells, images, {at}, column, f"Give each a {column}.")
        values = cells.columns[at][rows]
        how += _notes(cells)
    values, how = _without_bytes(values, how)
    empty = np.flatnonzero(is_missing(values, known))
    if empty.size:
        has = f"{values[empty[0]]!r}, which stands for none" if values[empty[0]] else "none"
        raise InvalidInputError(
            f"{called} must give each image a {column}; {empty.size:,} of {n:,} have none, the "
            f"first is {table.ids[empty[0]]!r} with {has}. Fill it in, or make a table without the "
            "image."
        )
    return values.tolist(), f"{n:,} {column}s {how}"


def value_column(cells: TextTable, images: ImageNames, column: str) -> tuple[TextTable, int]:
    """Return which column is asked for; the table with its first line where that is no header."""
    at = cells.find(column)
    if at is not None:
        return cells, at
    if len(cells.names) == 1 and cells.form == "csv":  # no header: the first line is a row
        return cells.with_first_line(), 0
    if len(cells.names) == 2 and cells.form == "csv":
        whole = cells.with_first_line()
        match = match_rows(whole, images)
        if match is not None and match.at[0] >= 0:
            return whole, 1 - match.column
    raise InvalidInputError(
        f"{cells.source} must have a column `{column}`, or be one {column} a line; got the "
        f"columns {cells.described()}. Name the column `{column}`."
    )


def _rows_of_images(
    cells: TextTable, images: ImageNames, aside: Collection[int], what: str, do: str
) -> tuple[NDArray[np.int64], str]:
    """Return the row of each image, and how it was found."""
    n = len(images)
    match = match_rows(cells, images, aside)
    if match is None:
        return _rows_by_position(cells, images, aside, what)
    rows = np.flatnonzero(match.at >= 0)
    _check_once(cells, match, rows)
    if match.n_images < n:
        missing = np.flatnonzero(~np.isin(np.arange(n), match.at))
        beside = side_by_side(cells, images, match.column, match.at)
        unknown = f" ({beside})" if (match.at < 0).any() else ""
        raise InvalidInputError(
            f"{cells.source} must have a row for each of the {n} images of the table; "
            f"{missing.size} are missing, the first is {images.ids[missing[0]]!r}{unknown}. {do}"
        )
    others = len(cells) - len(rows)
    place = np.empty(n, dtype=np.int64)
    place[match.at[rows]] = rows
    return place, told(match, cells) + (f"; {others:,} rows name other images" if others else "")


def _check_once(cells: TextTable, match: Match, rows: NDArray[np.int64]) -> None:
    count = np.bincount(match.at[rows])
    twice = rows[count[match.at[rows]] > 1]
    if twice.size:
        raise InvalidInputError(
            f"{cells.source} must name each image once; got "
            f"{cells.columns[match.column][twice[0]]!r} more than once. Remove the duplicate."
        )


def _rows_by_position(
    cells: TextTable, images: ImageNames, aside: Collection[int], what: str
) -> tuple[NDArray[np.int64], str]:
    """Return the rows in the table's order, where no column could say more."""
    n = len(images)
    index = cells.find("index")
    if index is not None and index not in aside:
        positions = _whole_numbers(cells, index, n)
        if len(positions) == n == len(set(positions.tolist())):
            return np.argsort(positions), "by the positions in the column `index`"
    others = [i for i in range(len(cells.names)) if i not in aside]
    if not all(is_counter(cells, i) for i in others):
        raise no_column(cells, images, f"the {what}s")
    return np.arange(n), _by_position(cells.source, len(cells), n, what)


def _by_position(called: str, n_rows: int, n: int, what: str) -> str:
    if n_rows != n:
        raise InvalidInputError(
            f"{called} must have one {what} for each of the {n} images; got {n_rows}. Call a "
            f"header line `{what}`, and have a column `id` where the order is not the table's."
        )
    return "in the order of the table, as no column names images"


def _whole_numbers(cells: TextTable, column: int, n: int) -> NDArray[np.int64]:
    """Return a column of positions."""
    numbers = numbers_of(cells.columns[column])
    odd = np.flatnonzero(~(numbers % 1 == 0))
    if odd.size:
        raise InvalidInputError(
            f"The column `{cells.names[column]}` of {cells.source} must hold whole numbers; got "
            f"{cells.columns[column][odd[0]]!r}. Use a column `id` for names."
        )
    outside = np.flatnonzero((numbers < 0) | (numbers >= n))
    if outside.size:
        raise InvalidInputError(
            f"The column `{cells.names[column]}` of {cells.source} must be in [0, {n - 1}], the "
            f"positions of {n} images; got {cells.columns[column][outside[0]]}. Count from 0 in "
            "the table, or use a column `id`."
        )
    return numbers.astype(np.int64)


def _notes(cells: TextTable) -> str:
    return "".join(f"; {note}" for note in cells.notes)


def _without_bytes(values: NDArray[Any], how: str) -> tuple[NDArray[Any], str]:
    """Return values with letters in place of bytes that are no UTF-8."""
    latin = np.array([as_latin(value) for value in values], dtype=object)
    if (latin != values).any():
        how += "; it is not UTF-8, and was read as Latin-1"
    return latin, how


def _is_npy(source: Source) -> bool:
    return not isinstance(source, pd.DataFrame) and Path(source).suffix.lower() == ".npy"


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
    if Path(path).suffix.lower() == ".json":
        names = _names_in_json(path)
    else:
        text, _ = read_text(path)
        lines = [as_latin(line).strip() for line in text.rstrip().splitlines()] or [""]
        names = _numbered(path, lines) or lines
    count = Counter(names)
    bad = "" if "" in count else next((name for name in names if count[name] > 1), None)
    if bad == "" or (distinct and bad is not None):
        raise InvalidInputError(
            f"{path} must name each class once, one a line; got "
            f"{f'{bad!r} more than once' if bad else 'an empty line'}. Correct it."
        )
    return names


def _numbered(path: object, lines: Sequence[str]) -> list[str] | None:
    """Return names in the order of the numbers before or behind them; None without numbers."""
    for sep in (",", "\t", ";", ":"):
        pairs = [line.partition(sep)[::2] for line in lines]
        header = not any(cell.strip().isdecimal() for cell in pairs[0])
        rows = [tuple(cell.strip().strip('"') for cell in pair) for pair in pairs[header:]]
        for number, name in ((0, 1), (1, 0)):
            if rows and all(row[number].isdecimal() and row[name] for row in rows):
                return _by_number(path, {int(row[number]): row[name] for row in rows}, len(rows))
    return None


def _by_number(path: object, names: dict[int, str], n: int) -> list[str]:
    if sorted(names) != list(range(n)):
        missing = next((i for i in range(n) if i not in names), None)
        raise InvalidInputError(
            f"{path} must number the {n} classes from 0 to {n - 1}, each once; there is no "
            f"{missing}. Correct the numbers, or leave them out: one name a line, class 0 first."
        )
    return [names[i] for i in range(n)]


def _names_in_json(path: str | os.PathLike[str]) -> list[str]:
    try:
        given = json.loads(read_bytes(path))
        return list(ordered_names(given, str(path)))
    except (ValueError, TypeError) as exc:
        if isinstance(exc, InvalidInputError):
            raise
        raise InvalidInputError(
            f"{path} must hold a list of names, or names and their numbers, as JSON; {exc}. "
            "Write one name a line into a text file instead."
        ) from exc


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


def read_labelled(source: Source, table: EmbeddingTable, name: str = "labelled") -> IndicesRead:
    """Read which images of a table have a label: as `read_indices`.

    Rows whose column ``label`` is empty do not count: these images stay in the pool.
    """
    indices, how, cells = _read_indices(source, table, name)
    label = None if cells is None else cells.find("label")
    if cells is None or label is None:
        return IndicesRead(indices, f"{len(indices):,} images have a label, {how}")
    kept = ~is_missing(cells.columns[label])
    n, n_kept = len(indices), int(kept.sum())
    rest = "" if n == n_kept else f", {n - n_kept:,} stay in the pool"
    return IndicesRead(indices[kept], f"{n_kept:,} of {n:,} rows have a label{rest}, {how}")


def _read_indices(
    source: Source, table: EmbeddingTable, name: str
) -> tuple[NDArray[np.int64], str, TextTable | None]:
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
        found = _whole_numbers(cells, index, n)
        return check_indices(found, n, name), "by the positions in the column `index`", cells
    if match is None:
        raise _names_none(cells, images)
    if (match.at < 0).any():
        raise _names_others(cells, images, match)
    _check_once(cells, match, np.arange(len(cells)))
    return match.at, told(match, cells) + _notes(cells), cells


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


def read_probabilities(source: Source, table: EmbeddingTable) -> ProbabilitiesRead:
    """Read one row of class probabilities for each image of a table.

    Parameters
    ----------
    source : path or DataFrame
        One column a class and one that names the images, as CSV (decimal points or commas)
        or Parquet; without a column of names, rows in the order of the table; or .npy of
        shape (n, k), in that order.
    table : EmbeddingTable
        Whose images they are of; a file may name more.

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
    n = len(table)
    if _is_npy(source):
        array = check_probabilities(load_npy(Path(str(source))), n_images=n)
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
        bad = cells.columns[odd[0]][np.isnan(numbers[odd[0]])][0] if odd else ""
        raise InvalidInputError(
            f"{cells.source} must hold numbers, one column a class; the column "
            f"`{cells.names[odd[0]] if odd else ''}` does not everywhere, it has {bad!r}. Have a "
            "header line, one column `id`, and else columns of probabilities."
        )
    rows, how = _rows_of_images(
        cells, images, set(used), "row of probabilities", "Predict on all of them."
    )
    names = [cells.names[i] for i in used]
    array = check_probabilities(np.column_stack([numbers[i][rows] for i in used]), n_images=n)
    said = f"{n:,} rows of {len(names)} classes {how}{_notes(cells)}"
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


def load_npy(path: str | Path) -> NDArray[Any]:
    """Map an array into memory, without running code that a file may hold."""
    if not Path(path).is_file():
        read_bytes(path)  # says what is wrong
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as exc:
        raise InvalidInputError(
            f"{path} must be an array of numbers as `numpy.save` writes it; {exc}. Save it again."
        ) from exc
    return array
