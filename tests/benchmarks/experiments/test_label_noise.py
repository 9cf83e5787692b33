"""Tests of `benchmarks.experiments.label_noise`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.experiments.label_noise import (
    PEOPLE,
    cells,
    cleanlab_count,
    measures,
    nearest,
    share_table,
    simifeat,
    suspect_table,
    told_in_words,
    told_the_truth,
    verdict_table,
    with_witness,
)


def test_people_labelled_no_digits():
    asked = cells("standard")
    assert {cell["source"] for cell in asked if cell["labels"] in PEOPLE} == {
        "mini", "mini, small pictures",
    }  # fmt: skip
    assert len(asked) == 28
    assert len(cells("full")) == 3 * 28


def test_measures_of_suspects():
    wrong = np.array([True, True, False, False])
    said = measures(
        np.array([0.1, 0.6, 0.5, 0.9]), np.array([True, False, False, False]), 0.2, wrong
    )
    assert said["share"] == 0.2
    assert said["auc"] == pytest.approx(3 / 4)
    assert said["precision"] == pytest.approx(1 / 2)
    assert said["f1"] == pytest.approx(2 / 3)
    assert measures(np.ones(4), None, None, np.zeros(4, bool)) == {"share": None}


def test_nearest_leaves_the_image_itself_out():
    emb = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    found = nearest(emb, 3)
    centred = emb - emb.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    sim = centred @ centred.T
    np.fill_diagonal(sim, -2)
    expected = np.argsort(-sim, axis=1)[:, :3]
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(expected, axis=1))


def test_neighbours_of_other_labels_speak_against_a_label():
    rng = np.random.default_rng(0)
    emb = (np.eye(4)[np.arange(80) % 4] + 0.05 * rng.standard_normal((80, 4))).astype(np.float32)
    given = np.arange(80) % 4
    given[0] = 1
    credible, called, share = simifeat(emb, given)
    assert credible.argmin() == 0
    assert called is not None
    assert called.nonzero()[0].tolist() == [0]
    assert share is None
    odds = with_witness(np.array([0.0, 0.0, 9.0]), np.array([0.0, 1.0, 1.0]))
    assert odds[0] < 0 < odds[1] < odds[2] < np.inf


def test_cleanlab_counts_confident_disagreement():
    given = np.repeat([0, 1], 50)
    prob = np.where(np.arange(2) == given[:, None], 0.95, 0.05)
    prob[:10] = [0.05, 0.95]
    assert cleanlab_count(given, prob) == pytest.approx(0.1, abs=0.02)


def test_the_control_learns_the_right_labels():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 4
    emb = (np.eye(4)[y] + 0.1 * rng.standard_normal((200, 4))).astype(np.float32)
    given = y.copy()
    given[:120] = (y[:120] + 1) % 4  # too many to learn from
    credible, called, share = told_the_truth(emb, y, given, 0)
    assert (credible[:120] < 0).all()
    assert (credible[120:] > 0).all()
    assert called is None
    assert share is None


def test_tables():
    record = {
        "labels": "pair 20", "seed": 1, "true_share": 0.2, "low": 0.1, "high": 0.3,
        "ours: share": 0.21, "ours, chance alone: share": 0.0,
        "cleanlab, self-confidence: share": 0.25, "ours: auc": 0.9, "SimiFeat: auc": 0.8,
    }  # fmt: skip
    records = pd.DataFrame([record])
    assert share_table(records).loc["pair 20"].tolist() == [
        "20.0", "21.0", "10.0", "30.0", "0.0", "25.0",
    ]  # fmt: skip
    assert suspect_table(records, "auc").index.tolist() == ["ours", "SimiFeat"]


def test_what_is_met_is_counted():
    record = {
        "source": "mini", "labels": "random 1", "true_share": 0.2, "low": 0.1, "high": 0.3,
        "ours: share": 0.21, "cleanlab, self-confidence: share": 0.25, "ours: auc": 0.9,
        "cleanlab, self-confidence: auc": 0.895, "cleanlab, Datalab: auc": 0.8,
        "told the right labels: auc": 0.9004,
    }  # fmt: skip
    far = {**record, "labels": "pair 20", "ours: share": 0.26, "high": 0.19, "ours: auc": 0.95}
    met = verdict_table(pd.DataFrame([record, far])).loc["mini"]
    assert met.tolist() == ["2", "1", "1", "1", "1", "1", "0", "1"]
    words = told_in_words(pd.DataFrame([record, far]))
    assert "0.5 to 0.5 points" in words
    assert "not in one linear look" in words
    reached = {**record, "told the right labels: auc": 0.92}
    assert "linear" not in told_in_words(pd.DataFrame([record, reached]))
