"""What a choice costs: the parts that are counted, and the page that adds them up."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from benchmarks.baselines.tasks import LabellingTask
from benchmarks.baselines.to_label import TO_LABEL
from benchmarks.baselines.to_train import TO_TRAIN
from benchmarks.experiments import cost, cost_page, cost_timing
from benchmarks.experiments.cost_timing import Watched
from benchmarks.harness.cells import SIZES, Options, frame
from benchmarks.training.subsets import OURS, Condition, Proxy
from benchmarks.training.training_record import record_training
from tests.benchmarks.experiment_checks import check_cells, rendered_twice
from tests.benchmarks.subset_cells import toy_material
from tests.reference import make_vocabulary, random_probabilities, random_unit

CONDITION = Condition("digits", 20, 10, 0.2, "symmetric", 0.0, 0)
PROXY = Proxy("cnn", 6, 3, 2, 2)
CHOICE = {
    **asdict(CONDITION), **asdict(PROXY), "network": "cnn", "what": "choose", "ratio": 0.3,
    "steps": 4,
}  # fmt: skip


@pytest.fixture
def material(monkeypatch):
    made = toy_material()
    for module in ("experiments.cost_timing", "experiments.cost", "training.subsets"):
        monkeypatch.setattr(f"benchmarks.{module}.load_condition", lambda condition, options: made)
    cached = (cost_timing.task_of, cost_timing.timed_record)
    for function in cached:
        function.cache_clear()
    yield made
    for function in cached:
        function.cache_clear()


def test_watched_passes_on_and_keeps_what_was_asked():
    watched = Watched(CONDITION, seed=7)
    assert (watched.pool, watched.seed) == ("digits", 7)
    assert watched.asked == {"pool", "seed"}


def test_the_clock_runs_by_work_alone():
    _, idle = cost_timing.timed(lambda: None, "cpu")
    total, busy = cost_timing.timed(lambda: sum(range(3_000_000)), "cpu")
    assert total == 3_000_000 * 2_999_999 // 2
    assert busy > idle >= 0


def test_a_record_in_two_parts_is_the_record_in_one(material):
    found = cost_timing.timed_record(CONDITION, Options(), PROXY)
    expected = record_training(
        material.pool.images, material.given_n, n_classes=10, network="cnn", n_steps=6,
        early_steps=3, n_early=2, n_checkpoints=2, seed=1000,
    )  # fmt: skip
    for name in ("prob_enk", "features_nf", "early_prob_rnk"):
        np.testing.assert_array_equal(getattr(found.record, name), getattr(expected, name))
    assert len(found.record.early_models) == 2
    assert min(found.proxy_s, found.early_s) > 0


@pytest.mark.parametrize(
    ("method", "networks", "embedded"),
    [
        ("random", (), False),
        ("Herding", ("proxy_s",), False),
        ("EL2N", ("early_s",), False),
        ("D2", ("proxy_s",), True),
        ("prototypes, hardest", (), True),
        ("default", (), True),
    ],
)
def test_what_a_method_looks_at_is_counted(material, method, networks, embedded):
    found = cost_timing.timed_choice(method, CONDITION, Options(), PROXY, 0.3)
    trained = cost_timing.timed_record(CONDITION, Options(), PROXY)
    assert found.training_s == pytest.approx(sum(getattr(trained, name) for name in networks))
    assert found.uses_embeddings == embedded
    assert found.own_s > 0
    task = cost_timing.task_of(CONDITION, Options(), PROXY)
    plain = cost_timing.choose(method, task, 0.3)
    np.testing.assert_array_equal(found.indices, plain)


def test_a_choice_is_tested_as_it_is(material):
    found = cost.run({**CHOICE, "method": "random"}, Options())
    chosen = np.random.default_rng(0).permutation(200)[:60]
    assert found["n"] == 60
    assert found["wrong"] == pytest.approx((chosen % 5 == 0).mean())
    accuracy = cost.train_accuracy(chosen, material, network="cnn", n_steps=4, seed=0)
    assert found["accuracy"] == accuracy


def test_fewer_images_are_trained_on_for_fewer_steps(material):
    cell = {**CHOICE, "what": "ratio", "epochs": 3}
    del cell["steps"]
    every = cost.run({**cell, "method": "all", "ratio": 1.0}, Options())
    some = cost.run({**cell, "method": "random", "ratio": 0.3}, Options())
    assert (every["n_steps"], some["n_steps"]) == (10, 3)  # 600 and 180 images in batches of 64
    assert (every["embedded"], some["embedded"]) == (False, False)


@pytest.mark.parametrize("method", ["margin", "k-center", *cost.CONCEPTS])
def test_picks_to_label_are_as_many_as_asked(monkeypatch, method):
    rng = np.random.default_rng(0)
    emb, first = random_unit(rng, 90, 12), random_unit(rng, 20, 12)
    prob = random_probabilities(rng, 90, 4).astype(np.float32)
    task = LabellingTask(emb, first, emb[:, :6], first[:, :6], prob, np.stack([prob] * 2), 0)
    words = make_vocabulary(random_unit(rng, 40, 12), "toy")
    monkeypatch.setattr(cost, "labelling_task", lambda *args, **settings: task)
    monkeypatch.setattr(cost, "vocabulary_of", lambda name, options: words)
    (cell,) = [
        c for c in cost.cells("standard")
        if c["what"] == "label" and c["method"] == method and c["seed"] == 0
    ]  # fmt: skip
    found = cost.run({**cell, "n_wanted": 15}, Options())
    assert (found["n"], found["n_images"]) == (15, 90)


def test_profiles_at_hand_change_no_pick(monkeypatch):
    rng = np.random.default_rng(1)
    emb, first = random_unit(rng, 90, 12), random_unit(rng, 20, 12)
    prob = random_probabilities(rng, 90, 4).astype(np.float32)
    task = LabellingTask(emb, first, emb, first, prob, np.stack([prob]), 0)
    words = make_vocabulary(random_unit(rng, 40, 12), "toy")
    monkeypatch.setattr(cost, "vocabulary_of", lambda name, options: words)
    for name in ("CBD", "CBD + margin"):
        settings = cost.settings_of(name)
        picks, at_hand = (
            cost.labelling_method(method, settings, task, Options())(10)
            for method in (name, name + cost.AT_HAND)
        )
        np.testing.assert_array_equal(picks, at_hand)


@pytest.mark.parametrize("size", SIZES)
def test_cells_have_keys_of_their_own(size):
    cells = cost.cells(size)
    check_cells(cost.EXPERIMENT, cells)
    assert {cell["what"] for cell in cells} == {"choose", "ratio", "label", "encode"}
    assert all(cost.cost_s(cell) > 0 for cell in cells)
    for cell in cells:
        if cell["what"] in ("choose", "ratio"):
            Condition(**cost.fields_of(Condition, cell))
            Proxy(**cost.fields_of(Proxy, cell))
            assert cell["method"] in {*TO_TRAIN, *OURS, "all"}
        if cell["what"] == "label":
            assert (cell["settings"] is None) == (cell["method"] in TO_LABEL)
    if size != "quick":
        assert {c["method"] for c in cells if c["what"] == "choose"} >= set(TO_TRAIN)


def made_up_records():
    rng = np.random.default_rng(0)
    names = {
        "choose": ("own_s", "proxy_s", "wrong", "accuracy"),
        "ratio": ("own_s", "training_s", "n_steps", "wrong", "accuracy"),
        "label": ("own_s",),
        "encode": ("own_s",),
    }
    records = []
    for cell in cost.cells("quick"):
        values = {name: float(rng.random()) for name in names[cell["what"]]}
        values |= {"n_images": 600, "embedded": cell.get("method") == "default"}
        records.append({"cell": cell, "values": values, "seconds": 1.0})
    return records


def test_the_page_adds_up_and_is_the_same_when_made_again(tmp_path):
    records = made_up_records()
    text, plots = rendered_twice(cost.EXPERIMENT, frame(records), tmp_path)
    assert len(plots) == 2
    each = np.mean([r["values"]["own_s"] / 600 for r in records if r["cell"]["what"] == "encode"])
    chosen = [
        r["values"] for r in records
        if r["cell"]["what"] == "choose" and r["cell"]["method"] == "default"
    ]  # fmt: skip
    totals = np.array([v["own_s"] + v["proxy_s"] + 600 * each for v in chosen])
    (row,) = [
        line for line in text.splitlines()
        if line.startswith("| default |") and line.count("|") == 9
    ]  # fmt: skip
    assert row.split(" | ")[5] == f"{totals.mean():.2f} ± {totals.std(ddof=1):.2f}"
    assert cost_page.DEFAULT in cost_page.OURS
