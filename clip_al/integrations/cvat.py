"""CVAT: images to label with pre-labels, and what people gave them as tags.

    picks, pre-labels ──write_pre_labels──▶ CVAT 1.1 (XML)      labels of the task: `task_labels`
    export "CVAT for images 1.1" ──read_annotations──▶ ids and labels

A class is a tag of CVAT, which belongs to a whole image. CVAT finds images by their names, which
are the paths of what was uploaded: `write_images` makes an archive in which they are the ids.
Nothing of CVAT's is needed.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

from PIL import Image

from clip_al.arrays.checks import check_choice
from clip_al.atomic import as_path, replacing
from clip_al.errors import InvalidInputError
from clip_al.handed_in.tables import read_bytes
from clip_al.integrations.annotations import (
    EMPTY,
    OPEN,
    UNCHANGED,
    Annotations,
    Answer,
    PreLabel,
    settle,
)
from clip_al.subset.selection_checks import check_names

CONFIDENCE = "confidence"
"""The attribute of a tag that holds how sure the model is of a pre-label."""
SHAPES = ("box", "ellipse", "polygon", "polyline", "points", "cuboid", "skeleton", "mask")
"""What CVAT draws on a part of an image."""
AS_IMPORTED = ("file", "auto", "semi-auto")
"""Sources of a tag that no person gave; CVAT calls what was imported from a file ``file``."""
UNCHANGED_CHOICES = ("ask", "accept", "leave")
NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def task_labels(class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the labels of a task, as CVAT's form (Raw) and its command line take them.

    Each class is a tag, with a text attribute for the confidence of a pre-label.
    """
    attribute = {
        "name": CONFIDENCE,
        "input_type": "text",
        "mutable": False,
        "values": [""],
        "default_value": "",
    }
    names = check_names(class_names, distinct=True) or ()
    return [{"name": name, "type": "tag", "attributes": [attribute]} for name in names]


def write_task_labels(
    path: str | os.PathLike[str], class_names: Sequence[str], *, overwrite: bool = False
) -> None:
    """Write `task_labels` as JSON; InvalidInputError where a file is there already."""
    with replacing(path, overwrite=overwrite) as file:
        json.dump(task_labels(class_names), file, indent=1)


def write_pre_labels(
    path: str | os.PathLike[str],
    names: Sequence[str],
    class_names: Sequence[str],
    *,
    pre_labels: Sequence[PreLabel | None] | None = None,
    sizes: Sequence[tuple[int, int] | None] | None = None,
    overwrite: bool = False,
) -> None:
    """Write images, in their order, with pre-labels as a file in the format CVAT 1.1.

    Parameters
    ----------
    path : path
        .xml; "Upload annotations" of a task or job takes it.
    names : sequence of str
        What CVAT calls the images: their paths in what was uploaded.
    class_names : sequence of str
        The labels of the task.
    pre_labels : sequence of PreLabel or None, optional
        One for each image; None for an image without.
    sizes : sequence of (width, height) or None, optional
        In pixels; left out where they are not known.
    overwrite : bool, default=False
        Replace a file that is there.

    Raises
    ------
    InvalidInputError
        Where lengths differ, a name is there twice, a pre-label is no class, or XML cannot hold
        a name.
    """
    images = _distinct(names)
    classes = dict.fromkeys(check_names(class_names, distinct=True) or ())
    given = [None] * len(images) if pre_labels is None else list(pre_labels)
    pixels = [None] * len(images) if sizes is None else list(sizes)
    if len(given) != len(images) or len(pixels) != len(images):
        raise InvalidInputError(
            f"`pre_labels` and `sizes` must have one entry for each of the {len(images)} images; "
            f"got {len(given)} and {len(pixels)}. Pass those of the images, in their order."
        )
    for name in (*images, *classes):
        if NO_XML.search(name):
            raise InvalidInputError(
                f"Names must be of letters that XML can hold; {name!r} is not. Rename it, and "
                "embed again."
            )
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    ElementTree.SubElement(task, "size").text = str(len(images))
    ElementTree.SubElement(task, "mode").text = "annotation"
    labels = ElementTree.SubElement(task, "labels")
    for name in classes:
        _describe(ElementTree.SubElement(labels, "label"), name)
    for i, (name, pre_label, size) in enumerate(zip(images, given, pixels, strict=True)):
        about = {"id": str(i), "name": name}
        if size is not None:
            about |= {"width": str(size[0]), "height": str(size[1])}
        image = ElementTree.SubElement(root, "image", about)
        if pre_label is not None:
            _add_tags(image, name, pre_label, classes)
    ElementTree.indent(root)
    with replacing(path, "wb", overwrite=overwrite) as file:
        ElementTree.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)


