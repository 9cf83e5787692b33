"""Why images were picked: the concepts of each, and which of them it added."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from clip_al.arrays.checks import check_indices
from clip_al.concepts.diversity import ConceptCounts
from clip_al.concepts.profiles import ConceptProfiles
from clip_al.label.query_inputs import Labelled, count_labelled


@dataclass(frozen=True)
class PickExplanation:
    """Why an image was picked.

    Parameters
    ----------
    index : int
        Position in the pool.
    concepts : tuple of str
        Its concepts, most similar first.
    added : tuple of str
        Those of them that neither the labelled images nor earlier picks held.
    """

    index: int
    concepts: tuple[str, ...]
    added: tuple[str, ...]


def explain_picks(
    indices: ArrayLike, profiles: ConceptProfiles, *, labelled: Labelled = None
) -> list[PickExplanation]:
    """Say for each pick, in order, which concepts it added.

    Parameters
    ----------
    indices : array-like of int
        Picks, best first, as positions in the pool.
    profiles : ConceptProfiles
        Of the pool that was picked from, (n, m).
    labelled : ConceptProfiles, ConceptCounts or array-like of shape (l, d), optional
        What was labelled before the picks. Counts of any weighting: only which concepts occur
        is looked at.

    Returns
    -------
    list of PickExplanation

    Raises
    ------
    InvalidInputError
        Where an index is out of range or repeated, or `labelled` is of another vocabulary.

    Notes
    -----
    O(b m + l m + v) time for b picks and l labelled images.

    Examples
    --------
    >>> import numpy as np
    >>> from clip_al import ConceptProfiles, ConceptVocabulary
    >>> vocabulary = ConceptVocabulary.from_names(["dog", "cat"]).with_embeddings(np.eye(2))
    >>> Z = [[1, 0.1], [0.2, 1], [0.1, 1]]
    >>> profiles = ConceptProfiles.from_embeddings(Z, vocabulary, m=1, similarity="cosine")
    >>> for pick in explain_picks([1, 2], profiles, labelled=profiles.take([0])):
    ...     print(pick.index, pick.concepts, pick.added)
    1 ('cat',) ('cat',)
    2 ('cat',) ()
    """
    names = profiles.vocabulary.names
    weighting = labelled.weighting if isinstance(labelled, ConceptCounts) else "binary"
    seen_v = count_labelled(labelled, profiles, weighting).count_v > 0
    explanations = []
    for index in check_indices(indices, len(profiles)):
        ids_m = profiles.ids[index]
        concepts = tuple(names[i] for i in ids_m)
        added = tuple(names[i] for i in ids_m if not seen_v[i])
        explanations.append(PickExplanation(int(index), concepts, added))
        seen_v[ids_m] = True
    return explanations
