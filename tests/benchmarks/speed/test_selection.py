"""The timing of data selection runs and measures what it says."""

from __future__ import annotations

import pytest

from benchmarks.speed import selection


def test_it_measures_all_but_the_slow():
    arguments = ["--images", "400", "--runs", "1", "--epochs", "1", "--skip-slow"]
    records = selection.main(arguments)
    names = [r["what"] for r in records if "what" in r]
    for word in ("products", "SAS", "NearestNeighbors", "cleanlab", "sgd", "ClipSelector"):
        assert any(word in name for name in names), word
    assert not any("facility" in name for name in names)


def test_facility_location_of_both_libraries_runs():
    pytest.importorskip("apricot", reason="apricot-select comes with the extra `bench`")
    pytest.importorskip("submodlib", reason="submodlib-py comes with the extra `bench`")
    functions = selection.facility_functions(selection.make_data(40, 0).Z)
    found = selection._limited(functions, 2 * 2**30)
    assert len(found) == 2
    assert all(timing.median_s > 0 for timing in found.values())
