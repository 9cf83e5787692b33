"""CG-score: how much simpler a label function gets without one image, and no training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from clip_al.arrays.labels import group_by_class

LARGEST_HALF = 1000
"""Images of a class in one Gram matrix, which holds as many of other classes: 2,000 in all."""
N_DRAWS = 3
"""How often the images to compare with are drawn; scores are the mean."""
JITTER = 1e-6
"""Added to the diagonal: two copies of an image would leave the matrix without an inverse."""


def cg_scores(
    emb_nd: NDArray[np.float32], given_n: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """Return the complexity gap of each image, its class against images of the others.

    Parameters
    ----------
    emb_nd : ndarray of shape (n, d), float32
        Embeddings of unit length; not modified.
    given_n : ndarray of shape (n,), int64
        Labels, at least 0; not modified.
    seed : int
        Draws which images of a class go together, and those of other classes.

    Returns
    -------
    ndarray of shape (n,), float64
        At least 0. High is irregular, or wrongly labelled; the paper keeps the highest.

    Notes
    -----
    A class (label 1) is set against as many images of other classes (label -1), drawn
    without replacement, and scored by `complexity_gaps`. The paper takes a class whole; we
    cut one of more than 1,000 images, after shuffling, into parts of at most that, so that
    no Gram matrix exceeds 2,000 × 2,000 (32 MB). Mean over 3 draws. The paper's vectors
    are pixels, ours embeddings. O(n · 2,000²) time for each draw.

    References
    ----------
    Nohyun, Choi, Chung: "Data Valuation Without Training of a Model", ICLR 2023, Section 3
    and Appendix A.2.
    """
    rng = np.random.default_rng(seed)
    score_n = np.zeros(len(emb_nd))
    for _ in range(N_DRAWS):
        for members in group_by_class(given_n, int(given_n.max()) + 1):
            if not len(members):
                continue
            others = np.setdiff1d(np.arange(len(emb_nd)), members, assume_unique=True)
            n_parts = -(-len(members) // LARGEST_HALF)
            for part in np.array_split(rng.permutation(members), n_parts):
                against = rng.permutation(others)[: len(part)]
                label_m = np.where(np.arange(len(part) + len(against)) < len(part), 1.0, -1.0)
                gap_m = complexity_gaps(emb_nd[np.concatenate([part, against])], label_m)
                score_n[part] += gap_m[: len(part)] / N_DRAWS
    return score_n


def complexity_gaps(
    emb_md: NDArray[np.float32], label_m: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ``yᵀ H⁻¹ y − y₋ᵢᵀ H₋ᵢ⁻¹ y₋ᵢ`` for each image i.

    Parameters
    ----------
    emb_md : ndarray of shape (m, d), float32
        Embeddings of unit length; not modified.
    label_m : ndarray of shape (m,), float64
        1 or -1; not modified.

    Returns
    -------
    ndarray of shape (m,), float64
        At least 0.

    Notes
    -----
    ``H_ij = x_i·x_j (π − arccos(x_i·x_j)) / 2π`` is the Gram matrix of the infinitely wide
    two-layer ReLU network; H₋ᵢ lacks row and column i. By the Schur complement the gap is
    ``(H⁻¹ y)_i² / (H⁻¹)_ii``: one inverse for all images, O(m³) time, O(m²) memory.

    References
    ----------
    Nohyun, Choi, Chung: "Data Valuation Without Training of a Model", ICLR 2023, Eq. 6.
    """
    cosine_mm = np.clip(emb_md.astype(np.float64) @ emb_md.T.astype(np.float64), -1.0, 1.0)
    np.fill_diagonal(cosine_mm, 1.0)
    gram_mm = cosine_mm * (np.pi - np.arccos(cosine_mm)) / (2.0 * np.pi)
    gram_mm[np.diag_indices_from(gram_mm)] += JITTER
    inverse_mm = cho_solve(cho_factor(gram_mm), np.eye(len(gram_mm)), overwrite_b=True)
    gap_m: NDArray[np.float64] = (inverse_mm @ label_m) ** 2 / np.diag(inverse_mm)
    return gap_m
