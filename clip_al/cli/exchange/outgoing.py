"""What the commands ``export`` share: the picks, where their images are, and their pre-labels."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from clip_al.cli.options import note, say
from clip_al.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clip_al.integrations.annotations import PreLabel
    from clip_al.label.explain import PickExplanation
    from clip_al.table.embedding_table import EmbeddingTable

PRE = "Pre-labels"
SEPARATORS = re.compile("[;|]")
"""Between the labels of one image in a cell."""
NONE = "-"
"""In place of several labels: none applies."""
NOT_COLUMNS = ("rank", "index", "concepts", "added_concepts", "selected", "")
"""Columns of a file of picks that are told in another way."""
TEXTS = ("given", "likelier", "label", "truth", "decision", "group", "split")
"""Columns whose numbers, if they are any, are names."""

Picks = Annotated[
    Path,
    typer.Argument(
        metavar="PICKS",
        help="What `select`, `suspects` or `search` wrote: .csv, or .json of `select --ratio`; or "
        "one id a line.",
    ),
]
OfTable = Annotated[
    Path, typer.Option("--table", help="The table that the images are of.", show_default=False)
]
ForClasses = Annotated[
    Optional[Path],  # noqa: UP045  typer evaluates this on Python 3.10 too
    typer.Option(
        help="Names of the classes, one a line. Without --predictions a head gives pre-labels: "
        "zero-shot, or trained on --labelled.",
        rich_help_panel=PRE,
    ),
]
Predictions = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        help="What `predict` wrote: CSV with `id`, `label` and, where known, `confidence`.",
        rich_help_panel=PRE,
    ),
]
ForHead = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--labelled", help="Labels that a head is trained on.", rich_help_panel=PRE),
]
NoPreLabels = Annotated[
    bool, typer.Option("--no-pre-labels", help="The images alone.", rich_help_panel=PRE)
]
MultiLabel = Annotated[
    bool,
    typer.Option("--multi-label", help="An image may have several labels, `cat;dog` in a file."),
]


@dataclass(frozen=True)
class Outgoing:
    """Picks in their order, and all that is known of each.

    Parameters
    ----------
    rows : ndarray of shape (b,), int64
        Positions in the table.
    ids, paths : list of str
        Of the picks.
    columns : dict of str to list
        Other columns of the file of picks: numbers or texts.
    explanations : list of PickExplanation or None
        Where the file says what the picks show.
    class_names : list of str or None
        None where no option tells.
    pre_labels : list of PreLabel or None
        None where there are none at all.
    """

    table: EmbeddingTable
    rows: NDArray[np.int64]
    ids: list[str]
    paths: list[str]
    columns: dict[str, list[Any]] = field(default_factory=dict)
    explanations: list[PickExplanation] | None = None
    class_names: list[str] | None = None
    pre_labels: list[PreLabel | None] | None = None

    def names_for(self, option: str) -> list[str]:
        """Return the classes, which an option needs."""
        if self.class_names is None:
            raise InvalidInputError(
                f"`{option}` must come with the names of the classes; got none. Pass `--classes` "
                "or `--predictions`."
            )
        return self.class_names

    def check_files(self) -> None:
        """Raise where a pick has no image file of its own on this machine."""
        without = [i for i, path in enumerate(self.paths) if not os.path.isfile(path)]  # noqa: PTH113
        if without:
            raise InvalidInputError(
                f"Each pick must have an image file here; {len(without):,} of {len(self.ids):,} "
                f"have none, the first is {self.ids[without[0]]!r} ({self.paths[without[0]]!r}). "
                "Fetch the images, and embed their folder."
            )

    def record(self) -> dict[str, Any]:
        """Return for JSON how many images there are, and how many have a pre-label."""
        given = [one for one in self.pre_labels or () if one is not None]
        sure = [one.confidence for one in given if one.confidence is not None]
        mean = sum(sure) / len(sure) if sure else None
        return {"images": len(self.ids), "pre_labels": len(given), "mean_confidence": mean}

    def say(self, what: str, output: Path) -> None:
        """Print what was written."""
        told = self.record()
        more = ""
        if self.pre_labels is not None:
            sure = told["mean_confidence"]
            mean = "" if sure is None else f" (mean confidence {sure:.2f})"
            more = f", {told['pre_labels']:,} with a pre-label{mean}"
        say(f"Wrote {told['images']:,} {what} to {output}{more}")


def read_outgoing(
    picks: Path,
    table_path: Path,
    *,
    classes: Path | None,
    predictions: Path | None,
    labelled: Path | None,
    pre_labels: bool,
    multi_label: bool,
) -> Outgoing:
    """Read the picks, and find their pre-labels.

    Raises
    ------
    InvalidInputError
        Where picks are no images of the table, gone, or parts of an image or a video, which
        other tools cannot show; where options do not fit.
    """
    from clip_al.images.parents import parent_of
    from clip_al.table.embedding_table import EmbeddingTable

    table = EmbeddingTable.open(table_path)
    rows, columns, explanations = _read_picks(picks, table)
    ids, paths = table.ids[rows].tolist(), table.paths[rows].tolist()
    parts = [name for name in ids if parent_of(name) != name]
    if parts:
        raise InvalidInputError(
            f"Picks must be whole images; {len(parts):,} of {len(ids):,} are frames of a video or "
            f"crops, which other tools find no file of, the first is {parts[0]!r}. Save them as "
            "files, and embed these."
        )
    gone = sorted(set(rows.tolist()) & set(table.gone.tolist()))
    if gone:
        raise InvalidInputError(
            f"Picks must be images that are there; {len(gone):,} of {len(ids):,} are gone from "
            f"{table.root}, the first is {table.ids[gone[0]]!r}. Put them back, or make the table "
            "again with `clip-al embed --force` and select from it."
        )
    names, found = _read_pre_labels(
        table, rows, classes, predictions, labelled, pre_labels, multi_label
    )
    return Outgoing(table, rows, ids, paths, columns, explanations, names, found)


def _read_picks(
    path: Path, table: EmbeddingTable
) -> tuple[NDArray[np.int64], dict[str, list[Any]], list[PickExplanation] | None]:
    """Return the rows of the picks, other columns, and what they show."""
    from clip_al.handed_in.match import ID_NAMES
    from clip_al.handed_in.read import read_picks
    from clip_al.handed_in.tables import read_table
    from clip_al.subset.selection import Selection

    if path.suffix.lower() == ".json":
        selection = Selection.load(path)
        if selection.ids is None:
            raise InvalidInputError(
                f"{path} must name its images; it has positions alone. Choose from a table, by "
                "`clip-al select`."
            )
        rows = table.index_of(selection.ids[selection.indices])
        frame = selection.to_frame().iloc[selection.indices]
        cells = {str(name): frame[name].tolist() for name in frame.columns}
        explanations = None
    else:
        read, explanations, _ = read_picks(path, table)
        note(path, read.how)
        rows, cells = read.indices, {}
        if path.suffix.lower() != ".npy":
            held = read_table(path)
            if len(held) == len(rows):  # else there was no header
                cells = dict(zip(held.names, map(list, held.columns), strict=True))
    if not len(rows):
        raise InvalidInputError(f"{path} must name at least one image; it names none. Select some.")
    skipped = {*NOT_COLUMNS, *ID_NAMES}
    columns = {
        name: values
        for name, given in cells.items()
        if name.casefold() not in skipped and any(values := [_plain(cell) for cell in given])
    }
    return rows, _of_one_kind(columns), explanations


def _plain(cell: Any) -> Any:
    """Return a cell as what JSON has; None where there is no value."""
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    return None if cell == "" else cell


def _of_one_kind(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return columns of numbers as numbers, and others as texts."""
    import numpy as np

    from clip_al.handed_in.tables import numbers_of

    result: dict[str, list[Any]] = {}
    for name, cells in columns.items():
        texts = np.array(["" if cell is None else str(cell) for cell in cells], dtype=object)
        numbers = numbers_of(texts)
        filled = texts != ""
        if name.casefold() not in TEXTS and np.isfinite(numbers[filled]).all():
            given = zip(numbers.tolist(), filled, strict=True)
            result[name] = [x if there else None for x, there in given]
        else:
            result[name] = [str(text) if text else None for text in texts]
    return result


