"""What the operators of the plugin do: labels of samples in, tags, fields and a view out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.cli.exchange.incoming import match_images
from clip_al.cli.head import LabelledRows, TrainedHead
from clip_al.cli.options import encoder_of
from clip_al.cli.picks import Query
from clip_al.errors import InvalidInputError
from clip_al.integrations.annotations import PreLabel
from clip_al.integrations.fiftyone import add_picks, add_pre_labels, read_annotations
from clip_al.label.head.classifier import ClipClassifier
from clip_al.subset.selector import ClipSelector
from clip_al.table.embedding_table import EmbeddingTable

SUSPECT = "suspect"
"""Tag of the samples whose labels look wrong."""


def select_next_batch(
    dataset: Any,
    table: str,
    budget: int,
    *,
    classes: Sequence[str] | None = None,
    label_field: str = "ground_truth",
) -> tuple[Any, str]:
    """Tag and rank what to label next among the samples without a label; give them pre-labels.

    Parameters
    ----------
    dataset : Dataset
        Its samples are found in the table by ``filepath``. An earlier batch loses tag and rank.
    table : str
        A table that `clip-al embed` wrote.
    budget : int
        How many.
    classes : sequence of str, optional
        Left out, ``dataset.classes[label_field]``, ``dataset.default_classes``, or the labels
        that occur.
    label_field : str
        The field that has the labels.

    Returns
    -------
    DatasetView
        The picks, best first.
    str
        What was done.

    Raises
    ------
    InvalidInputError
        Where fewer than two classes are known, no sample is of the table, or fewer samples than
        `budget` are left.
    """
    opened = EmbeddingTable.open(table)
    names, rows, codes, there = _labels(dataset, opened, classes, label_field)
    encoder = encoder_of(opened, None, None)
    opened.check_model(encoder)
    classifier = ClipClassifier(names, encoder).fit(opened[rows], codes)
    head = TrainedHead(classifier, names, LabelledRows(rows, codes), encoder)
    prob_nk = head.probabilities(opened)
    asked = prob_nk if len(rows) else None
    query = Query(opened, budget, rows, asked, np.setdiff1d(np.arange(len(opened)), there))
    if not 1 <= budget <= len(query.pool):
        raise InvalidInputError(
            f"`budget` must be in [1, {len(query.pool)}], the samples without a label that are in "
            f"the table; got {budget}. Change it."
        )
    picks = query.pick_by_coverage(head, 0)
    best_b = prob_nk[picks].argmax(axis=1)
    pairs = zip(best_b.tolist(), prob_nk[picks].max(axis=1).tolist(), strict=True)
    pre_labels = [PreLabel((names[k],), confidence) for k, confidence in pairs]
    paths = opened.paths.tolist()
    view = add_picks(dataset, picks, paths, overwrite=True)
    add_pre_labels(dataset, [paths[i] for i in picks], pre_labels, overwrite=True)
    how = f"by a head trained on {len(rows):,} labels" if len(rows) else "by the class names alone"
    return view, f"{len(picks):,} of {len(query.pool):,} samples without a label, {how}."


def find_suspects(
    dataset: Any,
    table: str,
    n: int,
    *,
    classes: Sequence[str] | None = None,
    label_field: str = "ground_truth",
) -> tuple[Any, str]:
    """Tag the samples whose labels are likeliest wrong, worst first.

    Parameters
    ----------
    n : int
        How many.
    dataset, table, classes, label_field
        As for `select_next_batch`. Samples without a label do not count. The fields are
        ``clip_al_suspect_rank``, ``_given``, ``_likelier`` and ``_score``; earlier ones and the
        tag ``suspect`` are replaced.

    Returns
    -------
    DatasetView
        The suspects, worst first.
    str
        What was done.

    Raises
    ------
    InvalidInputError
        As for `select_next_batch`, and where fewer than `n` samples have a label.
    """
    opened = EmbeddingTable.open(table)
    names, rows, codes, _ = _labels(dataset, opened, classes, label_field)
    if not 1 <= n <= len(rows):
        raise InvalidInputError(
            f"`n` must be in [1, {len(rows)}], the samples that have a label in {label_field!r} "
            f"and are in the table; got {n}. Change it."
        )
    encoder = encoder_of(opened, None, None)
    opened.check_model(encoder)
    selector = ClipSelector(ratio=1.0, alpha=0.0, class_names=names, encoder=encoder)
    selection = selector.fit_select(opened[rows], codes)
    found = selection.suspects(n)
    columns: dict[str, list[Any]] = {
        "given": [one.given for one in found],
        "likelier": [one.likeliest for one in found],
        "score": [float(one.score) for one in found],
    }
    view = add_picks(
        dataset,
        rows[[one.index for one in found]],
        opened.paths.tolist(),
        columns=columns,
        tag=SUSPECT,
        prefix="clip_al_suspect_",
        overwrite=True,
    )
    return view, f"{len(found):,} of {len(rows):,} labels, the likeliest to be wrong first."


def _labels(
    dataset: Any, table: EmbeddingTable, classes: Sequence[str] | None, label_field: str
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the classes, rows of the table with a label, their classes, and rows with a sample."""
    listed = classes or dataset.classes.get(label_field) or dataset.default_classes or None
    if not dataset.has_field(label_field) and listed:  # nothing was labelled yet
        names, rows = list(listed), {}
    else:
        found = read_annotations(dataset, listed, label_field=label_field)
        rows = match_images(found, f"the dataset {dataset.name!r}", table).labels
        names = list(found.class_names)
    if len(names) < 2:
        raise InvalidInputError(
            f"`classes` must name two classes or more, as the field {label_field!r} of the dataset "
            f"{dataset.name!r} has {len(names)}. Name them all."
        )
    position = {path: i for i, path in enumerate(table.paths)}
    there = [position[path] for path in dataset.values("filepath") if path in position]
    if not there:
        raise InvalidInputError(
            f"Samples must be of the table {str(table.directory)!r}, by their `filepath`; none of "
            f"{dataset.name!r} is, the first is {dataset.first().filepath!r}, where the table has "
            f"paths like {table.paths[0]!r}. Name the table that was made of these images."
        )
    number = {name: k for k, name in enumerate(names)}
    return (
        names,
        np.array(list(rows), dtype=np.int64),
        np.array([number[label] for label in rows.values()], dtype=np.int64),
        np.unique(np.array(there, dtype=np.int64)),
    )
