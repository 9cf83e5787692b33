"""Tests of `benchmarks.harness.environment`: memory, and what is printed."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.harness import environment


def test_more_memory_than_allowed_is_refused():
    with environment.memory_limit(64 * environment.MIB):
        np.ones(1 * environment.MIB)
        with pytest.raises(MemoryError):
            np.ones(64 * environment.MIB)
    assert np.ones(64 * environment.MIB).size == 64 * environment.MIB


def test_peak_memory_sees_what_is_freed_again():
    result, n_bytes = environment.peak_memory(lambda: float(np.ones(8 * environment.MIB).sum()))
    assert result == 8 * environment.MIB
    if n_bytes is None:
        pytest.skip("this system does not reset its memory mark")
    assert 0.9 <= n_bytes / (64 * environment.MIB) <= 1.5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.345, "12.3 s"), (789.0, "789 s"), (0.0123, "12.3 ms"), (4.5e-5, "45.0 µs")],
)
def test_seconds_have_three_digits(seconds, text):
    assert environment.format_seconds(seconds) == text


def test_table_is_markdown(capsys):
    environment.print_table(["what", "s"], [["a", 1.5], ["longer", 22]])
    assert capsys.readouterr().out.splitlines()[:4] == [
        "| what   |   s |",
        "| ------ | --: |",
        "| a      | 1.5 |",
        "| longer |  22 |",
    ]
