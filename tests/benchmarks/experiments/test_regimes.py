"""What to train on by regime: the cells, some of them run, and the page."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from benchmarks.experiments import regimes
from benchmarks.experiments.regimes import (
    BRIEF,
    CORRUPTED,
    DECIDING,
    EXPERIMENT,
    FEW_RIVALS,
    GREY,
    LABELS,
    LINEAR,
    METHODS,
    NEIGHBOURS,
    OF_ALPHA,
    ON_EMBEDDINGS,
    OTHERWISE,
    RATIOS,
    RIGHT,
    SCRATCH,
    TUNED,
    VARIANTS,
    cells,
    on_embeddings,
)
from benchmarks.experiments.regimes_page import against_random, aims_in_words, aims_table
from benchmarks.harness.cells import SIZES, Options, frame
from benchmarks.training import subsets
from clip_al.subset.selector import PRESETS
from tests.benchmarks.experiment_checks import check_cells, rendered_twice

TINY = {"pool": "digits", "per_class": 12, "test_per_class": 5}


@pytest.mark.parametrize("size", SIZES)
def test_cells_are_distinct_whole_and_in_groups(size):
    check_cells(EXPERIMENT, cells(size))


def test_each_regime_has_what_decides():
    on_emb = {
        (c["labels"], c["ratio"], c["method"])
        for c in cells("standard")
        if c["regime"] in ON_EMBEDDINGS
    }
    assert on_emb >= {(a, b, c) for a in LABELS for b in RATIOS for c in METHODS}
    trained = {(c["regime"], c["method"]) for c in cells("standard") if c["steps"]}
    assert trained == {
        *product((TUNED, SCRATCH, *OTHERWISE, BRIEF), ("all", *METHODS)),
        *product((SCRATCH,), (*VARIANTS, *FEW_RIVALS)),
        *product((*OTHERWISE, BRIEF), OF_ALPHA),
    }
    deciding = {
        (c["labels"], c["ratio"], c["method"])
        for c in cells("standard")
        if c["regime"] == SCRATCH and c["seed"] == 0
    }
    assert deciding >= {
        *product(LABELS, (0.3,), DECIDING),
        *product((RIGHT, "people's, random 1"), RATIOS, DECIDING),
    }
    assert {c["regime"] for c in cells("standard") if c["labels"] == CORRUPTED} == {TUNED}
    assert {c["regime"] for c in cells("standard") if c["labels"] == GREY} == {
        TUNED,
        *ON_EMBEDDINGS,
    }


def test_a_new_default_is_a_new_cell(monkeypatch):
    def of(method):
        return next(c for c in cells("standard") if c["method"] == method)

    before = of("default")
    preset = {**PRESETS["default"], "min_label_probability": 0.7}
    monkeypatch.setitem(PRESETS, "default", preset)
    assert before["settings"]["min_label_probability"] == 0.5
    assert of("default")["settings"]["min_label_probability"] == 0.7
    assert of("none put last")["settings"]["min_label_probability"] == 0
    assert of("half the weight of SDS")["settings"]["alpha"] == 0.15
    assert of("short")["settings"]["alpha"] == 0
    assert "settings" not in of("random")


@pytest.mark.parametrize("regime", [LINEAR, NEIGHBOURS])
def test_on_embeddings_the_nearer_class_is_named(regime):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    emb = (np.eye(3, 8)[y] + 0.1 * rng.standard_normal((60, 8))).astype(np.float32)
    predict = on_embeddings(regime, emb[:30], y[:30])
    assert predict(emb[30:]).tolist() == y[30:].tolist()


@pytest.mark.parametrize("method", ["random", "default", "none put last", "Herding", "all"])
def test_a_cell_says_what_was_chosen_and_what_it_is_worth(method):
    cell = next(c for c in cells("quick") if c["labels"] != "right")
    cell = {**cell, **TINY, "method": method, "ratio": 1.0 if method == "all" else 0.5}
    values = EXPERIMENT.run(cell, Options())
    assert values["n"] == (120 if method == "all" else 60)
    assert 0 <= values["wrong"] <= 0.3
    assert values["accuracy"] > 0.5


def test_a_network_is_trained_on_the_labels_as_given(monkeypatch):
    seen = {}

    def train(network, images, labels, **settings):
        seen.update(labels=labels, **settings)

    monkeypatch.setattr(regimes, "train", train)
    cell = next(c for c in cells("full") if c["regime"] == SCRATCH and c["labels"] != "right")
    cell = {**cell, **TINY, "labels": "pair 20 %", "method": "all", "ratio": 1.0, "steps": 3}
    values = EXPERIMENT.run(cell, Options())
    assert values["wrong"] == pytest.approx(0.2)
    assert seen["augmented"]
    assert seen["n_steps"] == 3
    assert len(seen["labels"]) == 120


def test_all_of_the_tower_is_fine_tuned_on_images_of_which_a_fifth_is_corrupted(monkeypatch):
    seen = {}

    def train_and_look(network, images, labels, **settings):
        seen.update(images=images, **settings)
        before = [weight.detach().clone() for weight in network.parameters()]
        train(network, images, labels, **settings)
        pairs = zip(before, network.parameters(), strict=True)
        seen["moved"] = [not weight.equal(old) for old, weight in pairs]

    train = regimes.train
    monkeypatch.setattr(regimes, "train", train_and_look)
    cell = next(c for c in cells("quick") if c["regime"] == TUNED and c["labels"] == CORRUPTED)
    plain = {**cell, **TINY, "method": "all", "ratio": 1.0, "steps": 8, "labels": "right"}
    values = EXPERIMENT.run({**plain, "labels": CORRUPTED}, Options())
    assert values["wrong"] == 0
    assert values["corrupted"] == pytest.approx(0.2)
    assert seen["augmented"]
    assert all(seen["moved"])
    assert values["accuracy"] > 0.3  # of ten classes
    corrupted = seen["images"]
    EXPERIMENT.run(plain, Options())
    changed = (corrupted != seen["images"]).any(axis=(1, 2, 3))
    assert changed.mean() == pytest.approx(0.2)


@pytest.mark.parametrize("regime", [LINEAR, TUNED])
def test_a_tenth_of_the_images_is_grey_and_grey_ones_are_tested_too(regime, monkeypatch):
    seen = {}

    def subset_facts(indices, material):
        seen["images"] = material.pool.images[material.corrupted_n]
        return subsets.subset_facts(indices, material)

    monkeypatch.setattr(regimes, "subset_facts", subset_facts)
    cell = next(c for c in cells("quick") if c["regime"] == regime and c["labels"] == GREY)
    cell = {**cell, **TINY, "pool": "cifar10", "method": "all", "ratio": 1.0, "steps": 6}
    values = EXPERIMENT.run(cell, Options())
    assert len(seen["images"]) == 12
    assert (seen["images"] == seen["images"][..., :1]).all()
    assert values["corrupted"] == pytest.approx(0.1)
    assert values["wrong"] == 0
    assert 0.1 < values["accuracy, grey"] <= 1
    assert values["accuracy, grey"] != values["accuracy"]


def test_differences_are_paired_by_ratio_and_seed():
    accuracy = {"random": [0.5, 0.7], "default": [0.52, 0.76]}
    records = frame(
        [
            {
                "cell": {
                    "regime": LINEAR, "labels": "right", "method": method, "ratio": 0.3,
                    "share": 30, "seed": seed,
                },
                "values": {"accuracy": value},
                "seconds": 1.0,
            }
            for method, values in accuracy.items()
            for seed, value in enumerate(values)
        ]
    )  # fmt: skip
    row = against_random(records).iloc[0]
    # The mean of 2 and 6 is 4; the half width is 12.706 · 2.828 / √2.
    assert row["vs. random"] == "+4.0 ± 25.4"
    assert row["least"] == "+4.0 at 30 %"
    assert row["above 0"] == "1 of 1"


def record(method, accuracy, seed=0, labels="right", regime=TUNED):
    return {
        "regime": regime, "labels": labels, "share": 30, "method": method, "seed": seed,
        "accuracy": accuracy,
    }  # fmt: skip


def test_what_is_aimed_at_is_counted_by_cell():
    rows = [
        *(record("random", value, seed) for seed, value in enumerate([0.5, 0.6, 0.7])),
        *(record("default", value, seed) for seed, value in enumerate([0.51, 0.62, 0.73])),
        *(record("paper", value, seed) for seed, value in enumerate([0.52, 0.62, 0.72])),
        record("Herding", 0.512),  # of one seed, in which the default has 0.51
        record("random", 0.5, labels="pair 20 %"),
        record("default", 0.49, labels="pair 20 %"),
        record("all", 0.9, labels="pair 20 %"),
        record("random", 0.5, regime=BRIEF),
        record("default", 0.9, regime=BRIEF),
    ]
    aims = aims_table(pd.DataFrame(rows))
    assert aims.index.tolist() == ["fine-tuned; right; 30", "fine-tuned; pair 20 %; 30"]
    right, pair = aims.to_dict("records")
    assert right["gain"] == pytest.approx(2.0)
    assert right["half"] == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    assert right["p"] == pytest.approx(0.0742, rel=1e-2)  # the only one that is tested
    assert right["best"] == "Herding"
    assert right["behind"] == pytest.approx(0.2)
    assert pair["gain"] == pytest.approx(-1.0)
    assert np.isnan(pair["p"])
    assert pair["best"] == "random"
    assert pair["behind"] == pytest.approx(1.0)
    words = aims_in_words(aims)
    assert "Of 2 cells it is first or that near in 1 (50 %)" in words
    assert "Of 1 with several seeds the interval is above -0.3 in 0" in words
    assert "of 1 with one seed the difference itself in 0" in words


def test_without_a_cell_of_both_nothing_is_said_to_be_met():
    aims = aims_table(pd.DataFrame([record("random", 0.5)]))
    assert aims.empty
    assert "No cell with both" in aims_in_words(aims)


def test_the_page_is_the_same_twice(tmp_path):
    rows = [
        {
            "cell": cell,
            "values": {
                "accuracy": (7 * i % 100) / 100,
                "accuracy, grey": 0.5,
                "wrong": 0.1,
                "corrupted": 0.0,
                "n": 9,
                "balance": 1.0,
            },
            "seconds": 1.0,
        }
        for i, cell in enumerate(cells("standard"))
    ]
    text, _ = rendered_twice(EXPERIMENT, frame(rows), tmp_path)
    for head in ("## Logistic regression", "## Fine-tuned", "## From scratch", "## Brief"):
        assert head in text
    assert "## Against random" in text
    assert text.count("corrupted images, %") == 1
    assert text.count("| grey images, %") == 3  # a regime each
