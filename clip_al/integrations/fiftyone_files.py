"""FiftyOne's JSON: picks with pre-labels for `Dataset.from_json`, and labels from its exports.

    picks, pre-labels ──dataset_of, write_samples──▶ JSON, which `Dataset.from_json` loads
    `write_json`, or an export as FiftyOneDataset ──read_annotations──▶ ids and labels

Nothing of FiftyOne's is needed. With fiftyone installed, `clip_al.integrations.fiftyone` writes to
a dataset in its database, and reads from it.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clip_al.atomic import as_path, replacing
from clip_al.errors import InvalidInputError
from clip_al.handed_in.tables import read_bytes
from clip_al.integrations.annotations import EMPTY, OPEN, Annotations, Answer, PreLabel, settle

PREDICTION, ID, RANK = "clip_al_prediction", "clip_al_id", "clip_al_rank"
"""Fields of the samples: what a model takes them for, the id in the table, the rank."""
GROUND_TRUTH, TAGS = "ground_truth", "tags"
TO_LABEL = "to label"
_FIELD = "fiftyone.core.fields."
_LABEL = _FIELD + "EmbeddedDocumentField(fiftyone.core.labels.{})"
SCHEMA = {
    "id": _FIELD + "ObjectIdField",
    "filepath": _FIELD + "StringField",
    "tags": f"{_FIELD}ListField({_FIELD}StringField)",
    "metadata": f"{_FIELD}EmbeddedDocumentField(fiftyone.core.metadata.ImageMetadata)",
    ID: _FIELD + "StringField",
    RANK: _FIELD + "IntField",
}


def dataset_of(
    ids: Sequence[str],
    files: Sequence[str],
    *,
    name: str = TO_LABEL,
    pre_labels: Sequence[PreLabel | None] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    multi_label: bool = False,
) -> dict[str, Any]:
    """Return picks, best first, as `fiftyone.Dataset.from_dict` takes a dataset.

    Parameters
    ----------
    ids, files : sequence of str
        What each pick is called in the table, and its absolute path.
    name : str
        Of the dataset.
    pre_labels : sequence of PreLabel or None, optional
        One for each pick, into the field ``clip_al_prediction``; None for a pick without.
    columns : mapping of str to sequence, optional
        More fields, of text or numbers, one entry for each pick; their names get ``clip_al_``
        before them.
    multi_label : bool
        ``clip_al_prediction`` and ``ground_truth`` hold several labels.

    Returns
    -------
    dict
        Samples are tagged ``to label`` and have the fields ``clip_al_id``, ``clip_al_rank``,
        ``clip_al_prediction`` and ``ground_truth``, which is empty: `read_annotations` reads it.

    Raises
    ------
    InvalidInputError
        Where lengths differ.
    """
    given = [None] * len(ids) if pre_labels is None else list(pre_labels)
    more: dict[str, list[Any]] = {}
    for key, cells in (columns or {}).items():
        name_of_field = "clip_al_" + re.sub(r"\W", "_", str(key))
        if name_of_field in (*more, ID, RANK):
            raise InvalidInputError(
                f"`columns` must have names of their own; {key!r} becomes the field "
                f"{name_of_field!r}, which is there. Rename it."
            )
        more[name_of_field] = list(cells)
    for key, cells in (("files", files), ("pre_labels", given), *more.items()):
        if len(cells) != len(ids):
            raise InvalidInputError(
                f"`{key}` must have one entry for each of the {len(ids)} picks; got {len(cells)}. "
                "Pass those of the picks, in their order."
            )
    kind = _LABEL.format("Classifications" if multi_label else "Classification")
    schema = SCHEMA | {PREDICTION: kind, GROUND_TRUTH: kind}
    schema |= {key: _FIELD + _kind_of(cells) for key, cells in more.items()}
    samples = []
    for i, (image_id, file) in enumerate(zip(ids, files, strict=True)):
        sample: dict[str, Any] = {"filepath": str(file), "tags": [TO_LABEL], "metadata": None}
        sample |= {ID: str(image_id), RANK: i + 1, GROUND_TRUTH: None}
        sample[PREDICTION] = _label(given[i], multi_label)
        samples.append(sample | {key: cells[i] for key, cells in more.items()})
    about = {"name": name, "media_type": "image", "sample_fields": schema, "info": {}}
    return about | {"samples": samples}


def write_samples(
    path: str | os.PathLike[str], dataset: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write what `dataset_of` returned as JSON; InvalidInputError where a file is there already.

    `fiftyone.Dataset.from_json(path)` loads it.
    """
    with replacing(path, overwrite=overwrite) as file:
        json.dump(dataset, file, indent=1)


