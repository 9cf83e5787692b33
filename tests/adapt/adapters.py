"""Small adapters and images, for the tests of `adapter`, `adapter_training` and `cross_fit`."""

from __future__ import annotations

import numpy as np

from clip_al.adapt.adapter import DatasetAdapter
from tests.reference import contents, random_unit

N, D, K = 120, 16, 4


def make(**settings):
    """A short run on the CPU, at a rate that shows in few steps."""
    defaults = {"epochs": 4, "learning_rate": 1e-2, "batch_size": 32, "device": "cpu"}
    return DatasetAdapter(**{**defaults, **settings})


def shifted(n=N, seed=0, noise=0.1):
    """Images of K classes, moved and turned away from their texts: zero-shot errs."""
    rng = np.random.default_rng(seed)
    T = random_unit(np.random.default_rng(7), K, D)
    turn, r = np.linalg.qr(np.eye(D) + 0.25 * np.random.default_rng(8).standard_normal((D, D)))
    turn *= np.sign(np.diag(r))  # towards the identity
    y = np.arange(n) % K
    Z = T[y] @ turn + 0.6 * T[0] + noise * rng.standard_normal((n, D))
    return (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32), y, T


def same(one, other):
    return one.weights_.keys() == other.weights_.keys() and all(
        contents(one.weights_[name]) == contents(other.weights_[name]) for name in one.weights_
    )
