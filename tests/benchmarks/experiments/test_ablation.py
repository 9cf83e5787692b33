"""`ablation` switches parts off one by one, and descends as a loop of the equation does."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.experiments import ablation
from benchmarks.harness.cells import Options, frame
from benchmarks.training import subsets
from clip_al import ClipSelector
from tests.benchmarks.experiment_checks import check_distinct, rendered, rendered_twice

OPTIONS = Options()
TINY = {"pool": "digits", "per_class": 15, "test_per_class": 5, "seed": 1}


def cell_of(part, method, size="standard", **changes):
    for cell in ablation.cells(size):
        if (cell["part"], cell["method"]) == (part, method) and changes.items() <= cell.items():
            return {**cell, **TINY}
    raise LookupError((part, method))


def task_of(cell):
    condition = subsets.Condition(**subsets.fields_of(subsets.Condition, cell))
    return subsets.task_of(condition, OPTIONS, ablation.NO_PROXY)


@pytest.mark.parametrize("size", ["quick", "standard", "full"])
def test_cells_are_distinct_and_say_everything(size):
    cells = ablation.cells(size)
    check_distinct(ablation.EXPERIMENT, cells)
    assert {cell["part"] for cell in cells} == set(ablation.PARTS)
    assert all({"noise", "seed", "method", "per_class"} <= set(cell) for cell in cells)
    if size == "standard":
        assert {cell["seed"] for cell in cells} == {0, 1, 2}
        assert sum(map(ablation.cost_s, cells)) < 700
        methods = {cell["method"] for cell in cells}
        assert set(ablation.UNTRAINED) < methods


@pytest.mark.parametrize(
    ("preset", "row", "settings"),
    [
        ("paper", "", {}),
        ("paper", ", w/o SDS", {"alpha": 0.0}),
        ("paper", ", w/o adapter", {"adapter": False}),
        ("default", "", {}),
        ("default", ", w/o SDS", {"alpha": 0.0}),
        ("short", "", {}),
        ("short", ", SAS + SDS", {"alpha": "ratio"}),
        ("short", ", mean images", {"text_weight": 0.0}),
        ("short", ", adapter", {"adapter": True, "text_weight": 1.0}),
    ],
)
def test_a_row_is_what_a_selector_with_that_part_switched_off_chooses(preset, row, settings):
    cell = {**cell_of("terms", preset + row, noise=0.2), "steps": 0}
    task = task_of(cell)
    selector = ClipSelector(
        0.3, class_embeddings=task.class_emb_kd, preset=preset, random_state=1, **settings
    )
    chosen = selector.fit_select(task.emb_nd, task.given_n).indices
    condition = subsets.Condition(**subsets.fields_of(subsets.Condition, cell))
    facts = subsets.subset_facts(chosen, subsets.load_condition(condition, OPTIONS))
    assert ablation.run(cell, OPTIONS) == {**facts, "accuracy": None}


def test_without_alignment_the_most_distant_images_are_chosen():
    cell = {**cell_of("terms", "short, SDS alone", noise=0.2), "steps": 0}
    task = task_of(cell)
    sds_n = ablation.terms_of(cell, task)[1]
    zeros = np.zeros(len(sds_n))
    chosen = ablation.select((zeros, sds_n), task, 0.3, "short", alpha="ratio").indices
    for c in range(10):
        members = np.flatnonzero(task.given_n == c)
        kept = np.intersect1d(chosen, members)
        assert len(kept) in (math.floor(0.3 * len(members)), math.ceil(0.3 * len(members)))
        left = np.setdiff1d(members, kept)
        assert sds_n[kept].min() >= sds_n[left].max()


def test_a_trained_row_has_the_accuracy_of_its_subset():
    cell = {**cell_of("terms", "random", noise=0.2), "steps": 3}
    condition = subsets.Condition(**subsets.fields_of(subsets.Condition, cell))
    chosen = subsets.choose("random", task_of(cell), 0.3)
    plain = subsets.train_accuracy(
        chosen, subsets.load_condition(condition, OPTIONS), network="resnet", n_steps=3, seed=1
    )
    assert ablation.run(cell, OPTIONS)["accuracy"] == plain


def test_weights_of_the_text_share_the_adapter_and_differ():
    texts, means = (
        cell_of("prototypes", f"paper, {name}", noise=0.5) for name in ("text", "mean image")
    )
    task = task_of(texts)
    first, second = (ablation.fitted("paper", True, weight, task) for weight in (1.0, 0.0))
    assert first.adapter_ is second.adapter_
    assert not np.array_equal(first.selection_.scores["sas"], second.selection_.scores["sas"])
    values = ablation.run(means, OPTIONS)
    assert [len(v) for v in values.values()] == [2, 2]


def test_names_are_made_unknown_by_random_directions():
    cell = cell_of("names", "short, text alone", unknown=0.95, noise_kind="pair")
    task = task_of(cell)
    known, unknown = (ablation.with_unknown_names(task, share) for share in (0.0, 0.95))
    np.testing.assert_allclose(known.class_emb_kd, task.class_emb_kd, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(unknown.class_emb_kd, axis=1), 1, atol=1e-6)
    values = ablation.run(cell, OPTIONS)
    selector = ClipSelector(
        0.5, class_embeddings=unknown.class_emb_kd, preset="short", text_weight=1.0, random_state=1
    )
    chosen = selector.fit_select(task.emb_nd, task.given_n).indices
    condition = subsets.Condition(**subsets.fields_of(subsets.Condition, cell))
    y = subsets.load_condition(condition, OPTIONS).pool.y
    assert values["wrong"] == pytest.approx((task.given_n[chosen] != y[chosen]).mean())
    named = (task.emb_nd @ unknown.class_emb_kd.T).argmax(axis=1)
    assert values["zero_shot"] == pytest.approx((named == y).mean())


def test_solvers_are_held_against_the_exact_one():
    exact = ablation.run(cell_of("descent", "paper, exact"), OPTIONS)
    assert exact["overlap"] == [1.0] * len(ablation.RATIOS)
    assert exact["actual"] == pytest.approx(list(ablation.RATIOS))
    loose = ablation.run(cell_of("descent", "paper, sgd", theta=0.1), OPTIONS)
    misses = np.abs(np.subtract(loose["actual"], ablation.RATIOS))
    assert 0 < misses.max() <= 0.1 + 1e-9
    assert min(loose["overlap"]) < 1
    assert all(steps > 100 for steps in loose["iterations"][:-1])
    assert loose["iterations"][-1] == 0  # where all start, within 0.1 of 90 %


def descend_slowly(total, wanted, slack, beta, scale, n_steps):
    """Descend Eq. 6 image by image, gradients as the straight-through estimator has them."""
    n = len(total)
    d, velocity = [1.0] * n, [0.0] * n
    for step in range(n_steps + 1):
        n_chosen = sum(x > 0 for x in d)
        if abs(n_chosen - wanted) <= slack or step == n_steps:
            return d, step
        side = 1.0 if n_chosen > wanted else -1.0
        for i in range(n):
            sigmoid = 1 / (1 + math.exp(-d[i]))
            gradient = scale * sigmoid * (1 - sigmoid) * (beta * side - total[i])
            velocity[i] = 0.9 * velocity[i] + gradient
            d[i] -= 1e-3 * velocity[i]


@pytest.mark.parametrize("method", list(ablation.LOSSES))
def test_a_loss_is_descended_as_the_equation_says(method):
    cell = {**cell_of("loss", method, preset="paper"), "steps": 400, "per_class": 6}
    values = ablation.run(cell, OPTIONS)
    sas_n, sds_n = ablation.terms_of(cell, task_of(cell))
    total = (sas_n + 0.3 * sds_n.astype(np.float64)).tolist()
    n = len(total)
    scale = 1 / n if cell["per_image"] else 1.0
    d, n_steps = descend_slowly(total, 18, 5e-4 * n, cell["beta"], scale, 400)
    assert values["actual"] == pytest.approx(sum(x > 0 for x in d) / n)
    assert values["moved"] == pytest.approx(max(abs(x - 1) for x in d))
    assert (values["iterations"], values["overlap"]) == (n_steps, 1.0)
    assert values["reached"] == (method == "N times the loss")


def made_up(cells):
    rng = np.random.default_rng(0)
    for cell in cells:
        draw = rng.random(len(cell.get("ratios", []))).tolist()
        one = float(rng.random())
        values = {
            "terms": {"n": 9, "wrong": one, "balance": one, "accuracy": one, "corrupted": 0.0},
            "prototypes": {"wrong": draw, "balance": draw},
            "names": {"wrong": one, "zero_shot": one},
            "descent": {"actual": draw, "overlap": draw, "iterations": draw, "solve_s": draw},
            "loss": {"actual": one, "moved": one, "iterations": 7, "reached": True, "overlap": 1.0},
        }[cell["part"]]
        if cell["part"] == "descent" and cell["solver"] == "exact":
            values["iterations"] = [None] * len(draw)
        if cell["part"] == "terms" and not cell["steps"]:
            values["accuracy"] = None
        yield {"cell": cell, "values": values, "seconds": 1.0}


@pytest.mark.parametrize("size", ["quick", "standard"])
def test_the_page_is_made_of_the_records(tmp_path, size):
    records = list(made_up(ablation.cells(size)))
    text, _ = rendered_twice(ablation.EXPERIMENT, frame(records), tmp_path)
    for method in ablation.term_rows():
        cells = [r for r in records if r["cell"]["method"] == method]
        assert (f"| {method} | " in text) == bool(cells)
    clean = [
        r["values"]["accuracy"] for r in records
        if r["cell"]["method"] == "paper, w/o SAS" and r["cell"]["noise"] == 0.0
    ]  # fmt: skip
    assert f"| paper, w/o SAS | {100 * np.mean(clean):.1f}" in text
    assert "| paper, exact | " in text


def test_the_page_shows_the_parts_that_were_run(tmp_path):
    cells = [c for c in ablation.cells("quick") if c["part"] == "loss"]
    text, _ = rendered(ablation.EXPERIMENT, frame(list(made_up(cells))), tmp_path)
    assert "## The loss" in text
    assert "θ" not in text
