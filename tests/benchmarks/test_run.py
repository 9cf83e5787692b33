"""Tests of `benchmarks.run`: the command."""

from __future__ import annotations

import sys
import types

import pandas as pd
import pytest

from benchmarks import run
from benchmarks.harness.cells import Experiment


@pytest.fixture
def toy(monkeypatch):
    ran = []

    def measure(cell, options):
        ran.append(cell["seed"])
        return {"score": cell["seed"] / 10}

    def render(records, page):
        page.text(f"The mean is {records['score'].mean():.2f}.")

    experiment = Experiment(
        "toy", "A toy", "nothing",
        lambda size: [{"seed": s} for s in range(2 if size == "quick" else 4)],
        measure, render,
    )  # fmt: skip
    name = "benchmarks.experiments.toy"
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(EXPERIMENT=experiment))
    monkeypatch.setattr(run, "EXPERIMENTS", ("toy",))
    return ran


def start(folder, *arguments):
    return run.main(["all", "--workers", "1", "--results", str(folder), *arguments])


def test_a_page_is_made_of_what_was_run(toy, tmp_path):
    path, summary = start(tmp_path, "--quick")
    assert summary.read_text().startswith("# Results")
    text = path.read_text()
    assert "# A toy\n\nThe mean is 0.05." in text
    assert "`python -m benchmarks.run toy --quick`" in text
    assert "2 of 2 cells" in text
    assert "What is trained: nothing.\n" in text
    assert "Incomplete" not in text


def test_what_all_images_give_is_said_by_condition():
    records = pd.DataFrame(
        {
            "method": ["all", "all", "all", "random"],
            "network": ["resnet", "resnet", "vit", "vit"],
            "noise": [0.0, 0.0, 0.2, 0.2],
            "accuracy": [0.5, 0.6, 0.4, 0.1],
        }
    )
    said = run.on_all_images(records)
    assert "resnet, 0 % of the labels wrong: 55.0 %; vit, 20 % of the labels wrong: 40.0 %." in said
    assert run.on_all_images(records[records["method"] == "random"]) == ""
    assert run.on_all_images(records[["noise"]]) == ""


def test_a_larger_size_runs_what_is_missing_only(toy, tmp_path):
    start(tmp_path, "--quick")
    path, _ = start(tmp_path)
    assert toy == [0, 1, 2, 3]
    assert "The mean is 0.15." in path.read_text()


def test_rendering_alone_runs_nothing_and_says_what_is_missing(toy, tmp_path):
    assert start(tmp_path, "--render-only") == []
    start(tmp_path, "--quick")
    path, _ = start(tmp_path, "--render-only")
    assert toy == [0, 1]
    assert "**Incomplete: 2 cells have not been run.**" in path.read_text()


def test_listing_says_how_much_there_is(toy, tmp_path, capsys):
    assert start(tmp_path, "--list") == []
    assert "toy: 4 of 4 cells to run, roughly 0.0011 hours" in capsys.readouterr().out
    assert toy == []


def test_each_size_has_a_folder_of_its_own():
    assert len(set(run.FOLDERS.values())) == 3
