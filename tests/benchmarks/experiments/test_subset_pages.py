"""What the pages on subsets say is what the records hold."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from benchmarks.experiments.subset_pages import (
    add_differences,
    at_shared,
    describe_setting,
    differences_by,
    prepare,
    verdict,
    verdict_table,
)
from benchmarks.harness.pages import Page

COMMON = {
    "pool": "digits", "per_class": 20, "test_per_class": None, "noise": 0.0,
    "corrupted_share": 0.0, "network": "cnn", "steps": 9, "proxy": "resnet", "proxy_steps": 6,
}  # fmt: skip
METHODS = ("random", "EL2N", "default")
RATIOS = (0.3, 0.5, 0.7)


@pytest.fixture
def records():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {**COMMON, "method": m, "ratio": r, "seed": s, "accuracy": rng.random()}
            for m, r, s in itertools.product(METHODS, RATIOS, range(3))
        ]
    )


def accuracy_of(records, method, ratio, seed):
    rows = records[
        (records["method"] == method) & (records["ratio"] == ratio) & (records["seed"] == seed)
    ]
    return float(rows["accuracy"].item())


def test_a_verdict_is_that_of_a_loop(records):
    better = sure = worse = 0
    gains = np.zeros(3)
    for ratio in RATIOS:
        first = [accuracy_of(records, "default", ratio, s) for s in range(3)]
        second = [accuracy_of(records, "random", ratio, s) for s in range(3)]
        gain = np.subtract(first, second)
        gains += gain / len(RATIOS)
        better += gain.mean() > 0
        p = ttest_rel(first, second).pvalue
        sure += p < 0.05 and gain.mean() > 0
        worse += p < 0.05 and gain.mean() < 0
    mean, deviation = 100 * gains.mean(), 100 * gains.std(ddof=1)
    text = verdict(records, "default", "random", value="accuracy")
    assert text.startswith(
        f"better at {better} of 3 (p < 0.05 at {sure}, worse so at {worse}); "
        f"{mean:+.1f} ± {deviation:.1f} (p "
    )


def test_a_verdict_counts_what_is_sure(records):
    raised = records.copy()
    low, high = raised["method"] == "random", raised["method"] == "default"
    noise = 0.001 * np.random.default_rng(1).random(len(raised))
    raised["accuracy"] = 0.5 + noise
    raised.loc[high & (raised["ratio"] < 0.6), "accuracy"] += 0.1
    raised.loc[low & (raised["ratio"] > 0.6), "accuracy"] += 0.1
    assert "better at 2 of 3 (p < 0.05 at 2, worse so at 1)" in verdict(
        raised, "default", "random", value="accuracy"
    )


def test_one_seed_has_no_test_and_one_method_no_verdict(records):
    single = records[records["seed"] == 0]
    text = verdict(single, "default", "random", value="accuracy")
    assert " of 3; " in text
    assert "p " not in text
    assert verdict(single, "default", "Herding", value="accuracy") == "–"


def test_only_what_all_methods_share_is_compared(records):
    cut = records[~((records["method"] == "EL2N") & (records["ratio"] == 0.5))]
    cut = cut[~((cut["method"] == "default") & (cut["seed"] == 2))]
    shared = at_shared(cut, (*METHODS, "Herding"), ("ratio", "seed"))
    found = set(zip(shared["method"], shared["ratio"], shared["seed"], strict=True))
    assert found == set(itertools.product(METHODS, (0.3, 0.7), (0, 1)))
    text = verdict(cut, "default", "EL2N", value="accuracy")
    assert " of 2" in text


def test_verdict_tables_leave_out_the_method_itself_and_those_without_records(records):
    named = pd.concat([records.assign(condition="a"), records.assign(condition="b")])
    table = verdict_table(named, "default", ("random", "default", "Herding"), columns="condition")
    assert list(table.index) == ["against random"]
    assert list(table.columns) == ["a", "b"]
    expected = verdict(records, "default", "random", value="accuracy")
    assert table.loc["against random", "a"] == expected


def test_differences_by_ratio_are_plain_differences(records):
    table = differences_by(prepare(records), "default", ("random", "EL2N", "CCS"), over="share")
    assert list(table.index) == ["30", "50", "70"]
    assert list(table.columns) == ["against random", "against EL2N"]
    gain = np.mean(
        [
            accuracy_of(records, "default", 0.5, s) - accuracy_of(records, "EL2N", 0.5, s)
            for s in range(3)
        ]
    )
    assert table.loc["50", "against EL2N"].startswith(f"{100 * gain:+.1f} ± ")


def test_the_order_of_the_records_does_not_matter(records):
    shuffled = records.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(prepare(shuffled), prepare(records))
    assert list(dict.fromkeys(prepare(shuffled)["method"])) == list(METHODS)
    assert list(dict.fromkeys(prepare(shuffled)["share"])) == [30, 50, 70]


def test_the_setting_is_read_from_the_records(records):
    cut = records[~((records["method"] == "EL2N") & (records["seed"] == 2))]
    text = describe_setting(cut)
    assert "digits, 20 of each class to choose from and all to test on" in text
    assert "(cnn) is trained on the chosen images for 9 batches" in text
    assert "2 or 3 seeds: each" in text
    assert "1 seed: each" in describe_setting(records[records["seed"] == 0])


def test_differences_need_random(records, tmp_path):
    page = Page(tmp_path, "page", "Title")
    add_differences(page, records[records["method"] != "random"], METHODS)
    assert page.parts == ["# Title"]
    add_differences(page, prepare(records), METHODS)
    assert "30 %, 50 %, 70 %" in page.parts[1]
    assert "| default | " in page.parts[2]
