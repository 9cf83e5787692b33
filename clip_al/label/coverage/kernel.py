"""The kernel of `coverage`, what it is measured by, and the greedy loop over it.

Arrays are trusted; rows are checked as they are read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows, map_blocks, unit_block
from clip_al.errors import not_finite
from clip_al.label.greedy import sink

EXACT_UP_TO = 4_000
"""Pools up to this size are not drawn from: references and candidates are all images."""
KERNEL_ENTRIES = 40_000_000
"""Labelled images are drawn from where they and the references would make more entries."""
N_SPREAD = 1_000
"""Images whose distances say what the median distance is."""
SHORTEST = 1e-5  # a centred embedding below this is rounding
STEPS = 2.0**20
"""Gains are counted in this part of the first pick's, so that rounding breaks no tie."""


class Space(NamedTuple):
    """Where distances are measured: centred on the pool, unit length, one radius."""

    mean_d: NDArray[np.float32]
    square_radius: float


def measure(image_emb_nd: NDArray[Any], radius: float, rng: np.random.Generator) -> Space:
    """Return the pool's mean and radius; of many images, a draw says both."""
    n = len(image_emb_nd)
    rows = np.arange(n) if n <= EXACT_UP_TO else np.sort(rng.choice(n, EXACT_UP_TO, replace=False))
    emb_sd = _unit_rows(image_emb_nd, rows)
    mean_d = emb_sd.mean(axis=0, dtype=np.float64).astype(np.float32)
    few = rows if n <= N_SPREAD else rows[rng.permutation(len(rows))[:N_SPREAD]]
    emb_sd = placed(image_emb_nd, np.sort(few), mean_d)
    square_s = np.einsum("sd,sd->s", emb_sd, emb_sd)
    dist_ss = square_s[:, None] + square_s - 2.0 * (emb_sd @ emb_sd.T)
    above = dist_ss[np.triu_indices(len(emb_sd), 1)]
    median = float(np.median(above)) if len(above) else 0.0
    return Space(mean_d, max(radius * radius * median, 1e-6))


