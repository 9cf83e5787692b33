"""What all other images say of each label of an image: ridge regression, left out one by one.

Imports nothing of ours but blocks. Of one fit the scores that a fit without an image would give
that image are known in closed form, so that no label speaks for itself and no fold is drawn.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows, map_blocks, unit_block

STRENGTHS: tuple[float, ...] = tuple((10.0 ** np.arange(-1, 3.5, 0.5)).tolist())
"""Ridges that are tried, for unit rows."""
MOST_JUDGED = 5_000
"""Images that decide which ridge is taken."""


class _Spectrum(NamedTuple):
    """What is summed over all images: enough for every ridge.

    Parameters
    ----------
    mean_d, rate_k : ndarray
        Mean image, and share of images that each label is given to.
    axes_dd, power_d : ndarray
        Eigenvectors and eigenvalues of the centred images.
    moment_dk : ndarray
        Labels summed along the axes.
    """

    mean_d: NDArray[np.float64]
    rate_k: NDArray[np.float64]
    axes_dd: NDArray[np.float64]
    power_d: NDArray[np.float64]
    moment_dk: NDArray[np.float64]


def held_out_scores(image_emb_nd: NDArray[Any], given_nk: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return how much the other images speak for each label of each image.

    Parameters
    ----------
    image_emb_nd : ndarray of shape (n, d)
        Any float type, n ≥ 2, not modified; read in blocks.
    given_nk : ndarray of shape (n, k), bool
        Whether a label is given.

    Returns
    -------
    ndarray of shape (n, k), float32
        About 0 for images unlike those of a label, about 1 for those like them.

    Notes
    -----
    With ``P = X B`` the fit and h the diagonal of its hat matrix, the fit without an image gives
    it ``(p − h g) / (1 − h)``. The ridge is the one whose squared errors are least in the mean
    over labels, each divided by its variance. O(n d (d + k) + d³) time, O(n k) memory.
    """
    n = len(image_emb_nd)
    spectrum = _spectrum(image_emb_nd, given_nk)
    strength = _best_strength(image_emb_nd, given_nk, spectrum)
    shrunk_d = 1.0 / (spectrum.power_d + strength)
    slope_dk = (spectrum.axes_dd @ (shrunk_d[:, None] * spectrum.moment_dk)).astype(np.float32)
    half_dd = (spectrum.axes_dd * np.sqrt(shrunk_d)).astype(np.float32)
    mean_d = spectrum.mean_d.astype(np.float32)
    score_nk = np.empty(given_nk.shape, dtype=np.float32)

    def score(rows: slice) -> None:
        off_bd = unit_block(image_emb_nd, rows) - mean_d
        hat_b = np.einsum("bd,bd->b", *(2 * [off_bd @ half_dd]), dtype=np.float64) + 1.0 / n
        fit_bk = off_bd @ slope_dk + spectrum.rate_k
        score_nk[rows] = _left_out(fit_bk, hat_b, given_nk[rows])

    for _ in map_blocks(score, n, _rows_per_block(given_nk, image_emb_nd)):
        pass
    return score_nk


def _left_out(
    fit_bk: NDArray[Any], hat_b: NDArray[np.float64], given_bk: NDArray[np.bool_]
) -> NDArray[np.float64]:
    hat_b = np.minimum(hat_b, 1.0 - 1e-6)  # 1 where an image alone decides, to rounding
    left_bk: NDArray[np.float64] = (fit_bk - hat_b[:, None] * given_bk) / (1.0 - hat_b)[:, None]
    return left_bk


def _spectrum(image_emb_nd: NDArray[Any], given_nk: NDArray[np.bool_]) -> _Spectrum:
    n, d = image_emb_nd.shape
    sum_d, count_k = np.zeros(d), given_nk.sum(axis=0, dtype=np.float64)
    gram_dd, cross_dk = np.zeros((d, d)), np.zeros((d, given_nk.shape[1]))

    def add(rows: slice) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        block = unit_block(image_emb_nd, rows)
        labels_bk = given_nk[rows].astype(np.float32)
        return block.sum(axis=0, dtype=np.float64), block.T @ block, block.T @ labels_bk

    for part_d, part_dd, part_dk in map_blocks(add, n, _rows_per_block(given_nk, image_emb_nd)):
        sum_d += part_d
        gram_dd += part_dd
        cross_dk += part_dk
    mean_d, rate_k = sum_d / n, count_k / n
    power_d, axes_dd = np.linalg.eigh(gram_dd - n * np.outer(mean_d, mean_d))
    moment_dk = axes_dd.T @ (cross_dk - n * np.outer(mean_d, rate_k))
    return _Spectrum(mean_d, rate_k, axes_dd, np.maximum(power_d, 0.0), moment_dk)


def _best_strength(
    image_emb_nd: NDArray[Any], given_nk: NDArray[np.bool_], spectrum: _Spectrum
) -> float:
    """Return the ridge by which labels that are left out are foretold best."""
    n = len(image_emb_nd)
    rows = np.unique(np.linspace(0, n - 1, min(n, MOST_JUDGED)).astype(np.int64))
    taken_sd = unit_block(np.asarray(image_emb_nd[rows]), slice(0, len(rows)))
    along_sd = (taken_sd - spectrum.mean_d) @ spectrum.axes_dd
    given_sk = given_nk[rows]
    spread_k = np.maximum(spectrum.rate_k * (1.0 - spectrum.rate_k), 1.0 / n)
    errors = []
    for strength in STRENGTHS:
        shrunk_d = 1.0 / (spectrum.power_d + strength)
        fit_sk = along_sd @ (shrunk_d[:, None] * spectrum.moment_dk) + spectrum.rate_k
        hat_s = (along_sd**2) @ shrunk_d + 1.0 / n
        off_sk = _left_out(fit_sk, hat_s, given_sk) - given_sk
        errors.append(float(((off_sk**2).mean(axis=0) / spread_k).mean()))
    return STRENGTHS[int(np.argmin(errors))]


def _rows_per_block(given_nk: NDArray[np.bool_], image_emb_nd: NDArray[Any]) -> int:
    return block_rows(max(given_nk.shape[1], image_emb_nd.shape[1]), 8)
