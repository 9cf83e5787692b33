"""Cells, records and images of the experiments that choose subsets, small or made up."""

from __future__ import annotations

import json
import zlib

import numpy as np

from benchmarks.data.pools import load_pool
from benchmarks.harness.cells import frame
from benchmarks.training.subsets import Condition, Material, Proxy
from tests.benchmarks.experiment_checks import check_cells
from tests.reference import random_unit

FIELDS = {
    *Condition.__dataclass_fields__, *Proxy.__dataclass_fields__,
    "method", "ratio", "network", "steps",
}  # fmt: skip
TINY = {
    "pool": "digits", "per_class": 12, "test_per_class": 5,
    "proxy_steps": 4, "early_steps": 2, "steps": 4,
}  # fmt: skip


def check_subset_cells(experiment, cells):
    """Cells are as all are, and hold what `run_cell` takes."""
    check_cells(experiment, cells)
    assert all(set(cell) - {"settings"} == FIELDS for cell in cells)


def records_of(cells, **values_of):
    """Return a table of made-up values, the same for the same cell.

    `values_of` holds functions of a number in [0, 1) that the cell draws.
    """
    rows = []
    for cell in cells:
        share = zlib.crc32(json.dumps(cell, sort_keys=True).encode()) / 2**32
        values = {"n": 9, "wrong": 0.0, "balance": 0.5, "corrupted": 0.0, "accuracy": share}
        values |= {name: value(share) for name, value in values_of.items()}
        rows.append({"cell": cell, "values": values, "seconds": 1.0})
    return frame(rows)


def toy_material():
    """Return 200 digits, every fifth label wrong, noisy class means in place of embeddings."""
    pool = load_pool("digits", per_class=20, test_per_class=10, seed=0)
    given = pool.y.copy()
    given[::5] = (given[::5] + 1) % 10
    classes = np.eye(10, 16, dtype=np.float32)
    emb = classes[pool.y] + 0.1 * random_unit(np.random.default_rng(0), 200, 16)
    emb = (emb / np.linalg.norm(emb, axis=1, keepdims=True)).astype(np.float32)
    return Material(pool, emb, classes, given, np.zeros(200, dtype=bool))
