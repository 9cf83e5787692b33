"""Coverage written straight from its equations, in loops and n × n arrays."""

from __future__ import annotations

import numpy as np


def kernel(Z, radius, others=None):
    """exp(−‖e_i − e_j‖² / (radius h)²), rows for `others` (or the pool), columns for the pool."""
    Z = np.asarray(Z, float)
    Z = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    mean = Z.mean(axis=0)

    def place(rows):
        rows = np.asarray(rows, float)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True) - mean
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    e = place(Z)
    square = ((e[:, None] - e[None]) ** 2).sum(-1)
    h2 = np.median(square[np.triu_indices(len(e), 1)])
    rows = e if others is None else place(others)
    return np.exp(-((rows[:, None] - e[None]) ** 2).sum(-1) / (radius**2 * h2))


def gains(K, w, cover):
    """What each image would add to the covered weight."""
    return np.array([sum(w * np.maximum(row - cover, 0.0)) for row in K]) / sum(w)


def shortfall(K, w, cover, picks):
    """By how much each pick adds less than the best that was left."""
    worst = 0.0
    for step, pick in enumerate(picks):
        gain = gains(K, w, cover)
        left = np.delete(np.arange(len(K)), picks[:step])
        worst = max(worst, gain[left].max() - gain[pick])
        cover = np.maximum(cover, K[pick])
    return worst


def weights(P):
    """√(1 − margin) · Σ_k p_jk / (mean_i p_ik + 10⁻³)."""
    P = np.asarray(P, float)
    mean = P.mean(axis=0)
    found = []
    for p in P:
        first, second = sorted(p)[::-1][:2]
        found.append(np.sqrt(1 - (first - second)) * sum(p / (mean + 1e-3)))
    return np.array(found)
