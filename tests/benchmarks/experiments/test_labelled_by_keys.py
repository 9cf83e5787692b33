"""Tests of `benchmarks.experiments.labelled_by_keys`: one folder whole, and its page."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks.data.cifar import CLASSES
from benchmarks.experiments import labelled_by_keys as experiment
from benchmarks.experiments.labelled_by_keys import EXPERIMENT, cells, run, write_photos
from benchmarks.harness.browser import chromium, label_by_keys
from benchmarks.harness.cells import Options, UnavailableError, frame
from clip_al import Selection
from tests.benchmarks.experiment_checks import check_cells, rendered

CHOOSING_SEED = 3


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Sixty photos in place of CIFAR, whose colour says the class and the number."""
    monkeypatch.setattr(experiment, "FIRST", 2)
    monkeypatch.setattr(experiment, "LAST", 8)
    for k, name in enumerate(CLASSES):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(10):
            pixel = np.full((8, 8, 3), (20 * k, 20 * i, 0), np.uint8)
            Image.fromarray(pixel).save(tmp_path / "train" / name / f"{i:04d}.jpg")
    return tmp_path


def test_cells_are_distinct():
    for size in ("quick", "standard", "full"):
        check_cells(EXPERIMENT, cells(size))


def test_photos_have_names_that_say_nothing_and_the_class_that_is_said(photos):
    truth = write_photos(photos, 0, photos / "photos")
    assert sorted(truth) == [f"IMG_{i:04d}.jpg" for i in range(len(truth))]
    assert {path.name for path in (photos / "photos").iterdir()} == set(truth)
    for name, kind in truth.items():
        red, green, _ = np.asarray(Image.open(photos / "photos" / name))[0, 0].astype(int)
        assert CLASSES[round(red / 20)] == kind
        assert 2 <= round(green / 20) < 8
    assert write_photos(photos, 1, photos / "others") != truth


def test_the_page_counts_what_is_within_three_points(tmp_path):
    def record(seed, expected, true):
        said = {"expected": expected, "true": true, "interval": [expected - 0.02, expected + 0.02]}
        rounds = [
            {"labels": n, **said, **{f"{name}_head": value for name, value in said.items()}}
            for n in (50, 100, 150)
        ]
        values = {"largest": 90, "smallest": 9, "rounds": rounds}
        return {"cell": {"seed": seed}, "values": values, "seconds": 1.0}

    records = frame([record(0, 0.9, 0.925), record(1, 0.9, 0.931), record(2, 0.95, 0.94)])
    text, _ = rendered(EXPERIMENT, records, tmp_path)
    assert "of all labels is within 3 points of the true one in **2 of 3** folders" in text
    assert "| 150 | 93.2 | 2.2 (-1.5) | 2 of 3 | 1 of 3 (4.0) |" in text
    assert "| 2 | 90, 9 | 95.0 (93.0 to 97.0) | 94.0 | +1.0 |" in text


def opened():
    browser = chromium()
    try:
        return browser, browser.__enter__()
    except UnavailableError as exc:
        pytest.skip(str(exc))


@pytest.fixture
def browser():
    manager, browser = opened()
    yield browser
    manager.__exit__(None, None, None)


@pytest.mark.browser
@pytest.mark.slow
def test_images_are_labelled_by_their_ids_whatever_their_order(browser, tmp_path):
    ids = [f"{i}.png" for i in range(40)]
    kinds = [*"abcdefghij"]
    truth = {name: kinds[(7 * i) % 10] for i, name in enumerate(ids)}
    order = np.random.default_rng(0).permutation(40)[:25]
    Selection.from_indices(order, 40, ids=ids).report_html(
        tmp_path / "page.html", class_names=kinds
    )
    n = label_by_keys(browser, tmp_path / "page.html", truth, kinds, tmp_path / "labels.csv")
    rows = [line.split(",") for line in (tmp_path / "labels.csv").read_text().split()[1:]]
    assert n == 25
    assert dict(rows) == {ids[i]: truth[ids[i]] for i in order}
    assert {label for _, label in rows} >= {"j"}  # the tenth class has no key


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.shared_data
def test_after_three_rounds_the_accuracy_is_as_expected():
    try:
        found = run({"seed": CHOOSING_SEED}, Options())
    except UnavailableError as exc:
        pytest.skip(str(exc))
    assert [part["labels"] for part in found["rounds"]] == [50, 100, 150]
    assert found["largest"] >= 2 * found["smallest"]
    last = found["rounds"][-1]
    assert abs(last["expected"] - last["true"]) <= 0.03
    assert last["interval"][0] <= last["true"] <= last["interval"][1]
    assert last["true"] > found["rounds"][0]["true"]
