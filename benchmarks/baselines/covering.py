"""Rivals that cover the pool: MaxHerding, Uncertainty Herding, ProbCover; each pick by pick.

For pools of a few thousand images: each makes the n × n distances.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from benchmarks.baselines.tasks import Indices

PURE = 0.95
"""Share of balls that must hold one cluster alone."""


def pick_by_max_herding(
    emb_nd: NDArray[np.float32], n_wanted: int, *, labelled_emb_ld: NDArray[np.float32]
) -> Indices:
    """Maximise ``Σ_j max_{i ∈ picked or labelled} exp(−‖z_i − z_j‖²)`` greedily.

    References
    ----------
    Bae, Noh, Sutherland: "Generalized Coverage for More Robust Low-Budget Active Learning",
    ECCV 2024, Algorithm 1; a Gaussian kernel of radius 1 on unit embeddings.
    """
    return _cover(emb_nd, n_wanted, labelled_emb_ld, np.ones(len(emb_nd)), 1.0)


def pick_by_uncertainty_herding(
    emb_nd: NDArray[np.float32],
    prob_nk: NDArray[np.float32],
    n_wanted: int,
    *,
    labelled_emb_ld: NDArray[np.float32],
) -> Indices:
    """Do the same with each image weighted by 1 − margin, and a radius that shrinks.

    The radius is the least distance between two labelled images, 1 with fewer than two. The
    paper also tempers the probabilities; here they come as the head gives them.

    References
    ----------
    Bae, Oliveira, Sutherland: "Uncertainty Herding: One Active Learning Method for All Label
    Budgets", ICLR 2025, Eq. 3 and section 3.2.
    """
    square = 1.0
    if len(labelled_emb_ld) > 1:
        dist_ll = _square_distances(labelled_emb_ld, labelled_emb_ld)
        square = max(float(dist_ll[np.triu_indices(len(dist_ll), 1)].min()), 1e-3)
    two = np.sort(prob_nk, axis=1)[:, -2:]
    return _cover(emb_nd, n_wanted, labelled_emb_ld, 1.0 - (two[:, -1] - two[:, 0]), square)


def pick_by_prob_cover(
    emb_nd: NDArray[np.float32],
    n_wanted: int,
    *,
    labelled_emb_ld: NDArray[np.float32],
    n_classes: int,
    seed: int,
) -> Indices:
    """Pick the image whose ball holds most images that no ball holds yet.

    The radius is the largest at which 95 % of the balls hold images of one k-means cluster
    alone, with as many clusters as classes. When all are covered, the rest is drawn.

    References
    ----------
    Yehuda, Dekel, Hacohen, Weinshall: "Active Learning Through a Covering Lens", NeurIPS
    2022, Algorithm 1 and section 3.1.
    """
    all_emb = np.concatenate([emb_nd, labelled_emb_ld])
    cluster_a = KMeans(n_classes, n_init=1, random_state=seed).fit(all_emb).labels_
    n = len(emb_nd)
    dist_nn = _square_distances(emb_nd, emb_nd)
    other_n = np.where(cluster_a[:n, None] == cluster_a[:n], np.inf, dist_nn).min(axis=1)
    square = float(np.quantile(other_n, 1.0 - PURE))
    near_nn = dist_nn < square
    np.fill_diagonal(near_nn, True)
    left_n = np.ones(n, dtype=bool)
    if len(labelled_emb_ld):
        left_n = ~(_square_distances(labelled_emb_ld, emb_nd) < square).any(axis=0)
    rng, picks, open_n = np.random.default_rng(seed), np.empty(n_wanted, np.int64), np.ones(n, bool)
    for step in range(n_wanted):
        count_n = np.where(open_n, near_nn[:, left_n].sum(axis=1), -1)
        best = int(np.argmax(count_n))
        if count_n[best] == 0:
            best = int(rng.choice(np.flatnonzero(open_n)))
        picks[step], open_n[best] = best, False
        left_n &= ~near_nn[best]
    return picks


def _square_distances(
    first_nd: NDArray[np.float32], second_ld: NDArray[np.float32]
) -> NDArray[np.float64]:
    first, second = first_nd.astype(np.float64), second_ld.astype(np.float64)
    square_nl = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2.0 * first @ second.T
    return np.maximum(square_nl, 0.0)


def _cover(
    emb_nd: NDArray[np.float32],
    n_wanted: int,
    labelled_emb_ld: NDArray[np.float32],
    weight_n: NDArray[np.floating],
    square: float,
) -> Indices:
    """Pick what adds most coverage, ties by lowest index."""
    sim_nn = np.exp(-_square_distances(emb_nd, emb_nd) / square)
    cover_n = np.zeros(len(emb_nd))
    if len(labelled_emb_ld):
        cover_n = np.exp(-_square_distances(labelled_emb_ld, emb_nd) / square).max(axis=0)
    gain_n = np.maximum(sim_nn - cover_n, 0.0) @ weight_n
    picks = np.empty(n_wanted, np.int64)
    for step in range(n_wanted):
        while True:  # gains only fall, so an old one is a bound
            best = int(np.argmax(gain_n))
            gain = float(np.maximum(sim_nn[best] - cover_n, 0.0) @ weight_n)
            if gain >= gain_n[best] * (1.0 - 1e-12):
                break
            gain_n[best] = gain
        picks[step] = best
        cover_n = np.maximum(cover_n, sim_nn[best])
        gain_n[best] = -np.inf
    return picks
