"""Pictures that a small network learns in a few steps."""

from __future__ import annotations

import numpy as np


def colours(n, seed=0, k=3, size=16):
    """Noisy pictures (n, size, size, 3), each class of a colour of its own."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    images = rng.integers(0, 120, (n, size, size, 3), dtype=np.uint8)
    images[np.arange(n), :, :, y] += 100
    return images, y
