"""A few coordinates of each image whose product is never below the cosine of two images.

    unit rows ──▶ products with the r main directions, and the length of what is left

For unit vectors a, b and their orthogonal projections Pa, Pb,

    a·b = Pa·Pb + (a − Pa)·(b − Pb) ≤ Pa·Pb + ‖a − Pa‖ ‖b − Pb‖   (Cauchy and Schwarz),

the product of (Pa, ‖a − Pa‖) and (Pb, ‖b − Pb‖), which have unit length too. Pairs whose bound
is below a threshold need no look at their rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows, map_blocks, one_blas_thread, unit_block

N_COORDINATES = 64
"""With fewer, products cost less and more pairs pass: 64 took least on CLIP's embeddings."""
N_LEARNED = 20_000
"""Images that the main directions are learned from."""
SLACK = 1e-5
"""What float32 may take from a bound; such pairs are looked at."""


def bounding_coordinates(
    image_emb_nd: NDArray[Any], rows: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return coordinates of some rows, of unit length.

    Parameters
    ----------
    image_emb_nd : ndarray of shape (n, d), float
        Of any scale; not modified.
    rows : ndarray of shape (m,), int64
        Rising.
    rng : numpy Generator
        Draws the rows that the directions are learned from.

    Returns
    -------
    ndarray of shape (m, r), float32
        r = d up to 64 columns, else 64.
    """
    m, width = len(rows), image_emb_nd.shape[1]
    reduces = width > N_COORDINATES
    basis_dr = _main_directions(image_emb_nd, rows, rng) if reduces else None
    out_mr = np.empty((m, N_COORDINATES if reduces else width), dtype=np.float32)

    def project(part: slice) -> None:
        block = unit_block(np.asarray(image_emb_nd[rows[part]]), slice(None))
        if basis_dr is None:
            out_mr[part] = block
            return
        inside = block @ basis_dr
        rest = block - inside @ basis_dr.T
        out_mr[part, :-1] = inside
        out_mr[part, -1] = np.sqrt(np.einsum("bd,bd->b", rest, rest))

    for _ in map_blocks(project, m, max(1, block_rows(width) // 4)):
        pass
    return out_mr


def _main_directions(
    image_emb_nd: NDArray[Any], rows: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the directions in which rows are longest, of shape (d, 63), orthonormal."""
    drawn = rows
    if len(rows) > N_LEARNED:
        drawn = np.sort(rng.choice(rows, N_LEARNED, replace=False))
    block = unit_block(np.asarray(image_emb_nd[drawn]), slice(None))
    with one_blas_thread():  # the same directions on any number of cores
        _, vector_dd = np.linalg.eigh((block.T @ block).astype(np.float64))
    main: NDArray[np.float32] = vector_dd[:, :-N_COORDINATES:-1].astype(np.float32)
    return np.ascontiguousarray(main)