def _read_pre_labels(
    table: EmbeddingTable,
    rows: NDArray[np.int64],
    classes: Path | None,
    predictions: Path | None,
    labelled: Path | None,
    wanted: bool,
    multi_label: bool,
) -> tuple[list[str] | None, list[PreLabel | None] | None]:
    from clip_al.handed_in.read import read_class_names

    if labelled is not None and (classes is None or predictions is not None or not wanted):
        raise InvalidInputError(
            "`--labelled` must come with `--classes`, and without `--predictions` and "
            "`--no-pre-labels`: a head is trained on it. Leave it out, or pass `--classes` alone."
        )
    names = None if classes is None else read_class_names(classes)
    if predictions is not None:
        listed, found = _of_file(predictions, table, rows, names, multi_label)
        return listed, found if wanted else None
    if names is None or not wanted or classes is None:
        return names, None
    if multi_label:
        raise InvalidInputError(
            "Pre-labels of several classes must come from a file; with `--multi-label` and "
            "`--classes` there is none. Pass `--predictions`, or `--no-pre-labels`."
        )
    return names, _of_head(table, rows, classes, labelled)


def _of_head(
    table: EmbeddingTable, rows: NDArray[np.int64], classes: Path, labelled: Path | None
) -> list[PreLabel | None]:
    """Return the likeliest class of each pick by a head, zero-shot where there is no label."""
    from clip_al.cli.head import train_head
    from clip_al.integrations.annotations import PreLabel

    head = train_head(table, classes, labelled, None, None, 0)
    prob_bk = head.classifier.predict_proba(table[rows])
    best_b = prob_bk.argmax(axis=1)
    pairs = zip(prob_bk.max(axis=1).tolist(), best_b.tolist(), strict=True)
    return [PreLabel((head.names[k],), confidence) for confidence, k in pairs]


