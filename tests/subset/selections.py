"""Selections, scores and graphs, for the tests of `selection`, `optimizer` and their parts."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from clip_al.subset.selection import Selection

LABELS = [0, 0, 0, 1, 1, 2]
NAMES = ("cat", "dog", "ox")


def make(indices=(1, 2, 4), **changes):
    arguments = {
        "scores": {
            "sas": np.array([0.3, 0.1, 0.2, 0.1, 0.9, 0.5], np.float32),
            "label_score": np.array([-0.1, -3.0, -0.2, -0.3, -5.0, -3.0]),
            "likeliest": np.array([0, 1, 0, 1, 2, 0]),
        },
        "settings": {"model": "toy", "ratio": 0.5, "seed": 0},
        "labels": np.array(LABELS),
        "class_names": NAMES,
        "groups": np.array(["night", "day", "day", "day", "night", "day"]),
        "ids": [f"{c}.jpg" for c in "abcdef"],
    }
    return Selection(np.array(indices), 6, **{**arguments, **changes})


def scores(rng, n, kind="uniform"):
    if kind == "uniform":
        return rng.random(n), rng.random(n)
    if kind == "cosine":  # as in the paper: alignment close together, diversity spread
        return 0.25 + 0.02 * rng.standard_normal(n), 0.8 + 0.1 * rng.standard_normal(n)
    if kind == "negative":
        return -1.5 * rng.random(n), -0.2 * rng.random(n)
    return rng.standard_normal(n), rng.standard_normal(n)


def pairs(rng, n_pairs):
    """Near duplicates 2p, 2p + 1: almost one score, an edge of cosine 0.99 both ways."""
    total = np.repeat(np.linspace(0.4, 0.8, n_pairs), 2) + 1e-3 * rng.random(2 * n_pairs)
    twins = np.arange(2 * n_pairs) ^ 1
    shape = (2 * n_pairs, 2 * n_pairs)
    graph = sparse.csr_array((np.full(2 * n_pairs, 0.99), (np.arange(2 * n_pairs), twins)), shape)
    return total, graph


def random_graph(rng, n, edges):
    graph = sparse.coo_array(
        (rng.random(edges), (rng.integers(0, n, edges), rng.integers(0, n, edges))), shape=(n, n)
    )
    return graph.tocsr()
