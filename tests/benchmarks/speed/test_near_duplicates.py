"""The timing of near-copies is beside faiss's, on the same groups, and measures recall."""

import numpy as np
import pytest

from benchmarks.speed import near_duplicates
from clip_al import near_duplicates as find


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(near_duplicates, "ROWS", 1_024)


def test_recall_and_the_same_groups(small, capsys):
    pytest.importorskip("faiss", reason="faiss comes with the extra `cpu`")
    records = near_duplicates.main(
        ["--images", "3000", "--subset", "1500", "--width", "96", "--exact-up-to", "1100",
         "--checked", "3000"]
    )  # fmt: skip
    every, subset, theirs = records[1:]
    assert "approximate" in every["result"]
    assert every["n_pairs"] > 100
    assert every["recall"] > 0.98
    assert "exact" in subset["result"]
    assert theirs["result"] == 0
    assert "Images in other groups: 0" in capsys.readouterr().out


def test_pairs_that_are_not_found_are_counted(small, tmp_path):
    Z = near_duplicates.make_table(tmp_path / "Z.npy", 2_000, 96, 0)
    found = find(Z, 0.95)
    checked = np.arange(0, 2_000, 2)
    n_pairs, n_found = near_duplicates.pairs_found(Z, found, checked)
    assert n_pairs == n_found > 50
    none = find(np.eye(2_000, 2_000, dtype=np.float32), 0.95)
    assert near_duplicates.pairs_found(Z, none, checked) == (n_pairs, 0)
