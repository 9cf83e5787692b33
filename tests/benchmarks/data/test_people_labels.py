"""People's labels of CIFAR-10, matched by the names of the files."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.data.cifar import CLASSES
from benchmarks.data.people_labels import people_labels
from benchmarks.harness.cells import UnavailableError


@pytest.fixture
def folder(tmp_path):
    """Labels of all files in an order that is not the pool's; class c is called (c + 3) % 10."""
    names = [f"train/{name}/{i:04d}.jpg" for name in CLASSES for i in range(5000)]
    given = np.repeat((np.arange(10) + 3) % 10, 5000)
    order = np.random.default_rng(0).permutation(len(names))
    (tmp_path / "real_clip").mkdir()
    np.savez(
        tmp_path / "real_clip" / "cifar10n_by_file.npz",
        ids=np.array(names)[order],
        aggre_label=given[order],
    )
    return tmp_path


@pytest.mark.parametrize("pool", ["cifar10", "cifar10-seen"])
def test_rows_are_matched_by_name(folder, pool):
    found = people_labels("people's, aggregate", pool, folder)
    assert found.tolist() == np.repeat((np.arange(10) + 3) % 10, 2500).tolist()


def test_a_missing_file_leaves_the_cell_out(tmp_path):
    with pytest.raises(UnavailableError, match="cifar10n_by_file"):
        people_labels("people's, aggregate", "cifar10", tmp_path)
