"""What a report shows, as plain numbers and texts that JSON can hold.

Each function returns one part of the page; nothing here knows of HTML.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.concepts.profiles import ConceptProfiles
from clip_al.label.explain import PickExplanation, explain_picks
from clip_al.score.agreement import share_of_wrong
from clip_al.subset.selection import Selection
from clip_al.subset.selection_summaries import name_of

CHOSEN, SUSPECT, ADDED, REMOVED = 1, 2, 4, 8
"""Flags of an image; the page's script knows the same numbers."""
MEANINGS = {
    "total": "what the choice goes by, SAS and SDS together; the highest are chosen",
    "sas": "how well the image agrees with its label (SAS); higher is better",
    "sds": "how far the image is from the others of its class (SDS); higher is more unlike them",
    "label_score": "how credible the given label is; the lowest are the suspects",
    "margin": "between the probabilities of the two likeliest classes; near 0 the model is unsure",
    "entropy": "of the class probabilities; high where the model is unsure",
    "confidence": "how likely the label is to the model that predicted it, in [0, 1]",
    "score": "how credible the given label is, as in the file of suspects; lower is worse",
}
"""What scores say; of others only their name is known."""
MAX_SUSPECTS = 500
MAX_REMOVED = 1_000
MAX_CONCEPT_ROWS = 300
MAX_CLASS_ROWS = 1_000


@dataclass(frozen=True)
class Picks:
    """The chosen images in the order in which they are shown.

    Parameters
    ----------
    indices : ndarray of shape (b,), int64
        Best first.
    concepts, added : mapping of int to tuple of str
        Of an image, by position: what it shows, and what it added to those before it.
    scores : mapping of str to ndarray of shape (b,)
        In the order of `indices`; beside those of the selection.
    """

    indices: NDArray[np.int64]
    concepts: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    added: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    scores: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """The images that have a card: positions, and flags for each."""

    indices: NDArray[np.int64]
    flags: NDArray[np.int64]


def order_picks(
    selection: Selection,
    explanations: Sequence[PickExplanation] | None,
    scores: Mapping[str, Any] | None,
    profiles: ConceptProfiles | None,
    labelled: NDArray[np.int64],
    max_images: int,
) -> Picks:
    """Return the chosen images, best first, with the concepts of those that are shown.

    Explanations give order and concepts where there are any; otherwise the order is that of the
    score ``total``, or of positions, and the concepts come from the profiles.
    """
    indices = selection.indices
    if explanations is not None:
        indices = np.array([pick.index for pick in explanations], dtype=np.int64)
    elif "total" in selection.scores:
        order = np.argsort(-selection.scores["total"][indices], kind="stable")
        indices = indices[order]
    if explanations is None and profiles is not None:
        seen = profiles.take(labelled) if labelled.size else None
        explanations = explain_picks(indices[:max_images], profiles, labelled=seen)
    known = explanations or []
    return Picks(
        indices,
        {pick.index: pick.concepts for pick in known},
        {pick.index: pick.added for pick in known},
        {name: np.asarray(values) for name, values in (scores or {}).items()},
    )


def find_suspects(selection: Selection, n: int | None) -> NDArray[np.int64]:
    """Return positions of suspects, worst first.

    By default as many as the selection estimates to be wrong, at least 20 and at most
    `MAX_SUSPECTS`; an image whose likeliest class is the given one is left out.
    """
    if selection.labels is None or not {"label_score", "sas"} & set(selection.scores):
        return np.empty(0, dtype=np.int64)
    if n is None:
        share, _ = share_of_wrong(selection.settings)
        known = share if share is not None and 0 <= share <= 1 else 0
        n = min(MAX_SUSPECTS, max(20, math.ceil(known * selection.n_images)))
    n = min(n, selection.n_images)
    found = np.array([s.index for s in selection.suspects(n)] if n else [], dtype=np.int64)
    likeliest_n = selection.scores.get("likeliest")
    if likeliest_n is None:
        return found
    kept: NDArray[np.int64] = found[likeliest_n[found] != selection.labels[found]]
    return kept


