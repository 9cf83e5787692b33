"""Tests of `benchmarks.harness.cells`: what is run once and kept."""

from __future__ import annotations

import json
import sys
import types

import pytest

from benchmarks.harness import cells as module
from benchmarks.harness.cells import (
    Experiment,
    Options,
    UnavailableError,
    find_experiment,
    frame,
    key,
    missing_cells,
    read_records,
    records_of,
    run_cells,
)
from benchmarks.run import EXPERIMENTS

CELLS = [{"method": m, "seed": s} for s in (0, 1) for m in ("a", "b")]


def make(run, cells=CELLS):
    return Experiment("toy", "Toy", "nothing", lambda size: cells, run, lambda records, page: None)


@pytest.fixture
def toy(monkeypatch):
    """Let workers in this process find an experiment that no module holds."""

    def install(run):
        experiment = make(run)
        name = "benchmarks.experiments.toy"
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(EXPERIMENT=experiment))
        return experiment

    return install


def values(cell, options):
    return {"score": cell["seed"] + (cell["method"] == "b") / 2}


def test_each_cell_is_run_once_and_kept(toy, tmp_path):
    ran = []
    experiment = toy(lambda cell, options: (ran.append(cell), values(cell, options))[1])
    path = tmp_path / "raw" / "toy.jsonl"
    run_cells(experiment, CELLS[:3], Options(), path)
    run_cells(experiment, missing_cells(experiment, CELLS, Options(), path), Options(), path)
    assert ran == CELLS
    table = frame(read_records(path))
    assert list(table["score"]) == [0, 0.5, 1, 1.5]
    assert (table["seconds"] >= 0).all()


def test_a_record_names_versions_hardware_and_commit(toy, tmp_path):
    path = tmp_path / "toy.jsonl"
    run_cells(toy(values), CELLS[:1], Options(), path)
    environment = read_records(path)[0]["environment"]
    assert environment["versions"]["numpy"]
    assert environment["cores"] >= 1
    assert set(environment) == {
        "environment", "versions", "cpu", "cores", "gpu", "commit", "changed",
    }  # fmt: skip


def test_another_model_is_another_record(toy, tmp_path):
    path = tmp_path / "toy.jsonl"
    experiment = toy(values)
    run_cells(experiment, CELLS, Options(), path)
    other = Options(model="ViT-B-32", pretrained="openai")
    assert missing_cells(experiment, CELLS, other, path) == CELLS
    assert other.clip == "ViT-B-32/openai"


def test_the_order_of_fields_does_not_matter():
    assert key("e", "mini", {"a": 1, "b": 2}) == key("e", "mini", {"b": 2, "a": 1})
    assert key("e", "mini", {"a": 1}) != key("e", "mini", {"a": 2})


def test_a_cell_that_fails_is_named_and_loses_nothing(toy, tmp_path):
    def failing(cell, options):
        if cell == CELLS[2]:
            raise ValueError("no such image")
        return values(cell, options)

    path = tmp_path / "toy.jsonl"
    with pytest.raises(RuntimeError, match=r'toy failed in the cell \{"method": "a", "seed": 1\}'):
        run_cells(toy(failing), CELLS, Options(), path)
    assert [r["cell"] for r in read_records(path)] == CELLS[:2]


def test_a_cell_without_its_data_is_left_out(toy, tmp_path, capsys):
    def absent(cell, options):
        if cell["method"] == "b":
            raise UnavailableError("no word lists")
        return values(cell, options)

    path = tmp_path / "toy.jsonl"
    run_cells(toy(absent), CELLS, Options(), path)
    assert [r["cell"]["method"] for r in read_records(path)] == ["a", "a"]
    assert "no word lists" in capsys.readouterr().err


def test_a_line_cut_short_by_a_kill_is_run_again(toy, tmp_path):
    path = tmp_path / "toy.jsonl"
    experiment = toy(values)
    run_cells(experiment, CELLS, Options(), path)
    path.write_text(path.read_text()[:-30])
    missing = missing_cells(experiment, CELLS, Options(), path)
    assert missing == CELLS[3:]
    run_cells(experiment, missing, Options(), path)
    assert len(read_records(path)) == 4


def test_a_broken_line_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / "toy.jsonl"
    path.write_text("{\n{}\n")
    with pytest.raises(ValueError, match=r"toy\.jsonl, line 1, must be JSON; got '\{\\n'\. Remove"):
        read_records(path)


def test_no_file_is_no_records(tmp_path):
    assert read_records(tmp_path / "none.jsonl") == []


def test_of_two_records_of_a_cell_the_last_holds(tmp_path):
    path = tmp_path / "toy.jsonl"
    row = {"experiment": "toy", "clip": "mini", "cell": {}, "seconds": 0, "environment": "e"}
    rows = [{"environment": "e"}, {**row, "values": {"x": 1}}, {**row, "values": {"x": 2}}]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert [r["values"] for r in read_records(path)] == [{"x": 2}]


def test_records_of_other_cells_are_left_out(toy, tmp_path):
    path = tmp_path / "toy.jsonl"
    experiment = toy(values)
    run_cells(experiment, CELLS, Options(), path)
    found = records_of(experiment, CELLS[1:3], Options(), path)
    assert [r["cell"] for r in found] == CELLS[1:3]
    assert records_of(experiment, CELLS, Options(model="other"), path) == []


def test_cells_that_share_state_stay_together():
    experiment = make(values)
    assert list(module._groups(experiment, CELLS)) == [CELLS[:2], CELLS[2:]]


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(tmp_path):
    # A real experiment: spawned processes import it by name.
    experiment = find_experiment("linear_rounds")
    cells = [
        {**cell, "rounds": 1}
        for cell in experiment.cells("quick")
        if cell["pool"] == "digits" and cell["method"] in ("random", "margin")
    ]
    tables = []
    for n_workers in (1, 2):
        path = tmp_path / f"{n_workers}.jsonl"
        run_cells(experiment, cells, Options(), path, n_workers=n_workers)
        table = frame(read_records(path)).sort_values(["seed", "method"]).reset_index(drop=True)
        tables.append(table.drop(columns=["seconds", "pick_s"]))
    assert len(tables[0]) == len(cells)
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_distinct_cells_at_all_sizes(name):
    experiment = find_experiment(name)
    assert experiment.name == name
    for size in module.SIZES:
        cells = experiment.cells(size)
        keys = {key(name, "mini", cell) for cell in cells}
        assert len(keys) == len(cells) > 0
        assert all(field in cell for cell in cells for field in (*experiment.share, "seed"))
        assert all(experiment.cost_s(cell) > 0 for cell in cells)
    assert len({c["seed"] for c in experiment.cells("standard")}) >= 3
