"""Facility location: picks that have every image of the pool close to one of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.baselines.tasks import Indices
from clip_al.score.neighbors import neighbour_graph

N_NEIGHBOURS = 100
MOST_SIMILAR = 1.0 - 1e-6
"""What a twin's cosine counts as. It leaves each image a gain of its own: apricot's lazy
greedy may return an image twice where gains are 0."""


def pick_facilities(
    emb_nd: NDArray[np.float32], n_wanted: int, *, labelled_emb_ld: NDArray[np.float32]
) -> Indices:
    """Maximise ``Σ_j max_{i ∈ picked or labelled} cos_ij`` greedily, over a neighbour graph.

    Parameters
    ----------
    emb_nd, labelled_emb_ld : ndarray of shape (n, d) and (l, d), float32
        Embeddings of unit length; not modified.
    n_wanted : int
        In [1, n].

    Returns
    -------
    ndarray of shape (n_wanted,), int64
        Best first. Ties go as apricot's queue has them, the same on each call.

    Notes
    -----
    Only the cosines of an image j with its 100 nearest, and with itself, count; those below
    0 and all others count as 0. With fewer than 102 images in all, that is every cosine. The
    dense form needs n² doubles in apricot, 0.8 GB for 10,000 images and 5 GB for 25,000.
    O((n + l)² d) time for the graph and, as it goes, O(n_wanted n) for the picks;
    O(100 (n + l)) memory. Of a call, one to two seconds are apricot's compiler, each time.

    References
    ----------
    Wei, Iyer, Bilmes: "Submodularity in Data Subset Selection and Active Learning", ICML
    2015 (the function); Wei, Iyer, Bilmes: "Fast Multi-Stage Submodular Maximization",
    ICML 2014 (the neighbour graph); Schreiber, Bilmes, Noble: "apricot: Submodular Selection
    for Data Summarization in Python", JMLR 2020 (the solver).
    """
    from apricot import FacilityLocationSelection

    n, n_labelled = len(emb_nd), len(labelled_emb_ld)
    served = coverage(np.concatenate([emb_nd, labelled_emb_ld]))
    labelled = np.arange(n, n + n_labelled) if n_labelled else None
    selection = FacilityLocationSelection(
        n_wanted, metric="precomputed", initial_subset=labelled, optimizer="lazy"
    )
    return np.asarray(selection.fit(served).ranking, dtype=np.int64)


def coverage(emb_nd: NDArray[np.float32]) -> sparse.csr_matrix:
    """Return how well image i, a row, stands for image j, a column; float64, in [0, 1]."""
    n = len(emb_nd)
    near = neighbour_graph(
        emb_nd, np.zeros(n, dtype=np.int64), n_classes=1, n_neighbors=N_NEIGHBOURS
    )
    near.data = np.clip(near.data, 0.0, MOST_SIMILAR, dtype=np.float64)
    return sparse.csr_matrix(near.T + sparse.eye_array(n))
