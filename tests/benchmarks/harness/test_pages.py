"""Tests of `benchmarks.harness.pages`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.harness.pages import (
    Page,
    comparison_table,
    format_p,
    line_plot,
    spread,
    spread_table,
)


@pytest.fixture
def records():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "method": m, "ratio": r, "seed": s,
            "accuracy": 0.5 + 0.1 * (m == "ours") + rng.random() / 9,
        }
        for m in ("random", "ours", "theirs")
        for r in (0.8, 0.3)
        for s in range(3)
    )  # fmt: skip


def test_spread():
    assert spread([0.5, 0.7]) == "60.0 ± 14.1"
    assert spread([0.51], sign=True) == "+51.0"
    assert spread([]) == "–"
    assert spread([0.5, np.nan], digits=2, scale=1) == "0.50"


def test_a_table_of_means(records):
    table = spread_table(records, rows="method", columns="ratio", value="accuracy")
    assert list(table.columns) == [0.3, 0.8]
    assert list(table.index) == ["random", "ours", "theirs"]
    cell = records[(records["method"] == "ours") & (records["ratio"] == 0.3)]["accuracy"]
    assert table.loc["ours", 0.3] == f"{100 * cell.mean():.1f} ± {100 * cell.std():.1f}"


def test_a_row_that_was_not_run_is_a_dash(records):
    table = spread_table(
        records, rows="method", columns="ratio", value="accuracy", order=["ours", "absent"]
    )
    assert list(table.loc["absent"]) == ["–", "–"]


def test_a_table_of_differences(records):
    table = comparison_table(
        records, value="accuracy", against=["random"], baselines=["random", "theirs"]
    )
    best = records.groupby("method")["accuracy"].mean()[["random", "theirs"]].idxmax()
    assert list(table.columns) == ["against random", f"against {best}, the best baseline"]
    assert table.loc["random", "against random"] == ""
    assert table.loc["ours", "against random"].startswith("+1")
    assert table.loc["ours", "against random"].endswith("3/3)")


@pytest.mark.parametrize(("p", "text"), [(0.0001, "< 0.001"), (0.0123, "0.012"), (0.456, "0.46")])
def test_p_is_short(p, text):
    assert format_p(p) == text


def test_a_page_has_its_parts_in_order(tmp_path, records):
    page = Page(tmp_path, "toy", "A toy")
    page.heading("One")
    page.text("Words.")
    page.table(pd.DataFrame({"a": ["1", "2"]}, index=["x", "y"]), "name")
    figure = line_plot(
        records, x="ratio", y="accuracy", lines="method", labels=("ratio", "accuracy, %")
    )
    page.plot(figure, "curve", "Accuracy against ratio")
    text = page.write().read_text()
    assert text == (
        "# A toy\n\n## One\n\nWords.\n\n| name | a |\n| --- | ---: |\n| x | 1 |\n| y | 2 |\n\n"
        "![Accuracy against ratio](toy-curve.svg)\n"
    )
    assert (tmp_path / "toy-curve.svg").read_text().startswith("<?xml")


def test_the_same_records_give_the_same_plot(tmp_path, records):
    files = []
    for name in ("a", "b"):
        page = Page(tmp_path / name, "toy", "A toy")
        figure = line_plot(
            records, x="ratio", y="accuracy", lines="method", labels=("x", "y"), bold=["ours"]
        )
        page.plot(figure, "curve", "curve")
        files.append((tmp_path / name / "toy-curve.svg").read_bytes())
    assert files[0] == files[1]
