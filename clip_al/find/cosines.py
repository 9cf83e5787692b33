"""Cosines of rows as they lie in memory or on disk: float16, float32 and float64, without a copy.

numba has no float16; its bits are widened here, a shift and a multiplication each.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows, map_blocks, unit_block

FAST = {"reassoc", "nsz", "contract"}
WIDEN = np.float32(2.0**112)
"""From float16's exponents, read as those of float32, to what they stand for."""
NO_NUMBER = np.uint16(0x7C00)  # infinity; NaN is above it


def native(image_emb_nd: NDArray[Any]) -> NDArray[Any]:
    """Return an array that the kernels read: of this machine's byte order, float16 as its bits."""
    array = np.asarray(image_emb_nd)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array.view(np.uint16) if array.dtype == np.float16 else array


def cosines_with(image_emb_nd: NDArray[Any], unit_d: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine of each row with one vector; rows of any length, read once.

    Parameters
    ----------
    image_emb_nd : ndarray of shape (n, d), float
        Not modified.
    unit_d : ndarray of shape (d,), float32
        Of unit length.

    Returns
    -------
    ndarray of shape (n,), float32
        In [-1, 1] up to rounding; equal rows have equal cosines, wherever they stand.

    Raises
    ------
    InvalidInputError
        Where a row is not finite or all zeros.
    """
    rows_nd = native(image_emb_nd)
    n, width = rows_nd.shape
    sim_n = np.empty(n, dtype=np.float32)
    kernel = _bit_cosines if rows_nd.dtype == np.uint16 else _float_cosines

    def measure(rows: slice) -> None:
        kernel(rows_nd[rows], unit_d, sim_n[rows])

    for _ in map_blocks(measure, n, block_rows(width, rows_nd.itemsize)):
        pass
    for row in np.flatnonzero(np.isnan(sim_n)):  # a length that float32 cannot hold, or none
        sim_n[row] = unit_block(image_emb_nd, slice(row, row + 1))[0] @ unit_d
    return sim_n


def pair_cosines(
    image_emb_nd: NDArray[Any], left_p: NDArray[np.int64], right_p: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the cosines of pairs of rows, summed in float64 and so to more than ten digits."""
    rows_nd = native(image_emb_nd)
    sim_p = np.empty(len(left_p))
    kernel = _bit_pairs if rows_nd.dtype == np.uint16 else _float_pairs
    kernel(rows_nd, left_p, right_p, sim_p)
    for pair in np.flatnonzero(np.isnan(sim_p)):
        a, b = (unit_block(image_emb_nd, slice(i, i + 1))[0] for i in (left_p[pair], right_p[pair]))
        sim_p[pair] = a.astype(np.float64) @ b
    return sim_p


@numba.njit(inline="always")
def _number(bits: Any) -> Any:
    wide = np.uint32(bits)
    sign = (wide & np.uint32(0x8000)) << np.uint32(16)
    rest = (wide & np.uint32(0x7FFF)) << np.uint32(13)
    return np.uint32(sign | rest).view(np.float32)


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def _bit_cosines(bits_nd: Any, unit_d: Any, sim_n: Any) -> None:
    n, width = bits_nd.shape
    for i in range(n):
        product, square = np.float32(0), np.float32(0)
        largest = np.uint16(0)
        for j in range(width):
            bits = bits_nd[i, j]
            largest = max(largest, np.uint16(bits & np.uint16(0x7FFF)))
            number = _number(bits) * WIDEN
            product += number * unit_d[j]
            square += number * number
        sim_n[i] = _cosine(product, square, largest < NO_NUMBER)


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def _float_cosines(rows_nd: Any, unit_d: Any, sim_n: Any) -> None:
    n, width = rows_nd.shape
    for i in range(n):
        product, square = np.float32(0), np.float32(0)
        for j in range(width):
            number = np.float32(rows_nd[i, j])
            product += number * unit_d[j]
            square += number * number
        sim_n[i] = _cosine(product, square, True)


@numba.njit
def _cosine(product: Any, square: Any, is_finite: bool) -> Any:
    """Return NaN where the sums left the range in which float32 keeps its digits."""
    if not is_finite or not 1e-30 < square < 1e30:
        return np.float32(np.nan)
    return np.float32(product / np.sqrt(square))


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def _bit_pairs(bits_nd: Any, left_p: Any, right_p: Any, sim_p: Any) -> None:
    width = bits_nd.shape[1]
    for p in range(len(left_p)):
        i, j = left_p[p], right_p[p]
        product, square, other = 0.0, 0.0, 0.0
        for k in range(width):
            a = np.float64(_number(bits_nd[i, k]) * WIDEN)
            b = np.float64(_number(bits_nd[j, k]) * WIDEN)
            product += a * b
            square += a * a
            other += b * b
        sim_p[p] = product / np.sqrt(square * other)


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def _float_pairs(rows_nd: Any, left_p: Any, right_p: Any, sim_p: Any) -> None:
    width = rows_nd.shape[1]
    for p in range(len(left_p)):
        i, j = left_p[p], right_p[p]
        product, square, other = 0.0, 0.0, 0.0
        for k in range(width):
            a, b = np.float64(rows_nd[i, k]), np.float64(rows_nd[j, k])
            product += a * b
            square += a * a
            other += b * b
        length = square * other
        sim_p[p] = product / np.sqrt(length) if 1e-200 < length < 1e200 else np.nan
