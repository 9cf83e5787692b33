"""Forgetting: cells, a run against plain code, what is fed and known, and the page."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pandas as pd
import pytest

from benchmarks.data import cifar
from benchmarks.data.pools import embed_images, load_pool
from benchmarks.experiments import forgetting
from benchmarks.experiments.forgetting import KNOWN, Feed, known_embeddings, summary
from benchmarks.harness.cells import SIZES, Options
from benchmarks.training import labelling
from benchmarks.training.labelling import OURS, Setting, load_setting
from benchmarks.training.networks import make_network
from benchmarks.training.training import class_accuracies, predict, train, train_on_batches
from clip_al import ClipEncoder
from tests.benchmarks.experiment_checks import check_cells, rendered, rendered_twice


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(cifar, "CACHE", tmp_path)
    labelling.schooled.cache_clear()


def tiny(method, pool="few classes", known="nothing", replay=0.5):
    return {
        **forgetting.make_cell("quick", 0, pool, method, known, replay),
        "source": "digits", "per_class": 20, "test_per_class": 10, "seen": "digits",
        "seen_per_class": 10, "known_per_class": 2, "base_steps": 20, "budgets": [0.1, 0.3],
        "round_steps": 6, "tail": 5 if pool == "long-tailed" else None,
    }  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_cells_differ_and_those_that_share_stand_together(size):
    cells = forgetting.cells(size)
    check_cells(forgetting.EXPERIMENT, cells)
    assert len({frozenset(cell) for cell in cells}) == 1
    assert {c["known"] for c in cells if c["method"] == OURS} == set(KNOWN)


def test_a_pool_of_few_classes_holds_those_that_the_seed_draws():
    chosen = [
        forgetting.make_cell("full", s, "few classes", "margin", "nothing", 0.0) for s in (0, 1)
    ]
    assert [len(set(cell["pool_classes"])) for cell in chosen] == [4, 4]
    assert chosen[0]["pool_classes"] != chosen[1]["pool_classes"]


def by_hand(cell):
    """Run a cell of `tiny` by margin in plain code."""
    setting = Setting("digits", 20, None, tuple(cell["pool_classes"]), 10, 0)
    pool = load_setting(setting, Options()).pool
    seen = load_pool("digits", per_class=10, test_per_class=1)
    network = make_network("resnet", 10, seed=0)
    train(network, seen.images, seen.y, n_steps=20, seed=0, augmented=True)
    before = class_accuracies(network, pool.test_images, pool.y_test, 10)
    picked = np.empty(0, np.int64)
    for n in (8, 16):
        rest = np.array([i for i in range(80) if i not in picked])
        best = np.sort(predict(network, pool.images)[0][rest].astype(np.float64), axis=1)
        order = np.argsort(best[:, -1] - best[:, -2], kind="stable")
        picked = np.concatenate([picked, rest[order[:n]]])
        batches = Feed(pool, seen, cell["replay"], 0).batches(picked)
        network = train_on_batches(copy.deepcopy(network), batches, n_steps=6, peak=0.01)
    return pool, picked, before, class_accuracies(network, pool.test_images, pool.y_test, 10)


@pytest.mark.parametrize("replay", [0.0, 0.5])
def test_a_run_is_what_plain_code_gives(replay):
    cell = tiny("margin", replay=replay)
    found = forgetting.run(cell, Options())
    pool, picked, before, after = by_hand(cell)
    assert found["before"] == before.tolist()
    assert found["after"] == after.tolist()
    assert found["class_picks"] == np.bincount(pool.y[picked], minlength=10).tolist()
    assert sum(found["class_picks"]) == 24
    assert np.flatnonzero(found["class_sizes"]).tolist() == cell["pool_classes"]
    assert found == forgetting.run(cell, Options())


@pytest.mark.parametrize("known", KNOWN)
def test_ours_runs_whatever_it_knows(known):
    found = forgetting.run(tiny(OURS, "long-tailed", known), Options())
    n = sum(found["class_sizes"])
    assert sum(found["class_picks"]) == round(0.3 * n)


def test_what_is_known_is_nothing_the_picks_or_the_first_seen_too():
    seen = load_pool("digits", per_class=10, test_per_class=1)
    picked = np.ones((3, 4), np.float32)
    cell = tiny(OURS)
    assert known_embeddings(cell, picked, seen, Options()) is None
    assert known_embeddings({**cell, "known": "picks"}, picked, seen, Options()) is picked
    picked = np.zeros((3, ClipEncoder("mini").embedding_dim), np.float32)
    found = known_embeddings({**cell, "known": "all"}, picked, seen, Options())
    firsts = [i for k in range(10) for i in np.flatnonzero(seen.y == k)[:2]]
    want = embed_images(seen.images[firsts], ClipEncoder("mini"))
    np.testing.assert_array_equal(found, np.concatenate([picked, want]))


@pytest.mark.parametrize(("replay", "n_replayed"), [(0.0, 0), (0.2, 5), (0.5, 20)])
def test_an_epoch_has_every_pick_once_and_a_share_of_what_was_seen(replay, n_replayed):
    whole = load_pool("digits", per_class=20, test_per_class=1)
    pool, seen = whole.take(np.arange(100)), whole.take(np.arange(100, 200))
    picked = np.arange(0, 100, 5)
    batches = Feed(pool, seen, replay, 3).batches(picked)
    images, labels = next(iter(batches))
    assert len(labels) == 20 + n_replayed
    read = {image.numpy().tobytes() for image in images}
    assert {pool.images[i].tobytes() for i in picked} <= read
    others = read - {pool.images[i].tobytes() for i in picked}
    assert others <= {image.tobytes() for image in seen.images}
    again, _ = next(itertools.islice(batches, 0, None))
    assert not np.array_equal(images.numpy(), again.numpy())


def test_forgetting_is_the_mean_drop_of_classes_that_lost():
    rng = np.random.default_rng(0)
    before, after = rng.random(10), rng.random(10)
    drops = [b - a for b, a in zip(before, after, strict=True)]
    lost = [drop for drop in drops if drop > 0]
    found = summary(before, after)
    assert found["forgetting"] == pytest.approx(sum(lost) / len(lost))
    assert found["n_lost"] == len(lost)
    assert found["change"] == pytest.approx(-sum(drops) / 10)
    assert found["accuracy"] == pytest.approx(sum(after) / 10)
    assert summary(before, before)["forgetting"] == 0.0
    assert summary(before, before)["n_lost"] == 0


def made_up(n_seeds):
    rng, rows = np.random.default_rng(0), []
    for cell in forgetting.cells("quick"):
        for seed in range(n_seeds):
            before, after = rng.random(10), rng.random(10)
            rows.append(
                {
                    **cell, "seed": seed, "before": before.tolist(), "after": after.tolist(),
                    **summary(before, after), "class_sizes": rng.permutation(10).tolist(),
                    "class_picks": [1] * 10, "seconds": 1.0,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def test_the_page_is_the_same_twice_and_has_its_plots(tmp_path):
    records = made_up(2)
    text, plots = rendered_twice(forgetting.EXPERIMENT, records, tmp_path)
    assert sorted(plots) == ["forgetting-few-classes.svg", "forgetting-long-tailed.svg"]
    for row in ("random", OURS, f"{OURS}, labelled set ignored", f"{OURS}, pre-training known too"):
        assert f"| {row} |" in text
    assert "nan" not in text


def test_the_page_does_with_one_seed(tmp_path):
    assert "nan" not in rendered(forgetting.EXPERIMENT, made_up(1), tmp_path)[0]


def test_the_plot_orders_classes_by_their_size():
    records = made_up(1).iloc[:1].copy()
    records["picker"] = "random"
    records["class_sizes"] = [[0, 5, 9, 9, 1, 2, 3, 4, 6, 7]]
    (line,) = forgetting.class_plot(records).axes[0].lines
    before, after = (np.array(records[name].iloc[0]) for name in ("before", "after"))
    order = [2, 3, 9, 8, 1, 7, 6, 5, 4, 0]
    np.testing.assert_allclose(line.get_ydata(), 100 * (after - before)[order])
