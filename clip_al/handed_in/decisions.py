"""What people decide about suspects, put into a file of labels.

labels.csv, suspects.csv with a column `decision` ──apply_decisions──▶ corrected labels
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip_al.errors import InvalidInputError
from clip_al.handed_in.match import ImageNames, is_counter, match_rows, no_column, told
from clip_al.handed_in.read import read_class_names
from clip_al.handed_in.rows import value_column
from clip_al.handed_in.tables import Source, TextTable, as_latin, numbers_of, read_table, short

RIGHT = ("right", "ok", "correct", "keep")
"""Decisions that keep the label."""
WRONG = "wrong"
"""The decision that takes the label away and gives no other."""
LIKELIER = "likelier"
"""The decision for the class in the column of that name."""
UNCLEAR = "unclear"
"""The decision of those who looked and cannot tell: the label stays, undecided."""
AS_CLASS = "class:"
"""Before a decision that is meant as a class, whatever it is called."""


@dataclass(frozen=True)
class Corrected:
    """A file of labels after the decisions.

    Attributes
    ----------
    table : TextTable
        All rows and columns of the file of labels, in their order.
    changed, kept, emptied, undecided : int
        How many suspects got another label, were right, lost their label, had no decision.
    how : str
        All this in words, and by which column the two files were matched.
    """

    table: TextTable
    changed: int
    kept: int
    emptied: int
    undecided: int
    how: str


def apply_decisions(
    labels: Source, suspects: Source, *, classes: str | os.PathLike[str] | None = None
) -> Corrected:
    """Return a file of labels with the decisions about suspects in it.

    Parameters
    ----------
    labels : path or DataFrame
        As `read_labels` takes them, with a column ``label``.
    suspects : path or DataFrame
        What `clip-al suspects -o` wrote, with ``decision`` filled in: a class, the new label;
        ``likelier``, the class in the column of that name; ``right`` (or ``ok``, ``correct``,
        ``keep``), the label stays; ``wrong``, the label is emptied; ``unclear`` or nothing, the
        label stays and the image counts as undecided. ``class:ok`` is a class called ``ok``.
    classes : path, optional
        Names of the classes: needed where labels are numbers, and for a class that no label
        has yet.

    Returns
    -------
    Corrected

    Raises
    ------
    InvalidInputError
        Where nothing was decided, a decision is no class, a suspect is not among the labels, or
        has another label there than the suspects say.
    """
    cells = read_table(labels)
    marked = read_table(suspects)
    if not len(marked):
        raise InvalidInputError(
            f"{marked.source} must hold suspects; it has none. Nothing is to be applied."
        )
    names = _column(marked, "id")
    decisions = _column(marked, "decision")
    path = marked.find("path")
    images = ImageNames(names, None if path is None else marked.columns[path])
    cells, at = value_column(cells, images, "label")
    place, how, by = _places(cells, images, marked, at)
    known = None if classes is None else read_class_names(classes)
    old = _Labels(cells, at, known, str(classes))
    given, likelier = (_optional(marked, name) for name in ("given", "likelier"))
    new = _letters(cells.columns[at])
    count: Counter[str] = Counter()
    for i, decision in enumerate(decisions):
        if not decision:
            count["undecided"] += 1
            continue
        row = place[i]
        if row < 0:
            raise InvalidInputError(
                f"{cells.source} must have a row for each suspect that was decided on; it has "
                f"none of {short(names[i])}. Pass the file of labels that the suspects are of."
            )
        wanted = _wanted(decision, given[i], likelier[i], old.names, marked.source)
        now = old.name(row)
        if given[i] and given[i] != now and wanted != now:
            raise InvalidInputError(
                f"{marked.source} and {cells.source} must be of the same labels; of "
                f"{short(names[i])} the suspects say {given[i]!r}, the labels {now!r}. Pass the "
                "file that `clip-al suspects` read."
            )
        if decision.casefold() == UNCLEAR:
            count["undecided"] += 1
        elif wanted is None:
            count["kept"] += 1
        elif not wanted:
            new[row] = ""
            count["emptied"] += 1
        elif old.written(wanted, names[i]) == new[row]:
            count["kept"] += 1
        else:
            new[row] = old.written(wanted, names[i])
            count["changed"] += 1
    if not any(decisions):
        raise InvalidInputError(
            f"{marked.source} must hold decisions; its column `decision` is empty in all "
            f"{len(decisions):,} rows. Write the right class into it, or `right`, or `wrong`."
        )
    return Corrected(
        _with_column(cells, at, new, by),
        count["changed"],
        count["kept"],
        count["emptied"],
        count["undecided"],
        f"{count['changed']:,} labels changed, {count['kept']:,} kept as right, "
        f"{count['emptied']:,} emptied as wrong, {count['undecided']:,} suspects undecided; "
        f"matched {how}",
    )


class _Labels:
    """The labels of a file by name, and as they are written there."""

    def __init__(
        self, cells: TextTable, at: int, classes: Sequence[str] | None, source: str
    ) -> None:
        self.cells, self.source = cells, source
        self.cell_n = [as_latin(cell) for cell in cells.columns[at]]
        numbers = numbers_of(cells.columns[at])
        filled = np.array([bool(cell) for cell in self.cell_n])
        own = {cell for cell in self.cell_n if cell}
        are_numbers = bool((numbers[filled] % 1 == 0).all())
        self.by_number = are_numbers and not own <= set(classes or ())
        if self.by_number and classes is None:
            raise InvalidInputError(
                f"Classes must have names where labels are numbers; {cells.source} has the label "
                f"{next(iter(own), '')!r}. Pass `--classes FILE`: one name a line, class 0 first."
            )
        self.listed = list(classes or sorted(own))
        self.names = set(self.listed) | (set() if self.by_number else own)

    def name(self, row: int) -> str:
        """Return the label of a row by name."""
        cell = self.cell_n[row]
        if not self.by_number or not cell:
            return cell
        number = int(float(cell))
        return self.listed[number] if 0 <= number < len(self.listed) else cell

    def written(self, name: str, image: str) -> str:
        """Return a class as the file has it, by name or number; refuse one that is unknown."""
        if name not in self.names:
            close = difflib.get_close_matches(name, sorted(self.names), n=3)
            hint = f" The closest are {', '.join(map(repr, close))}." if close else ""
            raise InvalidInputError(
                "Each decision must be a class, `right`, `wrong`, `unclear` or `likelier`; that of "
                f"{short(image)} is {name!r}.{hint} Correct it, or name the class in `--classes`."
            )
        return str(self.listed.index(name)) if self.by_number else name


def _wanted(decision: str, given: str, likelier: str, classes: set[str], source: str) -> str | None:
    """Return the label that a decision asks for: None for the one there is, "" for none.

    Where it is unclear, the one there is.
    """
    if decision.startswith(AS_CLASS):
        return decision.removeprefix(AS_CLASS).strip()
    word = decision.casefold()
    if word not in (*RIGHT, WRONG, LIKELIER, UNCLEAR):
        return decision
    if decision in classes and decision != given:
        others = [other for other in RIGHT if other not in classes]
        word_for = f", or `{others[0]}` where the label is right" if word in RIGHT else ""
        raise InvalidInputError(
            f"The decision {decision!r} of {source} must be clear; it is a class here too. Write "
            f"`{AS_CLASS}{decision}` for the class{word_for}."
        )
    if word in (*RIGHT, UNCLEAR):
        return None
    if word == LIKELIER and not likelier:
        raise InvalidInputError(
            f"{source} must have a class in the column `likelier` where the decision is "
            "`likelier`; got none. Write the class."
        )
    return likelier if word == LIKELIER else ""


def _column(table: TextTable, name: str) -> NDArray[np.object_]:
    at = table.find(name)
    if at is None:
        raise InvalidInputError(
            f"{table.source} must have a column `{name}`, as `clip-al suspects -o` writes it; got "
            f"the columns {table.described()}. Write the suspects again."
        )
    return _letters(table.columns[at]) if name == "decision" else table.columns[at]


def _optional(table: TextTable, name: str) -> NDArray[np.object_]:
    at = table.find(name)
    if at is None:
        return np.full(len(table), "", dtype=object)
    return _letters(table.columns[at])


def _letters(column: NDArray[np.object_]) -> NDArray[np.object_]:
    return np.array([as_latin(cell) for cell in column], dtype=object)


def _places(
    cells: TextTable, images: ImageNames, marked: TextTable, aside: int
) -> tuple[NDArray[np.int64], str, int | None]:
    """Return the row of each suspect among the labels, -1 for none, and by which column."""
    match = match_rows(cells, images, {aside})
    if match is not None:
        rows = np.flatnonzero(match.at >= 0)
        if match.n_images < len(rows):
            twice = rows[np.bincount(match.at[rows])[match.at[rows]] > 1][0]
            raise InvalidInputError(
                f"{cells.source} must name each image once; got "
                f"{short(cells.columns[match.column][twice])} more than once. Remove the duplicate."
            )
        place = np.full(len(images), -1)
        place[match.at[rows]] = rows
        return place, told(match, cells), match.column
    others = [i for i in range(len(cells.names)) if i != aside]
    if not all(is_counter(cells, i) for i in others):
        raise no_column(cells, images, "the labels")
    index = numbers_of(_column(marked, "index"))
    if not ((index % 1 == 0) & (index >= 0) & (index < len(cells))).all():
        raise InvalidInputError(
            f"The column `index` of {marked.source} must be positions among the {len(cells):,} "
            f"labels of {cells.source}, which have no ids; it is not. Pass the file that the "
            "suspects are of."
        )
    return index.astype(np.int64), "by the positions in the column `index`", None


def _with_column(
    cells: TextTable, at: int, column: NDArray[np.object_], by: int | None
) -> TextTable:
    """Return the table with other labels; all of it but the names of files as letters."""
    columns = tuple(
        column if i == at else own if i == by else _letters(own)
        for i, own in enumerate(cells.columns)
    )
    names = cells.names
    if not any(names):  # there was no header
        names = tuple("label" if i == at else "id" for i in range(len(names)))
    return TextTable(cells.source, names, columns, cells.notes, cells.form, cells.separator)


def read_likelier(path: str | os.PathLike[str], classes: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the number of the class in the column ``likelier`` of a file of suspects, if any.

    Raises
    ------
    InvalidInputError
        Where it is none of the classes.
    """
    cells = read_table(path)
    column = cells.find("likelier")
    if column is None:
        return None
    number = {name: i for i, name in enumerate(classes)}
    names = [as_latin(cell) for cell in cells.columns[column]]
    unknown = next((name for name in names if name not in number), None)
    if unknown is not None:
        raise InvalidInputError(
            f"The column `likelier` of {path} must hold classes of the labels; {unknown!r} is "
            "none. Pass the labels that the suspects are of, and `--classes FILE` where a class "
            "has no label."
        )
    return np.array([number[name] for name in names], dtype=np.int64)