def _describe(label: ElementTree.Element, name: str) -> None:
    ElementTree.SubElement(label, "name").text = name
    ElementTree.SubElement(label, "type").text = "tag"
    attribute = ElementTree.SubElement(ElementTree.SubElement(label, "attributes"), "attribute")
    for key, value in (
        ("name", CONFIDENCE), ("mutable", "False"), ("input_type", "text"),
        ("default_value", ""), ("values", ""),
    ):  # fmt: skip
        ElementTree.SubElement(attribute, key).text = value


def _add_tags(
    image: ElementTree.Element, name: str, pre_label: PreLabel, classes: Mapping[str, None]
) -> None:
    for label, confidence in pre_label.pairs():
        if label not in classes:
            shown = ", ".join(list(classes)[:8])
            raise InvalidInputError(
                f"Each pre-label must be one of the classes {shown}; that of {name!r} is "
                f"{label!r}. Add the class, or leave the pre-label out."
            )
        tag = ElementTree.SubElement(image, "tag", label=label, source="auto")
        if confidence is not None:
            attribute = ElementTree.SubElement(tag, "attribute", name=CONFIDENCE)
            attribute.text = f"{confidence:.4f}"


def _distinct(names: Sequence[str]) -> list[str]:
    listed = [str(name) for name in names]
    repeated = next((name for name, n in Counter(listed).items() if n > 1), None)
    if repeated is not None:
        raise InvalidInputError(
            f"`names` must name each image once; {repeated!r} is there more than once. Remove the "
            "duplicate."
        )
    return listed


def size_of(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return width and height of an image file in pixels, from its first bytes.

    Raises
    ------
    InvalidInputError
        Where it is no image that can be read.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError) as exc:
        raise InvalidInputError(
            f"{os.fspath(path)} must be an image that can be read; {exc}. Embed the folder again, "
            "which names what is gone."
        ) from exc


def write_images(
    path: str | os.PathLike[str],
    names: Sequence[str],
    files: Sequence[str | os.PathLike[str]],
    *,
    overwrite: bool = False,
) -> None:
    """Write image files as a zip archive under names of their own, not packed any further.

    Parameters
    ----------
    path : path
        .zip; CVAT takes it as the data of a task.
    names : sequence of str
        Paths in the archive, each once.
    files : sequence of path
        One for each name.
    overwrite : bool, default=False
        Replace a file that is there.

    Raises
    ------
    InvalidInputError
        Where lengths differ, a name is there twice or leads out of the archive, or a file
        cannot be read.
    """
    inside = _distinct(names)
    if len(files) != len(inside):
        raise InvalidInputError(
            f"`files` must have one entry for each of the {len(inside)} names; got {len(files)}. "
            "Pass those of the images, in their order."
        )
    for name in inside:
        if name.startswith("/") or ".." in name.split("/"):
            raise InvalidInputError(
                f"Names must be paths inside an archive; {name!r} leads out of it. Name the "
                "images by their paths below one folder."
            )
    with replacing(path, "wb", overwrite=overwrite) as file, zipfile.ZipFile(file, "w") as archive:
        for name, source in zip(inside, files, strict=True):
            try:
                archive.write(source, name)
            except OSError as exc:
                raise InvalidInputError(
                    f"{os.fspath(source)} must be a file that can be read; {exc.strerror}. Embed "
                    "the folder again, which names what is gone."
                ) from exc


