"""Self-supervised prototypes: how far an image is from the nearest centre of k-means."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

N_STARTS = 3
"""Starts of k-means, of which the best counts."""


def prototype_distances(
    emb_nd: NDArray[np.float32], n_prototypes: int, seed: int
) -> NDArray[np.float64]:
    """Return each image's cosine distance to the nearest centre of k-means.

    Parameters
    ----------
    emb_nd : ndarray of shape (n, d), float32
        Unit embeddings of a model that saw no labels of these images; not modified.
    n_prototypes : int
        How many centres, in [1, n]; the paper takes about as many as there are classes.
    seed : int
        Draws the starts of k-means.

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, 2]. Far is hard: the paper keeps the farthest where data are plenty, and
        shows that the closest are better where they are scarce.

    Notes
    -----
    The paper's embeddings come from SwAV, ours from CLIP. scikit-learn's k-means:
    O(n k d) a step, O(n (k + d)) memory.

    References
    ----------
    Sorscher, Geirhos, Shekhar, Ganguli, Morcos: "Beyond neural scaling laws: beating power
    law scaling via data pruning", NeurIPS 2022, on the prototypicality metric.
    """
    means = KMeans(n_prototypes, n_init=N_STARTS, random_state=seed).fit(emb_nd)
    centre_kd = means.cluster_centers_.astype(np.float64)
    centre_kd /= np.linalg.norm(centre_kd, axis=1, keepdims=True)
    dist_n: NDArray[np.float64] = 1.0 - (emb_nd @ centre_kd.T).max(axis=1)
    return dist_n
