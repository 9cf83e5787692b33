"""D2 pruning: difficulty, passed along a graph of neighbours, and taken from those near a pick."""

from __future__ import annotations

import heapq

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.baselines.tasks import Indices
from clip_al.score.neighbors import SMALLEST_SQUARE, neighbour_graph

N_NEIGHBOURS = 10
FORWARD_GAMMA = 1.0
REVERSE_GAMMA = 1.0
"""The paper tunes the number of neighbours and this for each dataset and ratio; we fix them."""


def d2_indices(
    emb_nd: NDArray[np.float32], difficulty_n: NDArray[np.float64], n_wanted: int
) -> Indices:
    """Pick the most difficult image, take from its neighbours what it stands for, and again.

    Parameters
    ----------
    emb_nd : ndarray of shape (n, d), float32
        Embeddings of unit length, n at least 2; not modified.
    difficulty_n : ndarray of shape (n,), float64
        Higher is harder, at least 0, such as counts of forgetting; not modified.
    n_wanted : int
        How many, in [1, n].

    Returns
    -------
    ndarray of shape (n_wanted,), int64
        In the order of picking; ties by lowest index.

    Notes
    -----
    The graph joins i and j where either is among the other's 10 nearest. With x the
    difficulty and d the Euclidean distance, in units of its root mean square between an
    image and its 10 nearest:

    - forward: ``x_i ← x_i + Σ_j exp(−γ_f d_ij²) x_j`` over the neighbours j, all at once;
    - pick ``p = argmax x`` among those left;
    - reverse: ``x_j ← x_j − exp(−γ_r d_pj²) x_p`` for the neighbours j of p; pick again.

    A pick whose score is below 0 so raises its neighbours, as the equation has it. Scores
    in a heap are renewed lazily: a neighbour whose score changed is pushed again, and an
    entry that is not its image's score any more is skipped. O(n² d) time for exact
    neighbours, in blocks, and O(n k log n) for the rest; O(n k) memory.

    Where we deviate: the paper takes neighbours among the features of the network that was
    trained, we among CLIP's embeddings; it does not scale distances, but neighbours of unit
    length are so close that all weights would be near 1 and difficulty would not count. Its
    published code has exp(−γ d) where its equations have the square; we follow these.

    References
    ----------
    Maharana, Yadav, Bansal: "D2 Pruning: Message Passing for Balancing Diversity and
    Difficulty in Data Pruning", ICLR 2024, Algorithm 1.
    """
    k = min(N_NEIGHBOURS, len(emb_nd) - 1)
    nearest = neighbour_graph(emb_nd, np.zeros(len(emb_nd), dtype=np.int64), 1, k)
    square = nearest.astype(np.float64)
    square.data = 2.0 - 2.0 * square.data
    square.data[square.data < SMALLEST_SQUARE] = 0.0
    square.data /= square.data.mean() or 1.0  # all identical: at distance 0 in any unit
    forward, reverse = (_joined(square, gamma) for gamma in (FORWARD_GAMMA, REVERSE_GAMMA))
    score_n = difficulty_n + forward @ difficulty_n
    picks: Indices = _pick(
        score_n, reverse.indptr.astype(np.int64), reverse.indices.astype(np.int64), reverse.data,
        n_wanted,
    )  # fmt: skip
    return picks


def _joined(square: sparse.csr_array, gamma: float) -> sparse.csr_array:
    """Return the weights of edges, each in both directions."""
    weights = square.copy()
    weights.data = np.exp(-gamma * square.data)
    return weights.maximum(weights.T).tocsr()


@numba.njit(nogil=True, cache=True)
def _pick(score_n, start_n, columns, weights, n_wanted):  # type: ignore[no-untyped-def]
    """Pick greedily by the heap; `score_n` is modified."""
    heap = [(-score_n[i], i) for i in range(len(score_n))]
    heapq.heapify(heap)
    taken_n = np.zeros(len(score_n), dtype=np.bool_)
    picks = np.empty(n_wanted, dtype=np.int64)
    n_picked = 0
    while n_picked < n_wanted:
        negative, i = heapq.heappop(heap)
        if taken_n[i] or -negative != score_n[i]:
            continue
        taken_n[i] = True
        picks[n_picked] = i
        n_picked += 1
        for e in range(start_n[i], start_n[i + 1]):
            j = columns[e]
            if not taken_n[j]:
                score_n[j] -= weights[e] * score_n[i]
                heapq.heappush(heap, (-score_n[j], j))
    return picks
