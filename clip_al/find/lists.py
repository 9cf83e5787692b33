"""Pairs in pools too large to compare all: lists of near images, and which lists to look in.

    coordinates ──▶ k-means ──▶ each image belongs to the list of its nearest centre
    an image is compared with the members of its list, and of each list whose border is near

The border of lists o and c is the plane halfway between their centres. Of two images at a
distance δ on its two sides, one is within δ / 2 of it, so looking that far would find every pair.
Near-copies differ in directions that have little to do with the line between two centres:
a fraction of it finds nearly all. How far is needed is measured on images drawn at random,
compared with all others; what that finds is measured on as many more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import map_blocks
from clip_al.find.unions import Unions

RECALL = 0.998
"""Share of the pairs that lists are looked in for; a little above what is promised, 0.99."""
LISTS = 4.0  # times the root of the number of images
TRAINED = 32  # images that each centre is learned from
ROUNDS = 8
MOST_DRAWN = 4_096
"""Images that are compared with all, at most, to choose how far to look; as many to check."""
ENOUGH_PAIRS = 5_000
COLUMNS = 1_024
CACHED_ROWS = 512
N_ENTRIES = 2**23  # image and list: how many are held at a time
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Lists:
    """Centres of the lists, and which list each image is in."""

    centre_lr: Floats
    own_m: NDArray[np.int32]

    @property
    def members(self) -> list[NDArray[np.int64]]:
        """The images of each list, rising."""
        order = np.argsort(self.own_m, kind="stable")
        counts = np.bincount(self.own_m, minlength=len(self.centre_lr))
        return np.split(order, np.cumsum(counts)[:-1])


def make_lists(coordinates_mr: Floats, rng: np.random.Generator) -> Lists:
    """Return lists around the centres that k-means finds, begun with images drawn at random.

    References
    ----------
    Lloyd: "Least Squares Quantization in PCM", IEEE Transactions on Information Theory 1982.
    """
    m = len(coordinates_mr)
    n_lists = max(1, min(int(LISTS * math.sqrt(m)), m // TRAINED))
    learned = coordinates_mr[np.sort(rng.choice(m, TRAINED * n_lists, replace=False))]
    centre_lr = learned[rng.choice(len(learned), n_lists, replace=False)].copy()
    for _ in range(ROUNDS):
        own = _nearest(learned, centre_lr)
        count_l = np.bincount(own, minlength=n_lists)
        order = np.argsort(own, kind="stable")
        filled = np.flatnonzero(count_l)
        starts = (np.cumsum(count_l) - count_l)[filled]
        sums = np.add.reduceat(learned[order], starts, axis=0, dtype=np.float64)
        centre_lr[filled] = sums / count_l[filled, None]
    return Lists(centre_lr, _nearest(coordinates_mr, centre_lr))


def _nearest(coordinates_mr: Floats, centre_lr: Floats) -> NDArray[np.int32]:
    half_square_l = np.einsum("lr,lr->l", centre_lr, centre_lr) / 2
    own_m = np.empty(len(coordinates_mr), dtype=np.int32)

    def look(part: slice) -> None:
        product_bl = coordinates_mr[part] @ centre_lr.T
        product_bl -= half_square_l
        own_m[part] = product_bl.argmax(axis=1)

    for _ in map_blocks(look, len(coordinates_mr), CACHED_ROWS):
        pass
    return own_m


class Borders:
    """How far images are from the borders to other lists.

    Parameters
    ----------
    coordinates_mr : ndarray of shape (m, r), float32
    lists : Lists
    """

    def __init__(self, coordinates_mr: Floats, lists: Lists) -> None:
        self.coordinates_mr, self.lists = coordinates_mr, lists
        centre_lr = lists.centre_lr
        self._square_l = np.einsum("lr,lr->l", centre_lr, centre_lr)

    def distances(self, rows: Any, first: int, last: int) -> Floats:
        """Return the distance of images to their borders with lists [first, last); own is 0."""
        image_br, own_b = self.coordinates_mr[rows], self.lists.own_m[rows]
        centre_lr, square_l = self.lists.centre_lr, self._square_l
        own_br = centre_lr[own_b]
        nearer_b = square_l[own_b] - 2 * np.einsum("br,br->b", image_br, own_br)
        # ‖a − c‖² − ‖a − o‖², over twice the distance of the centres c and o
        gap_bl: Floats = image_br @ centre_lr[first:last].T
        between_bl = own_br @ centre_lr[first:last].T
        _to_borders(gap_bl, between_bl, nearer_b, square_l[own_b], square_l[first:last])
        here = np.flatnonzero((own_b >= first) & (own_b < last))
        gap_bl[here, own_b[here] - first] = 0.0
        return gap_bl


@numba.njit(nogil=True, cache=True)
def _to_borders(gap_bl: Any, between_bl: Any, nearer_b: Any, own_b: Any, square_l: Any) -> None:
    for i in range(gap_bl.shape[0]):
        for c in range(gap_bl.shape[1]):
            gap = square_l[c] - np.float32(2) * gap_bl[i, c] - nearer_b[i]
            apart = own_b[i] + square_l[c] - np.float32(2) * between_bl[i, c]
            far = np.float32(2) * np.sqrt(max(apart, np.float32(1e-8)))
            gap_bl[i, c] = max(gap, np.float32(0)) / far


@dataclass(frozen=True)
class Reach:
    """How far from a border an image is looked up beyond it, and what that finds.

    Attributes
    ----------
    distance : float
    recall : float or None
        Share of the pairs of images drawn at random that are found; None where they have none.
    n_pairs : int
        How many pairs that is a share of.
    lists_per_image : float
        How many lists an image is looked up in, on average.
    """

    distance: float
    recall: float | None
    n_pairs: int
    lists_per_image: float


def choose_reach(
    borders: Borders, unions: Unions, rows: NDArray[np.int64], rng: np.random.Generator
) -> Reach:
    """Return how far to look, by images that are compared with all others.

    Their pairs are joined on the way.

    Parameters
    ----------
    borders : Borders
    unions : Unions
    rows : ndarray of shape (m,), int64
        The images that the coordinates are of.
    rng : numpy Generator
    """
    m = len(rows)
    drawn = rng.permutation(m)[: 2 * MOST_DRAWN]
    far = math.sqrt(max(0.0, 2 - 2 * unions.threshold)) / 2
    needs = [_needed(borders, unions, rows, half) for half in np.array_split(drawn, 2)]
    distance = far
    if len(needs[0]):
        distance = min(far, float(np.quantile(needs[0], RECALL, method="higher")) + 1e-6)
    recall = float(np.mean(needs[1] <= distance)) if len(needs[1]) else None
    some = np.sort(drawn[:256])
    n_lists = len(borders.lists.centre_lr)
    per_image = float((borders.distances(some, 0, n_lists) <= distance).sum(axis=1).mean())
    return Reach(distance, recall, len(needs[1]), per_image)


def _needed(
    borders: Borders, unions: Unions, rows: NDArray[np.int64], drawn: NDArray[np.int64]
) -> Floats:
    """Return how far each pair of the images drawn needs to be looked for."""
    coordinates_mr, found = borders.coordinates_mr, []
    at = np.full(len(unions.parent_n), -1)
    at[rows] = np.arange(len(rows))
    n_found = 0
    for start in range(0, len(drawn), CACHED_ROWS):
        block = drawn[start : start + CACHED_ROWS]

        def look(part: slice, block: NDArray[np.int64] = block) -> list[Any]:
            bound = coordinates_mr[block] @ coordinates_mr[part].T
            return list(unions.all_alike(bound, rows[block], rows[part]))

        for pairs in (pair for alike in map_blocks(look, len(rows), COLUMNS) for pair in alike):
            unions.join(pairs)
            found.append(pairs)
            n_found += len(pairs[0])
        if n_found >= ENOUGH_PAIRS:
            break
    left, right = (np.concatenate([np.empty(0, np.int64), *(p[k] for p in found)]) for k in (0, 1))
    return _shorter_way(borders, at[left], at[right])


def _shorter_way(borders: Borders, left_p: NDArray[np.int64], right_p: NDArray[np.int64]) -> Floats:
    """Return the distance to the border between two images, of the one that is nearer to it."""
    own_m, need_p = borders.lists.own_m, np.empty(len(left_p), np.float32)
    n_lists = len(borders.lists.centre_lr)
    for start in range(0, len(left_p), CACHED_ROWS):
        part = slice(start, start + CACHED_ROWS)
        one, other = left_p[part], right_p[part]
        each = np.arange(len(one))
        there = borders.distances(one, 0, n_lists)[each, own_m[other]]
        back = borders.distances(other, 0, n_lists)[each, own_m[one]]
        need_p[part] = np.minimum(there, back)
    return need_p


def join_near(borders: Borders, unions: Unions, rows: NDArray[np.int64], reach: Reach) -> None:
    """Join what is alike in each list and near its borders.

    Some lists at a time: which images are near enough to each, then their bounds.
    """
    members = borders.lists.members
    n_lists = len(members)
    step = int(np.clip(N_ENTRIES * n_lists / (reach.lists_per_image * len(rows)), 16, 512))
    for first in range(0, n_lists, step):
        last = min(first + step, n_lists)
        image_e, list_e = _entries(borders, first, last, reach.distance)
        order = np.argsort(list_e, kind="stable")
        ends = np.cumsum(np.bincount(list_e, minlength=last - first))
        asking = np.split(image_e[order], ends[:-1])

        def compare(part: slice, first: int = first, asking: Any = asking) -> None:
            for i in range(part.start, part.stop):
                _join_list(borders.coordinates_mr, unions, rows, asking[i], members[first + i])

        for _ in map_blocks(compare, last - first, 1):
            pass


def _entries(
    borders: Borders, first: int, last: int, distance: float
) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
    """Return images beside the lists of [first, last) that they are to be looked up in."""

    def look(part: slice) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
        image, column = np.nonzero(borders.distances(part, first, last) <= distance)
        return (image + part.start).astype(np.int32), column.astype(np.int16)

    blocks = list(map_blocks(look, len(borders.coordinates_mr), COLUMNS))
    return np.concatenate([b[0] for b in blocks]), np.concatenate([b[1] for b in blocks])


def _join_list(
    coordinates_mr: Floats,
    unions: Unions,
    rows: NDArray[np.int64],
    asking: NDArray[np.int32],
    members: NDArray[np.int64],
) -> None:
    for start in range(0, len(members), COLUMNS):
        some = members[start : start + COLUMNS]
        near_cr = np.ascontiguousarray(coordinates_mr[some])
        for begin in range(0, len(asking), CACHED_ROWS):
            block = asking[begin : begin + CACHED_ROWS]
            bound = coordinates_mr[block] @ near_cr.T
            unions.join_alike(bound, rows[block], rows[some])


def join_all(coordinates_mr: Floats, unions: Unions, rows: NDArray[np.int64]) -> None:
    """Join what is alike among all pairs, a block of bounds for each core at a time."""
    m = len(rows)

    def compare(part: slice) -> None:
        for start in range(part.start, m, COLUMNS):
            columns = slice(start, start + COLUMNS)
            bound = coordinates_mr[part] @ coordinates_mr[columns].T
            unions.join_alike(bound, rows[part], rows[columns])

    for _ in map_blocks(compare, m, CACHED_ROWS):
        pass
