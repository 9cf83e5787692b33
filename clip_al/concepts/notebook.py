"""How `ConceptProfiles` shows itself in a notebook: some kilobytes, however many images.

`ConceptProfiles` calls it, so it is not imported here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from clip_al.concepts.vocabulary import NOTHING_FITS
from clip_al.html_tables import page, share_cells, table, text

N_CONCEPTS = 8
N_IMAGES = 3
BLOCK = 2**18  # rows counted at once: the counter's copies stay small


def profiles_html(profiles: Any) -> str:
    """Return the most frequent concepts, and those of the first images; O(n m) time.

    Parameters
    ----------
    profiles : ConceptProfiles

    Returns
    -------
    str
        Escaped HTML.
    """
    n, v = len(profiles), profiles.n_concepts
    counts_v = np.zeros(v, dtype=np.int64)
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        said = profiles.ids[part][profiles.similarities[part] >= profiles.floor]
        counts_v += np.bincount(said, minlength=v)
    names = profiles.vocabulary.names
    frequent = [
        (
            text(names[concept]),
            f"{counts_v[concept]:,}",
            *share_cells(counts_v[concept] / max(n, 1)),
        )
        for concept in np.argsort(-counts_v, kind="stable")[:N_CONCEPTS]
        if counts_v[concept]
    ]
    said = [", ".join(profiles.words(i)) or NOTHING_FITS for i in range(min(n, N_IMAGES))]
    first = [(str(i), text(line, 200)) for i, line in enumerate(said)]
    model = "" if profiles.vocabulary.model is None else f", {text(profiles.vocabulary.model)}"
    return page(
        f"<b>ConceptProfiles</b>: {n:,} images, {profiles.m} of {v:,} concepts each; "
        f"{np.count_nonzero(counts_v):,} concepts are seen{model}",
        table(("most frequent", "images", "share", ""), frequent),
        table(("image", "concepts"), first),
    )
