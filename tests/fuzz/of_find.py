"""Near-copies and search."""

from __future__ import annotations

import numpy as np

import clip_al
from tests.fuzz import calls
from tests.fuzz.register import function, of, rows, some
from tests.fuzz.world import N


def groups(result):
    """Check groups: each is named by its first image."""
    first = result.representative
    assert first.dtype == np.int64
    assert (first <= np.arange(len(first))).all()
    assert (first[first] == first).all()
    assert np.isfinite(result.similarity).all()
    assert sum(map(len, result.groups)) == len(result.copies) + result.n_groups
    repr(result)


def first(result):
    """Check what was found: distinct images, most similar first."""
    assert len(result.indices) == len(set(result.indices.tolist()))
    assert (np.diff(result.similarity) <= 0).all()
    assert np.isfinite(result.similarity).all()
    repr(result)


def copies(w):
    return clip_al.near_duplicates(w.Z, 0.9, splits=["a", "b"] * (N // 2))


NAMES = [f"i{i}" for i in range(N)]
function(
    "near_duplicates",
    clip_al.near_duplicates,
    lambda w, rng: {
        "Z": w.Z.copy(),
        **some(rng, threshold=0.9, splits=["a", "b"] * (N // 2), exact_up_to=10, random_state=3),
    },
    groups,
)
of(
    "NearDuplicates.without_copies_of",
    copies,
    lambda w, rng: {"known": rows(rng)},
    calls.array(low=0, high=N - 1),
)
of(
    "NearDuplicates.to_frame",
    copies,
    lambda w, rng: some(rng, ids=list(NAMES), paths=list(NAMES)),
    repeats=False,
)
of("NearDuplicates.how_sure", copies, lambda w, rng: {}, weight=1)
function(
    "search",
    clip_al.search,
    lambda w, rng: {
        "Z": w.Z.copy(),
        "query": [0, w.Z[3].copy()] if rng.random() < 0.5 else w.Z[:2].copy(),
        **some(rng, minus=[5], n=7, within=rows(rng), minus_weight=0.3, encoder=w.encoder),
    },
    first,
)
of(
    "Found.to_frame",
    lambda w: clip_al.search(w.Z, 3),
    lambda w, rng: some(rng, ids=list(NAMES), paths=list(NAMES)),
    repeats=False,
)
RECORDS = {
    "NearDuplicates": {
        "threshold": 0.9,
        "representative": np.array([0, 0]),
        "similarity": np.ones(2, np.float32),
    },
    "Leak": {"first": "a", "second": "b", "n_groups": 1, "n_first": 1, "n_second": 1},
    "Found": {
        "indices": np.arange(2),
        "similarity": np.ones(2, np.float32),
        "n_images": 4,
    },
}
for name, parts in RECORDS.items():
    function(name, getattr(clip_al, name), lambda w, rng, parts=parts: dict(parts), weight=1)
