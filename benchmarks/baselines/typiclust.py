"""TypiClust: the most typical image of each cluster that nothing is labelled in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans

from benchmarks.baselines.tasks import Indices
from clip_al.score.neighbors import mean_neighbour_distances

MOST_CLUSTERS = 500
LARGEST_SKIPPED = 5
"""Clusters up to this size come last: they are made of outliers."""
N_NEIGHBOURS = 20
MOST_IN_MEMORY = 50
"""Clusters up to which all images are clustered at once, not in batches."""


def pick_typical(
    emb_nd: NDArray[np.float32],
    n_wanted: int,
    *,
    labelled_emb_ld: NDArray[np.float32],
    seed: int,
) -> Indices:
    """Cluster pool and labelled images together, then pick from the clusters in turn.

    Parameters
    ----------
    emb_nd, labelled_emb_ld : ndarray of shape (n, d) and (l, d), float32
        Embeddings of unit length; not modified.
    n_wanted : int
        In [1, n].
    seed : int
        Of the k-means.

    Returns
    -------
    ndarray of shape (n_wanted,), int64
        Best first, as `pick_from_clusters` orders them.

    Notes
    -----
    l + n_wanted clusters, at most 500; k-means up to 50 clusters and mini-batch k-means of
    batches of 5,000 above, as the authors' published code has it. Their features come from
    self-supervised training on the images at hand, ours from CLIP.

    References
    ----------
    Hacohen, Dekel, Weinshall: "Active Learning on a Budget: Opposite Strategies Suit High
    and Low Budgets", ICML 2022.
    """
    n = len(emb_nd)
    all_emb = np.concatenate([emb_nd, labelled_emb_ld])
    n_clusters = min(len(labelled_emb_ld) + n_wanted, MOST_CLUSTERS)
    if n_clusters <= MOST_IN_MEMORY:
        kmeans = KMeans(n_clusters, n_init=1, random_state=seed)
    else:
        kmeans = MiniBatchKMeans(n_clusters, n_init=1, batch_size=5000, random_state=seed)
    cluster_a = kmeans.fit(all_emb).labels_
    labelled_c = np.bincount(cluster_a[n:], minlength=n_clusters)
    return pick_from_clusters(emb_nd, n_wanted, cluster_n=cluster_a[:n], labelled_c=labelled_c)


def pick_from_clusters(
    emb_nd: NDArray[np.float32],
    n_wanted: int,
    *,
    cluster_n: NDArray[np.integer],
    labelled_c: NDArray[np.integer],
) -> Indices:
    """Pick the most typical image left of each cluster, cluster after cluster.

    Parameters
    ----------
    emb_nd : ndarray of shape (n, d), float32
        Of unit length; not modified.
    n_wanted : int
        In [1, n].
    cluster_n : ndarray of shape (n,), int
        Cluster of each image, in [0, c).
    labelled_c : ndarray of shape (c,), int
        How many labelled images each cluster holds, beside those of the pool.

    Returns
    -------
    ndarray of shape (n_wanted,), int64
        Best first, ties by lowest index.

    Notes
    -----
    Clusters come by number of labelled images, fewest first, then by size, labelled images
    counted, largest first, then by lowest number. After the last it is the first one's turn
    again. Clusters of up to 5 images wait until the others are used up.
    An image is the more typical the lower its mean distance to its 20 nearest neighbours
    among the cluster's images that are neither labelled nor picked, or to half of those
    where that is less than 20. Order, limits and halving are those of the authors' published
    code; it leaves clusters of up to 5 images out, and takes squared distances where the
    paper, and we, take distances.
    O(n_wanted s² d) time for clusters of s images.
    """
    left = [np.flatnonzero(cluster_n == c) for c in range(len(labelled_c))]
    size_c = labelled_c + np.array([len(members) for members in left])
    order = np.lexsort((-size_c, labelled_c, size_c <= LARGEST_SKIPPED))
    picks: list[int] = []
    for skipped in (False, True):
        turn = [int(c) for c in order if (size_c[c] <= LARGEST_SKIPPED) == skipped and len(left[c])]
        while turn and len(picks) < n_wanted:
            for c in turn[: n_wanted - len(picks)]:
                place = _most_typical(emb_nd[left[c]])
                picks.append(int(left[c][place]))
                left[c] = np.delete(left[c], place)
            turn = [c for c in turn if len(left[c])]
    return np.array(picks, dtype=np.int64)


def _most_typical(emb_sd: NDArray[np.float32]) -> int:
    k = min(N_NEIGHBOURS, max(1, len(emb_sd) // 2))
    return int(np.argmin(mean_neighbour_distances(emb_sd, k)))
