"""The benchmark of the Ray path runs, and its loss is a loss against one machine."""

from __future__ import annotations

import json

import pytest

from benchmarks.speed import ray_loss


@pytest.mark.ray
def test_a_tiny_run_measures_loss_and_rates(tmp_path, capsys):
    file = tmp_path / "records.jsonl"
    arguments = "--pool made-up --images 400 --picks 20 --shards 2 --seeds 1 --rows 400 --width 8"
    arguments += f" --concepts 20 --jpegs 8 --json {file}"
    records = ray_loss.main(arguments.split())
    losses = {r["name"]: r for r in records if r["kind"] == "loss"}
    assert losses["one machine"]["lost"] == [0.0]
    assert losses["one machine"]["same"] == 1.0
    assert max(r["cbd"][0] for r in losses.values()) <= losses["one machine"]["cbd"][0] + 0.01
    assert losses["2 shards, oversample 3"]["lost"] < losses["random candidates"]["lost"]
    rates = {r["name"]: r for r in records if r["kind"] == "rate"}
    assert rates["select"]["rows"] == 400
    assert rates[ray_loss.WORKING]["rows"] == 6
    assert all(r["seconds"] > 0 for name, r in rates.items() if name != ray_loss.WORKING)
    assert len(file.read_text().splitlines()) == len(records)
    assert all(json.loads(line) for line in file.read_text().splitlines())
    assert "rows a s and core" in capsys.readouterr().out
