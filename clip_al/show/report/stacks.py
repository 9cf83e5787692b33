"""Cards of near-copies, which the page shows as one stack."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.checks import check_embeddings
from clip_al.arrays.types import Embeddings
from clip_al.find.near_duplicates import near_duplicates
from clip_al.show.report.data import Shown

STACK_FROM = 0.99
"""Cosine from which on cards are stacked: above that of `near_duplicates`, as a stack hides."""


def stack_cards(embeddings: Embeddings, shown: Shown, threshold: float) -> list[int | None] | None:
    """Return the number of the stack that each card belongs to, None for one that is alone.

    Parameters
    ----------
    embeddings : array-like or EmbeddingTable of shape (n, d)
        Rows of the cards are read, no others; not modified.
    shown : Shown
        Of c cards.
    threshold : float
        Cosine in (0, 1] that links two cards.

    Returns
    -------
    list of length c, or None
        Stacks are numbered by their first card; None where no card is a near-copy of another.

    Notes
    -----
    O(c²) time, as `near_duplicates`. A row of zeros, or one that is not finite, has no cosine and
    is alone.
    """
    array = check_embeddings(embeddings, "embeddings", finite=False)
    emb_cd = np.asarray(array[shown.indices], dtype=np.float32)
    usable = np.flatnonzero(np.isfinite(emb_cd).all(axis=1) & emb_cd.any(axis=1))
    if len(usable) < 2:
        return None
    first_c = np.arange(len(emb_cd))
    first_c[usable] = usable[near_duplicates(emb_cd[usable], threshold).representative]
    return _numbered(first_c)


def _numbered(first_c: NDArray[np.int64]) -> list[int | None] | None:
    """Return numbers for what has more than one card, in the order of first cards.

    Examples
    --------
    >>> _numbered(np.array([0, 1, 0, 3, 3]))
    [0, None, 0, 1, 1]
    """
    size_c = np.bincount(first_c, minlength=len(first_c))
    fronts = np.flatnonzero(size_c > 1)
    if not fronts.size:
        return None
    place_c = np.searchsorted(fronts, first_c).tolist()
    stacked_c = (size_c[first_c] > 1).tolist()
    return [place if stacked else None for place, stacked in zip(place_c, stacked_c, strict=True)]
