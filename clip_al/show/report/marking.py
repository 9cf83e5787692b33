"""What a page needs so that people can mark images in it, and save what they marked.

The page writes ``labels.csv`` as `read_labelled` reads it, or ``decisions.csv`` as
`apply_decisions` does: the words of the decisions are settled here, beside their reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.labels import Names, check_distinct, ordered_names
from clip_al.errors import InvalidInputError
from clip_al.handed_in.decisions import AS_CLASS, LIKELIER, RIGHT, UNCLEAR, WRONG
from clip_al.subset.selection import Selection

LABELS, DECISIONS = "labels", "decisions"


def check_marking(
    selection: Selection,
    class_names: Names | None,
    labelled: NDArray[np.int64],
    labelled_names: Sequence[str] | None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes that an image without a label may be given, and those of `labelled`.

    None where not known; they are `class_names`, or else those of the images labelled before.
    """
    names = () if class_names is None else ordered_names(class_names)
    check_distinct(names)
    if names and selection.labels is not None:
        raise InvalidInputError(
            "`class_names` must be left out where the selection has labels, and so classes; got "
            "both. Leave it out, or make the selection with these names."
        )
    if labelled_names is None:
        return names, ()
    known = ordered_names(labelled_names, "labelled_names")
    if len(known) != len(labelled):
        raise InvalidInputError(
            f"`labelled_names` must be one class for each entry of `labelled`; got {len(known)} "
            f"for {len(labelled)}. Pass both, in one order."
        )
    unknown = sorted(set(known) - set(names))
    if names and unknown:
        raise InvalidInputError(
            f"`labelled_names` must be of `class_names`; {unknown[0]!r} is not. Name all classes."
        )
    return names or tuple(unknown), known


def describe_marking(
    selection: Selection,
    classes: Sequence[str],
    labelled: NDArray[np.int64],
    labelled_names: Sequence[str],
) -> dict[str, Any] | None:
    """Return what is marked, with which words, and the labels that there were before.

    Parameters
    ----------
    selection : Selection
        With labels, people decide whether they are right; without, they give labels.
    classes : sequence of str
        Of the selection, or those that may be given.
    labelled, labelled_names
        Images that had labels, and which; they go into the saved file too.

    Returns
    -------
    dict or None
        None where no class is known.
    """
    if not classes:
        return None
    kind = LABELS if selection.labels is None else DECISIONS
    marking: dict[str, Any] = {
        "kind": kind,
        "key": selection.fingerprint,
        "classes": list(classes),
        "has_ids": selection.ids is not None,
        "before": {"index": [], "id": [], "class": []},
    }
    if kind == DECISIONS:
        return {
            **marking,
            "words": {
                "right": _free(RIGHT, classes),
                "wrong": _free([WRONG], classes),
                "unclear": _free([UNCLEAR], classes),
            },
            "as_decision": [_as_decision(name) for name in classes],
        }
    if labelled_names:
        number = {name: i for i, name in enumerate(classes)}
        ids = labelled if selection.ids is None else selection.ids[labelled]
        marking["before"] = {
            "index": labelled.tolist(),
            "id": [str(name) for name in ids],
            "class": [number[name] for name in labelled_names],
        }
    return marking


def _free(words: Sequence[str], classes: Sequence[str]) -> str:
    """Return the first word that no class is called; their capitals do not matter to the reader.

    Examples
    --------
    >>> _free(["wrong"], ["cat", "wrong"])
    'Wrong'
    """
    spelt = [spell(word) for spell in (str, str.capitalize, str.upper) for word in words]
    free = [word for word in spelt if word not in classes]
    if not free:
        raise InvalidInputError(
            f"A class must not be called each of {', '.join(map(repr, spelt))}, which decide on a "
            "label. Rename one."
        )
    return free[0]


def _as_decision(name: str) -> str:
    """Return a class as a decision that is meant as a class.

    Examples
    --------
    >>> _as_decision("cat"), _as_decision("OK")
    ('cat', 'class:OK')
    """
    taken = name.casefold() in (*RIGHT, WRONG, LIKELIER, UNCLEAR) or name.startswith(AS_CLASS)
    return f"{AS_CLASS}{name}" if taken else name
