"""Embeddings in two dimensions, for a picture of the pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.checks import check_choice, check_embeddings, check_finite
from clip_al.arrays.types import Embeddings
from clip_al.errors import InvalidInputError

METHODS = ("pca", "tsne")
MAX_POINTS = {"pca": 20_000, "tsne": 3_000}
"""Images of the pool that are drawn, and that the projection is fitted on."""
MAX_CLUSTERS, SMALLEST_CLUSTER = 10, 20
MAX_FOCUS = {"pca": 20_000, "tsne": 2_000}
"""Images drawn whatever the sample is."""


@dataclass(frozen=True)
class PoolMap:
    """Where images lie in two dimensions.

    Parameters
    ----------
    indices : ndarray of shape (k,), int64
        Positions in the pool, ascending.
    xy : ndarray of shape (k, 2), float32
        Their places; the axes mean nothing in themselves.
    in_sample : ndarray of shape (k,), bool
        Whether each belongs to the even sample of the pool.
    explained : float or None
        With PCA, the share of the variance that the two axes hold, in [0, 1].
    clusters : ndarray of shape (k,), int64
        Number of the cluster that each belongs to, the largest cluster first; all 0 where there
        are too few images for two.
    """

    indices: NDArray[np.int64]
    xy: NDArray[np.float32]
    in_sample: NDArray[np.bool_]
    explained: float | None
    clusters: NDArray[np.int64]


def map_pool(
    embeddings: Embeddings,
    focus: NDArray[np.int64],
    *,
    method: str = "pca",
    random_state: int = 0,
) -> PoolMap:
    """Project an even sample of a pool, and some of its images, to two dimensions.

    Parameters
    ----------
    embeddings : array-like or EmbeddingTable of shape (n, d)
        Rows that are needed are read, no others; not modified.
    focus : ndarray of int64
        Positions to have on the map in any case, as far as `MAX_FOCUS` of them.
    method : {"pca", "tsne"}
        PCA keeps distances as far as two axes can; t-SNE keeps neighbours, and is slower.
    random_state : int
        Of t-SNE and k-means.

    Returns
    -------
    PoolMap

    Notes
    -----
    At most 20,000 images of the pool and 20,000 of `focus` for PCA, O(k d²) time; 3,000 and 2,000
    for t-SNE, O(k log k) time. O(k d) memory. The clusters are those of k-means on the rows
    themselves, as two axes hold little of them.
    """
    check_choice(method, METHODS, "map_method")
    array = check_embeddings(embeddings, finite=False)
    n = len(array)
    if n < 3 or array.shape[1] < 2:
        raise InvalidInputError(
            f"A map needs at least 3 images of width 2; got shape {array.shape}. Leave "
            "`embeddings` out."
        )
    sample = spaced(np.arange(n), MAX_POINTS[method])
    indices = np.union1d(sample, spaced(np.unique(focus), MAX_FOCUS[method])).astype(np.int64)
    in_sample = np.isin(indices, sample, assume_unique=True)
    rows = np.asarray(array[indices], dtype=np.float32)
    check_finite(rows, "embeddings")
    if method == "pca":
        xy, explained = _pca(rows, in_sample)
    else:
        xy, explained = _tsne(rows, random_state), None
    clusters = _clusters(rows, in_sample, random_state)
    return PoolMap(indices, xy.astype(np.float32), in_sample, explained, clusters)


def spaced(values: NDArray[Any], n: int) -> NDArray[Any]:
    """Return n of the values, or all where there are fewer, evenly spaced."""
    if len(values) <= n:
        return values
    return values[np.arange(n) * len(values) // n]


def _pca(
    rows: NDArray[np.float32], in_sample: NDArray[np.bool_]
) -> tuple[NDArray[Any], float | None]:
    from sklearn.decomposition import PCA

    with np.errstate(invalid="ignore"):  # all images alike: no variance to share out
        pca = PCA(2, svd_solver="covariance_eigh").fit(rows[in_sample])
    share = float(pca.explained_variance_ratio_.sum())
    return pca.transform(rows), share if np.isfinite(share) else None


def _tsne(rows: NDArray[np.float32], random_state: int) -> NDArray[Any]:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(rows) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=random_state, n_jobs=1)
    placed: NDArray[Any] = tsne.fit_transform(rows)
    return placed


def _clusters(
    rows: NDArray[np.float32], in_sample: NDArray[np.bool_], random_state: int
) -> NDArray[np.int64]:
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    n_clusters = min(MAX_CLUSTERS, int(in_sample.sum()) // SMALLEST_CLUSTER)
    if n_clusters < 2 or (rows == rows[0]).all():
        return np.zeros(len(rows), np.int64)
    with threadpool_limits(1):  # sums in one order: the same clusters each time
        found = KMeans(n_clusters, n_init=1, max_iter=50, random_state=random_state)
        codes = found.fit(rows[in_sample]).predict(rows)
    by_size = np.argsort(-np.bincount(codes, minlength=n_clusters), kind="stable")
    number_k = np.empty(n_clusters, np.int64)
    number_k[by_size] = np.arange(n_clusters)
    numbered: NDArray[np.int64] = number_k[codes]
    return numbered
