"""`scale` measures what it says: data in files, growth of memory, exponents, peers that give up."""

from __future__ import annotations

import json
import time
from argparse import Namespace

import numpy as np
import pytest

from benchmarks.speed import scale

ARGS = Namespace(
    width=16, concepts=40, per_class=30, columns=5, seed=0, limit_s=20.0, memory_gib=2.0
)


def test_data_is_in_files_and_the_same_again(tmp_path):
    first, second = (scale.make_data(tmp_path, 200, ARGS) for _ in range(2))
    assert isinstance(first.Z, np.memmap)
    assert first.Z.dtype == np.float16
    np.testing.assert_array_equal(first.Z, second.Z)
    np.testing.assert_allclose(np.linalg.norm(first.Z.astype(float), axis=1), 1, atol=1e-2)
    np.testing.assert_allclose(first.P.sum(axis=1), 1, atol=1e-5)
    assert first.P.shape == (200, 5)
    assert set(first.y) == set(range(len(first.T)))


def test_memory_of_arrays_is_seen_and_that_of_mapped_files_is_not(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(8_000_000))
    taken = scale.cost_of(lambda: (np.ones(8_000_000), time.sleep(0.1)))
    mapped = scale.cost_of(lambda: np.load(tmp_path / "a.npy", mmap_mode="r").sum())
    assert 55e6 < taken.peak_bytes < 80e6
    assert mapped.peak_bytes < 20e6


def test_an_exponent_is_that_of_a_power():
    assert scale.exponent([10, 100, 1000], [0.3, 30, 3000]) == pytest.approx(2)


def test_a_small_run_prints_every_table(tmp_path, capsys):
    names = ("sizes", "width", "concepts", "per-class", "columns", "fit-from")
    values = (["300", "600"], ["16"], ["40"], ["30"], ["5"], ["300"])
    arguments = [
        x for name, value in zip(names, values, strict=True) for x in (f"--{name}", *value)
    ]
    files = ["--plot", str(tmp_path / "p.svg"), "--json", str(tmp_path / "r.jsonl")]
    records = scale.main([*arguments, *files, "--folder", str(tmp_path)])
    printed = capsys.readouterr().out
    for what in (scale.PRODUCT, scale.HYBRID, scale.CONTRASTIVE, scale.FIT, "path: labelling"):
        assert f"| {what}" in printed
    assert len([r for r in records if r.get("images") == 600]) == 10
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == len(records)
    assert json.loads((tmp_path / "r.jsonl").read_text().splitlines()[1])["images"] == 300
    assert sorted(f.name for f in tmp_path.iterdir()) == ["p.svg", "r.jsonl"]


def test_steps_can_be_left_out(tmp_path, capsys):
    small = ["--sizes", "300", "--width", "16", "--concepts", "40", "--per-class", "30"]
    small += ["--columns", "5", "--skip", "modAL"]
    records = scale.main([*small, "--folder", str(tmp_path)])
    assert not any("modAL" in record.get("what", "") for record in records)
    assert "| CBD + margin" in capsys.readouterr().out


def test_a_peer_answers_or_gives_up():
    answer = scale.ask_peer("find_label_issues (cleanlab)", 300, ARGS)
    assert answer[0] > 0
    tight = Namespace(**{**vars(ARGS), "limit_s": 0.0})
    assert scale.ask_peer("CoreSet (scikit-activeml)", 400, tight) == "over 0 s"
    small = Namespace(**{**vars(ARGS), "memory_gib": 0.1})
    assert scale.ask_peer("facility location (apricot)", 8000, small) == "over 0.1 GiB"


def test_approximate_sds_is_compared(capsys):
    shared, counted = scale.compare_approximations(2000, ARGS)
    printed = capsys.readouterr().out
    assert "| k = 0.1, share" in printed
    assert "| k = 10, count" in printed
    assert shared["recall"] is None
    assert counted["recall"] >= 0.95
    assert 0 < shared["error"] < 0.2
    assert counted["rank_correlation"] > 0.9


def test_picks_are_timed_over_their_number(tmp_path, capsys):
    data = scale.make_data(tmp_path, 300, ARGS)
    records = scale.compare_budgets(data, [3, 30])
    assert [record["budget"] for record in records] == [3, 30]
    assert all(record["seconds"] > 0 for record in records)
    assert "profiles at hand, of 300 images" in capsys.readouterr().out
