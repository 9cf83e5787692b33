"""Tests of `benchmarks.experiments.linear_rounds`, on the digits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from benchmarks.baselines.tasks import LabellingTask
from benchmarks.experiments import linear_rounds
from benchmarks.harness.cells import SIZES, Options, frame
from benchmarks.training.labelling import OURS
from clip_al import CBDMarginSampling
from clip_al.label.uncertainty import margin
from tests.benchmarks.experiment_checks import check_cells, rendered_twice

OPTIONS = Options()


def cell_of(method, size="quick", **changes):
    found = [
        c for c in linear_rounds.cells(size) if c["pool"] == "digits" and c["method"] == method
    ]
    return {**found[0], "rounds": 2, **changes}


@pytest.mark.parametrize("size", SIZES)
def test_each_pool_and_seed_has_every_method_once(size):
    cells = linear_rounds.cells(size)
    check_cells(linear_rounds.EXPERIMENT, cells)
    by_place = {}
    for cell in cells:
        by_place.setdefault((cell["pool"], cell["seed"]), []).append(cell["method"])
    assert all(len(set(methods)) == len(methods) for methods in by_place.values())
    assert all({"random", "margin", OURS} <= set(methods) for methods in by_place.values())


def test_the_settings_of_ours_are_spelled_out():
    settings = cell_of(OURS)["settings"]
    params = CBDMarginSampling().get_params()
    assert settings == {k: v for k, v in params.items() if k not in ("vocabulary", "table")}


def test_margin_in_rounds_is_margin_in_rounds():
    cell = cell_of("margin")
    values = linear_rounds.run(cell, OPTIONS)
    data = linear_rounds.draw("digits", 800, 50, 0.5, cell["seed"], OPTIONS)
    order = np.random.default_rng((1, cell["seed"])).permutation(len(data.y))
    labelled, scores = list(order[:20]), []
    for step in range(3):
        head = LogisticRegression(C=30.0, max_iter=1000)
        head.fit(data.emb_nd[labelled], data.y[labelled])
        scores.append(head.score(data.test_emb, data.y_test))
        rest = np.setdiff1d(np.arange(len(data.y)), labelled)
        least = margin(head.predict_proba(data.emb_nd[rest]).astype(np.float32))
        labelled += list(rest[np.argsort(least, kind="stable")[:20]])
        if step == 1:
            n_classes = len(np.unique(data.y[labelled]))
    assert values["before"] == pytest.approx(scores[0])
    assert values["accuracies"] == pytest.approx(scores[1:])
    assert values["accuracy"] == pytest.approx(np.mean(scores[1:]))
    assert values["classes"] == n_classes


@pytest.mark.parametrize("method", [OURS, "random", f"{OURS}, strokes"])
def test_the_same_cell_gives_the_same_values(method):
    first, second = (linear_rounds.run(cell_of(method), OPTIONS) for _ in range(2))
    assert first.pop("pick_s") > 0
    second.pop("pick_s")
    assert first == second


def test_all_methods_of_a_seed_start_alike():
    befores = {linear_rounds.run(cell_of(m), OPTIONS)["before"] for m in (OURS, "random")}
    assert len(befores) == 1


def test_embeddings_in_place_of_concepts_are_picked_greedily():
    rng = np.random.default_rng(0)
    emb, known = rng.standard_normal((30, 5)), rng.standard_normal((4, 5))
    prob = rng.dirichlet(np.ones(3), 30)
    none = np.empty((0, 30, 3))
    task = LabellingTask(emb, known, emb, known, prob, none, 0)
    found = linear_rounds.pick_by_embeddings(task, 3)
    centred = {}
    for name, rows in (("pool", emb), ("known", known)):
        moved = rows - emb.mean(0)
        centred[name] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    candidates = np.argsort(margin(prob), kind="stable")[: 3 * CBDMarginSampling().candidate_factor]
    chosen = [*centred["known"]]
    expected = []
    for _ in range(3):
        cost = [
            np.inf if i in expected else sum(centred["pool"][i] @ c for c in chosen)
            for i in candidates
        ]
        expected.append(candidates[int(np.argmin(cost))])
        chosen.append(centred["pool"][expected[-1]])
    assert found.tolist() == expected


def test_a_member_that_lacks_a_class_gives_it_nothing():
    rng = np.random.default_rng(0)
    emb, y = rng.standard_normal((40, 3)), np.arange(40) % 3
    head = LogisticRegression().fit(emb[y != 1], y[y != 1])
    prob = linear_rounds.aligned(head, emb, np.arange(3))
    np.testing.assert_array_equal(prob[:, 1], 0)
    np.testing.assert_allclose(prob[:, [0, 2]], head.predict_proba(emb), atol=1e-6)


def made_up(size):
    rng = np.random.default_rng(0)
    return frame(
        [
            {
                "cell": cell,
                "values": {
                    "before": 0.5, "accuracies": (scores := rng.random(cell["rounds"]).tolist()),
                    "accuracy": float(np.mean(scores)), "pick_s": 0.1, "classes": 10,
                },
                "seconds": 1.0,
            }
            for cell in linear_rounds.cells(size)
        ]
    )  # fmt: skip


@pytest.mark.parametrize("size", ["quick", "standard"])
def test_the_page_is_made_of_the_records(tmp_path, size):
    records = made_up(size)
    text, plots = rendered_twice(linear_rounds.EXPERIMENT, records, tmp_path)
    pools = set(records["pool"])
    assert set(plots) == {f"linear-rounds-{pool}.svg" for pool in pools}
    mean = records[(records["pool"] == "digits") & (records["method"] == OURS)]["accuracy"].mean()
    assert f"{100 * mean:.1f} ±" in text
