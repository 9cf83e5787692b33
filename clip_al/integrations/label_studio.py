"""Label Studio: images to label out, in order and with pre-labels; annotations back in.

    picks, probabilities ──make_tasks──▶ write_tasks ──▶ import      labels with `labeling_config`
    export, JSON or JSON-MIN ──read_annotations──▶ ids and labels

Its files are plain JSON, so nothing of Label Studio's is needed.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from numpy.typing import ArrayLike

from clip_al.arrays.checks import check_indices, check_probabilities
from clip_al.atomic import replacing
from clip_al.errors import InvalidInputError
from clip_al.handed_in.tables import read_bytes
from clip_al.integrations.annotations import (
    CANCELLED,
    EMPTY,
    OPEN,
    Annotations,
    Answer,
    PreLabel,
    settle,
)
from clip_al.subset.selection_checks import check_names

if TYPE_CHECKING:
    from clip_al.label.explain import PickExplanation

CHOICE, IMAGE, ID = "choice", "image", "image_id"


def labeling_config(
    class_names: Sequence[str], *, control: str = CHOICE, multi_label: bool = False
) -> str:
    """Return the labeling configuration that tasks and annotations belong to, as XML.

    Parameters
    ----------
    class_names : sequence of str
        The choices, in this order.
    control : str
        The name of the ``Choices``.
    multi_label : bool
        Several may be chosen.
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}")
    kind = "multiple" if multi_label else "single"
    choices = ElementTree.SubElement(view, "Choices", name=control, toName=IMAGE, choice=kind)
    for name in check_names(class_names, distinct=True) or ():
        ElementTree.SubElement(choices, "Choice", value=name)
    return ElementTree.tostring(view, encoding="unicode")