def read_annotations(
    source: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
    *,
    conflicts: str = "leave",
    multi_label: bool = False,
    unchanged: str = "ask",
) -> Annotations:
    """Read the tags that people gave to whole images.

    Parameters
    ----------
    source : path
        An export "CVAT for images 1.1" of a task, job or project: .zip, or the XML in it.
    class_names : sequence of str, optional
        In the order of their numbers; left out, the labels of the task, or, where the file does
        not name them, those that occur.
    conflicts : {"leave", "majority", "raise"}
        What becomes of an image that is in several tasks, or of one name in several subsets, and
        got several classes; see `clip_al.integrations.annotations.settle`.
    multi_label : bool
        An image may have several labels.
    unchanged : {"ask", "accept", "leave"}
        What becomes of tags that were imported and that nobody changed since: CVAT does not tell
        whether somebody looked at them. An error where there are any; they are labels; their
        images count as not labelled.

    Returns
    -------
    Annotations
        By the names that CVAT has; ``aside`` counts boxes and other shapes.

    Raises
    ------
    InvalidInputError
        Where the file is no such export, or of a video; where an image has no name; as `settle`.
    """
    check_choice(unchanged, UNCHANGED_CHOICES, "unchanged")
    path = as_path(source, "source")
    listed, answers, aside = _read(path)
    as_was = {answer.name for answer in answers if answer.reason == UNCHANGED and answer.labels}
    if as_was and unchanged == "ask":
        raise InvalidInputError(
            f"Tags must be somebody's; {len(as_was)} images of {path} have tags that were imported "
            f"and that nobody changed, the first is {next(iter(sorted(as_was)))!r}. Pass "
            'unchanged="accept" where all images were looked at, or unchanged="leave".'
        )
    if unchanged == "leave":
        answers = [
            Answer(answer.name, (), UNCHANGED) if answer.reason == UNCHANGED else answer
            for answer in answers
        ]
    names = class_names if class_names is not None or not listed else listed
    return settle(
        answers, names, conflicts=conflicts, multi_label=multi_label, aside=aside, where=str(path)
    )


def _read(path: Path) -> tuple[list[str], list[Answer], Counter[str]]:
    """Return the labels of the task, an answer for each image, and how many shapes there are."""
    listed: list[str] = []
    answers: list[Answer] = []
    aside: Counter[str] = Counter()
    root = ""
    try:
        with _open(path) as file:
            for event, element in ElementTree.iterparse(file, events=("start", "end")):
                root = root or element.tag
                if event == "start":
                    continue
                if element.tag == "label" and element.find("name") is not None:
                    listed.append(element.findtext("name") or "")
                elif element.tag == "track":
                    raise InvalidInputError(
                        f"{path} must be of images; it has tracks, of a video. Export as CVAT for "
                        "images 1.1."
                    )
                elif element.tag == "image":
                    answers.extend(_answers(path, element, len(answers), aside))
                    element.clear()
    except ElementTree.ParseError as exc:
        raise InvalidInputError(
            f"{path} must be XML, or a zip archive that holds it; {exc}. Export as CVAT for images "
            "1.1."
        ) from exc
    if root != "annotations":
        raise InvalidInputError(
            f"{path} must be XML with the root `annotations`; its root is `{root}`. Export as CVAT "
            "for images 1.1."
        )
    return list(dict.fromkeys(listed)), answers, aside


def _open(path: Path) -> IO[bytes]:
    """Open the XML of an export, in an archive or by itself."""
    if not path.is_file():
        read_bytes(path)  # says what is wrong
    if not zipfile.is_zipfile(path):
        return path.open("rb")
    with zipfile.ZipFile(path) as archive:
        found = [name for name in archive.namelist() if name.lower().endswith(".xml")]
        if len(found) != 1:
            there = ", ".join(sorted(archive.namelist())[:4]) or "nothing"
            raise InvalidInputError(
                f"{path} must hold one .xml, the annotations; it has {len(found)} (it holds "
                f"{there}). Export as CVAT for images 1.1."
            )
        return io.BytesIO(archive.read(found[0]))


def _answers(
    path: Path, image: ElementTree.Element, row: int, aside: Counter[str]
) -> Iterator[Answer]:
    """Yield what an image's tags say: what people gave and what nobody changed are one answer."""
    name = image.get("name")
    if not name:
        raise InvalidInputError(
            f"Each image of {path} must have a name; the one with id {image.get('id', row)!r} has "
            "none. Export as CVAT for images 1.1."
        )
    labels: list[str] = []
    untouched = []
    for part in image:
        if part.tag in SHAPES:
            aside[part.tag] += 1
        elif part.tag == "tag":
            label = part.get("label")
            if not label:
                raise InvalidInputError(
                    f"Each tag of {path} must have a label; one of {name!r} has none. Export as "
                    "CVAT for images 1.1."
                )
            labels.append(label)
            untouched.append(part.get("source", "manual") in AS_IMPORTED)
    if not labels:
        yield Answer(name, (), OPEN)
    else:
        yield Answer(name, tuple(dict.fromkeys(labels)), UNCHANGED if all(untouched) else EMPTY)