def read_annotations(
    source: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
    *,
    field: str = GROUND_TRUTH,
    conflicts: str = "leave",
    multi_label: bool = False,
) -> Annotations:
    """Read the labels that samples have.

    Parameters
    ----------
    source : path
        What `dataset.write_json` wrote, or a view's; or an export as FiftyOneDataset: its folder,
        or ``samples.json`` in it.
    class_names : sequence of str, optional
        In the order of their numbers; left out, those that occur, sorted. Needed for tags.
    field : str
        Which field of the samples has the labels: ``Classification``, ``Classifications`` or
        text. ``tags``: those tags of a sample that are called like a class.
    conflicts : {"leave", "majority", "raise"}
        What becomes of an image that has several samples with different labels; see
        `clip_al.integrations.annotations.settle`.
    multi_label : bool
        An image may have several labels.

    Returns
    -------
    Annotations
        By ``clip_al_id``, which `write_samples` gave, or else by ``filepath``; ``aside`` counts
        tags that are no class.

    Raises
    ------
    InvalidInputError
        Where the file is no such JSON, no sample has the field, or a field is no label.
    """
    path = as_path(source, "source")
    samples = _samples(path)
    return settle_samples(
        samples, class_names, field, conflicts=conflicts, multi_label=multi_label, where=str(path)
    )


def settle_samples(
    samples: Sequence[Mapping[str, Any]],
    class_names: Sequence[str] | None,
    field: str,
    *,
    conflicts: str,
    multi_label: bool,
    where: str,
) -> Annotations:
    """Return the labels of samples as FiftyOne serialises them; see `read_annotations`."""
    if field == TAGS and class_names is None:
        raise InvalidInputError(
            f"Classes must be known where tags are labels, as {where} may have other tags; got "
            "none. Pass `class_names`."
        )
    if samples and not any(field in sample for sample in samples):
        raise InvalidInputError(
            f"`field` must be one of the samples of {where}; {field!r} is not. They have "
            f"{', '.join(_label_fields(samples)) or 'no labels'}. Name one."
        )
    aside: Counter[str] = Counter()
    classes = set(class_names or ())
    answers = list(_answers(samples, field, classes, aside, where))
    return settle(
        answers,
        class_names,
        conflicts=conflicts,
        multi_label=multi_label,
        aside=aside,
        where=where,
    )


def _kind_of(cells: Sequence[Any]) -> str:
    cells = [cell for cell in cells if cell is not None]
    if all(isinstance(cell, int) for cell in cells):
        return "IntField"
    if all(isinstance(cell, int | float) for cell in cells):
        return "FloatField"
    return "StringField"


def _label(pre_label: PreLabel | None, multi_label: bool) -> dict[str, Any] | None:
    if pre_label is None:
        return None
    labels: list[dict[str, Any]] = [
        {"_cls": "Classification", "tags": [], "label": label, "confidence": confidence}
        for label, confidence in pre_label.pairs()
    ]
    return {"_cls": "Classifications", "classifications": labels} if multi_label else labels[0]


def _samples(path: Path) -> list[Mapping[str, Any]]:
    file = path / "samples.json" if path.is_dir() else path
    try:
        held = json.loads(read_bytes(file))
    except ValueError as exc:
        raise InvalidInputError(
            f"{file} must be JSON; {exc}. Write it by `dataset.write_json`, or export as "
            "FiftyOneDataset."
        ) from exc
    samples = held.get("samples") if isinstance(held, Mapping) else None
    if not isinstance(samples, list) or not all(isinstance(entry, Mapping) for entry in samples):
        hint = ""
        if isinstance(held, Mapping) and "labels" in held:
            hint = " It looks like an export as FiftyOneImageClassificationDataset, without paths."
        raise InvalidInputError(
            f"{file} must hold `samples`, a list of objects; it does not.{hint} Write it by "
            "`dataset.write_json`, or export as FiftyOneDataset."
        )
    return samples


def _answers(
    samples: Sequence[Mapping[str, Any]],
    field: str,
    classes: Collection[str],
    aside: Counter[str],
    where: str,
) -> Iterator[Answer]:
    for row, sample in enumerate(samples):
        name = sample.get(ID) or sample.get("filepath")
        if not isinstance(name, str) or not name:
            raise InvalidInputError(
                f"Each sample of {where} must have a `filepath`; that of row {row} has {name!r}. "
                "Write the file again by `dataset.write_json`."
            )
        labels = _labels_of(sample.get(field), name, field, where)
        if field == TAGS:
            others = [label for label in labels if label not in classes]
            aside.update(f"tag {label!r}" for label in others)
            labels = tuple(label for label in labels if label in classes)
        yield Answer(name, labels, EMPTY if sample.get(field) and field != TAGS else OPEN)


def _labels_of(value: Any, name: str, field: str, where: str) -> tuple[str, ...]:
    """Return the names in a label of FiftyOne's, a text, or a list of texts."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping) and value.get("_cls") == "Classification":
        return _labels_of(value.get("label"), name, field, where)
    parts = value
    if isinstance(value, Mapping) and value.get("_cls") == "Classifications":
        parts = value.get("classifications") or []
    if not isinstance(parts, list):
        kind = value.get("_cls") if isinstance(value, Mapping) else type(value).__name__
        raise InvalidInputError(
            f"The field {field!r} of {where} must hold classes of whole images; that of {name!r} "
            f"is {kind}. Name a field of Classification, Classifications or text."
        )
    return tuple(
        dict.fromkeys(label for part in parts for label in _labels_of(part, name, field, where))
    )


def _label_fields(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the fields of the samples that hold classes of whole images."""
    kinds = ("Classification", "Classifications")
    found = {
        key: None
        for sample in samples
        for key, value in sample.items()
        if isinstance(value, Mapping) and value.get("_cls") in kinds
    }
    return list(found)