def _unit_rows(
    image_emb_nd: NDArray[Any], rows: NDArray[np.int64], name: str = "Z"
) -> NDArray[np.float32]:
    """Return some rows as unit-length float32, a block at a time."""
    out_sd = np.empty((len(rows), image_emb_nd.shape[1]), np.float32)

    def read(part: slice) -> None:
        block = np.asarray(image_emb_nd[rows[part]])
        bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if bad.size:
            raise not_finite(name, rows[part][bad].tolist())
        out_sd[part] = unit_block(block, slice(None))

    for _ in map_blocks(read, len(rows), max(1, block_rows(image_emb_nd.shape[1]) // 8)):
        pass
    return out_sd


def placed(
    image_emb_nd: NDArray[Any],
    rows: NDArray[np.int64],
    mean_d: NDArray[np.float32],
    name: str = "Z",
) -> NDArray[np.float32]:
    """Return some rows, centred on the mean and of unit length; of none where they are the mean."""
    emb_sd = _unit_rows(image_emb_nd, rows, name)
    emb_sd -= mean_d
    length_s = np.sqrt(np.einsum("sd,sd->s", emb_sd, emb_sd))
    emb_sd /= np.where(length_s > SHORTEST, length_s, np.inf)[:, None]
    return emb_sd


def write_kernel(
    emb_bd: NDArray[np.float32],
    emb_rd: NDArray[np.float32],
    square_radius: float,
    out_br: NDArray[np.float32],
) -> None:
    """Write exp(−‖e_i − e_j‖² / r²) of some rows and the references."""
    np.matmul(emb_bd, emb_rd.T, out=out_br)
    out_br *= 2.0
    out_br -= np.einsum("bd,bd->b", emb_bd, emb_bd)[:, None]
    out_br -= np.einsum("rd,rd->r", emb_rd, emb_rd)
    out_br *= 1.0 / square_radius
    np.minimum(out_br, 0.0, out=out_br)
    np.exp(out_br, out=out_br)


def kernel(
    emb_cd: NDArray[np.float32], emb_rd: NDArray[np.float32], square_radius: float
) -> NDArray[np.float32]:
    """Return the kernel of candidates and references, made in blocks on all cores."""
    sim_cr = np.empty((len(emb_cd), len(emb_rd)), np.float32)

    def fill(rows: slice) -> None:
        write_kernel(emb_cd[rows], emb_rd, square_radius, sim_cr[rows])

    for _ in map_blocks(fill, len(emb_cd), _rows_a_block(len(emb_rd))):
        pass
    return sim_cr


def covered(
    labelled_ld: NDArray[Any] | None, emb_rd: NDArray[np.float32], space: Space
) -> NDArray[np.float32]:
    """Return each reference's largest kernel value to what is labelled."""
    cover_r = np.zeros(len(emb_rd), np.float32)
    if labelled_ld is None:
        return cover_r
    n_most = max(1, KERNEL_ENTRIES // len(emb_rd))
    rows = np.arange(len(labelled_ld))
    if len(rows) > n_most:
        rows = np.linspace(0, len(rows) - 1, n_most).astype(np.int64)

    def nearest(part: slice) -> NDArray[np.float32]:
        emb_bd = placed(labelled_ld, rows[part], space.mean_d, "labelled")
        sim_br = np.empty((len(emb_bd), len(emb_rd)), np.float32)
        write_kernel(emb_bd, emb_rd, space.square_radius, sim_br)
        block_r: NDArray[np.float32] = sim_br.max(axis=0)
        return block_r

    for block_r in map_blocks(nearest, len(rows), _rows_a_block(len(emb_rd))):
        np.maximum(cover_r, block_r, out=cover_r)
    return cover_r


def _rows_a_block(n_columns: int) -> int:
    """Return an eighth of a block, which stays in cache from the product to the exponential."""
    return max(1, block_rows(n_columns) // 8)


@numba.njit(nogil=True, cache=True)
def pick_lazily(sim_cr, weight_r, cover_r, picks, gain):  # type: ignore[no-untyped-def]
    """Write picks and gains; `cover_r` becomes what is covered with them."""
    c = len(sim_cr)
    order_c, bound_c, exact_c = np.arange(c), np.empty(c, np.int64), np.empty(c)
    for i in range(c):
        exact_c[i] = _gain(sim_cr[i], weight_r, cover_r)
    unit = max(exact_c.max() / STEPS, 1e-300)
    for i in range(c):
        bound_c[i] = -np.int64(exact_c[i] / unit + 0.5)
    for place in range(c // 2 - 1, -1, -1):
        sink(bound_c, order_c, place, c)
    for step in range(len(picks)):
        while True:
            best = order_c[0]
            exact = _gain(sim_cr[best], weight_r, cover_r)
            bound = -np.int64(exact / unit + 0.5)
            if bound <= bound_c[0]:
                break
            bound_c[0] = bound
            sink(bound_c, order_c, 0, c)
        picks[step], gain[step] = best, exact
        for r in range(len(cover_r)):
            cover_r[r] = max(cover_r[r], sim_cr[best, r])
        c -= 1
        bound_c[0], order_c[0] = bound_c[c], order_c[c]
        sink(bound_c, order_c, 0, c)


@numba.njit(nogil=True, cache=True)
def write_gains(sim_cr, weight_r, cover_r, picks, gain_bc):  # type: ignore[no-untyped-def]
    """Write what each candidate would have added at each step, counted as `pick_lazily` does."""
    cover_r, unit = cover_r.copy(), 0.0
    for step in range(len(picks)):
        for i in range(len(sim_cr)):
            gain_bc[step, i] = _gain(sim_cr[i], weight_r, cover_r)
        if step == 0:
            unit = max(gain_bc[0].max() / STEPS, 1e-300)
        for i in range(len(sim_cr)):
            gain_bc[step, i] = np.int64(gain_bc[step, i] / unit + 0.5) * unit
        for r in range(len(cover_r)):
            cover_r[r] = max(cover_r[r], sim_cr[picks[step], r])


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})
def _gain(sim_r, weight_r, cover_r):  # type: ignore[no-untyped-def]
    total = 0.0
    for r in range(len(cover_r)):
        total += np.float64(weight_r[r] * max(sim_r[r] - cover_r[r], np.float32(0.0)))
    return total
