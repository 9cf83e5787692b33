"""FiftyOne: selections and batches as fields, tags and views; tags and labels back.

Samples are found by one of their fields, ``filepath`` by default, so the paths of an
`EmbeddingTable` fit. fiftyone is imported on first use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_indices
from clip_al.errors import InvalidInputError, InvalidTypeError, missing_extra
from clip_al.integrations.annotations import Annotations, PreLabel
from clip_al.integrations.fiftyone_files import GROUND_TRUTH, ID, PREDICTION, settle_samples

if TYPE_CHECKING:
    from fiftyone import Dataset, DatasetView

    from clip_al.label.explain import PickExplanation
    from clip_al.subset.selection import Selection


def add_selection(
    dataset: Dataset,
    selection: Selection,
    names: Sequence[str] | None = None,
    *,
    field: str = "filepath",
    tag: str = "selected",
    prefix: str = "clip_al_",
    overwrite: bool = False,
) -> DatasetView:
    """Write the scores of a selection to samples, and tag the chosen ones.

    Parameters
    ----------
    dataset : Dataset
        Its samples get fields and a tag; nothing else is changed.
    selection : Selection
    names : sequence of str, optional
        What `field` holds for each of the n images, such as ``table.paths``; the selection's
        ids by default.
    field : str
        Of the samples; each name must be there once.
    tag : str
        Of the chosen samples.
    prefix : str
        Before the name of each field: the columns of `Selection.to_frame` but for the id.
    overwrite : bool, default=False
        Replace such fields, and such a tag, where they are there.

    Returns
    -------
    DatasetView
        The chosen samples, in the order of the selection's indices.

    Raises
    ------
    InvalidInputError
        Where an image has no sample or several, or a field or the tag is there.
    InvalidTypeError
        Where `dataset` is no dataset of FiftyOne.
    MissingDependencyError
        Where fiftyone is not installed.

    Notes
    -----
    One bulk update a field, O(n).
    """
    frame = selection.to_frame().drop(columns=["id", "index", "selected"], errors="ignore")
    columns = {prefix + str(name): frame[name].tolist() for name in frame.columns}
    known: Any = selection.ids if names is None else names
    if known is None or len(known) != selection.n_images:
        raise InvalidInputError(
            f"`names` must name each of the {selection.n_images} images; got "
            f"{'none' if known is None else len(known)}. Pass `table.paths`, for instance."
        )
    samples = _sample_ids(dataset, known, field)
    chosen = [samples[i] for i in selection.indices]
    return _write(dataset, samples, columns, chosen, tag, overwrite)


def add_picks(
    dataset: Dataset,
    indices: ArrayLike,
    names: Sequence[str],
    *,
    explanations: Sequence[PickExplanation] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    field: str = "filepath",
    tag: str = "to label",
    prefix: str = "clip_al_",
    overwrite: bool = False,
) -> DatasetView:
    """Write rank and concepts of a batch to label to its samples, and tag them.

    Parameters
    ----------
    indices : array-like of shape (b,), int
        Picks, best first, as positions in the pool.
    names : sequence of str
        What `field` holds for each image of the pool.
    explanations : sequence of PickExplanation, optional
        What `strategy.explain(indices, pool)` returned.
    columns : mapping of str to sequence, optional
        More fields, of text or numbers, one entry for each pick.
    dataset, field, tag, prefix, overwrite
        As for `add_selection`; the fields are ``rank``, from 1, ``concepts`` and ``added``.

    Returns
    -------
    DatasetView
        The picks, best first.

    Raises
    ------
    InvalidInputError, InvalidTypeError, MissingDependencyError
        As for `add_selection`, and where picks repeat or lie outside the pool.
    """
    picks = check_indices(indices, len(names))
    fields: dict[str, list[Any]] = {f"{prefix}rank": list(range(1, len(picks) + 1))}
    for name, cells in (columns or {}).items():
        if len(cells) != len(picks):
            raise InvalidInputError(
                f"`columns` must have one entry for each of the {len(picks)} picks; {name!r} has "
                f"{len(cells)}. Pass those of the picks, in their order."
            )
        fields[f"{prefix}{name}"] = list(cells)
    if explanations is not None:
        if [told.index for told in explanations] != picks.tolist():
            raise InvalidInputError(
                "`explanations` must be of the picks, in their order; got others. Pass what "
                "`strategy.explain(indices, pool)` returns."
            )
        fields[f"{prefix}concepts"] = [list(told.concepts) for told in explanations]
        fields[f"{prefix}added"] = [list(told.added) for told in explanations]
    chosen = _sample_ids(dataset, [names[i] for i in picks], field)
    return _write(dataset, chosen, fields, chosen, tag, overwrite)


def add_pre_labels(
    dataset: Dataset,
    names: Sequence[str],
    pre_labels: Sequence[PreLabel | None],
    *,
    field: str = "filepath",
    label_field: str = PREDICTION,
    multi_label: bool = False,
    overwrite: bool = False,
) -> None:
    """Write what a model takes images for to their samples, with its confidence.

    Parameters
    ----------
    names : sequence of str
        What `field` holds for each image.
    pre_labels : sequence of PreLabel or None
        One for each name; None for an image without.
    label_field : str
        Gets a ``Classification``, with `multi_label` ``Classifications``.
    dataset, field, overwrite
        As for `add_selection`.

    Raises
    ------
    InvalidInputError, InvalidTypeError, MissingDependencyError
        As for `add_selection`, and where lengths differ.
    """
    if len(names) != len(pre_labels):
        raise InvalidInputError(
            f"`pre_labels` must have one entry for each of the {len(names)} names; got "
            f"{len(pre_labels)}. Pass those of the images, in their order."
        )
    samples = _sample_ids(dataset, names, field)
    import fiftyone

    def label(pre_label: PreLabel | None) -> Any:
        if pre_label is None:
            return None
        labels = [
            fiftyone.Classification(label=name, confidence=confidence)
            for name, confidence in pre_label.pairs()
        ]
        return fiftyone.Classifications(classifications=labels) if multi_label else labels[0]

    if dataset.has_field(label_field):
        if not overwrite:
            raise InvalidInputError(
                f"`label_field` must be new; {label_field!r} is there. Name another, or pass "
                "overwrite=True to replace it."
            )
        dataset.delete_sample_field(label_field)
    values = dict(zip(samples, map(label, pre_labels), strict=True))
    dataset.set_values(label_field, values, key_field="id")


def read_annotations(
    dataset: Dataset,
    class_names: Sequence[str] | None = None,
    *,
    label_field: str = GROUND_TRUTH,
    conflicts: str = "leave",
    multi_label: bool = False,
) -> Annotations:
    """Read the labels that samples have; see `clip_al.integrations.fiftyone_files`.

    Parameters
    ----------
    dataset : Dataset
    class_names, conflicts, multi_label
        As for `clip_al.integrations.fiftyone_files.read_annotations`.
    label_field : str
        The field that has the labels, or ``tags``.

    Returns
    -------
    Annotations
        By ``clip_al_id``, or else by ``filepath``.

    Raises
    ------
    InvalidInputError, InvalidTypeError, MissingDependencyError
        As for `add_selection`, and where no sample has the field, or it is no label.
    """
    _check_dataset(dataset)
    schema = dataset.get_field_schema()
    wanted = [name for name in (ID, "filepath", label_field) if name in schema]
    if label_field not in schema:
        wanted = [name for name in schema if name != "id"]  # the error names those that are labels
    rows = zip(*dataset.values(list(dict.fromkeys(wanted))), strict=True)
    samples = [dict(zip(dict.fromkeys(wanted), map(_plain, row), strict=True)) for row in rows]
    return settle_samples(
        samples,
        class_names,
        label_field,
        conflicts=conflicts,
        multi_label=multi_label,
        where=f"the dataset {dataset.name!r}",
    )


def _plain(value: Any) -> Any:
    """Return a label of FiftyOne's as it stands in JSON."""
    return value.to_dict() if hasattr(value, "to_dict") else value


