"""The timing of samplers runs and measures what it says."""

from __future__ import annotations

from benchmarks.speed import sampler


def test_it_takes_torch_as_its_unit(capsys):
    sampler.main(["--indices", "1000", "--runs", "1"])
    assert "SubsetRandomSampler" in capsys.readouterr().out
