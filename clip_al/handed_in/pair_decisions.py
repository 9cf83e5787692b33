"""What people decide about suspects among several labels an image, put into a file of labels.

labels in any of the three forms, suspects.csv with `label`, `suspected` and `decision`
    ──apply_pair_decisions──▶ the same file, with labels added and taken away
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip_al.errors import InvalidInputError
from clip_al.handed_in.class_names import names_in_file
from clip_al.handed_in.decisions import RIGHT, UNCLEAR, WRONG, Corrected
from clip_al.handed_in.match import ImageNames, match_rows, told
from clip_al.handed_in.several_labels import NONE, Cells, aside_of, split_cells
from clip_al.handed_in.tables import Source, TextTable, as_latin, read_table, short

GIVEN, MISSING = "given", "missing"
"""What a suspect is: a label that the image has, or one that it lacks."""


def are_pairs(suspects: Source) -> bool:
    """Return whether suspects are labels of images, of which an image may have several."""
    return read_table(suspects).find("suspected") is not None


def apply_pair_decisions(
    labels: Source, suspects: Source, *, classes: str | os.PathLike[str] | None = None
) -> Corrected:
    """Return a file of several labels an image with the decisions about suspects in it.

    Parameters
    ----------
    labels : path or DataFrame
        As `read_several_labels` takes them; a file that names no images is refused.
    suspects : path or DataFrame
        What `clip-al suspects --multi-label -o` wrote, with ``decision`` filled in: ``wrong``
        takes away a label that is given, and adds one that is missing; ``right`` (or ``ok``,
        ``correct``, ``keep``) leaves it; ``unclear`` or nothing leaves it undecided.
    classes : path, optional
        Names of the labels: needed where cells hold numbers, or names with a separator in them.

    Returns
    -------
    Corrected
        In the form that the file has: lists, several rows, or zeros and ones.

    Raises
    ------
    InvalidInputError
        Where nothing was decided, a decision is another word, an image is not among the labels,
        or a label that was found right is not as the suspects say.
    """
    marked = read_table(suspects)
    ids, label_s, suspected_s, decision_s = (
        _column(marked, name) for name in ("id", "label", "suspected", "decision")
    )
    if not any(decision_s):
        raise InvalidInputError(
            f"{marked.source} must hold decisions; its column `decision` is empty in all "
            f"{len(marked):,} rows. Write `right` or `wrong` into it."
        )
    images = ImageNames(list(dict.fromkeys(ids)))
    names = None if classes is None else names_in_file(classes, distinct=True)
    cells = split_cells(read_table(labels), images, names)
    match = match_rows(cells.table, images, aside_of(cells))
    if match is None:
        raise InvalidInputError(
            f"{cells.table.source} must have a column that names the images, as {short(ids[0])}; "
            f"got the columns {cells.table.described()}. Pass the file that `clip-al suspects` "
            "read."
        )
    rows_of: dict[int, list[int]] = {}
    for row, image in enumerate(match.at.tolist()):
        rows_of.setdefault(image, []).append(row)
    number = {name: i for i, name in enumerate(images.ids.tolist())}
    write = _Writer(cells, names, [rows for image, rows in rows_of.items() if image >= 0])
    count: Counter[str] = Counter()
    for image, label, suspected, decision in zip(
        ids, label_s, suspected_s, decision_s, strict=True
    ):
        wrong = _is_wrong(decision, image, label)
        if wrong is None:
            count["undecided"] += 1
            continue
        rows = rows_of.get(number[image], [])
        if not rows:
            raise InvalidInputError(
                f"{cells.table.source} must have a row for each suspect that was decided on; it "
                f"has none of {short(image)}. Pass the file of labels that the suspects are of."
            )
        wanted = _is_given(suspected, marked.source) != wrong
        if write.has(rows, label) == wanted:
            count["kept"] += 1
        elif not wrong:
            there = "has not" if wanted else "has"
            raise InvalidInputError(
                f"{marked.source} and {cells.table.source} must be of the same labels; the labels "
                f"say that {short(image)} {there} {label!r}. Pass the file that `clip-al "
                "suspects` read."
            )
        else:
            write.put(rows, label, wanted)
            count["added" if wanted else "taken"] += 1
    changed = count["added"] + count["taken"]
    how = (
        f"{count['added']:,} labels added, {count['taken']:,} taken away, {count['kept']:,} kept "
        f"as right, {count['undecided']:,} suspects undecided; matched "
        f"{told(match, cells.table)}"
    )
    return Corrected(write.table(), changed, count["kept"], 0, count["undecided"], how)


def _is_wrong(decision: str, image: str, label: str) -> bool | None:
    """Return whether a label was found wrong; None where that is not decided."""
    word = decision.casefold()
    if word in ("", UNCLEAR):
        return None
    if word not in (*RIGHT, WRONG):
        raise InvalidInputError(
            f"Each decision about one label of several must be `right`, `wrong` or `unclear`; that "
            f"of {short(image)} and {label!r} is {decision!r}. `wrong` takes a given label away "
            "and adds a missing one."
        )
    return word == WRONG


def _is_given(suspected: str, source: str) -> bool:
    if suspected not in (GIVEN, MISSING):
        raise InvalidInputError(
            f"The column `suspected` of {source} must be `{GIVEN}` or `{MISSING}`; got "
            f"{suspected!r}. Write the suspects again."
        )
    return suspected == GIVEN


def _column(marked: TextTable, name: str) -> list[str]:
    at = marked.find(name)
    if at is None:
        raise InvalidInputError(
            f"{marked.source} must have a column `{name}`, as `clip-al suspects --multi-label -o` "
            f"writes it; got the columns {marked.described()}. Write the suspects again."
        )
    column = marked.columns[at]
    return [str(cell) if name == "id" else as_latin(cell) for cell in column]


@dataclass
class _Writer:
    """The rows of a file of labels, changed label by label."""

    cells: Cells
    names: Sequence[str] | None
    images: Sequence[Sequence[int]]
    """The rows of each image."""

    def __post_init__(self) -> None:
        self.labels = [list(labels or ()) for labels in self.cells.labels]
        self.changed: set[int] = set()
        self.added: list[tuple[int, str]] = []  # behind which row
        used = {label for labels in self.labels for label in labels}
        numbers = bool(used) and all(label.isdecimal() for label in used)
        self.by_number = numbers and self.names is not None and not used <= set(self.names)

    def _written(self, label: str) -> str:
        """Return a label as the file has it: its name, or its number."""
        known: Collection[str] = self.cells.columns or self.names or ()
        if known and label not in known:
            raise InvalidInputError(
                f"Each suspect must be one of the labels of {self.cells.table.source}; {label!r} "
                "is none. Pass the file that `clip-al suspects` read."
            )
        if self.by_number and self.names is not None:
            return str(list(self.names).index(label))
        return label

    def has(self, rows: Sequence[int], label: str) -> bool:
        """Return whether an image has a label in any of its rows."""
        written = self._written(label)
        in_rows = any(written in self.labels[row] for row in rows)
        return in_rows or any(row in rows and new == written for row, new in self.added)

    def put(self, rows: Sequence[int], label: str, wanted: bool) -> None:
        """Add a label to an image, or take it away."""
        written = self._written(label)
        if wanted and len(rows) > 1 and self.cells.at is not None:
            self.added.append((rows[-1], written))
            return
        if wanted:
            self.labels[rows[0]].append(written)
            self.changed.add(rows[0])
            return
        self.added = [one for one in self.added if one != (rows[-1], written)]
        for row in rows:
            if written in self.labels[row]:
                self.labels[row].remove(written)
                self.changed.add(row)

    def _dropped(self, rows: Sequence[int]) -> list[int]:
        """Return which rows of an image go: those without a label, where others have one."""
        empty = [row for row in rows if row in self.changed and not self.labels[row]]
        others = len(empty) < len(rows) or any(row == rows[-1] for row, _ in self.added)
        return empty if others else empty[1:]

    def table(self) -> TextTable:
        """Return the file with the changes in it."""
        table = self.cells.table
        columns = [column.copy() for column in table.columns]
        if self.cells.at is None:
            for row in self.changed:
                for label, at in self.cells.columns.items():
                    columns[at][row] = "1" if label in self.labels[row] else "0"
            return _with(table, columns, self.cells.at)
        separator = self._separator()
        for row in self.changed:
            columns[self.cells.at][row] = separator.join(self.labels[row]) or NONE
        dropped = {row for rows in self.images for row in self._dropped(rows)}
        order: list[tuple[int, str | None]] = []
        behind: dict[int, list[str]] = {}
        for row, label in self.added:
            behind.setdefault(row, []).append(label)
        for row in range(len(table)):
            if row not in dropped:
                order.append((row, None))
            order += [(row, label) for label in behind.get(row, ())]
        taken = np.array([row for row, _ in order], dtype=np.int64)
        columns = [column[taken] for column in columns]
        for place, (_, new) in enumerate(order):
            if new is not None:
                columns[self.cells.at][place] = new
        return _with(table, columns, self.cells.at)

    def _separator(self) -> str:
        """Return what to put between labels: the file's own, or one that no label holds."""
        if self.cells.separator:
            return self.cells.separator
        used = [label for labels in self.labels for label in labels]
        return "|" if any(";" in label for label in used) else ";"


def _with(table: TextTable, columns: list[NDArray[np.object_]], at: int | None) -> TextTable:
    names = table.names
    if not any(names):  # there was no header
        names = tuple("label" if i == at else "id" for i in range(len(columns)))
    return TextTable(table.source, names, tuple(columns), table.notes, table.form, table.separator)
