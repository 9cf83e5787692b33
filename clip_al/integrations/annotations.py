"""What people said of images in another tool, and what a model said before them.

a tool's file ──▶ an `Answer` for each annotation ──settle──▶ `Annotations`: a label an image
probabilities, or a file of predictions ──▶ a `PreLabel` for each pick ──▶ a tool's file
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.checks import check_choice
from clip_al.errors import InvalidInputError
from clip_al.subset.selection_checks import check_names

CONFLICTS = ("leave", "majority", "raise")
OPEN = "open"
"""Why an image has no label: nobody has come to it."""
CANCELLED = "skipped or cancelled"
"""Why an image has no label: it was skipped, or its annotation was cancelled."""
EMPTY = "submitted without a label"
"""Why an image has no label: somebody looked at it and gave none."""
UNCHANGED = "pre-label that nobody changed"
"""Why an image has no label: it has that of a model, as it was imported."""
REASONS = (EMPTY, UNCHANGED, CANCELLED, OPEN)
"""The first of those that an image has is told."""


@dataclass(frozen=True)
class PreLabel:
    """What a model takes an image for.

    Attributes
    ----------
    labels : tuple of str
        One class, or several where an image may have several.
    confidence : float or None
        In [0, 1]; None where it is not known. Of several labels, the lowest.
    each : tuple of float or None
        Of each of several labels, where it is known.
    """

    labels: tuple[str, ...]
    confidence: float | None = None
    each: tuple[float, ...] | None = None

    def pairs(self) -> list[tuple[str, float | None]]:
        """Return each label with its confidence, or else with that of all."""
        if self.each is None:
            return [(label, self.confidence) for label in self.labels]
        return list(zip(self.labels, self.each, strict=True))


@dataclass(frozen=True)
class Answer:
    """One annotation of one image.

    Attributes
    ----------
    name : str
        What the file calls the image.
    labels : tuple of str
        Empty where the annotation gives none.
    reason : str
        Then: one of `REASONS`.
    is_truth : bool
        It alone decides, whatever others said.
    """

    name: str
    labels: tuple[str, ...] = ()
    reason: str = OPEN
    is_truth: bool = False


@dataclass(frozen=True)
class Annotations:
    """What annotators said, in the order of the file.

    Attributes
    ----------
    ids : tuple of str
        The labelled images, each once.
    labels : ndarray of shape (l,), int64
        Their class numbers; with several labels an image, of shape (l, k), bool.
    skipped : tuple of str
        Images that nobody labelled: skipped, cancelled, submitted without a choice, or open.
    conflicting : mapping of str to mapping of str to int
        Images left out because annotators disagree: how many chose each class.
    class_names : tuple of str
        In the order of the numbers.
    reasons : mapping of str to str
        Of each image of `skipped`, why it has no label.
    aside : mapping of str to int
        What else the file holds and is no label of an image, such as boxes: how many.
    """

    ids: tuple[str, ...]
    labels: NDArray[np.generic]
    skipped: tuple[str, ...]
    conflicting: Mapping[str, Mapping[str, int]]
    class_names: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    aside: Mapping[str, int] = field(default_factory=dict)

    def names(self) -> list[tuple[str, ...]]:
        """Return the labels of each of `ids` by name."""
        if self.labels.ndim == 1:
            return [(self.class_names[int(code)],) for code in self.labels]
        return [tuple(self.class_names[k] for k in np.flatnonzero(row)) for row in self.labels]


def settle(
    answers: Iterable[Answer],
    class_names: Sequence[str] | None,
    *,
    conflicts: str = "leave",
    multi_label: bool = False,
    aside: Mapping[str, int] | None = None,
    where: str = "",
) -> Annotations:
    """Return one answer an image from those of all annotations.

    Parameters
    ----------
    answers : iterable of Answer
        At least one for each image that the file names.
    class_names : sequence of str or None
        In the order of their numbers; None takes those that occur, sorted.
    conflicts : {"leave", "majority", "raise"}
        What becomes of an image whose annotations differ: it is left out and listed; what more
        than half of them say, where that is clear; an error. With several labels, each label
        counts by itself in a majority.
    multi_label : bool
        An image may have several labels.
    aside : mapping of str to int, optional
        Handed on.
    where : str
        The file, for the messages.

    Raises
    ------
    InvalidInputError
        Where a label is no class, an annotation has several without `multi_label`, or
        annotations differ with ``conflicts="raise"``.
    """
    check_choice(conflicts, CONFLICTS, "conflicts")
    said = list(answers)
    if class_names is None:
        names = tuple(sorted({label for answer in said for label in answer.labels}))
    else:
        names = tuple(check_names(class_names, distinct=True) or ())
    votes: dict[str, list[Answer]] = {}
    of_file = f" of {where}" if where else ""
    _check_answers(said, names, multi_label, of_file)
    for answer in said:
        votes.setdefault(answer.name, []).append(answer)
    labelled: dict[str, frozenset[str]] = {}
    conflicting: dict[str, dict[str, int]] = {}
    reasons: dict[str, str] = {}
    for name, given in votes.items():
        sets = [frozenset(answer.labels) for answer in given if answer.labels]
        sets = [frozenset(a.labels) for a in given if a.labels and a.is_truth] or sets
        decided = _decide(sets, conflicts, multi_label)
        if decided:
            labelled[name] = decided
        elif sets:
            count = Counter(label for labels in sets for label in labels)
            conflicting[name] = dict(sorted(count.items()))
        else:
            reasons[name] = min((answer.reason for answer in given), key=REASONS.index)
    if conflicting and conflicts == "raise":
        name, chosen = next(iter(conflicting.items()))
        raise InvalidInputError(
            f"Annotators{of_file} must agree; {len(conflicting)} images got several classes, the "
            f'first is {name!r}: {chosen}. Resolve them, or pass conflicts="leave" or "majority".'
        )
    return Annotations(
        tuple(labelled),
        _coded(list(labelled.values()), names, multi_label),
        tuple(reasons),
        conflicting,
        names,
        reasons,
        dict(aside or {}),
    )


def _check_answers(
    answers: Sequence[Answer], names: Sequence[str], multi_label: bool, of_file: str
) -> None:
    """Raise where a label is no class, or where there are several and must not be."""
    known = set(names)
    unknown = [answer for answer in answers if not known.issuperset(answer.labels)]
    several = [answer for answer in answers if len(set(answer.labels)) > 1 and not multi_label]
    bad = unknown or several
    if not bad:
        return
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    remedy = "Correct it, or `class_names`."
    if not unknown:
        remedy = "Keep one, or pass multi_label=True where an image may have several."
    more = f" ({len(bad)} are like this)" if len(bad) > 1 else ""
    raise InvalidInputError(
        f"Each annotation{of_file} must choose one of the classes {shown}; that of "
        f"{bad[0].name!r} is {', '.join(map(repr, bad[0].labels))}{more}. {remedy}"
    )


def _decide(sets: Sequence[frozenset[str]], conflicts: str, multi_label: bool) -> frozenset[str]:
    """Return the labels that hold, none where annotations differ and no majority is clear."""
    if len(set(sets)) == 1:
        return sets[0]
    if conflicts != "majority":
        return frozenset()
    count = Counter(label for labels in sets for label in labels)
    if multi_label and any(2 * n == len(sets) for n in count.values()):
        return frozenset()
    return frozenset(label for label, n in count.items() if 2 * n > len(sets))


def _coded(
    sets: Sequence[frozenset[str]], names: Sequence[str], multi_label: bool
) -> NDArray[np.generic]:
    number = {name: i for i, name in enumerate(names)}
    if not multi_label:
        return np.array([number[next(iter(labels))] for labels in sets], dtype=np.int64)
    codes = np.zeros((len(sets), len(names)), dtype=bool)
    for row, labels in enumerate(sets):
        codes[row, [number[label] for label in labels]] = True
    return codes
