"""Why images were picked: the concepts of each, and which of them it added."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_indices
from clip_al.arrays.given import length_of
from clip_al.arrays.types import as_array
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
        Its concepts that fit, most similar first; none where nothing in the vocabulary fits.
    added : tuple of str
        Those of them that are said of neither the labelled images nor earlier picks.
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
    seen_v = _seen(labelled, profiles)
    explanations = []
    for index in check_indices(indices, len(profiles)):
        ids_m = profiles.ids[index]
        said = ids_m[profiles.similarities[index] >= profiles.floor]
        concepts = tuple(names[i] for i in said)
        added = tuple(names[i] for i in said if not seen_v[i])
        explanations.append(PickExplanation(int(index), concepts, added))
        seen_v[said] = True
    return explanations


def _seen(labelled: Labelled, profiles: ConceptProfiles) -> NDArray[np.bool_]:
    """Say which concepts are said of what is labelled; counts know none that is not."""
    if isinstance(labelled, ConceptCounts):
        return count_labelled(labelled, profiles, labelled.weighting).count_v > 0
    if labelled is not None and not isinstance(labelled, ConceptProfiles):
        n_labelled = length_of(as_array(labelled), "labelled")
        labelled = profiles.profile(labelled) if n_labelled else None
    counts = count_labelled(labelled, profiles, "binary")  # refuses another vocabulary
    if not isinstance(labelled, ConceptProfiles):
        return counts.count_v > 0
    said = labelled.ids[labelled.fits]
    return np.bincount(said, minlength=profiles.n_concepts) > 0
