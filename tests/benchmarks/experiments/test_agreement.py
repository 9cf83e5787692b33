"""Tests of `benchmarks.experiments.agreement`: its figures, with fewer draws."""

from __future__ import annotations

import pytest

from benchmarks.experiments.agreement import CASES, SETS, load, measure
from benchmarks.harness.cells import UnavailableError

QUIET = ("right", "20 % symmetric", "20 % pair")


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("name", SETS)
def test_of_twenty_draws_nineteen_are_as_they_should_be(name):
    try:
        data = load(name)
    except (FileNotFoundError, UnavailableError) as exc:
        pytest.skip(f"the team's data folder is not there: {exc}")
    for case in (*CASES, *data.people):
        wanted = "silent" if case in QUIET or case in data.people else "right reason"
        assert measure(data, case, 20)[wanted] >= 19, case