def make_tasks(
    indices: ArrayLike,
    ids: Sequence[str],
    urls: Sequence[str],
    *,
    class_names: Sequence[str] | None = None,
    probabilities: ArrayLike | None = None,
    model_version: str = "clip_al",
    explanations: Sequence[PickExplanation] | None = None,
    pre_labels: Sequence[PreLabel | None] | None = None,
    control: str = CHOICE,
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> list[dict[str, Any]]:
    """Return one import task for each picked image, in the order of the picks.

    Parameters
    ----------
    indices : array-like of shape (b,), int
        Picks, best first, as positions in the pool.
    ids, urls : sequence of str
        Of the whole pool: what each image is called, and where Label Studio finds it, such as
        ``/data/local-files/?d=photos/1.jpg``.
    class_names : sequence of str, optional
        The classes, where there are probabilities.
    probabilities : array-like of shape (n, k), optional
        Of the whole pool, CLIP's zero-shot ones for instance; the likeliest class becomes the
        pre-label, its probability the prediction's score.
    model_version : str
        What Label Studio calls the pre-labels' model.
    explanations : sequence of PickExplanation, optional
        What `strategy.explain(indices, pool)` returned.
    pre_labels : sequence of PreLabel or None, optional
        Of the picks, in place of `probabilities`; None for a pick without.
    control : str
        The name of the ``Choices`` that pre-labels are for.
    columns : mapping of str to sequence, optional
        More of each pick for ``data``, so for columns of the Data Manager.

    Returns
    -------
    list of dict
        With ``data`` (``image``, ``image_id``, ``rank`` from 1), ``meta`` (``rank``,
        ``concepts``, ``added``), and ``predictions`` where there are pre-labels.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where lengths differ, or picks repeat or lie outside the pool.
    """
    ids, urls, names = (
        list(map(str, ids)),
        list(urls),
        check_names(class_names, distinct=True) or (),
    )
    picks = check_indices(indices, len(ids))
    likely = None if probabilities is None else check_probabilities(probabilities)
    lengths = [len(urls), len(ids) if likely is None else len(likely)]
    told = [None] * len(picks) if explanations is None else list(explanations)
    if lengths != [len(ids)] * 2 or len(told) != len(picks):
        raise InvalidInputError(
            f"`urls` and `probabilities` must have one row for each of the {len(ids)} ids, and "
            f"`explanations` one for each of the {len(picks)} picks; got {lengths[0]}, "
            f"{lengths[1]} and {len(told)}. Pass those of the whole pool, and of the picks."
        )
    if likely is not None and likely.shape[1] != len(names):
        raise InvalidInputError(
            f"`class_names` must name each of the {likely.shape[1]} columns of `probabilities`; "
            f"got {len(names)}. Pass one a class."
        )
    if likely is not None and pre_labels is None:
        best_b = likely[picks].argmax(axis=1)
        pairs = zip(picks.tolist(), best_b.tolist(), strict=True)
        pre_labels = [PreLabel((names[k],), float(likely[i, k])) for i, k in pairs]
    given = [None] * len(picks) if pre_labels is None else list(pre_labels)
    more = {} if columns is None else {str(name): list(cells) for name, cells in columns.items()}
    for name, cells in (("pre_labels", given), *more.items()):
        if len(cells) != len(picks):
            raise InvalidInputError(
                f"`{name}` must have one entry for each of the {len(picks)} picks; got "
                f"{len(cells)}. Pass those of the picks, in their order."
            )
    tasks: list[dict[str, Any]] = []
    for row, i in enumerate(picks.tolist()):
        meta: dict[str, Any] = {"rank": row + 1}
        explanation, pre_label = told[row], given[row]
        if explanation is not None:
            meta |= {"concepts": list(explanation.concepts), "added": list(explanation.added)}
        data = {name: cells[row] for name, cells in more.items()}
        data |= {IMAGE: urls[i], ID: ids[i], "rank": row + 1}
        task: dict[str, Any] = {"data": data, "meta": meta}
        if pre_label is not None:
            task["predictions"] = [_prediction(pre_label, control, model_version)]
        tasks.append(task)
    return tasks


def write_tasks(
    path: str | os.PathLike[str], tasks: Sequence[Mapping[str, Any]], *, overwrite: bool = False
) -> None:
    """Write tasks as a file to import; InvalidInputError where one is there already."""
    with replacing(path, overwrite=overwrite) as file:
        json.dump(list(tasks), file, indent=1)


def read_annotations(
    source: str | os.PathLike[str] | Sequence[Mapping[str, Any]],
    class_names: Sequence[str] | None,
    *,
    conflicts: str = "leave",
    control: str | None = None,
    multi_label: bool = False,
) -> Annotations:
    """Read what annotators chose for the images of `make_tasks`.

    Parameters
    ----------
    source : path or list of dict
        An export as JSON or JSON-MIN, or its parsed content.
    class_names : sequence of str or None
        In the order of their numbers; None takes those that occur, sorted.
    conflicts : {"leave", "majority", "raise"}
        What becomes of an image that got several classes: it stays unlabelled and is listed;
        the class that more than half of its annotations chose, where there is one; an error.
    control : str, optional
        The name of the ``Choices`` in the labeling configuration. Left out, ``choice``, as
        `labeling_config` calls it, or, where none is called so, the only one that there is.
    multi_label : bool
        An image may have several labels; see `clip_al.integrations.annotations.settle`.

    Returns
    -------
    Annotations

    Raises
    ------
    InvalidInputError
        Where the file is no such export, a task has no ``image_id``, two tasks of one
        ``image_id`` show different images, a choice is no class, an annotation holds several, or
        several controls hold choices and none of them is `control`.

    Notes
    -----
    O(annotations) time and memory. Of several controls only one is read; ``aside`` counts the
    answers of others. Cancelled annotations
    do not count; one that is marked as ground truth alone decides (JSON only: JSON-MIN does not
    tell).
    """
    tasks = _load(source)
    read_from = _control(tasks, class_names or (), control)
    aside: Counter[str] = Counter()
    return settle(
        list(_answers(tasks, read_from, aside)),
        class_names,
        conflicts=conflicts,
        multi_label=multi_label,
        aside=aside,
        where=os.fspath(source) if isinstance(source, str | os.PathLike) else "",
    )


def _prediction(pre_label: PreLabel, control: str, model_version: str) -> dict[str, Any]:
    value = {"choices": list(pre_label.labels)}
    region = {"from_name": control, "to_name": IMAGE, "type": "choices", "value": value}
    prediction: dict[str, Any] = {"model_version": model_version, "result": [region]}
    if pre_label.confidence is not None:
        prediction["score"] = min(pre_label.confidence, 1.0)
    return prediction


def _load(source: Any) -> list[Any]:
    if not isinstance(source, str | os.PathLike):
        return list(source)
    try:
        tasks = json.loads(read_bytes(source))
    except ValueError as exc:
        raise InvalidInputError(
            f"{source} must be a JSON export; {exc}. Export as JSON or JSON-MIN."
        ) from exc
    return tasks if isinstance(tasks, list) else [tasks]


def _control(tasks: Sequence[Any], names: Collection[str], wanted: str | None) -> str:
    """Return the name of the control whose choices are read."""
    found = _controls(tasks, names)
    control = CHOICE if wanted is None else wanted
    if control in found or not found:
        return control
    if wanted is not None or len(found) > 1:
        raise InvalidInputError(
            f"The choices must be of a control called {control!r}; the export has those of "
            f"{', '.join(map(repr, sorted(found)))}. Pass `control=`, as the labeling "
            "configuration calls it."
        )
    return next(iter(found))


def _controls(tasks: Sequence[Any], names: Collection[str]) -> set[str]:
    """Return the names of all controls that hold choices.

    JSON says which do. In JSON-MIN they stand beside the data of the task, so there those count
    that hold the name of a class somewhere.
    """
    found: set[str] = set()
    for task in tasks:
        if not isinstance(task, Mapping):
            continue
        if "data" not in task:
            for key, value in task.items():
                if key == CHOICE or any(name in names for name in _texts(value)):
                    found.add(str(key))
            continue
        for annotation in task.get("annotations") or []:
            regions = annotation.get("result") if isinstance(annotation, Mapping) else None
            for region in regions or []:
                if isinstance(region, Mapping) and region.get("type") == "choices":
                    found.add(str(region.get("from_name")))
    return found


def _texts(value: Any) -> list[str]:
    """Return the names in a cell of JSON-MIN, whatever else it may hold."""
    if isinstance(value, Mapping):
        value = value.get("choices", [])
    parts = value if isinstance(value, list) else [value]
    return [
        name
        for part in parts
        for name in (_texts(part) if isinstance(part, Mapping) else [part])
        if isinstance(name, str)
    ]


def _answers(tasks: Sequence[Any], control: str, aside: Counter[str]) -> Iterator[Answer]:
    """Yield what each annotation says; of a task without any, that it is open."""
    shown: dict[str, Any] = {}
    for task in tasks:
        image_id, data = _identity(task)
        image = data.get(IMAGE)
        if shown.setdefault(image_id, image) != image:
            raise InvalidInputError(
                f"Each `{ID}` must stand for one image; {image_id!r} shows {shown[image_id]!r} and "
                f"{image!r}. Import tasks with distinct ids, as `make_tasks` makes them."
            )
        if "data" not in task:  # JSON-MIN: one row for each annotation
            chosen = _several(task.get(control, []), image_id)
            yield Answer(image_id, tuple(chosen), EMPTY if task.get("annotator") else OPEN)
            continue
        yield Answer(image_id)
        for annotation in task.get("annotations") or []:
            if not isinstance(annotation, Mapping):
                raise InvalidInputError(
                    f"Each task must hold its annotations; that of {image_id!r} has "
                    f"{annotation!r:.100} in their place. Export as JSON with all annotations, or "
                    "as JSON-MIN."
                )
            if annotation.get("was_cancelled") or annotation.get("skipped"):
                yield Answer(image_id, (), CANCELLED)
                continue
            regions = annotation.get("result") or []
            results = [r for r in regions if r.get("from_name") == control]
            others = [r for r in regions if r.get("from_name") not in (control, None)]
            aside.update(f"answer of {other['from_name']!r}" for other in others)
            choices = [name for r in results for name in _several(r.get("value") or {}, image_id)]
            truth = bool(annotation.get("ground_truth"))
            yield Answer(image_id, tuple(choices), EMPTY, truth)


def _identity(task: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the id of a task's image, and its data."""
    data = task.get("data", task) if isinstance(task, Mapping) else {}
    image_id = data.get(ID) if isinstance(data, Mapping) else None
    known = isinstance(image_id, str | int) and not isinstance(image_id, bool) and image_id != ""
    if not known:
        raise InvalidInputError(
            f"Each task must have an `{ID}`, as those of `make_tasks` have; got {task!r:.200}. "
            "Import such tasks, and export as JSON or JSON-MIN."
        )
    return str(image_id), data


def _several(chosen: Any, image_id: str) -> list[str]:
    """Return the choices of an annotation: a name, or lists of names in several forms."""
    if isinstance(chosen, str):
        return [chosen]
    if isinstance(chosen, Mapping):
        return _several(chosen.get("choices", []), image_id)
    if chosen is None:
        return []
    if not isinstance(chosen, list | tuple):
        raise InvalidInputError(
            f"Choices must be names of classes; that of {image_id!r} is {chosen!r:.100}. Label by "
            "`Choices`, as `labeling_config` has them, or convert the export."
        )
    return [name for part in chosen for name in _several(part, image_id)]
