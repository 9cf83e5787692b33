"""Which pairs of images are alike, and the groups that they make: union over pairs.

    a block of bounds ──▶ pairs that may be alike and are not in one group yet
                      ──▶ their cosines, exact ──▶ one group

Groups are trees in an array, ``parent_n``: each image points to one of its group with a lower
position, the lowest to itself. Blocks are looked at on all cores: a group that another core
has just joined is at worst looked at once more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from clip_al.find.bounds import SLACK
from clip_al.find.cosines import pair_cosines

AT_ONCE = 32_768
"""Pairs whose cosines are computed before their groups are joined."""
ROUNDING = 1e-12
"""By which a cosine in float64 may miss the threshold that it has."""
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


class Unions:
    """Groups of images, joined pair by pair.

    Parameters
    ----------
    image_emb_nd : ndarray of shape (n, d), float
    threshold : float
        Cosine from which on two images are alike.
    parent_n : ndarray of shape (n,), int64
        The groups to begin with; changed in place.
    """

    def __init__(
        self, image_emb_nd: NDArray[Any], threshold: float, parent_n: NDArray[np.int64]
    ) -> None:
        self.image_emb_nd = image_emb_nd
        self.threshold = threshold
        self.parent_n = parent_n
        self._alone_n = np.arange(len(parent_n))
        self._lock = threading.Lock()

    def join_alike(
        self, bound_bc: NDArray[np.float32], left_b: NDArray[np.int64], right_c: NDArray[np.int64]
    ) -> None:
        """Join the alike among the pairs of two lists of images.

        Parameters
        ----------
        bound_bc : ndarray of shape (b, c), float32
            At least the cosine of each pair.
        left_b, right_c : ndarray, int64
            Positions of the images.
        """
        for pairs in self._alike(bound_bc, left_b, right_c, self.parent_n):
            self.join(pairs)

    def join(self, pairs: Pairs) -> None:
        """Make the two images of each pair one group."""
        with self._lock:
            _join(self.parent_n, *pairs)

    def all_alike(
        self, bound_bc: NDArray[np.float32], left_b: NDArray[np.int64], right_c: NDArray[np.int64]
    ) -> Iterator[Pairs]:
        """Yield all alike pairs, also those of one group."""
        yield from self._alike(bound_bc, left_b, right_c, self._alone_n)

    def _alike(
        self,
        bound_bc: NDArray[np.float32],
        left_b: NDArray[np.int64],
        right_c: NDArray[np.int64],
        parent_n: NDArray[np.int64],
    ) -> Iterator[Pairs]:
        room = max(AT_ONCE, len(right_c))
        left_p, right_p = np.empty(room, np.int64), np.empty(room, np.int64)
        floor = np.float32(self.threshold - SLACK)
        row = 0
        while row < len(left_b):
            row, found = _may_be_alike(
                bound_bc, left_b, right_c, floor, parent_n, row, left_p, right_p
            )
            if found:
                left, right = left_p[:found], right_p[:found]
                sim_p = pair_cosines(self.image_emb_nd, left, right)
                alike = sim_p >= self.threshold - ROUNDING
                yield left[alike], right[alike]

    def roots(self) -> NDArray[np.int64]:
        """Return the lowest position of each image's group."""
        root_n = self.parent_n.copy()
        while True:  # as often as the logarithm of the longest way
            above = root_n[root_n]
            if np.array_equal(above, root_n):
                return root_n
            root_n = above


@numba.njit(nogil=True, cache=True)
def _root(parent_n: Any, i: Any) -> Any:
    while parent_n[i] != i:
        i = parent_n[i]
    return i


@numba.njit(nogil=True, cache=True)
def _join(parent_n: Any, left_p: Any, right_p: Any) -> None:
    for p in range(len(left_p)):
        i, j = left_p[p], right_p[p]
        while parent_n[i] != i:  # ways are halved as they are gone
            parent_n[i] = parent_n[parent_n[i]]
            i = parent_n[i]
        while parent_n[j] != j:
            parent_n[j] = parent_n[parent_n[j]]
            j = parent_n[j]
        if i < j:
            parent_n[j] = i
        else:
            parent_n[i] = j


@numba.njit(nogil=True, cache=True)
def _may_be_alike(
    bound_bc: Any, left_b: Any, right_c: Any, floor: Any, parent_n: Any, row: Any,
    left_p: Any, right_p: Any,
) -> Any:  # fmt: skip
    """Fill in pairs from a row on; return the row that comes next, and how many pairs."""
    found, width = 0, len(right_c)
    while row < len(left_b) and found + width <= len(left_p):
        hits = 0
        for c in range(width):
            hits += bound_bc[row, c] >= floor
        if hits:
            i = left_b[row]
            own = _root(parent_n, i)
            for c in range(width):
                if bound_bc[row, c] >= floor and right_c[c] != i:
                    j = right_c[c]
                    if _root(parent_n, j) != own:
                        left_p[found], right_p[found] = i, j
                        found += 1
        row += 1
    return row, found