def tagged(
    dataset: Dataset, tag: str, names: Sequence[str], *, field: str = "filepath"
) -> NDArray[np.int64]:
    """Return the positions of the images that have a tag, ascending; those it does not know aside.

    Parameters
    ----------
    dataset, names, field
        As for `add_picks`.
    tag : str
        Set in the App, for instance.
    """
    _check_dataset(dataset)
    found = set(dataset.match_tags(tag).values(field))
    return np.flatnonzero([name in found for name in names]).astype(np.int64)


def _write(
    dataset: Any,
    samples: Sequence[str],
    columns: dict[str, list[Any]],
    chosen: Sequence[str],
    tag: str,
    overwrite: bool,
) -> Any:
    there = [name for name in columns if dataset.has_field(name)]
    there += [tag] if tag in dataset.count_sample_tags() else []
    if there and not overwrite:
        raise InvalidInputError(
            f"Fields and tag must be new; {there[0]!r} is there. Pass another `prefix` and `tag`, "
            "or overwrite=True to replace them."
        )
    for name in there:
        if name == tag:
            dataset.match_tags(tag).untag_samples(tag)
        else:
            dataset.delete_sample_field(name)
    for name, values in columns.items():
        dataset.set_values(name, dict(zip(samples, values, strict=True)), key_field="id")
    view = dataset.select(list(chosen), ordered=True)
    view.tag_samples(tag)
    return view


def _sample_ids(dataset: Any, names: Sequence[str], field: str) -> list[str]:
    """Return the id of the sample of each name."""
    _check_dataset(dataset)
    if not dataset.has_field(field):
        raise InvalidInputError(
            f"`field` must be one of the samples; {field!r} is not. Pass the field of the names."
        )
    held, sample_ids = dataset.values([field, "id"])
    n_samples, n_names = Counter(held), Counter(names)
    for name in names:
        if n_samples[name] != 1 or n_names[name] != 1:
            raise InvalidInputError(
                f"Each image must have a name and a sample of its own, whose `{field}` is that "
                f"name; {n_names[name]} images and {n_samples[name]} samples are {name!r}. Pass "
                "the `names` that the dataset knows, and remove repeated samples."
            )
    known = dict(zip(held, sample_ids, strict=True))
    return [known[name] for name in names]


def _check_dataset(dataset: Any) -> None:
    try:
        import fiftyone
    except ImportError as exc:
        raise missing_extra("clip_al.integrations.fiftyone needs fiftyone", "fiftyone") from exc
    if not isinstance(dataset, fiftyone.Dataset):
        raise InvalidTypeError(
            f"`dataset` must be a FiftyOne Dataset; got {type(dataset).__name__}. Load one with "
            "`fiftyone.load_dataset`."
        )
