"""Tests of `benchmarks.experiments.conclusions`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.experiments import conclusions
from benchmarks.harness.cells import Options, read_records
from benchmarks.harness.paired import compare
from benchmarks.training.labelling import OURS


@pytest.fixture(autouse=True)
def any_cell_is_wanted(monkeypatch):
    """Take made-up cells for cells of the experiments."""
    monkeypatch.setattr(
        conclusions, "records_of", lambda e, cells, options, path: read_records(path)
    )


def tables_of(folder):
    return conclusions.load(folder, "standard", Options())


def summary_of(folder):
    return conclusions.write(folder, "standard", Options()).read_text()


def write(folder, name, records):
    rows = [{"environment": "e"}] + [
        {
            "experiment": name, "clip": "mini", "cell": cell, "values": values, "seconds": 1.0,
            "environment": "e",
        }
        for cell, values in records
    ]  # fmt: skip
    path = folder / "raw" / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    seeds = range(3)
    lead = {OURS: 0.02, "default": 0.05, "paper": -0.1}
    write(
        tmp_path, "linear_rounds",
        [
            (
                {"pool": "balanced", "method": m, "seed": s},
                {"accuracy": 0.8 + lead.get(m, 0.0) + 0.01 * rng.random()},
            )
            for m in (OURS, "random", "margin", "BADGE")
            for s in seeds
        ],
    )  # fmt: skip
    write(
        tmp_path, "ratios",
        [
            (
                {"network": "resnet", "method": m, "noise": n, "ratio": r, "seed": s},
                {"accuracy": 0.5 + lead.get(m, 0.0) + 0.01 * rng.random()},
            )
            for m in ("default", "random", "paper")
            for n in (0.0, 0.2)
            for r in ((0.3,) if m == "paper" else (0.3, 0.7))
            for s in seeds
        ],
    )  # fmt: skip
    write(
        tmp_path, "noise_left",
        [
            (
                {
                    "noise_kind": "symmetric", "noise": 0.5, "method": m, "ratios": [0.3, 0.8],
                    "seed": s,
                },
                {"wrong": [0.1 + s / 100, 0.5]},
            )
            for m in ("default", "random")
            for s in seeds
        ],
    )  # fmt: skip
    return tmp_path


def test_verdicts_are_those_of_the_records(folder):
    text = summary_of(folder)
    linear = tables_of(folder)["linear_rounds"]
    found = compare(linear, OURS, "margin", value="accuracy")
    row = next(line for line in text.splitlines() if line.startswith("| balanced; linear head"))
    assert f"{100 * found.mean:+.2f} ± {100 * found.deviation:.2f}" in row
    assert "3/3): " in row


def test_only_shared_ratios_are_compared(folder):
    ratios = tables_of(folder)["ratios"]
    clean = ratios[ratios["noise"] == 0.0]
    shared = clean[clean["ratio"] == 0.3]
    mean = shared.groupby("method")["accuracy"].mean()
    text = conclusions.against(clean, "default", "paper")
    assert text.startswith(f"{100 * (mean['default'] - mean['paper']):+.1f} ±")
    assert text.endswith("(1 of 1)")
    assert conclusions.against(clean, "default", "random").endswith("(2 of 2)")
    assert conclusions.against(clean, "default", "EL2N") is None


def test_wrong_labels_stand_beside_the_least_possible(folder):
    table = conclusions.wrong_left(tables_of(folder)["noise_left"])
    assert table.loc["symmetric 50%, 30%"].to_dict() == {
        "random": "11.00", "default": "11.00", "least possible": "0.00",
    }  # fmt: skip
    assert table.loc["symmetric 50%, 80%", "least possible"] == "37.50"


def test_pages_that_were_not_made_are_not_named(folder):
    text = summary_of(folder)
    assert "(linear-rounds.md)" in text
    assert "(cost.md)" not in text


def test_without_results_there_is_a_page_all_the_same(tmp_path):
    assert summary_of(tmp_path).startswith("# Results")


def test_each_experiment_has_a_line():
    from benchmarks.run import EXPERIMENTS

    assert set(conclusions.PAGES) == set(EXPERIMENTS)


def test_where_no_seed_has_both_there_is_no_figure(tmp_path):
    cells = [("random", 0), ("margin", 0), (OURS, 1)]
    write(
        tmp_path, "linear_rounds",
        [({"pool": "balanced", "method": m, "seed": s}, {"accuracy": 0.8}) for m, s in cells],
    )  # fmt: skip
    assert "| balanced; linear head on CLIP | – | – |" in summary_of(tmp_path)
