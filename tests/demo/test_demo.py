from __future__ import annotations

import io
import re
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from clip_al.demo import label as demo
from clip_al.demo import train as train_demo
from clip_al.errors import MissingDependencyError
from clip_al.subset.selection import Selection

N_ROUNDS = 2

pytestmark = pytest.mark.slow  # the demo itself runs in CI as a user runs it


@pytest.fixture(scope="module")
def digits() -> demo.Digits:
    stream = io.StringIO()
    encoded = demo.encode_digits(Console(file=stream))
    assert "Encoding 1,797 digits" in stream.getvalue()
    return encoded


@pytest.fixture(scope="module")
def printed_and_result(
    tmp_path_factory: pytest.TempPathFactory, digits: demo.Digits
) -> tuple[str, demo.DemoResult]:
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "N_ROUNDS", N_ROUNDS)
        folder = tmp_path_factory.mktemp("demo") / "made" / "for it"
        console = Console(file=stream, width=100)
        result = demo.run_demo(folder, n_seeds=2, console=console, digits=digits)
    return stream.getvalue(), result


@pytest.mark.parametrize("package", ["modAL.models", "matplotlib", "plotly"])
def test_a_missing_package_is_named_before_anything_is_encoded(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    stream = io.StringIO()
    with pytest.raises(MissingDependencyError, match=r'Run `pip install "clip_al\[demo\]"`\.$'):
        demo.encode_digits(Console(file=stream))
    assert stream.getvalue() == ""


def test_accuracies_of_each_strategy_round_and_seed(
    printed_and_result: tuple[str, demo.DemoResult],
) -> None:
    printed, result = printed_and_result
    accuracy = result.accuracy
    assert len(accuracy) == len(demo.STRATEGIES) * 2 * N_ROUNDS
    assert sorted(accuracy["n_labels"].unique()) == [10, 20]
    mean = accuracy.groupby(["n_labels", "strategy"])["accuracy"].mean()
    assert f"{mean[20, 'margin'] * 100:.1f} ± " in printed
    # Ten classes, so chance is 0.1; random labels and margin begin with the same.
    assert accuracy["accuracy"].between(0.2, 1.0).all()
    assert mean[10, "random"] == mean[10, "margin"]
    # What the docs claim, on a pool with rare classes.
    assert mean[10, "coverage"] > mean[10, "random"] + 0.2
    assert mean[20, "coverage"] > mean[20, "margin"]
    assert mean[10, demo.WITH_HEAD] > mean[10, "coverage"]
    said = " ".join(printed.split())
    assert f"10 labels that cover the pool give {mean[10, 'coverage']:.0%}, 10 random ones" in said


def test_a_pool_in_which_odd_digits_are_rare(digits: demo.Digits) -> None:
    rows = np.arange(1000)
    pool = demo.uneven_pool(digits.y, rows, seed=0)
    odd = digits.y[rows] % 2 == 1
    assert set(pool) <= set(rows)
    assert len(set(pool)) == len(pool)
    assert (digits.y[pool] % 2 == 0).sum() == (~odd).sum()
    assert 0.05 < (digits.y[pool] % 2 == 1).sum() / odd.sum() < 0.15
    assert (pool == demo.uneven_pool(digits.y, rows, seed=0)).all()
    assert not np.array_equal(pool, demo.uneven_pool(digits.y, rows, seed=1))


def test_files(printed_and_result: tuple[str, demo.DemoResult]) -> None:
    printed, result = printed_and_result
    picks = pd.read_csv(result.folder / "selection.csv", keep_default_na=False)
    assert picks["rank"].tolist() == list(range(1, demo.N_PICTURES + 1))
    assert picks["index"].nunique() == demo.N_PICTURES
    assert picks["concepts"].str.count("; ").between(0, 9).all()
    assert result.folder.name in printed
    for name in ("learning_curves.png", "chosen_images.png"):
        with Image.open(result.folder / name) as picture:
            assert len(np.unique(np.asarray(picture.convert("L").resize((64, 64))))) > 10


def test_the_demo_repeats_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    Z = digits.data / np.linalg.norm(digits.data, axis=1, keepdims=True)
    texts = np.array([Z[digits.target == label][:5].mean(axis=0) for label in range(10)])
    monkeypatch.setattr(demo, "N_ROUNDS", N_ROUNDS)
    for name in demo.STRATEGIES:
        first, second = (demo._loop(Z, digits.target, texts, name, 3) for _ in range(2))
        assert first == second


# What to train on


@pytest.fixture(scope="module")
def training(
    tmp_path_factory: pytest.TempPathFactory, digits: demo.Digits
) -> tuple[str, train_demo.TrainDemoResult]:
    stream = io.StringIO()
    folder = tmp_path_factory.mktemp("demo") / "made" / "for it"
    console = Console(file=stream, width=100)
    result = train_demo.run_train_demo(folder, n_seeds=2, console=console, digits=digits)
    return stream.getvalue(), result


def test_a_fifth_of_the_labels_is_flipped() -> None:
    y = np.arange(1000) % 10
    given = train_demo.flip_labels(y, seed=0)
    assert (given != y).sum() == 200
    assert set(given) == set(range(10))
    assert (y == np.arange(1000) % 10).all()
    assert (given == train_demo.flip_labels(y, seed=0)).all()
    assert (given != train_demo.flip_labels(y, seed=1)).any()


def test_suspects_are_counted_against_the_truth(
    training: tuple[str, train_demo.TrainDemoResult], digits: demo.Digits
) -> None:
    printed, result = training
    written = pd.read_csv(result.folder / "suspects.csv")
    assert len(written) == 359  # as many as were flipped
    assert written["truth"].tolist() == [f"digit {digits.y[i]}" for i in written["index"]]
    found = (written["given"] != written["truth"]).sum()
    assert found > 300
    for _, row in result.suspects.iterrows():
        hits = (written["given"] != written["truth"])[: row["n"]].sum()
        assert row["precision"] == pytest.approx(hits / row["n"])
        assert row["recall"] == pytest.approx(hits / 359)
        assert f"{row['precision']:.1%}" in printed
        assert f"{row['recall']:.1%}" in printed
    assert result.suspects["n"].tolist()[0] == 359
    assert "359 of 1,797 labels are now wrong" in printed


def test_precision_and_recall_by_hand() -> None:
    selection = Selection.from_indices(
        [0], 6, scores={"sas": np.arange(6.0)}, settings={"wrong_fraction": 1 / 3}
    )
    is_wrong = np.array([True, False, True, False, True, False])
    found = train_demo.measure_suspects(selection, is_wrong).set_index("what")
    assert found.loc["as many as are wrong"].tolist() == pytest.approx([3, 2 / 3, 2 / 3])
    assert found.loc["estimate"].tolist() == pytest.approx([2, 1 / 2, 1 / 3])


def test_the_training_sets(
    training: tuple[str, train_demo.TrainDemoResult], digits: demo.Digits
) -> None:
    printed, result = training
    accuracy = result.accuracy
    assert len(accuracy) == len(train_demo.MODELS) * 4 * 2
    assert accuracy["accuracy"].between(0.8, 1.0).all()
    wrong = accuracy.groupby("trained_on")["wrong"].mean()
    assert wrong[train_demo.EVERYTHING] == pytest.approx(0.2, abs=0.001)
    assert wrong[train_demo.RANDOM] == pytest.approx(0.2, abs=0.03)
    assert wrong[train_demo.SELECTION] < 0.03
    assert wrong[train_demo.CORRECT] == 0
    for (what, name), part in accuracy.groupby(["trained_on", "model"])["accuracy"]:
        spread = f"{part.mean() * 100:.1f} ± {part.std() * 100:.1f}"
        assert spread in printed, (what, name)
    again = train_demo._train(digits, 1)
    first = accuracy[accuracy["seed"] == 1].itertuples(index=False, name=None)
    assert again == list(first)


def test_what_is_better_without_the_selection_is_said() -> None:
    values = {
        train_demo.EVERYTHING: (0.90, 0.92),
        train_demo.RANDOM: (0.80, 0.84),
        train_demo.SELECTION: (0.85, 0.86),
    }
    rows = [
        (name, what, seed, values[what][seed])
        for name in train_demo.MODELS
        for what in values
        for seed in (0, 1)
    ]
    accuracy = pd.DataFrame(rows, columns=["model", "trained_on", "seed", "accuracy"])
    stream = io.StringIO()
    train_demo.print_gains(Console(file=stream), accuracy)
    expected = (
        "logistic regression: the selection -5.5 ± 0.7 points against everything, "
        "+3.5 ± 2.1 points against random 70%\n"
    )
    assert stream.getvalue() == expected + expected.replace("logistic regression", "neural network")


def test_files_of_the_training_half(training: tuple[str, train_demo.TrainDemoResult]) -> None:
    printed, result = training
    selection = Selection.load(result.folder / "subset.json")
    assert selection.n_images == 1797
    assert len(selection) == round(train_demo.RATIO * 1797)
    assert re.search(r"Estimated share of wrong labels: \d+\.\d%; it is 20%\.", printed)
    assert re.search(r"By itself the mini CLIP names 9\d\.\d% of them\.", printed)
    with Image.open(result.folder / "suspects.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L").resize((64, 64))))) > 10
