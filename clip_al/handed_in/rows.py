"""The row of each image in a table that people bring: by what names it, or by position."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from clip_al.errors import InvalidInputError
from clip_al.handed_in.class_names import SEVERAL
from clip_al.handed_in.match import (
    ImageNames,
    Match,
    is_counter,
    match_rows,
    no_column,
    side_by_side,
    told,
)
from clip_al.handed_in.tables import TextTable, numbers_of


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


def rows_of_images(
    cells: TextTable, images: ImageNames, aside: Collection[int], what: str, do: str
) -> tuple[NDArray[np.int64], str]:
    """Return the row of each image, and how it was found."""
    n = len(images)
    match = match_rows(cells, images, aside)
    if match is None:
        return _rows_by_position(cells, images, aside, what)
    rows = np.flatnonzero(match.at >= 0)
    check_once(cells, match, rows)
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


def check_once(cells: TextTable, match: Match, rows: NDArray[np.int64]) -> None:
    """Raise where two of the rows name one image."""
    count = np.bincount(match.at[rows])
    twice = rows[count[match.at[rows]] > 1]
    if twice.size:
        several = ""
        if cells.find("suspected") is not None:
            several = " Suspects of `--multi-label` are single labels, which the report has not."
        elif cells.find("label") is not None:
            several = f" {SEVERAL}"
        raise InvalidInputError(
            f"{cells.source} must name each image once; got "
            f"{cells.columns[match.column][twice[0]]!r} more than once. Remove the duplicate."
            f"{several}"
        )


def _rows_by_position(
    cells: TextTable, images: ImageNames, aside: Collection[int], what: str
) -> tuple[NDArray[np.int64], str]:
    """Return the rows in the table's order, where no column could say more."""
    n = len(images)
    index = cells.find("index")
    if index is not None and index not in aside:
        positions = whole_numbers(cells, index, n)
        if len(positions) == n == len(set(positions.tolist())):
            return np.argsort(positions), "by the positions in the column `index`"
    others = [i for i in range(len(cells.names)) if i not in aside]
    if not all(is_counter(cells, i) for i in others):
        raise no_column(cells, images, f"the {what}s")
    return np.arange(n), by_position(cells.source, len(cells), n, what)


def by_position(called: str, n_rows: int, n: int, what: str) -> str:
    """Say that rows are in the order of the table; raise unless there is one for each image."""
    if n_rows != n:
        raise InvalidInputError(
            f"{called} must have one {what} for each of the {n} images; got {n_rows}. Call a "
            f"header line `{what}`, and have a column `id` where the order is not the table's."
        )
    return "in the order of the table, as no column names images"


def whole_numbers(cells: TextTable, column: int, n: int) -> NDArray[np.int64]:
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


def notes_of(cells: TextTable) -> str:
    """Say what is unusual about a file."""
    return "".join(f"; {note}" for note in cells.notes)
