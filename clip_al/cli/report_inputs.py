"""What ``report`` reads: a selection or a sample of a table, and the labels of before."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clip_al.cli.options import note
from clip_al.errors import InvalidInputError

if TYPE_CHECKING:
    from clip_al.concepts.profiles import ConceptProfiles
    from clip_al.label.explain import PickExplanation
    from clip_al.subset.selection import Selection
    from clip_al.table.embedding_table import EmbeddingTable


@dataclass
class Read:
    """A selection as it was read, and what a CSV file says: the order, and of each pick."""

    selection: Selection
    order: NDArray[np.int64] | None = None
    picks: list[PickExplanation] | None = None
    pick_scores: dict[str, NDArray[Any]] = field(default_factory=dict)
    is_sample: bool = False
    n_suspects: int | None = None


def read_selection(
    path: Path,
    table: EmbeddingTable | None,
    labels: str | None = None,
    classes: Path | None = None,
) -> Read:
    """Read a selection as `select` wrote it.

    Parameters
    ----------
    path : Path
        .json; or .csv with a column ``id`` or ``index``, best first. Its columns of numbers are
        scores of the picks, and ``concepts`` and ``added_concepts`` are what they show.
    table : EmbeddingTable, optional
        What the images of a .csv are looked up in.
    labels, classes : optional
        Of all images, as `read_labels` takes them; for a .csv.
    """
    from clip_al.handed_in.decisions import read_likelier
    from clip_al.handed_in.read import read_picks
    from clip_al.subset.selection import Selection

    suffix = path.suffix.lower()
    if suffix == ".json":
        return Read(Selection.load(path))
    if suffix != ".csv" or table is None:
        raise InvalidInputError(
            "SELECTION must be a .json that `select --ratio` wrote, or a .csv together with "
            f"`--table`; got {path}{' without `--table`' if suffix == '.csv' else ''}. Pass "
            "`--table`, the table that was selected from."
        )
    read, picks, scores = read_picks(path, table)
    note(path, read.how)
    if not len(read.indices):
        raise InvalidInputError(
            f"{path} must name at least one image to show; it has none. There is nothing to look "
            "at: where it is of `clip-al suspects`, no label looks wrong. Give the table itself to "
            "see a sample of it."
        )
    selection = _select_rows(read.indices, table, labels, classes, picks=path.name)
    if labels is not None and "score" in scores:
        likelier = read_likelier(path, selection.class_names or ())
        if likelier is not None:
            return _of_suspects(selection, read.indices, scores.pop("score"), likelier)
    return Read(selection, read.indices, picks, scores)


def _of_suspects(
    selection: Selection, rows: NDArray[np.int64], score: NDArray[Any], likelier: NDArray[np.int64]
) -> Read:
    """Return the suspects of a file as a selection that knows them; no other image has a score."""
    score_n = np.full(selection.n_images, np.nan)
    likeliest_n = np.array(selection.labels)
    score_n[rows], likeliest_n[rows] = score, likelier
    known = replace(selection, scores={"label_score": score_n, "likeliest": likeliest_n})
    return Read(known, rows, n_suspects=len(rows))


def read_sample(table: EmbeddingTable, n: int, labels: str | None, classes: Path | None) -> Read:
    """Return n images of a table, evenly spaced; all where there are fewer."""
    from clip_al.show.report.map import spaced

    rows = spaced(np.setdiff1d(np.arange(len(table)), table.gone), n)
    if not rows.size:
        raise InvalidInputError(
            f"{table.directory} must hold an image that is still in its folder; all of its "
            f"{len(table):,} are gone. Embed a folder of images."
        )
    found = _select_rows(rows, table, labels, classes, sample_of=Path(table.directory).name)
    return Read(found, is_sample=True)


def _select_rows(
    rows: NDArray[np.int64],
    table: EmbeddingTable,
    labels: str | None,
    classes: Path | None,
    **settings: str,
) -> Selection:
    """Return rows of a table as a selection, with the labels of all images where given."""
    from clip_al.handed_in.read import read_labels
    from clip_al.subset.selection import Selection

    y = names = None
    if labels is not None:
        given = read_labels(labels, table, classes)
        note(labels, given.how)
        y, names = given.labels, given.class_names
    return Selection.from_indices(
        rows,
        len(table),
        settings={"model": table.model_id, **settings},
        y=y,
        class_names=names,
        ids=table.ids.tolist(),
    )


def read_before(
    path: Path, table: EmbeddingTable, names: list[str] | None, classes: Path | None
) -> tuple[NDArray[np.int64], list[str] | None]:
    """Read which images had labels, and the names of their classes where the file has them."""
    from clip_al.handed_in.class_names import encode_given
    from clip_al.handed_in.read import read_labelled

    read = read_labelled(path, table, "--labelled", classes=names or ())
    note(path, read.how)
    if names is None or not read.labels:
        return read.indices, read.labels
    codes, _ = encode_given(read.labels, table.ids[read.indices], names, str(path), classes)
    return read.indices, [names[code] for code in codes]


def explain(
    read: Read, profiles: ConceptProfiles | None, labelled: NDArray[np.int64] | None
) -> list[PickExplanation] | None:
    """Return the picks of a CSV file in its order, with concepts where those are known."""
    from clip_al.label.explain import PickExplanation, explain_picks

    if read.order is None or read.picks is not None:
        return read.picks
    if profiles is None:
        return [PickExplanation(int(index), (), ()) for index in read.order]
    seen = profiles.take(labelled) if labelled is not None and labelled.size else None
    return explain_picks(read.order, profiles, labelled=seen)
