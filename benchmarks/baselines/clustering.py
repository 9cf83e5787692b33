"""Rivals that cluster: k-means of the pool, and DropQuery's k-means of what dropout confuses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from benchmarks.baselines.tasks import Indices
from clip_al.arrays.order import lowest

N_PASSES, DROPPED = 3, 0.75


def pick_by_k_means(emb_nd: NDArray[np.float32], n_wanted: int, seed: int) -> Indices:
    """Pick the image nearest to each of `n_wanted` centres, largest cluster first.

    Where two centres have one nearest image, the lowest indices that are left fill up.
    """
    kmeans = KMeans(n_wanted, n_init=1, random_state=seed).fit(emb_nd)
    order = np.argsort(-np.bincount(kmeans.labels_, minlength=n_wanted), kind="stable")
    dist_nc = kmeans.transform(emb_nd)
    nearest = [int(np.argmin(dist_nc[:, c])) for c in order]
    picks = list(dict.fromkeys(nearest))
    rest = (i for i in range(len(emb_nd)) if i not in set(picks))
    picks += [next(rest) for _ in range(n_wanted - len(picks))]
    return np.array(picks, dtype=np.int64)


def pick_by_drop_query(
    emb_nd: NDArray[np.float32],
    predict: Callable[[NDArray[np.float32]], NDArray[np.int64]],
    margin_n: NDArray[np.floating],
    n_wanted: int,
    seed: int,
) -> Indices:
    """Cluster the images that most passes with dropout call another class; pick the middles.

    Parameters
    ----------
    predict : callable
        The head: features → classes.
    margin_n : ndarray of shape (n,)
        Where too few images change class, those of least margin join them.

    References
    ----------
    Gupte, Aklilu, Nirschl, Yeung-Levy: "Revisiting Active Learning in the Era of Vision
    Foundation Models", TMLR 2024, Algorithm 1: 3 passes, dropout 0.75.
    """
    rng = np.random.default_rng(seed)
    class_n, changed_n = predict(emb_nd), np.zeros(len(emb_nd))
    for _ in range(N_PASSES):
        kept_nd = rng.random(emb_nd.shape) >= DROPPED
        changed_n += predict((emb_nd * kept_nd / (1.0 - DROPPED)).astype(np.float32)) != class_n
    found = np.flatnonzero(changed_n > N_PASSES / 2)
    if len(found) < n_wanted:
        rank_n = margin_n.astype(np.float64)
        rank_n[found] = -1.0
        found = lowest(rank_n, n_wanted)
    return found[pick_by_k_means(emb_nd[found], n_wanted, seed)]
