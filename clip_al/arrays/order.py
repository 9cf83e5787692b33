"""Order: the lowest and the highest of many numbers, ties by lowest position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SMALL_PART = 64
"""Images a part below which one sort of all is quicker than a partition of each."""


def highest_of_parts(
    total_n: NDArray[np.float64], parts: Sequence[tuple[NDArray[np.int64], int]]
) -> NDArray[np.int64]:
    """Return the positions of the highest scores of each part, as many as its quota.

    Parameters
    ----------
    total_n : ndarray of shape (n,), float64
        Higher is chosen first, ties by lowest position.
    parts : sequence of (ndarray of int64, int)
        Ascending positions, and a quota of at most as many; no position in two parts.

    Returns
    -------
    ndarray of int64
        Not in order.

    Notes
    -----
    One partition a part, O(n); or, where parts are so small that the calls cost more, one
    sort of all, O(n log n): for 50,000 images of 1,000 classes in half the time.

    Examples
    --------
    >>> highest_of_parts(np.array([3.0, 1.0, 4.0, 1.0]), [(np.array([0, 2]), 1)])
    array([2])
    """
    asked = [(part, quota) for part, quota in parts if quota]
    members = np.concatenate([part for part, _ in asked])
    if len(members) < SMALL_PART * len(asked):
        sizes_k = np.array([len(part) for part, _ in asked])
        quotas_k = np.array([quota for _, quota in asked])
        high_c = _is_high_in_part(total_n[members], sizes_k, quotas_k)
        chosen: NDArray[np.int64] = members[high_c]
        return chosen
    return np.concatenate([part[lowest(-total_n[part], quota)] for part, quota in asked])


def _is_high_in_part(
    total_c: NDArray[np.float64], sizes_k: NDArray[np.int64], quotas_k: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return what `lowest` chooses of each part; scores lie part after part, quotas are > 0."""
    k = len(sizes_k)
    part_c = np.repeat(np.arange(k, dtype=np.min_scalar_type(k)), sizes_k)
    # Equal scores may come in any order here: only the bound of each part is read off.
    order = np.argsort(-total_c)
    order = order[np.argsort(part_c[order], kind="stable")]
    bound_c = total_c[order[np.cumsum(sizes_k) - sizes_k + quotas_k - 1]][part_c]
    high_c: NDArray[np.bool_] = total_c > bound_c
    missing_k = quotas_k - np.bincount(part_c[high_c], minlength=k)
    ties = np.flatnonzero(total_c == bound_c)
    tied_part = part_c[ties]
    rank = np.arange(len(ties)) - np.searchsorted(tied_part, tied_part)  # from 0 in each part
    high_c[ties[rank < missing_k[tied_part]]] = True
    return high_c


def lowest(values_n: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Return the positions of the k lowest values, in ascending order of position.

    Ties at the boundary go to the lowest position, whatever the partition did with them.

    Examples
    --------
    >>> lowest(np.array([3.0, 1.0, 2.0, 2.0]), 2)
    array([1, 2])
    """
    if k >= len(values_n):
        return np.arange(len(values_n))
    bound = np.partition(values_n, k - 1)[k - 1]
    chosen_n = values_n < bound
    ties = np.flatnonzero(values_n == bound)
    chosen_n[ties[: k - np.count_nonzero(chosen_n)]] = True
    return np.flatnonzero(chosen_n)
