"""Tests of the loader, the cells and the page of `benchmarks.experiments.real`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.data import real_clip
from benchmarks.experiments import real
from benchmarks.experiments.real_page import differences, first_batch_table, paired_table
from benchmarks.harness.cells import Options, UnavailableError
from benchmarks.harness.pages import Page
from benchmarks.harness.paired import holm
from tests.reference import random_unit


@pytest.fixture
def pools(tmp_path, monkeypatch, rng):
    """A folder of one pool: 4 classes of 30 images, and 3 images of a fifth."""
    centres = random_unit(rng, 5, 16)
    y = np.repeat(np.arange(5), [30, 30, 30, 30, 3])
    Z = centres[y] + 0.2 * rng.standard_normal((len(y), 16))
    names = np.array(["a", "b", "c", "d", "few"])[y]
    np.savez(tmp_path / "own.npz", embeddings=Z.astype(np.float16), labels=names)
    monkeypatch.setenv(real_clip.POOLS_VARIABLE, str(tmp_path))
    real_clip.load_further_pool.cache_clear()
    return tmp_path


def cell(method, **changes):
    return {
        "pool": "own.npz", "long_tailed": False, "first": 4, "budget": 3, "rounds": 2,
        "method": method, "seed": 1000, **changes,
    }  # fmt: skip


def test_small_classes_are_left_out_and_rows_are_unit(pools):
    pool = real_clip.load_further_pool("own")
    assert np.bincount(pool.y).tolist() == [30] * 4
    np.testing.assert_allclose(np.linalg.norm(pool.emb_nd, axis=1), 1.0, atol=1e-5)


def test_a_split_holds_each_image_once(pools):
    pool = real_clip.load_further_pool("own")
    rows, test = real_clip.split(pool, long_tailed=False, seed=1)
    assert sorted([*rows, *test]) == list(range(120))
    assert np.bincount(pool.y[test]).tolist() == [9] * 4
    tail, same = real_clip.split(pool, long_tailed=True, seed=1)
    assert sorted(np.bincount(pool.y[tail])) == [5, 5, 21, 21]
    assert len(same) == len(test)


def test_further_pools_add_cells(pools):
    found = real.cells("quick")
    assert {c["pool"] for c in found} >= {"own.npz", "cifar"}
    assert all(c["seed"] >= real.FIRST_SEED for c in found)


@pytest.mark.parametrize("method", [m for m in (*real.FAST, *real.SLOW) if m != real.CBD])
@pytest.mark.parametrize("first", [0, 4])
def test_every_method_labels_in_rounds(pools, method, first):
    values = real.run(cell(method, first=first, budget=6), Options())
    assert len(values["accuracies"]) == 2
    assert 0.0 < values["accuracy"] <= 1.0
    assert (
        real.run(cell(method, first=first, budget=6), Options())["accuracies"]
        == (values["accuracies"])
    )


def test_a_method_that_needs_words_is_left_out(pools):
    with pytest.raises(UnavailableError, match="no words"):
        real.run(cell(real.CBD), Options())


def test_a_file_without_labels(pools):
    np.savez(pools / "bad.npz", embeddings=np.eye(3))
    with pytest.raises(ValueError, match="must hold `embeddings` and `labels`; got embeddings"):
        real_clip.load_further_pool("bad")


def test_holm_corrects_by_rank():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_the_page_shows_paired_differences(tmp_path):
    rows = [
        {
            **cell(method, seed=seed),
            "accuracies": [0.5],
            "accuracy": 0.5 + lead + 0.01 * seed,
            "late": 0.6 + lead,
        }
        for seed in range(4)
        for method, lead in ((real.OURS, 0.05), ("margin", 0.0), ("Uncertainty Herding", 0.02))
    ]
    records = pd.DataFrame(rows)
    found = differences(records.assign(setting="s"), real.OURS, "margin", "accuracy")
    np.testing.assert_allclose(found["s"], 5.0)
    page = Page(tmp_path, "real", "Real")
    real.render(records, page)
    text = page.write().read_text()
    assert "| uncertainty coverage | +5.0 | +5.0 | +5.0 ± 0.0 |" in text
    assert "own, 4 + 3" in text


def test_further_splits_of_a_setting_are_shown_apart(tmp_path):
    setting = {"pool": "fashion colours", "long_tailed": False, "first": 50, "budget": 50}
    leads = {"fashion colours": [0.0, 0.01, -0.01, 0.02, 0.02, 0.02], "food": [0.1, 0.1, 0.1]}
    records = pd.DataFrame(
        {
            **cell(method, **{**setting, "pool": pool}, seed=seed),
            "accuracies": [0.5],
            "accuracy": 0.5 + (lead if method == real.OURS else 0.0),
            "late": 0.5,
        }
        for pool, each in leads.items()
        for seed, lead in enumerate(each)
        for method in (real.OURS, "margin", "Uncertainty Herding")
    )
    page = Page(tmp_path, "real", "Real")
    real.render(records, page)
    text = page.write().read_text()
    assert "3 paired splits (fashion colours, 50 + 50: 6)" in text
    assert "the first 3 splits gave +0.0 ± 2.5" in text
    assert "these alone give +2.0 ± 0.0" in text
    found = [c for c in real.cells("standard") if c["pool"] == "fashion colours"]
    assert len({c["seed"] for c in found}) == 100


def test_the_first_batch_is_shown_where_nothing_was_labelled():
    records = pd.DataFrame(
        {
            "setting": ["cold", "cold", "cold", "warm"],
            "first": [0, 0, 0, 10],
            "method": ["margin", "margin", "random", "margin"],
            "accuracies": [[0.5, 0.9], [0.7, 0.9], [0.4, 0.9], [0.1, 0.9]],
        }
    )
    table = first_batch_table(records)
    assert list(table.columns) == ["cold"]
    # 12.706 · 14.142 / √2 is 127.1
    assert table.loc["margin", "cold"] == "60.0 ± 127.1"


def test_a_method_is_paired_with_its_control_by_split():
    rows = [
        {"setting": "s", "method": method, "seed": seed, "accuracy": value + 0.1 * seed}
        for seed in range(3)
        for method, value in (("a", 0.5), ("b", 0.48))
    ]
    table = paired_table(pd.DataFrame(rows), "a", ("b",))
    assert table.loc["s", "less b"].startswith("+2.0 ± 0.0")
    assert table.loc["mean over settings", "less b"].startswith("+2.00 ± 0.00")
