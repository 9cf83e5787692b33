"""The lowest keys of each group, exactly, from counts of blocks: no sort, no gathering.

    keys ──extent──▶ sizes and range of each group
         ──counts of 1,024 bins──▶ the bin that holds the threshold ──▶ its 1,024 bins ──▶ …
         ──the few keys that are left in it──▶ the threshold itself

Knows nothing of Ray: a block is an array of keys, and the caller runs over the blocks. All is
whole numbers, so neither the cut into blocks nor their order changes a bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.errors import InvalidInputError, InvalidTypeError, not_finite

N_BINS = 1024
FEW = 100_000
"""So many keys that are still open, over all groups, are gathered in place of counted."""
WORD_BYTES = 8
LOWEST, HIGHEST = np.uint64(0), np.uint64(2**64 - 1)
_SIGN = np.uint64(2**63)

Keys: TypeAlias = "tuple[NDArray[np.uint64], NDArray[np.int64]]"
"""Words of each row's key, (n, w), most significant first; and its group, (n,)."""


def sort_keys(value_n: NDArray[Any], ids: ArrayLike) -> NDArray[np.uint64]:
    """Return keys that compare as (value, id) does: by lowest value, then lowest id.

    Parameters
    ----------
    value_n : ndarray of shape (n,), float or uint64
        Finite; lowest first.
    ids : array-like of shape (n,) of int or str
        Strings compare by code point, as in Python.

    Returns
    -------
    ndarray of shape (n, w), uint64
        One word for the value, one for each whole number or each eight bytes of UTF-8.

    Examples
    --------
    >>> low, high = sort_keys(np.array([-1.5, 2.0]), [7, -7])
    >>> bool(low[0] < high[0]), bool(low[1] > high[1])
    (True, True)
    """
    if value_n.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(value_n))
        if bad.size:
            raise not_finite("scores", bad.tolist())
    return np.column_stack([_value_words(value_n), _id_words(np.asarray(ids))])


