"""Files of labels where an image may have several, or none.

Three forms: a column ``label`` of lists (`cat;dog`), several rows an image, or a column a label
of zeros and ones. What each cell of a row says is in `Cells`, so that a file can be corrected in
its own form.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clip_al.arrays.given import check_flag, check_kind
from clip_al.arrays.several import encode_indicator
from clip_al.atomic import as_path
from clip_al.errors import InvalidInputError
from clip_al.handed_in.class_names import encode_given, names_in_file
from clip_al.handed_in.match import ImageNames, Match, is_counter, match_rows, told
from clip_al.handed_in.rows import check_once, notes_of, rows_of_images, value_column
from clip_al.handed_in.tables import (
    Source,
    TextTable,
    as_latin,
    is_missing,
    load_npy,
    read_table,
    short,
)
from clip_al.table.embedding_table import EmbeddingTable

SEPARATORS = (";", "|")
"""Between the labels of one cell; a comma too, where the names of the classes are known."""
NONE = "-"
"""In place of labels: somebody looked, and none applies."""
YES, NO = frozenset({"1", "1.0", "true"}), frozenset({"0", "0.0", "false"})
FORMS = (
    "a column `label` of lists such as `cat;dog`, several rows an image, or a column a label of "
    "zeros and ones"
)


@dataclass(frozen=True)
class SeveralLabelsRead:
    """Labels of images of a table, any number an image.

    Attributes
    ----------
    indices : ndarray of shape (l,), int64
        Positions of the labelled images, ascending; all of the table where all were asked for.
    labels : ndarray of shape (l, k), bool
        Which label each has; a row of False is an image that has none.
    class_names : list of str
        In the order of the columns.
    how : str
        What was taken, in which form.
    """

    indices: NDArray[np.int64]
    labels: NDArray[np.bool_]
    class_names: list[str]
    how: str


@dataclass(frozen=True)
class Cells:
    """What the rows of a file say of labels.

    Parameters
    ----------
    table : TextTable
        Of the file; with its first line where that was no header.
    at : int or None
        The column of lists; None where each label has a column.
    columns : dict of str to int
        The column of each label, in the other form.
    labels : list of tuple of str, or None for a row that says nothing
        By row.
    separator : str
        Between the labels of a cell; "" where no cell has two.
    """

    table: TextTable
    at: int | None
    columns: dict[str, int]
    labels: list[tuple[str, ...] | None]
    separator: str


def read_several_labels(
    source: Source,
    table: EmbeddingTable,
    classes: str | os.PathLike[str] | None = None,
    *,
    all_images: bool = True,
) -> SeveralLabelsRead:
    """Read labels of images of a table, of which an image may have several or none.

    Parameters
    ----------
    source : path or DataFrame
        A CSV or Parquet file with a column that names the images and: a column ``label`` (or
        ``labels``) whose cells are lists, as ``cat;dog`` or ``cat|dog``, with ``-`` where none
        applies; or several rows an image, a label each; or a column a label, of zeros and ones.
        Or .npy of shape (n, k), with `classes`.
    table : EmbeddingTable
        Whose images they are of.
    classes : path, optional
        Names of the labels, see `read_class_names`; by default those that occur, sorted, or the
        columns of zeros and ones in their order.
    all_images : bool
        Each image of the table must have a row that says something; a file may name more. With
        False the others are not labelled, and the file must name none but images of the table.

    Returns
    -------
    SeveralLabelsRead

    Raises
    ------
    InvalidInputError
        Where the file has none of the forms, an image has no label nor ``-``, some of an image's
        zeros and ones are missing, or a label is no class.
    """
    check_kind(table, EmbeddingTable, "table", "Open one with `EmbeddingTable.open`.")
    all_images = check_flag(all_images, "all_images")
    names = None if classes is None else names_in_file(classes, distinct=True)
    n = len(table)
    if not isinstance(source, pd.DataFrame) and as_path(source, "source").suffix == ".npy":
        return _of_array(as_path(source), n, names)
    images = ImageNames(table.ids, table.paths)
    cells = split_cells(read_table(source), images, names)
    place, how = _places(cells, images, all_images)
    said = np.array([labels is not None for labels in cells.labels], dtype=bool)
    labelled = np.unique(place[said & (place >= 0)])
    if all_images and len(labelled) < n:
        missing = np.setdiff1d(np.arange(n), labelled)
        raise InvalidInputError(
            f"{cells.table.source} must give each image its labels; {missing.size:,} of {n:,} have "
            f"none, the first is {table.ids[missing[0]]!r}. Fill them in; write `{NONE}` in the "
            "column `label`, or zeros, where none applies."
        )
    rows = np.flatnonzero(said & (place >= 0))
    pairs = [(int(place[row]), label) for row in rows for label in cells.labels[row] or ()]
    listed, codes = _encode(pairs, cells, names, table, classes)
    given_lk = np.zeros((len(labelled), len(listed)), dtype=bool)
    given_lk[np.searchsorted(labelled, [i for i, _ in pairs]), codes] = True
    form = _form(cells, len(rows) > len(labelled))
    counted = f"{given_lk.sum():,} labels of {len(labelled):,} images, {len(listed):,} classes"
    return SeveralLabelsRead(labelled, given_lk, listed, f"{counted}, {form}, {how}")


def holds_labels(source: Source, names: Collection[str] | None) -> bool:
    """Return whether a file holds labels, or only names images: a file of picks, for instance."""
    if not isinstance(source, pd.DataFrame) and as_path(source, "source").suffix == ".npy":
        return False
    table = read_table(source)
    if table.find("label") is not None or table.find("labels") is not None:
        return True
    return any(name in table.names for name in names or ())


def split_cells(table: TextTable, images: ImageNames, names: Sequence[str] | None) -> Cells:
    """Say what each row of a file says of labels."""
    at = table.find("label")
    at = table.find("labels") if at is None else at
    if at is None:
        columns = _columns_of_labels(table, images, names)
        if columns:
            return Cells(table, None, columns, _of_columns(table, images, columns), "")
        if len(table.names) > 2:
            raise InvalidInputError(
                f"{table.source} must hold labels in one of three forms: {FORMS}; got the columns "
                f"{table.described()}. Name the column of lists `label`."
            )
        table, at = value_column(table, images, "label")
    known = frozenset(names or ())
    column = [as_latin(cell) for cell in table.columns[at]]
    separator = _separator(column, known, table.source)
    empty = is_missing(table.columns[at], known)
    labels = [
        None if gap else _parts(cell, separator, known)
        for cell, gap in zip(column, empty, strict=True)
    ]
    return Cells(table, at, {}, labels, separator)


def _parts(cell: str, separator: str, known: Collection[str]) -> tuple[str, ...]:
    if cell in known:
        return (cell,)
    if cell == NONE:
        return ()
    parts = [part.strip() for part in cell.split(separator)] if separator else [cell]
    return tuple(dict.fromkeys(part for part in parts if part))


def _separator(column: Sequence[str], known: Collection[str], source: str) -> str:
    """Return what stands between the labels of a cell; "" where none has two."""
    lists = [cell for cell in column if cell not in known]
    found = [one for one in SEPARATORS if any(one in cell for cell in lists)]
    if len(found) > 1:  # one may be part of a name
        whole = [one for one in found if _are_known(lists, one, known)]
        if len(whole) == 1:
            return whole[0]
        raise InvalidInputError(
            f"{source} must have one separator between labels, `;` or `|`; got both, as in "
            f"{short(next(cell for cell in lists if found[0] in cell))} and "
            f"{short(next(cell for cell in lists if found[1] in cell))}. Choose one, or list names "
            "that hold one of them in `--classes`."
        )
    if found:
        return found[0]
    commas = [cell for cell in lists if "," in cell]
    is_list = commas and all(part.strip() in known for part in commas[0].split(","))
    return "," if is_list else ""


def _are_known(lists: Sequence[str], separator: str, known: Collection[str]) -> bool:
    parts = {part.strip() for cell in lists for part in cell.split(separator)}
    return parts <= {*known, NONE, ""}


def _columns_of_labels(
    table: TextTable, images: ImageNames, names: Sequence[str] | None
) -> dict[str, int]:
    """Return the columns of zeros and ones by label; none where there are none."""
    match = match_rows(table, images)
    aside = {table.find("index")} | ({match.column} if match is not None else set())
    binary = {
        name: i
        for i, name in enumerate(table.names)
        if i not in aside and name and not is_counter(table, i) and _is_binary(table.columns[i])
    }
    if names is None or not binary:
        return binary
    at = {name: i for i, name in enumerate(table.names)}
    absent = [name for name in names if name not in at]
    if len(absent) == len(names):
        raise InvalidInputError(
            f"{table.source} must have a column for each of the {len(names)} classes; got columns "
            f"of zeros and ones of other names: {', '.join(map(repr, list(binary)[:8]))}. Name "
            "them as the classes are."
        )
    odd = absent or [name for name in names if name not in binary]
    if odd:
        what = "there is none" if absent else "it holds other than zeros and ones"
        raise InvalidInputError(
            f"{table.source} must have a column of zeros and ones for each class; of {odd[0]!r} "
            f"{what}. Add the column, or correct it."
        )
    return {name: binary[name] for name in names}


def _is_binary(column: NDArray[np.object_]) -> bool:
    """Return whether a column holds zeros and ones, and perhaps gaps, but not gaps alone."""
    cells = {cell.casefold() for cell in column[~is_missing(column)]}
    return bool(cells) and cells <= YES | NO


def _of_columns(
    table: TextTable, images: ImageNames, columns: dict[str, int]
) -> list[tuple[str, ...] | None]:
    names = list(columns)
    chosen = [table.columns[i] for i in columns.values()]
    gap_rk = np.column_stack([is_missing(column) for column in chosen])
    yes_rk = np.column_stack(
        [np.fromiter((c.casefold() in YES for c in column), bool, len(column)) for column in chosen]
    )
    partly = np.flatnonzero(gap_rk.any(axis=1) & ~gap_rk.all(axis=1))
    if partly.size:
        row, j = partly[0], int(np.flatnonzero(gap_rk[partly[0]])[0])
        match = match_rows(table, images)
        image = f"row {row + 1}" if match is None else short(table.columns[match.column][row])
        raise InvalidInputError(
            f"{table.source} must say 0 or 1 of every label of an image, or nothing of it; "
            f"{image} has no cell for {names[j]!r}, {partly.size:,} such rows. Fill it in, or "
            "empty the whole row."
        )
    empty: Any = gap_rk.all(axis=1)
    return [
        None if empty[i] else tuple(names[j] for j in np.flatnonzero(yes_rk[i]))
        for i in range(len(table))
    ]


def _places(cells: Cells, images: ImageNames, all_images: bool) -> tuple[NDArray[np.int64], str]:
    """Return which image each row is of, -1 for none of the table, and how that was found."""
    table, aside = cells.table, aside_of(cells)
    match = match_rows(table, images, aside)
    if match is None:
        do = "Give each its labels."
        rows, how = rows_of_images(table, images, aside, "list of labels", do)
        place = np.full(len(table), -1)
        place[rows] = np.arange(len(images))
        return place, how
    if not all_images and (match.at < 0).any():
        raise _names_others(table, images, match)
    if cells.at is None:
        check_once(table, match, np.flatnonzero(match.at >= 0))
    others = int((match.at < 0).sum())
    rest = f"; {others:,} rows name other images" if others else ""
    return match.at, told(match, table) + rest + notes_of(table)


def aside_of(cells: Cells) -> set[int]:
    """Return the columns that hold labels, and so name no image."""
    return set(cells.columns.values()) if cells.at is None else {cells.at}


def _names_others(table: TextTable, images: ImageNames, match: Match) -> InvalidInputError:
    others = np.flatnonzero(match.at < 0)
    cell = table.columns[match.column][others[0]]
    return InvalidInputError(
        f"{table.source} must name images of the table; {others.size:,} of {len(table):,} rows do "
        f"not, the first is {short(cell)}, where the table has ids like {short(images.ids[0])}. "
        "Correct them, or remove the rows."
    )


def _encode(
    pairs: Sequence[tuple[int, str]],
    cells: Cells,
    names: list[str] | None,
    table: EmbeddingTable,
    classes: object,
) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of the labels, and the number of each that is given."""
    if cells.at is None:
        listed = list(cells.columns)
        number = {name: i for i, name in enumerate(listed)}
        return listed, np.array([number[label] for _, label in pairs], dtype=np.int64)
    if not pairs:
        if names is not None:
            return names, np.empty(0, dtype=np.int64)
        raise InvalidInputError(
            f"{cells.table.source} must hold labels; none of its {len(cells.labels):,} rows has "
            "one. Label images, or name the classes in `--classes`."
        )
    ids = table.ids[np.array([i for i, _ in pairs])]
    codes, listed = encode_given(
        [label for _, label in pairs], ids, names, cells.table.source, classes
    )
    return listed, codes


def _form(cells: Cells, several_rows: bool) -> str:
    if cells.at is None:
        return "a column of zeros and ones each"
    if several_rows:
        return "several rows an image"
    return f"separated by `{cells.separator}`" if cells.separator else "one an image"


def _of_array(path: Path, n: int, names: list[str] | None) -> SeveralLabelsRead:
    if names is None:
        raise InvalidInputError(
            f"{path} holds zeros and ones without names; pass `--classes FILE`: one name a line, "
            "in the order of the columns."
        )
    given: Any = encode_indicator(load_npy(path), n_images=n, n_labels=len(names), name=str(path))
    how = f"{given.sum():,} labels of {n:,} images, {len(names):,} classes, in the table's order"
    return SeveralLabelsRead(np.arange(n), given, names, how)
