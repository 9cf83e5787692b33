"""Images drawn uniformly: what every method has to beat."""

from __future__ import annotations

import numpy as np

from benchmarks.baselines.tasks import Indices


def pick_at_random(n: int, n_wanted: int, seed: int) -> Indices:
    """Return distinct places in [0, n), each as likely as any other.

    The picks of a smaller budget are the first of a larger one's. O(n) time and memory.
    """
    return np.random.default_rng(seed).permutation(n)[:n_wanted].astype(np.int64)
