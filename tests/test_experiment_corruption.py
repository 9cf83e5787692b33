"""Corrupted images: the cells, one of them run, and the page."""

from __future__ import annotations

import json
import zlib
from itertools import groupby

import numpy as np
import pytest

from benchmarks.cells import SIZES, Options, frame, key
from benchmarks.experiments.corruption import EXPERIMENT, METHODS, cells
from benchmarks.pages import Page
from benchmarks.subsets import Condition, Proxy, choose, fields_of, load_condition, task_of

FIELDS = {
    *Condition.__dataclass_fields__, *Proxy.__dataclass_fields__,
    "method", "ratio", "network", "steps",
}  # fmt: skip
TINY = {
    "pool": "digits", "per_class": 12, "test_per_class": 5,
    "proxy_steps": 4, "early_steps": 2, "steps": 4,
}  # fmt: skip


def records_of(chosen):
    """Return a table of made-up values, the same for the same cell."""
    rows = []
    for cell in chosen:
        share = zlib.crc32(json.dumps(cell, sort_keys=True).encode()) / 2**32
        values = {"n": 9, "wrong": 0.0, "balance": 0.5, "corrupted": share / 9, "accuracy": share}
        rows.append({"cell": cell, "values": values, "seconds": 1.0})
    return frame(rows)


@pytest.mark.parametrize("size", SIZES)
def test_cells_are_distinct_whole_and_in_groups(size):
    found = cells(size)
    assert len({key("corruption", "mini", cell) for cell in found}) == len(found)
    assert all(set(cell) - {"settings"} == FIELDS for cell in found)
    groups = [name for name, _ in groupby(found, lambda c: [c[f] for f in EXPERIMENT.share])]
    assert len(groups) == len({json.dumps(name) for name in groups})
    assert {cell["method"] for cell in found} == set(METHODS)


def test_sizes_keep_their_budgets():
    seconds = {size: sum(map(EXPERIMENT.cost_s, cells(size))) for size in SIZES}
    assert seconds["quick"] <= 100
    assert seconds["standard"] <= 800


def test_the_share_of_corrupted_images_is_counted():
    options = Options()
    cell = {**cells("quick")[-1], **TINY, "corrupted_share": 0.2, "method": "default"}
    values = EXPERIMENT.run(cell, options)
    condition = Condition(**fields_of(Condition, cell))
    task = task_of(condition, options, Proxy(**fields_of(Proxy, cell)))
    corrupted_n = load_condition(condition, options).corrupted_n
    indices = choose("default", task, cell["ratio"])
    assert values["corrupted"] == np.mean([corrupted_n[i] for i in indices])
    assert values["wrong"] == 0
    everything = EXPERIMENT.run({**cell, "ratio": 1.0}, options)
    assert everything["corrupted"] == pytest.approx(0.2)
    assert not set(values) & set(cell)


def test_the_page_is_made_of_the_records_whatever_their_order(tmp_path):
    records = records_of(cells("quick"))
    pages = []
    for run, table in enumerate([records, records.sample(frac=1, random_state=0)]):
        page = Page(tmp_path / str(run), "corruption", EXPERIMENT.title)
        EXPERIMENT.render(table, page)
        pages.append(page.write().read_bytes())
    assert pages[0] == pages[1]
    values = ("accuracy", "corrupted")
    names = sorted(f"corruption-{value}-{share}.svg" for value in values for share in (30, 70))
    assert sorted(path.name for path in (tmp_path / "0").glob("*.svg")) == names
    for name in names:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()
    chosen = records[
        (records["corrupted_share"] == 0.2) & (records["method"] == "Moderate-DS")
        & (records["ratio"] == 0.7)
    ]  # fmt: skip
    for value in values:
        assert f"| {100 * chosen[value].mean():.1f}" in pages[0].decode()
