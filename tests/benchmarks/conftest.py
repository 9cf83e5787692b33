"""Tests of the benchmarks: left out unless they are asked for, `pytest -m benchmarks`.

They train networks and run every baseline, and nothing that the library promises hangs on them.
A path below this folder asks for them as well.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def asked_for(config):
    """Whether a marker expression or a path on the command line names these tests."""
    paths = [(config.invocation_params.dir / arg.partition("::")[0]) for arg in config.args]
    return "benchmarks" in config.option.markexpr or any(
        path.resolve().is_relative_to(HERE) for path in paths
    )


def pytest_collection_modifyitems(config, items):
    """Mark the tests of this folder, and deselect them where nobody asked."""
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    for item in ours:
        item.add_marker(pytest.mark.benchmarks)
    if ours and not asked_for(config):
        items[:] = [item for item in items if not item.path.is_relative_to(HERE)]
        config.hook.pytest_deselected(items=ours)


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread):
    """Everywhere here: networks are small, and what is timed is timed alone."""
