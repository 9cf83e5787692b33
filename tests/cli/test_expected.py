"""What `select --classes` and `predict` say of the accuracy to expect, on photographed digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from typer.testing import CliRunner, Result

from clip_al.cli.main import app
from clip_al.encode.encoder import ClipEncoder
from clip_al.table.embedding_table import EmbeddingTable

NAMES = ["digit zero", "digit one", "digit two", "digit three", "digit four"]
N = 200


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*(str(argument) for argument in arguments), "--model", "mini"])


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a table of digits, class names, and files of 40, 10 and all labels."""
    folder = tmp_path_factory.mktemp("expected")
    encoder = ClipEncoder("mini", progress=False)
    digits = load_digits()
    rows = np.flatnonzero(digits.target < len(NAMES))[:N]
    images = np.round(digits.images[rows] * (255 / 16)).astype(np.uint8)
    ids = [f"{i:03d}.png" for i in range(N)]
    Z = encoder.encode_images(images)
    EmbeddingTable.from_array(folder / "t", Z, ids, model_id=encoder.model_id, paths=ids)
    (folder / "classes.txt").write_text("\n".join(NAMES))
    labels = [NAMES[y] for y in digits.target[rows]]
    for n in (10, 40, N):
        frame = pd.DataFrame({"id": ids, "label": labels})[:n]
        frame.to_csv(folder / f"{n}.csv", index=False)
    np.save(folder / "truth.npy", digits.target[rows])
    return folder


def command(place: Path, name: str, out: Path, labels: int | None, *more: object) -> Result:
    given = () if labels is None else ("--labelled", place / f"{labels}.csv")
    classes = ("--classes", place / "classes.txt")
    return run(name, place / "t", *classes, *given, "-o", out, *more)


def test_select_says_what_to_expect_and_whether_to_go_on(place: Path, tmp_path: Path) -> None:
    asked = ("--budget", 10, "--worth", 0)
    result = command(place, "select", tmp_path / "next.csv", 40, *asked)
    assert result.exit_code == 0, result.output
    said = flat(result.stdout)
    assert "Expected accuracy: " in said
    assert "of all 200 labels, the 40 given ones taken as right; " in said
    assert "10 more labels promise " in said
    assert "Go on: " in said
    again = command(place, "select", tmp_path / "again.csv", 40, *asked, "--json")
    expected = json.loads(again.stdout)["expected"]
    assert f"Expected accuracy: {100 * expected['accuracy']:.1f} % (" in said
    assert (expected["n_labelled"], expected["n_unlabelled"]) == (40, 160)
    assert expected["promise"]["n_more"] == 10
    assert [row["class"] for row in expected["classes"]] == NAMES
    assert sum(row["labels"] for row in expected["classes"]) == 40
    assert expected["stop"] is False


def test_the_truth_is_in_the_interval(place: Path, tmp_path: Path) -> None:
    result = command(place, "predict", tmp_path / "all.csv", 40, "--json")
    assert result.exit_code == 0, result.output
    expected = json.loads(result.stdout)["expected"]
    written, truth = pd.read_csv(tmp_path / "all.csv"), np.load(place / "truth.npy")
    right = written["label"].to_numpy() == np.array(NAMES)[truth]
    low, high = expected["interval"]
    assert low <= right.mean() <= high + 0.5 / N
    assert abs(expected["accuracy"] - right.mean()) < 0.03
    assert expected["promise"]["n_more"] == 50
    shown = command(place, "predict", tmp_path / "shown.csv", 40)
    assert f"Expected accuracy: {100 * expected['accuracy']:.1f} %" in flat(shown.stdout)


def test_a_target_that_is_reached_stops(place: Path, tmp_path: Path) -> None:
    options = ("--budget", 10, "--target-accuracy", 0.3)
    result = command(place, "select", tmp_path / "next.csv", 40, *options)
    assert result.exit_code == 0, result.output
    assert "Stop: the accuracy is at least" in flat(result.stdout)
    assert "30.0% was the target." in flat(result.stdout)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [(None, "No labels: zero-shot"), (10, "No accuracy to expect yet: it takes 20 labels")],
)
def test_too_few_labels_expect_nothing(
    place: Path, tmp_path: Path, labels: int | None, reason: str
) -> None:
    result = command(place, "predict", tmp_path / "all.csv", labels, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["expected"] is None
    assert reason in flat(result.stderr)
    shown = command(place, "select", tmp_path / "next.csv", labels, "--budget", 5)
    assert "Expected accuracy" not in shown.stdout


def test_nothing_is_left_to_expect(place: Path, tmp_path: Path) -> None:
    result = command(place, "predict", tmp_path / "all.csv", N, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["expected"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--worth", 1), "`--worth` must be finite, at least 0, below 1"),
        (("--target-accuracy", 95), "`--target-accuracy` must be finite"),
    ],
)
def test_shares_beyond_1_are_refused(
    place: Path, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    result = command(place, "select", tmp_path / "x.csv", 40, "--budget", 5, *options)
    assert result.exit_code == 2
    assert message in flat(result.stderr)
    assert not (tmp_path / "x.csv").exists()


def test_a_goal_needs_the_classes(place: Path, tmp_path: Path) -> None:
    result = run("select", place / "t", "--budget", 5, "-o", tmp_path / "x.csv", "--worth", 0.02)
    assert result.exit_code == 2
    assert "`--worth` must come with `--classes`" in flat(result.stderr)
    result = command(place, "select", tmp_path / "x.csv", None, "--ratio", 0.5, "--worth", 0.02)
    assert result.exit_code == 2
    assert "`--worth` must come with `--budget`" in flat(result.stderr)
