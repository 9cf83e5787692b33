"""Maps of test images: the indices are those of their definition, and the page shows them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from benchmarks.cells import SIZES, Options, frame
from benchmarks.experiments import embedding_map
from benchmarks.networks import make_network
from benchmarks.subsets import Condition
from benchmarks.training import predict, train
from tests.experiment_checks import check_cells, rendered_twice
from tests.subset_cells import toy_material

CELL = {
    "pool": "digits", "per_class": 20, "test_per_class": 10, "noise": 0.2,
    "noise_kind": "symmetric", "corrupted_share": 0.0, "seed": 0, "method": "random",
    "ratio": 0.5, "network": "cnn", "steps": 5, "mapped": 40, "perplexity": 5,
}  # fmt: skip


@pytest.fixture
def material(monkeypatch):
    made = toy_material()
    monkeypatch.setattr(embedding_map, "load_condition", lambda condition, options: made)
    monkeypatch.setattr("benchmarks.subsets.load_condition", lambda condition, options: made)
    embedding_map.task_of.cache_clear()
    yield made
    embedding_map.task_of.cache_clear()


def test_dunn_index_is_that_of_a_slow_loop(rng):
    features = rng.standard_normal((12, 3)).astype(np.float32)
    y = np.arange(12) % 3
    before = features.copy()
    between, within = [], []
    for i in range(12):
        for j in range(i):
            distance = np.sqrt(sum((float(a) - float(b)) ** 2 for a, b in zip(*features[[i, j]])))  # noqa: B905
            (within if y[i] == y[j] else between).append(distance)
    found = embedding_map.dunn_index(features, y)
    assert found == pytest.approx(min(between) / max(within))
    np.testing.assert_array_equal(features, before)


def test_classes_apart_have_a_high_dunn_index_and_a_shared_place_none():
    features = np.array([[0, 0], [0, 1], [10, 0], [10, 1]])
    assert embedding_map.dunn_index(features, np.array([0, 0, 1, 1])) == pytest.approx(10.0)
    features[2] = features[0]
    assert embedding_map.dunn_index(features, np.array([0, 0, 1, 1])) == 0.0


@pytest.mark.parametrize("size", SIZES)
def test_cells_have_keys_of_their_own(size):
    cells = embedding_map.cells(size)
    check_cells(embedding_map.EXPERIMENT, cells)
    assert all(set(CELL) == set(cell) - {"settings"} for cell in cells)
    assert all(Condition(**embedding_map.fields_of(Condition, cell)) for cell in cells)
    assert {cell["seed"] for cell in cells if cell["mapped"]} == {0}
    for seed in {cell["seed"] for cell in cells}:
        shares = [(c["method"], c["ratio"]) for c in cells if c["seed"] == seed]
        assert [r for m, r in shares if m == "default"] == [r for m, r in shares if m == "random"]
    assert all(embedding_map.cost_s(cell) > 0 for cell in cells)


def test_a_cell_is_what_plain_steps_give(material):
    found = embedding_map.run(CELL, Options())
    pool = material.pool
    chosen = np.sort(np.random.default_rng(0).permutation(200)[:100])
    model = make_network("cnn", 10, seed=0)
    train(model, pool.images[chosen], material.given_n[chosen], n_steps=5, seed=0)
    prob, features = predict(model, pool.test_images)
    assert found["accuracy"] == pytest.approx((prob.argmax(1) == pool.y_test).mean())
    assert found["silhouette"] == pytest.approx(silhouette_score(features, pool.y_test), abs=1e-5)
    assert found["wrong"] == pytest.approx((chosen % 5 == 0).mean())
    rows = np.random.default_rng(0).permutation(100)[:40]
    assert [k for _, _, k in found["map"]] == pool.y_test[rows].tolist()
    assert np.isfinite(np.array(found["map"])).all()
    assert embedding_map.run(CELL, Options()) == found


def test_everything_is_everything_and_other_seeds_have_no_map(material):
    found = embedding_map.run({**CELL, "method": "all", "ratio": 1.0, "mapped": 0}, Options())
    assert (found["n"], found["map"]) == (200, [])


def made_up_records():
    rng = np.random.default_rng(0)
    return [
        {
            "cell": cell,
            "values": {
                "n": round(600 * cell["ratio"]), "wrong": rng.random(), "balance": 1.0,
                "corrupted": 0.0, "accuracy": rng.random(), "dunn": rng.random() / 100,
                "silhouette": rng.random(),
                "map": [[*rng.random(2).tolist(), k] for k in range(10)] if cell["mapped"] else [],
            },
            "seconds": 1.0,
        }
        for cell in embedding_map.cells("quick")
    ]  # fmt: skip


def test_the_page_shows_the_records_and_is_the_same_when_made_again(tmp_path):
    records = made_up_records()
    text, plots = rendered_twice(embedding_map.EXPERIMENT, frame(records), tmp_path)
    assert "embedding-map-maps.svg" in plots
    dunn = 1000 * np.array(
        [r["values"]["dunn"] for r in records if r["cell"]["method"] == "all"]
    )  # fmt: skip
    assert f"| {dunn.mean():.2f} ± {dunn.std(ddof=1):.2f} |" in text
