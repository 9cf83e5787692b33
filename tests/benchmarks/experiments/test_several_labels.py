"""Tests of `benchmarks.experiments.several_labels`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.experiments import several_labels as module
from benchmarks.experiments.several_labels import (
    IMAGES_ALONE,
    METRICS,
    NOISES,
    ON_THEIRS,
    OURS,
    Pool,
    cells,
    cleanlab,
    flip,
    lead_table,
    run,
)
from benchmarks.harness.cells import Options
from tests.reference import random_unit


@pytest.fixture
def pool(rng):
    T = random_unit(rng, 3, 8).astype(np.float32)
    label_nk = rng.random((120, 3)) < [0.3, 0.3, 0.1]
    Z = label_nk @ T + 0.3 + 0.1 * rng.standard_normal((120, 8))
    return Pool((Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32), label_nk, T)


@pytest.mark.parametrize("noise", NOISES)
def test_as_many_labels_are_flipped_as_the_noise_says(pool, noise):
    given = flip(pool, noise, 3)
    share = int(noise.split(", ")[1].split()[0]) / 100
    for j in range(3):
        n = max(1, round(share * pool.label_nk[:, j].sum()))
        assert (pool.label_nk[:, j] & ~given[:, j]).sum() == n
        added = np.flatnonzero(given[:, j] & ~pool.label_nk[:, j])
        assert len(added) == (0 if noise.startswith("missing") else n)
        if noise.startswith("alike"):
            lacks = np.flatnonzero(~pool.label_nk[:, j])
            sim = pool.emb_nd[lacks] @ pool.emb_nd[pool.label_nk[:, j]].mean(axis=0)
            assert set(added) <= set(lacks[np.argsort(-sim)[: 4 * n]])
    assert (flip(pool, noise, 3) == given).all()
    assert (flip(pool, noise, 4) != given).any()


def test_cleanlabs_quality_is_the_probability_of_what_is_given(pool, rng):
    prob = rng.random((120, 3))
    against = cleanlab(pool.label_nk, prob)
    np.testing.assert_allclose(against, np.where(pool.label_nk, 1 - prob, prob))


def test_a_cell_and_the_lead(pool, monkeypatch):
    monkeypatch.setattr(module, "load", lambda _name, _data: pool)
    asked = cells("quick")
    assert len(asked) == 2 * len(NOISES)
    records = []
    for seed in (0, 1):
        cell = {**asked[1], "seed": seed}
        values = run(cell, Options())
        assert values["n_labels"] == 360
        assert {f"{name}: auc" for name in (OURS, IMAGES_ALONE, ON_THEIRS)} <= set(values)
        assert values[f"{OURS}: auc"] > 0.8
        records.append({**cell, **values})
    lead = lead_table(pd.DataFrame(records))
    assert lead.columns.tolist() == list(METRICS)
    best = max(
        np.mean([record[name] for record in records])
        for name in records[0]
        if name.startswith("cleanlab") and name.endswith(": auc")
    )
    ours = np.mean([record[f"{OURS}: auc"] for record in records])
    assert lead["auc"].iloc[0].startswith(f"{100 * (ours - best):+.1f} ± ")