def choose_shown(
    selection: Selection,
    picks: Picks,
    suspects: NDArray[np.int64],
    against: Selection | None,
    max_images: int,
) -> Shown:
    """Return which images have a card: picks, then suspects, then what is no longer chosen."""
    flags_n = np.zeros(selection.n_images, dtype=np.int64)
    flags_n[selection.indices] |= CHOSEN
    flags_n[suspects] |= SUSPECT
    parts = [picks.indices[:max_images], suspects]
    if against is not None:
        change = against.compare(selection)
        flags_n[change.added] |= ADDED
        flags_n[change.removed] |= REMOVED
        parts.append(change.removed[:MAX_REMOVED])
    every = np.concatenate(parts)
    _, first = np.unique(every, return_index=True)
    indices = every[np.sort(first)]
    return Shown(indices, flags_n[indices])


def describe_images(
    selection: Selection,
    shown: Shown,
    picks: Picks,
    profiles: ConceptProfiles | None,
    paths: Sequence[str] | None,
) -> dict[str, Any]:
    """Return the cards, a list for each of their parts, with names as numbers into lists.

    `paths` are of the shown images; beside the cards stand the meanings of their scores.
    """
    index = shown.indices
    rank_n = np.zeros(selection.n_images, dtype=np.int64)
    rank_n[picks.indices] = np.arange(1, len(picks.indices) + 1)
    classes, groups = _class_names(selection), selection.groups
    likeliest_n = selection.scores.get("likeliest")
    concept_lists = [_concepts_of(int(i), picks, profiles) for i in index]
    added = [picks.added.get(int(i), ()) for i in index]
    number = {name: i for i, name in enumerate(_distinct(concept_lists))}
    cards: dict[str, Any] = {
        "index": index.tolist(),
        "id": [str(i) if selection.ids is None else selection.ids[i] for i in index],
        "flags": shown.flags.tolist(),
        "rank": [int(rank) or None for rank in rank_n[index]],
        "concepts": [[number[name] for name in names] for names in concept_lists],
        "added": [[number[name] for name in names if name in number] for names in added],
        "scores": _score_columns(selection, shown, picks, rank_n),
    }
    if paths is not None:
        cards["path"] = list(paths)
    if selection.labels is not None:
        cards["class"] = selection.labels[index].tolist()
        if likeliest_n is not None:
            cards["likelier"] = likeliest_n[index].tolist()
    if groups is not None:
        cards["group"] = groups.codes[index].tolist()
    names = {"classes": classes, "groups": list(groups.names) if groups else []}
    meanings = {name: MEANINGS[name] for name in cards["scores"] if name in MEANINGS}
    return {"cards": cards, "concepts": list(number), "meanings": meanings, **names}


def _class_names(selection: Selection) -> list[str]:
    if selection.labels is None:
        return []
    highest = int(selection.labels.max())
    if "likeliest" in selection.scores:
        highest = max(highest, int(selection.scores["likeliest"].max()))
    names = selection.class_names
    return [str(name_of(i, names)) for i in range(len(names) if names else highest + 1)]


def _concepts_of(index: int, picks: Picks, profiles: ConceptProfiles | None) -> Sequence[str]:
    if index in picks.concepts:
        return picks.concepts[index]
    return profiles.words(index) if profiles is not None else ()


def _distinct(lists: Sequence[Sequence[str]]) -> dict[str, None]:
    return dict.fromkeys(sorted({name for names in lists for name in names}))


def _score_columns(
    selection: Selection, shown: Shown, picks: Picks, rank_n: NDArray[np.int64]
) -> dict[str, list[float | None]]:
    columns = {
        name: rounded(values[shown.indices])
        for name, values in selection.scores.items()
        if name != "likeliest"
    }
    at = rank_n[shown.indices] - 1
    for name, values in picks.scores.items():
        known = rounded(values)
        columns[name] = [known[i] if i >= 0 else None for i in at.tolist()]
    return columns


def rounded(values: Any, digits: int = 5) -> list[float | None]:
    """Return numbers as JSON has them: NaN and infinity, which it has not, as None."""
    return [
        float(f"{x:.{digits}g}") if math.isfinite(x) else None
        for x in np.asarray(values, dtype=np.float64).ravel().tolist()
    ]
