"""Embeddings of images of four classes, each near its class's text."""

from __future__ import annotations

import numpy as np

NAMES = ["ant", "bee", "cat", "dog"]


def images_near(T, y, rng):
    """Return unit rows, one for each class number in `y`, float32."""
    rows = T[y] + 0.2 * rng.standard_normal((len(y), T.shape[1]))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
