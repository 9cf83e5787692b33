"""What speaks for each class of an image: the class text, the class mean, ridge regression.

Means and regression are those of a sample of labelled images, and an image of the sample is
left out of both where it is looked at itself, exactly and in closed form: no label votes for
itself. Trusts what it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clip_al.arrays.blocks import block_rows, map_blocks, one_blas_thread
from clip_al.arrays.device import host
from clip_al.arrays.types import Adapter
from clip_al.score.neighbors import unit_rows

N_KINDS = 3
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Of the regression, in units of the mean variance of a direction."""
MAX_TRIED = 4_000
"""Images of the sample by which the penalty is chosen."""
MAX_ENTRIES = 2**20
MIN_TRIED = 500
SHORTEST, ALONE = 1e-6, 1e-2
LARGEST_LEVERAGE = 0.999


@dataclass(frozen=True)
class ClassEvidence:
    """Three kinds of class evidence, fitted to a sample of labelled images.

    Parameters
    ----------
    mean_d : ndarray of shape (d,), float32
        Mean of the sample's unit rows.
    vector_fdk : ndarray of shape (3, d, k), float32
        Class vectors: texts, means scaled to length 1, coefficients of the regression.
    sum_length_k : ndarray of shape (k,), float32
        Length of each class's sum of centred rows.
    whitening_dd : ndarray of shape (d, d), float32
        Its product with a centred row has the squared length of the row's leverage.
    share_k : ndarray of shape (k,), float32
        Of the sample's labels.
    n_fitted : int
        Images in the sample.
    """

    mean_d: NDArray[np.float32]
    vector_fdk: NDArray[np.float32]
    sum_length_k: NDArray[np.float32]
    whitening_dd: NDArray[np.float32]
    share_k: NDArray[np.float32]
    n_fitted: int

    def of(
        self, unit_bd: NDArray[np.float32], y_b: NDArray[np.int64], seen_b: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return the evidence for each class of some images, (3, b, k), float32.

        Parameters
        ----------
        unit_bd : ndarray of shape (b, d), float32
            Unit rows.
        y_b : ndarray of shape (b,), int64
            Class numbers.
        seen_b : ndarray of shape (b,), bool
            Whether the image is in the sample, and has to be left out of means and regression.
        """
        centred_bd = unit_bd - self.mean_d
        out_fbk = np.stack([centred_bd @ vector_dk for vector_dk in self.vector_fdk])
        rows = np.flatnonzero(seen_b)
        if len(rows):
            self._leave_out(out_fbk, centred_bd[rows], rows, y_b[rows])
        return out_fbk

    def _leave_out(
        self,
        out_fbk: NDArray[np.float32],
        centred_md: NDArray[np.float32],
        rows: NDArray[np.int64],
        y_m: NDArray[np.int64],
    ) -> None:
        """Take the images' own rows out of the means and the regression they are compared with."""
        length_m = self.sum_length_k[y_m]
        own_m = np.einsum("md,md->m", centred_md, centred_md)
        product_m = out_fbk[1, rows, y_m] * length_m
        rest_m = np.sqrt(np.maximum(length_m**2 - 2 * product_m + own_m, 0.0))
        alone_m = rest_m < SHORTEST + ALONE * np.sqrt(own_m)  # nothing is left of the class
        out_fbk[1, rows, y_m] = np.where(
            alone_m, 0.0, (product_m - own_m) / np.where(alone_m, 1.0, rest_m)
        )
        leverage_m = ((centred_md @ self.whitening_dd) ** 2).sum(axis=1) + 1 / self.n_fitted
        leverage_m = np.minimum(leverage_m, LARGEST_LEVERAGE)
        out_fbk[2, rows, y_m] -= leverage_m
        out_fbk[2, rows] += leverage_m[:, None] * self.share_k
        out_fbk[2, rows] /= (1 - leverage_m)[:, None]


def fit_evidence(
    image_emb_nd: NDArray[Any],
    codes_n: NDArray[np.int64],
    text_emb_kd: NDArray[np.float32],
    rows: NDArray[np.int64],
    adapter: Adapter | None,
) -> ClassEvidence:
    """Fit class means and a ridge regression to some images.

    Parameters
    ----------
    image_emb_nd : ndarray of shape (n, d)
        Any float type, not modified.
    codes_n : ndarray of shape (n,), int64
        Class numbers in [0, k).
    text_emb_kd : ndarray of shape (k, d), float32
        As the adapter, where there is one, maps them.
    rows : ndarray of shape (m,), int64
        The sample.
    adapter : DatasetAdapter or None

    Returns
    -------
    ClassEvidence

    Notes
    -----
    O(m d (d + k) + d³) time, O(d² + d k) memory and one block for each core. The penalty is the
    one of `PENALTIES` with the least squared error of held-out images (of a few thousand). With
    the hat matrix H of the regression and its constant, the prediction of an image left out is
    ``(prediction - H_ii y) / (1 - H_ii)``; a class mean without one image is as simple.

    References
    ----------
    Allen: "The Relationship between Variable Selection and Data Augmentation and a Method for
    Prediction", Technometrics 1974 (the predictions left out).
    """
    k, d = text_emb_kd.shape
    y_m = codes_n[rows]

    def add(block: slice) -> tuple[Any, Any]:
        unit_bd = host(unit_rows(image_emb_nd, rows[block], adapter=adapter))
        member_kb = sparse.csr_array(
            (np.ones(len(unit_bd), np.float32), (y_m[block], np.arange(len(unit_bd)))),
            shape=(k, len(unit_bd)),
        )
        return member_kb @ unit_bd, unit_bd.T @ unit_bd

    sum_kd, gram_dd = np.zeros((k, d)), np.zeros((d, d))
    for part_kd, part_dd in map_blocks(add, len(rows), block_rows(2 * d)):
        sum_kd += part_kd
        gram_dd += part_dd
    mean_d = sum_kd.sum(axis=0) / len(rows)
    count_k = np.bincount(y_m, minlength=k)
    sum_kd -= count_k[:, None] * mean_d
    gram_dd -= len(rows) * np.outer(mean_d, mean_d)
    length_k = np.linalg.norm(sum_kd, axis=1)
    length_k[length_k < SHORTEST] = np.inf  # no images: no evidence
    with one_blas_thread():  # two threads wait for each other longer than one computes
        variance_d, axis_dd = np.linalg.eigh(gram_dd)
    variance_d = np.maximum(variance_d, 0.0)
    penalties = np.array(PENALTIES) * max(variance_d.mean(), SHORTEST)
    step = max(1, len(rows) // min(MAX_TRIED, max(MIN_TRIED, MAX_ENTRIES // k)))
    tried_md = host(unit_rows(image_emb_nd, rows[::step], adapter=adapter))
    tried_md = (tried_md - mean_d.astype(np.float32)) @ axis_dd.astype(np.float32)
    penalty = _best_penalty(
        tried_md, y_m[::step], axis_dd.T @ sum_kd.T, variance_d, penalties, len(rows)
    )
    whitening_dd = axis_dd / np.sqrt(variance_d + penalty)
    ridge_dk = whitening_dd @ (whitening_dd.T @ sum_kd.T)
    vector_fdk = np.stack([text_emb_kd.T, (sum_kd / length_k[:, None]).T, ridge_dk])
    finite_k = np.where(np.isfinite(length_k), length_k, 0.0)
    return ClassEvidence(
        mean_d.astype(np.float32), vector_fdk.astype(np.float32), finite_k.astype(np.float32),
        whitening_dd.astype(np.float32), (count_k / len(rows)).astype(np.float32), len(rows),
    )  # fmt: skip


def _best_penalty(
    rotated_md: NDArray[Any],
    y_m: NDArray[np.int64],
    moment_dk: NDArray[Any],
    variance_d: NDArray[Any],
    penalties: Sequence[float] | NDArray[Any],
    n_fitted: int,
) -> float:
    """Return the penalty with the least squared error of images left out."""
    target_mk = np.zeros((len(y_m), moment_dk.shape[1]))
    target_mk[np.arange(len(y_m)), y_m] = 1.0
    target_mk -= target_mk.mean(axis=0)
    errors = []
    for penalty in penalties:
        inverse_d = 1 / (variance_d + penalty)
        leverage_m = np.minimum((rotated_md**2) @ inverse_d + 1 / n_fitted, LARGEST_LEVERAGE)
        residual_mk = target_mk - rotated_md @ (inverse_d[:, None] * moment_dk)
        errors.append(float(((residual_mk / (1 - leverage_m)[:, None]) ** 2).mean()))
    return float(penalties[int(np.argmin(errors))])
