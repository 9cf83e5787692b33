"""`noise_left` counts what a plain loop counts, and shows what the records say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.experiments import noise_left
from benchmarks.harness.cells import Options, frame
from benchmarks.training import subsets
from tests.benchmarks.experiment_checks import check_cells, rendered_twice

OPTIONS = Options()
TINY = {
    "pool": "digits", "per_class": 15, "noise": 0.2, "noise_kind": "symmetric", "seed": 1,
    "proxy_steps": 2, "early_steps": 2, "n_early": 1, "n_checkpoints": 1, "ratios": [0.5, 0.25],
}  # fmt: skip


def cell_of(method, **changes):
    cell = next(c for c in noise_left.cells("standard") if c["method"] == method)
    return {**cell, **TINY, **changes}


def tiny_task(cell):
    condition = subsets.Condition(**subsets.fields_of(subsets.Condition, cell))
    proxy = subsets.Proxy(**subsets.fields_of(subsets.Proxy, cell))
    material = subsets.load_condition(condition, OPTIONS)
    return material, subsets.task_of(condition, OPTIONS, proxy)


@pytest.mark.parametrize("size", ["quick", "standard", "full"])
def test_cells_are_distinct_and_say_everything(size):
    cells = noise_left.cells(size)
    check_cells(noise_left.EXPERIMENT, cells)
    needed = {"noise", "noise_kind", "seed", "method", "ratios", "proxy_steps", "per_class"}
    assert all(needed <= set(cell) for cell in cells)
    assert {cell["method"] for cell in cells} >= {"random", "default", "paper", "cleanlab pruning"}
    assert sum(map(noise_left.cost_s, cells)) > 0


def test_standard_has_every_variant_and_three_seeds():
    cells = noise_left.cells("standard")
    assert {c["method"] for c in cells} >= {*subsets.OURS, *noise_left.BASELINES, "random"}
    assert {c["seed"] for c in cells} == {0, 1, 2}
    assert sum(map(noise_left.cost_s, cells)) < 1500


@pytest.mark.parametrize("method", ["default", "text alone", "cosine", *noise_left.RANKED, "EL2N"])
def test_a_cell_counts_what_a_loop_counts(method):
    cell = cell_of(method)
    values = noise_left.run(cell, OPTIONS)
    material, task = tiny_task(cell)
    for place, ratio in enumerate(cell["ratios"]):
        chosen = subsets.choose(method, task, ratio)
        wrong = sum(material.given_n[i] != material.pool.y[i] for i in chosen)
        per_class = [sum(material.pool.y[i] == k for i in chosen) for k in range(10)]
        assert values["n"][place] == len(chosen)
        assert values["wrong"][place] == pytest.approx(wrong / len(chosen))
        assert values["balance"][place] == pytest.approx(min(per_class) / max(per_class))
    assert values["n_images"] == 150


def test_doubted_labels_are_counted_as_a_loop_counts_them():
    cell = cell_of("text alone")
    material, task = tiny_task(cell)
    wrong = [bool(a != b) for a, b in zip(material.given_n, material.pool.y, strict=True)]
    order = np.random.default_rng(0).permutation(len(wrong))
    facts = noise_left.doubt_facts(order, 0.1, material)
    first = [wrong[i] for i in order[: sum(wrong)]]
    assert facts["found"] == pytest.approx(sum(first) / sum(wrong))
    hits = sum(wrong[i] for i in order[:15])
    assert facts["estimated_precision"] == pytest.approx(hits / 15)
    assert facts["estimated_recall"] == pytest.approx(hits / 30)
    assert noise_left.doubt_facts(order, 0.0, material)["estimated_precision"] is None
    selector = subsets.fitted_selector("text alone", task)
    found = noise_left.run(cell, OPTIONS)
    worst = [suspect.index for suspect in selector.selection_.suspects(30)]
    assert found["found"] == pytest.approx(sum(wrong[i] for i in worst) / 30)
    assert found["estimated_share"] == selector.label_noise_.wrong_fraction


def test_clean_labels_have_no_precision():
    values = noise_left.run(cell_of("text alone", noise=0.0), OPTIONS)
    assert values["found"] is None
    assert values["estimated_recall"] is None
    assert values["wrong"] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("noise", "ratio", "least"), [(0.2, 0.8, 0.0), (0.2, 1.0, 0.2), (0.5, 0.8, 0.375), (0, 1, 0)]
)
def test_the_floor_is_what_cannot_be_avoided(noise, ratio, least):
    n, n_right = 1000, round(1000 * (1 - noise))
    kept = round(ratio * n)
    assert max(0, kept - n_right) / kept == pytest.approx(least)
    assert noise_left.least_wrong(noise, ratio) == pytest.approx(least)


def made_up(cells):
    rng = np.random.default_rng(0)
    for cell in cells:
        m = len(cell["ratios"])
        ours = cell["method"] in subsets.OURS
        values = {
            "n_images": 1000, "n": [10] * m, "wrong": rng.random(m).tolist(),
            "balance": rng.random(m).tolist(), "estimated_share": 0.25 if ours else None,
        }  # fmt: skip
        if ours:
            values |= {"found": 0.5, "estimated_precision": 0.75, "estimated_recall": None}
        yield {"cell": cell, "values": values, "seconds": 1.0}


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_the_page_is_made_of_the_records(tmp_path, n_seeds):
    cells = [c for c in noise_left.cells("quick") if c["seed"] < n_seeds]
    records = list(made_up(cells))
    text, plots = rendered_twice(noise_left.EXPERIMENT, frame(records), tmp_path)
    assert list(plots) == ["noise-left-pair-20.svg", "noise-left-symmetric-20.svg"]
    of_default = [
        r["values"]["wrong"][0] for r in records
        if r["cell"]["method"] == "default" and r["cell"]["noise_kind"] == "symmetric"
    ]  # fmt: skip
    assert f"| default | {100 * np.mean(of_default):.2f}" in text
    assert "| default | 25.0" in text
    assert "| least possible | 0.00 | 0.00 | 0.00 |" in text
