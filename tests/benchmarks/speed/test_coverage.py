"""The timing of our default strategy beside others' runs, and what it returns is complete."""

import sys
import types

import numpy as np
import pytest

from benchmarks.speed import coverage

TINY = ["--pool", "300", "--width", "16", "--picks", "30", "--labelled", "60", "--runs", "1"]


class Selection:
    """As `lightly_mundig` has it: the first images that are not selected yet."""

    def add_diversifying_strategy(self, embeddings, strength):
        self.n = len(embeddings)

    def add_weighting_strategy(self, weights, strength):
        assert len(weights) == self.n

    def run_selection(self, preselected_indices, n_total_samples, n_samples_to_select):
        assert n_total_samples == self.n
        return list(range(n_samples_to_select))


@pytest.fixture
def lightly(monkeypatch):
    module = types.SimpleNamespace(Selection=Selection)
    monkeypatch.setitem(sys.modules, "lightly_mundig", module)


def test_both_pools_time_every_method(lightly, capsys):
    pytest.importorskip("skactiveml", reason="scikit-activeml comes with the extra `bench`")
    records = coverage.main([*TINY, "--million", "--large-pool", "500"])
    for kind in ("30 of 300 × 16", "30 of 500 × 16"):
        names = " ".join(r["name"] for r in records if r["kind"] == kind)
        for word in ("margin", coverage.GIVEN, coverage.FIRST, "CoreSet", coverage.LIGHTLY):
            assert word in names, (kind, word)
    units = [
        r["ratio"] for r in records if r.get("name") in (coverage.BASELINE, coverage.MARGIN_GIVEN)
    ]
    assert units == [1.0, 1.0]
    assert all(r["timing"].median_s > 0 for r in records[1:])
    assert "ratio to margin" in capsys.readouterr().out


def test_what_is_not_installed_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lightly_mundig", None)
    records = coverage.main(TINY)
    assert not any(coverage.LIGHTLY in record.get("name", "") for record in records)
    assert "is left out: `pip install lightly-mundig`" in capsys.readouterr().out


def test_slow_samplers_are_added_up_from_few_picks(monkeypatch):
    cost = {"setup": 10.0, "pick": 0.5}
    monkeypatch.setattr(coverage, "_timed", lambda ask, n: (cost["setup"] + n * cost["pick"], None))
    timing, extrapolated = coverage.time_other(lambda n: None, 1000)
    assert extrapolated
    assert timing.median_s == pytest.approx(510.0)
    cost.update(setup=1.0, pick=0.001)
    timing, extrapolated = coverage.time_other(lambda n: None, 1000)
    assert not extrapolated
    assert timing.median_s == pytest.approx(2.0)


def test_blocks_of_a_large_pool_share_their_clusters(tmp_path, monkeypatch):
    monkeypatch.setattr(coverage, "BLOCK", 100)
    Z = coverage.write_large(tmp_path / "Z.npy", 250, 8, seed=1)
    assert (Z.shape, Z.dtype) == ((250, 8), np.float16)
    assert np.allclose(np.linalg.norm(Z.astype(float), axis=1), 1, atol=2e-3)
    assert not (Z[:50] == Z[100:150]).all()
    means = [Z[start : start + 100].astype(float).mean(axis=0) for start in (0, 100)]
    assert means[0] @ means[1] > 0.9 * np.linalg.norm(means[0]) * np.linalg.norm(means[1])