def _value_words(value_n: NDArray[Any]) -> NDArray[np.uint64]:
    if value_n.dtype.kind == "u":
        return value_n.astype(np.uint64)
    bits: NDArray[np.uint64] = (value_n.astype(np.float64) + 0.0).view(np.uint64)  # -0.0 is 0.0
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _id_words(ids: NDArray[Any]) -> NDArray[np.uint64]:
    if ids.dtype.kind in "iu":
        whole: NDArray[np.uint64] = ids.astype(np.int64).view(np.uint64) ^ _SIGN
        return whole[:, None]
    if ids.dtype.kind not in "OU" or not all(isinstance(name, str) for name in ids.tolist()):
        raise InvalidTypeError(
            f"The column `id` must hold whole numbers or strings; got {ids.dtype}, with "
            f"{ids[0]!r}. Convert it, and name the images that have none."
        )
    data = np.char.encode(ids.astype(str), "utf-8")
    width = max(1, -(-data.dtype.itemsize // WORD_BYTES))
    padded = np.ascontiguousarray(data.astype(f"S{width * WORD_BYTES}"))
    return padded.view(">u8").reshape(len(ids), width).astype(np.uint64)


@dataclass(frozen=True)
class Extent:
    """What there is of each group: sizes (g,), range of the first word, widest key."""

    size_g: NDArray[np.int64]
    low_g: NDArray[np.uint64]
    high_g: NDArray[np.uint64]
    n_words: int

    @classmethod
    def of(cls, keys: Keys, n_groups: int) -> Extent:
        """Measure one block."""
        words_nw, group_n = keys
        low_g, high_g = np.full(n_groups, HIGHEST), np.full(n_groups, LOWEST)
        np.minimum.at(low_g, group_n, words_nw[:, 0])
        np.maximum.at(high_g, group_n, words_nw[:, 0])
        return cls(np.bincount(group_n, minlength=n_groups), low_g, high_g, words_nw.shape[1])

    @classmethod
    def merged(cls, parts: Iterable[tuple[NDArray[np.int64], Extent]], n_groups: int = 0) -> Extent:
        """Merge the extents of blocks, each with the groups that it is of."""
        listed = list(parts)
        n_groups = max([n_groups, *(int(group_c.max(initial=-1)) + 1 for group_c, _ in listed)])
        size_g = np.zeros(n_groups, dtype=np.int64)
        low_g, high_g = np.full(n_groups, HIGHEST), np.full(n_groups, LOWEST)
        for group_c, part in listed:
            np.add.at(size_g, group_c, part.size_g)
            np.minimum.at(low_g, group_c, part.low_g)
            np.maximum.at(high_g, group_c, part.high_g)
        return cls(size_g, low_g, high_g, max((part.n_words for _, part in listed), default=1))


@dataclass(frozen=True)
class Bounds:
    """Where the threshold of each group is known to lie.

    Rows whose words before `level` equal `prefix`, and whose word there is in [low, high],
    are open; rows below are taken. A group whose open rows are all taken is decided.

    Parameters
    ----------
    prefix_gw : ndarray of shape (g, w), uint64
    level_g : ndarray of shape (g,), int64
        Which word is being narrowed; w where all are known.
    low_g, high_g : ndarray of shape (g,), uint64
    n_open_g, quota_g : ndarray of shape (g,), int64
        How many rows are open, and how many of them are to be taken.
    """

    prefix_gw: NDArray[np.uint64]
    level_g: NDArray[np.int64]
    low_g: NDArray[np.uint64]
    high_g: NDArray[np.uint64]
    n_open_g: NDArray[np.int64]
    quota_g: NDArray[np.int64]

    @classmethod
    def of(cls, extent: Extent, quota_g: NDArray[np.int64]) -> Bounds:
        """Begin with whole groups; a quota is in [0, size of the group]."""
        prefix_gw = np.zeros((len(quota_g), extent.n_words), dtype=np.uint64)
        level_g = np.zeros(len(quota_g), dtype=np.int64)
        low_g, high_g = extent.low_g.copy(), extent.high_g.copy()
        return cls(prefix_gw, level_g, low_g, high_g, extent.size_g.copy(), quota_g.copy())

    @property
    def undecided_g(self) -> NDArray[np.bool_]:
        """Groups of which some open rows are to be taken, and some are not."""
        return (self.quota_g > 0) & (self.quota_g < self.n_open_g)

    def is_open(self, keys: Keys) -> NDArray[np.bool_]:
        """Return which rows are open, in groups that are undecided, (n,)."""
        words_nw, group_n = keys
        level_n = self.level_g[group_n]
        open_n = self.undecided_g[group_n]
        for w in range(self.prefix_gw.shape[1]):
            open_n &= (level_n <= w) | (_word(words_nw, w) == self.prefix_gw[group_n, w])
        here_n = self._words_at_level(keys)
        inside_n = (self.low_g[group_n] <= here_n) & (here_n <= self.high_g[group_n])
        return open_n & inside_n

    def is_taken(self, keys: Keys) -> NDArray[np.bool_]:
        """Return which rows are among the lowest, (n,), once every group is decided."""
        words_nw, group_n = keys
        below_n, equal_n = np.zeros(len(group_n), bool), np.ones(len(group_n), bool)
        for w, bound_g in enumerate(self._last_taken().T):
            word_n, bound_n = _word(words_nw, w), bound_g[group_n]
            below_n |= equal_n & (word_n < bound_n)
            equal_n &= word_n == bound_n
        return (below_n | equal_n) & (self.quota_g > 0)[group_n]

    def counts(self, keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count the open rows of a block in bins: ``group * N_BINS + bin``, and how many."""
        words_nw, group_n = keys
        rows = np.flatnonzero(self.is_open(keys))
        group_c = group_n[rows]
        above_c = self._words_at_level((words_nw[rows], group_c)) - self.low_g[group_c]
        bin_c = (above_c // self._bin_width()[group_c]).astype(np.int64)
        return np.unique(group_c * N_BINS + bin_c, return_counts=True)

    def narrowed(self, counts_gb: NDArray[np.int64]) -> Bounds:
        """Return the bounds of the bin, of each undecided group, that holds the threshold."""
        new = Bounds(*(array.copy() for array in vars(self).values()))
        width_g = self._bin_width()
        for g in np.flatnonzero(self.undecided_g):
            reached_b = np.cumsum(counts_gb[g])
            b = int(np.searchsorted(reached_b, self.quota_g[g]))
            new.quota_g[g] -= reached_b[b] - counts_gb[g, b]
            new.n_open_g[g] = counts_gb[g, b]
            new.low_g[g] = self.low_g[g] + np.uint64(b) * width_g[g]
            # Of two bounds the nearer one; their difference cannot overflow.
            room = self.high_g[g] - new.low_g[g]
            new.high_g[g] = new.low_g[g] + min(room, width_g[g] - np.uint64(1))
            if new.low_g[g] == new.high_g[g]:
                new._descend(g)
        return new

    def settled(self, keys: Keys) -> Bounds:
        """Return bounds in which every group is decided, from all the rows that are open."""
        words_nw, group_n = _of_width(keys[0], self.prefix_gw.shape[1]), keys[1]
        order = np.lexsort((*words_nw.T[::-1], group_n))
        first_g = np.searchsorted(group_n[order], np.arange(len(self.quota_g)))
        new = Bounds(*(array.copy() for array in vars(self).values()))
        for g in np.flatnonzero(self.undecided_g):
            last, after = words_nw[order[first_g[g] + self.quota_g[g] + np.array([-1, 0])]]
            if (last == after).all():
                raise repeated_ids()
            new.prefix_gw[g] = last
            new.level_g[g] = len(last)
            new.n_open_g[g] = new.quota_g[g]
        return new

    def _descend(self, g: np.int64) -> None:
        """Go on to the next word of a group whose word at this level is known."""
        self.prefix_gw[g, self.level_g[g]] = self.low_g[g]
        self.level_g[g] += 1
        self.low_g[g], self.high_g[g] = LOWEST, HIGHEST
        if self.level_g[g] == self.prefix_gw.shape[1] and self.quota_g[g] < self.n_open_g[g]:
            raise repeated_ids()

    def _last_taken(self) -> NDArray[np.uint64]:
        """Return a key for each group that no row taken is above, (g, w)."""
        place_w = np.arange(self.prefix_gw.shape[1])
        level_g1 = self.level_g[:, None]
        above_gw = np.where(place_w == level_g1, self.high_g[:, None], HIGHEST)
        return np.where(place_w < level_g1, self.prefix_gw, above_gw)

    def _words_at_level(self, keys: Keys) -> NDArray[np.uint64]:
        words_nw, group_n = keys
        words_nw = _of_width(words_nw, self.prefix_gw.shape[1])
        level_n = np.minimum(self.level_g[group_n], words_nw.shape[1] - 1)
        here_n: NDArray[np.uint64] = words_nw[np.arange(len(group_n)), level_n]
        return here_n

    def _bin_width(self) -> NDArray[np.uint64]:
        # A group without rows has its bounds crossed; whatever it gets is not used.
        span_g = np.where(self.high_g < self.low_g, LOWEST, self.high_g - self.low_g)
        return span_g // np.uint64(N_BINS) + np.uint64(1)


def find_bounds(
    extent: Extent,
    quota_g: ArrayLike,
    count: Callable[[Bounds], Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]],
    gather: Callable[[Bounds], Keys],
    *,
    few: int = FEW,
) -> Bounds:
    """Find, for each group, the threshold below which its quota of rows lies.

    Parameters
    ----------
    extent : Extent
        Of all blocks together.
    quota_g : array-like of shape (g,), int
        How many rows of each group to take, the lowest keys first.
    count : callable
        Runs `Bounds.counts` over all blocks and returns what it gave for each, in any order.
    gather : callable
        Returns the keys of all blocks that are open (`Bounds.is_open`), in any order.
    few : int
        So many open rows, or fewer, are gathered.

    Returns
    -------
    Bounds
        Whose `is_taken` is true for exactly the quota of each group.

    Raises
    ------
    InvalidInputError
        Where two rows at a threshold have the same score and id.

    Notes
    -----
    Each pass over the blocks narrows the range of a key by 1,024. Keys of floats lie by sign
    and exponent first, so the first pass finds the exponent and each later one leaves about a
    thousandth: three or four passes for a billion scores, and never more than seven for each
    word of a key.
    """
    bounds = Bounds.of(extent, np.asarray(quota_g, dtype=np.int64))
    while True:
        n_open = int(bounds.n_open_g[bounds.undecided_g].sum())
        if n_open == 0:
            return bounds
        if n_open <= few:
            return bounds.settled(gather(bounds))
        counts_gb = np.zeros((len(bounds.quota_g), N_BINS), dtype=np.int64)
        for cell_c, count_c in count(bounds):
            counts_gb.ravel()[cell_c] += count_c
        bounds = bounds.narrowed(counts_gb)


def repeated_ids() -> InvalidInputError:
    """Return the error for ids that do not tell images apart."""
    return InvalidInputError(
        "The column `id` must name each image once; got two images with the same id and score. "
        "Rename one, or drop duplicates."
    )


def _word(words_nw: NDArray[np.uint64], w: int) -> NDArray[np.uint64]:
    """Return one word of each key; 0 beyond the widest of the block."""
    if w < words_nw.shape[1]:
        return words_nw[:, w]
    return np.zeros(len(words_nw), dtype=np.uint64)


def _of_width(words_nw: NDArray[np.uint64], n_words: int) -> NDArray[np.uint64]:
    return np.pad(words_nw, ((0, 0), (0, n_words - words_nw.shape[1])))