def _of_file(
    path: Path,
    table: EmbeddingTable,
    rows: NDArray[np.int64],
    names: list[str] | None,
    multi_label: bool,
) -> tuple[list[str], list[PreLabel | None]]:
    """Return the classes of a file of predictions, and the pre-label of each pick that has one."""
    import numpy as np

    from clip_al.handed_in.match import ImageNames, match_rows, no_column, told
    from clip_al.handed_in.rows import check_once
    from clip_al.handed_in.tables import read_table

    cells, images = read_table(path), ImageNames(table.ids, table.paths)
    label, sure = cells.find("label"), cells.find("confidence")
    if label is None:
        raise InvalidInputError(
            f"{path} must have a column `label`; got the columns {cells.described()}. Write it by "
            "`clip-al predict`."
        )
    match = match_rows(cells, images, {label} if sure is None else {label, sure})
    if match is None:
        raise no_column(cells, images, "the labels")
    check_once(cells, match, np.flatnonzero(match.at >= 0))
    given = _split(cells.columns[label], names, multi_label)
    known = names or sorted({part for parts in given for part in parts})
    row_of = {int(i): row for row, i in enumerate(match.at) if i >= 0}
    found: list[PreLabel | None] = []
    for i in rows.tolist():
        row = row_of.get(i)
        one = None
        if row is not None and given[row]:
            confidence = None if sure is None else str(cells.columns[sure][row])
            one = _pre_label(given[row], confidence, known, path, str(table.ids[i]))
        found.append(one)
    without = found.count(None)
    rest = f", {without:,} of the picks have none" if without else ""
    note(path, f"{len(found) - without:,} pre-labels {told(match, cells)}{rest}")
    return known, found


def _split(
    column: NDArray[np.object_], names: list[str] | None, multi_label: bool
) -> list[tuple[str, ...]]:
    """Return the labels of each row; none where the cell says that there is no value."""
    from clip_al.handed_in.tables import as_latin, is_missing

    missing = is_missing(column, names or ())
    result: list[tuple[str, ...]] = []
    for cell, gap in zip(column, missing, strict=True):
        text = as_latin(cell)
        several = multi_label and text not in (names or ())
        parts = SEPARATORS.split(text) if several else [text]
        filled = [part.strip() for part in parts if part.strip() and (text != NONE or not several)]
        result.append(() if gap else tuple(dict.fromkeys(filled)))
    return result


def _pre_label(
    labels: tuple[str, ...], confidence: str | None, known: list[str], path: Path, image: str
) -> PreLabel:
    from clip_al.integrations.annotations import PreLabel

    odd = next((label for label in labels if label not in known), None)
    if odd is not None:
        raise InvalidInputError(
            f"Each label of {path} must be one of the classes {', '.join(known[:8])}; {image!r} "
            f"has {odd!r}. Correct it, or add the class."
        )
    if confidence is None:
        return PreLabel(labels)
    each = tuple(map(_share, SEPARATORS.split(confidence)))
    if not all(0 <= share <= 1 for share in each) or len(each) not in (1, len(labels)):
        raise InvalidInputError(
            f"The column `confidence` of {path} must hold numbers in [0, 1], one, or one for each "
            f"label; that of {image!r} is {confidence!r}. Correct it, or leave the column out."
        )
    return PreLabel(labels, min(each), each if len(each) > 1 else None)


def _share(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan
