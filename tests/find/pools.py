"""Pools with near-copies, and the groups that a loop over all pairs finds in them."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def pool_with_copies(n, d, seed=0, *, share=0.2, n_centres=12):
    """Rows like CLIP's: a direction that all share, clusters, and copies at many distances."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, d + 1) ** -0.5
    scale /= np.sqrt((scale**2).mean())
    centres = 2 * rng.standard_normal(d) + rng.standard_normal((n_centres, d)) * scale
    rows = centres[rng.integers(n_centres, size=n)] + 1.2 * rng.standard_normal((n, d)) * scale
    copies = rng.choice(np.arange(1, n), int(share * n), replace=False)
    for i in np.sort(copies):
        rows[i] = rows[rng.integers(i)] + rng.uniform(0, 0.8) * rng.standard_normal(d) * scale
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def first_of_groups(rows, threshold):
    """Return the first image of each image's group, by all pairs in float64."""
    wide = np.asarray(rows, dtype=np.float64)
    wide = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    left, right = np.nonzero(wide @ wide.T >= threshold - 1e-12)
    n = len(wide)
    graph = coo_array((np.ones(len(left)), (left, right)), shape=(n, n))
    n_groups, group_n = connected_components(graph, directed=False)
    first = np.full(n_groups, n)
    np.minimum.at(first, group_n, np.arange(n))
    return first[group_n]
