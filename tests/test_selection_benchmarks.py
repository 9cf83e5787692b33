"""The benchmarks of data selection run, resume, and measure what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import sampler_speed, selection_speed, small_cnn, subset_accuracy


@pytest.fixture
def tiny(monkeypatch):
    """Colours in place of photographs: two classes of 60 images and 20 to test on."""
    rng = np.random.default_rng(0)

    def draw(n):
        y = np.arange(n) % 2
        images = rng.integers(0, 60, (n, 32, 32, 3))
        images[np.arange(n), :, :, y] += 150
        return images.astype(np.uint8), y

    (images, y), (test, y_test) = draw(60), draw(20)
    T = np.eye(4)[:2].astype(np.float32)
    Z = (T[y] + 0.1 * rng.standard_normal((60, 4))).astype(np.float32)
    data = subset_accuracy.Data(images, y, Z, test, y_test, T, "tiny")
    monkeypatch.setattr(subset_accuracy, "load", lambda folder: data)
    return data


ARGUMENTS = ["--noise", "0.2", "--ratios", "0.3", "0.5", "--seeds", "1", "--workers", "1"]
METHODS = ["--methods", "random", "default, no adapter"]


def test_a_cell_counts_the_wrong_labels_of_the_subset(tiny, capsys):
    records = subset_accuracy.main([*ARGUMENTS, *METHODS, "--no-training"])
    wrong = {(r["method"], r["ratio"]): r["wrong"] for r in records}
    assert wrong["default, no adapter", 0.5] == 0
    assert 0 < wrong["random", 0.5] < 0.5
    assert "20% of the labels wrong" in capsys.readouterr().out


def test_cells_that_are_there_are_not_run_again(tiny, tmp_path, monkeypatch):
    results = tmp_path / "results.jsonl"
    run = [*ARGUMENTS, *METHODS, "--no-training", "--results", str(results)]
    first = subset_accuracy.main(run)
    assert len(results.read_text().splitlines()) == 4
    kept = results.read_text().splitlines()[:3]
    results.write_text("\n".join(kept) + "\n")
    asked = []
    choose = subset_accuracy.choose
    monkeypatch.setattr(
        subset_accuracy, "choose", lambda *args: asked.append(args[4]) or choose(*args)
    )
    again = subset_accuracy.main(run)
    assert asked == [[json.loads(results.read_text().splitlines()[3])["ratio"]]]
    assert sorted(r["wrong"] for r in again) == sorted(r["wrong"] for r in first)


def test_the_cnn_learns_what_it_is_shown(tiny):
    model = small_cnn.train(tiny.images, tiny.y, n_steps=15, n_classes=2)
    turned = small_cnn.train(tiny.images, 1 - tiny.y, n_steps=15, n_classes=2)
    assert small_cnn.accuracy(model, tiny.test_images, tiny.y_test) == 1.0
    assert small_cnn.accuracy(turned, tiny.test_images, tiny.y_test) == 0.0


def test_training_is_part_of_a_cell(tiny):
    cell = ["--noise", "0", "--ratios", "0.5", "--seeds", "1", "--workers", "1", "--steps", "15"]
    (record,) = subset_accuracy.main([*cell, "--methods", "random"])
    assert record["accuracy"] > 0.9


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7])
def test_exactly_a_share_of_the_labels_is_turned(share):
    y = np.arange(500) % 10
    given = subset_accuracy.flip_labels(y, share, seed=1)
    assert (given != y).sum() == round(share * 500)
    assert set(given) <= set(range(10))
    np.testing.assert_array_equal(y, np.arange(500) % 10)


def test_selection_speed_measures_all_but_the_slow():
    arguments = ["--images", "400", "--runs", "1", "--epochs", "1", "--skip-slow"]
    records = selection_speed.main(arguments)
    names = [r["what"] for r in records if "what" in r]
    for word in ("products", "SAS", "NearestNeighbors", "cleanlab", "sgd", "ClipSelector"):
        assert any(word in name for name in names), word
    assert not any("facility" in name for name in names)


def test_facility_location_of_both_libraries_runs():
    pytest.importorskip("apricot", reason="apricot-select comes with the extra `bench`")
    pytest.importorskip("submodlib", reason="submodlib-py comes with the extra `bench`")
    functions = selection_speed.facility_functions(selection_speed.make_data(40, 0).Z)
    found = selection_speed._limited(functions, 2 * 2**30)
    assert len(found) == 2
    assert all(timing.median_s > 0 for timing in found.values())


def test_sampler_speed_takes_torch_as_its_unit(capsys):
    sampler_speed.main(["--indices", "1000", "--runs", "1"])
    assert "SubsetRandomSampler" in capsys.readouterr().out
