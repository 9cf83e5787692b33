"""Exact copies among images: which rows are the first of their kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows, map_blocks

SAME = 2e-6
"""Similarities of copies differ by less: a product of matrices rounds by the place of a row."""


def first_rows(array_nd: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether each row is unlike every row before it, bit by bit.

    O(n d) time in blocks and O(n log n) for the sort; O(n) memory and one block for each core.

    Examples
    --------
    >>> first_rows(np.array([[1.0, 2.0], [0.0, 2.0], [1.0, 2.0]]))
    array([ True,  True, False])
    """
    is_first: NDArray[np.bool_] = first_like(array_nd) == np.arange(len(array_nd))
    return is_first


def first_like(array_nd: NDArray[Any]) -> NDArray[np.int64]:
    """Return for each row the first that equals it, bit by bit; costs as `first_rows`.

    Examples
    --------
    >>> first_like(np.array([[1.0, 2.0], [0.0, 2.0], [1.0, 2.0]]))
    array([0, 1, 0])
    """
    n, width = array_nd.shape
    rng = np.random.default_rng(0)
    factor_d = rng.integers(2**63, size=width, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    hash_n = np.empty(n, dtype=np.uint64)

    def mix(rows: slice) -> None:
        block = np.ascontiguousarray(np.asarray(array_nd[rows]))
        bits = block.view(f"u{block.itemsize}").astype(np.uint64)
        bits *= factor_d  # modulo 2⁶⁴: a sum of products by odd numbers tells rows apart
        hash_n[rows] = (bits ^ (bits >> np.uint64(29))).sum(axis=1)

    for _ in map_blocks(mix, n, block_rows(width, 16)):
        pass
    _, first, group_n = np.unique(hash_n, return_index=True, return_inverse=True)
    first_n: NDArray[np.int64] = first[group_n.reshape(n)].astype(np.int64)
    again = np.flatnonzero(first_n != np.arange(n))
    for start in range(0, len(again), block_rows(width, 16)):
        rows = again[start : start + block_rows(width, 16)]
        # Rows that share a number by chance are no copies.
        equal = np.asarray(array_nd[rows]) == np.asarray(array_nd[first_n[rows]])
        alike = equal.all(axis=1)
        first_n[rows] = np.where(alike, first_n[rows], rows)
    return first_n


def first_profiles(ids_nm: NDArray[Any], sims_nm: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether each image's concepts and similarities are unlike those of all before it.

    Parameters
    ----------
    ids_nm : ndarray of shape (n, m), int
        Concepts, most similar first.
    sims_nm : ndarray of shape (n, m), float
        Their similarities; those of copies may differ by `SAME`.

    Notes
    -----
    O(n (m + log n)) time.
    """
    ids_nm, sims_nm = np.asarray(ids_nm), np.asarray(sims_nm)
    n, m = ids_nm.shape
    factor_m = np.random.default_rng(0).integers(2**63, size=m, dtype=np.uint64)
    hash_n = (ids_nm.astype(np.uint64) * (factor_m * np.uint64(2) + np.uint64(1))).sum(axis=1)
    is_first = np.ones(n, dtype=bool)
    ascending = np.sort(hash_n)
    if not (ascending[1:] == ascending[:-1]).any():
        return is_first
    order = np.argsort(hash_n, kind="stable")
    equal = hash_n[order][1:] == hash_n[order][:-1]
    alike = np.zeros(n, dtype=bool)
    alike[order[1:][equal]] = alike[order[:-1][equal]] = True
    rows = np.flatnonzero(alike)
    rows = rows[np.lexsort((rows, sims_nm[rows, 0], hash_n[rows]))]
    copy = (ids_nm[rows[1:]] == ids_nm[rows[:-1]]).all(axis=1)
    scale = SAME * np.maximum(1.0, np.abs(sims_nm[rows[1:]]))
    copy &= (np.abs(sims_nm[rows[1:]] - sims_nm[rows[:-1]]) <= scale).all(axis=1)
    starts = np.flatnonzero(np.concatenate([[True], ~copy]))
    is_first[rows] = False
    is_first[np.minimum.reduceat(rows, starts)] = True
    return is_first
