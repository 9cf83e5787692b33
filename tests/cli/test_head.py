"""`select --classes` and `predict`: the head on the command line, on photographed digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from typer.testing import CliRunner, Result

from clip_al.cli.main import app
from clip_al.concepts.profiles import ConceptProfiles
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.encode.encoder import ClipEncoder
from clip_al.errors import TextPriorWarning
from clip_al.label.concept_sampling import CBDMarginSampling
from clip_al.label.coverage_sampling import UncertaintyCoverageSampling
from clip_al.label.head.classifier import ClipClassifier
from clip_al.label.uncertainty import margin
from clip_al.table.embedding_table import EmbeddingTable

NAMES = ["digit zero", "digit one", "digit two", "digit three", "digit four"]
N = 200


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*(str(argument) for argument in arguments), "--model", "mini"])


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    return ClipEncoder("mini", progress=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, encoder: ClipEncoder) -> Path:
    """Make a table of digits, the names of their classes, and what may be said of them."""
    folder = tmp_path_factory.mktemp("head")
    digits = load_digits()
    rows = np.flatnonzero(digits.target < len(NAMES))[:N]
    images = np.round(digits.images[rows] * (255 / 16)).astype(np.uint8)
    Z = encoder.encode_images(images)
    ids = [f"{i:03d}.png" for i in range(N)]
    EmbeddingTable.from_array(folder / "t", Z, ids, model_id=encoder.model_id, paths=ids)
    (folder / "classes.txt").write_text("\n".join(NAMES))
    np.save(folder / "truth.npy", digits.target[rows])
    return folder


@pytest.fixture
def truth(place: Path) -> np.ndarray:
    return np.load(place / "truth.npy")


def write_labels(path: Path, rows: np.ndarray, labels: list[object]) -> Path:
    """Write labels in an order that is not the table's, beside a column of no use."""
    frame = pd.DataFrame({"note": "x", "id": [f"{i:03d}.png" for i in rows], "label": labels})
    frame.sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


def fitted(place: Path, encoder: ClipEncoder, rows: np.ndarray, y: np.ndarray) -> ClipClassifier:
    table = EmbeddingTable.open(place / "t")
    return ClipClassifier(NAMES, encoder, random_state=0).fit(table[rows], y)


def select(place: Path, out: Path, *more: object) -> Result:
    classes = ("--classes", place / "classes.txt")
    return run("select", place / "t", "--budget", 10, "-o", out, *classes, *more)


def test_labels_train_a_head_whose_doubt_picks(
    place: Path, tmp_path: Path, encoder: ClipEncoder, truth: np.ndarray
) -> None:
    rows = np.arange(0, 40, 2)
    file = write_labels(tmp_path / "y.csv", rows, [NAMES[y] for y in truth[rows]])
    result = select(place, tmp_path / "next.csv", "--labelled", file)
    assert result.exit_code == 0, result.output
    assert "20 labels of 5 classes: head trained." in flat(result.stderr)
    table, pool = EmbeddingTable.open(place / "t"), np.setdiff1d(np.arange(N), rows)
    P = fitted(place, encoder, rows, truth[rows]).predict_proba(table)
    expected = UncertaintyCoverageSampling().select(
        table[pool], 10, probabilities=P[pool], labelled=table[rows]
    )
    written = pd.read_csv(tmp_path / "next.csv")
    assert written["index"].tolist() == pool[expected].tolist()
    np.testing.assert_allclose(written["margin"], margin(P[written["index"]]), atol=1e-5)
    assert "head trained" not in result.stdout


def test_before_the_first_label_classes_share_and_that_is_said(place: Path, tmp_path: Path) -> None:
    result = select(place, tmp_path / "first.csv", "--json")
    assert result.exit_code == 0, result.output
    assert "No labels: zero-shot by the names of 5 classes." in flat(result.stderr)
    said = json.loads(result.stdout)
    assert (said["labels"], said["classes"]) == (0, 5)
    assert "margin" not in said["picks"][0]
    # A file of picks has no labels: it is what people were shown.
    again = select(place, tmp_path / "next.csv", "--labelled", tmp_path / "first.csv")
    assert again.exit_code == 0, again.output
    assert "No labels (" in flat(again.stderr)
    assert "has no column `label`): zero-shot by" in flat(again.stderr)
    first, later = (pd.read_csv(tmp_path / name)["id"] for name in ("first.csv", "next.csv"))
    assert not set(first) & set(later)


def test_blank_labels_are_no_labels_and_their_images_stay_in_the_pool(
    place: Path, tmp_path: Path, encoder: ClipEncoder, truth: np.ndarray
) -> None:
    rows = np.arange(30)
    blank = np.arange(30) % 3 == 0
    given = ["  " if b else NAMES[y] for b, y in zip(blank, truth[rows], strict=True)]
    file = write_labels(tmp_path / "partly.csv", rows, given)
    result = run(
        "select", place / "t", "--budget", N - 20, "-o", tmp_path / "all.csv", "--classes",
        place / "classes.txt", "--labelled", file,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "20 of 30 rows have a label, 10 stay in the pool" in flat(result.stderr)
    assert "20 labels of 5 classes: head trained." in flat(result.stderr)
    picked = pd.read_csv(tmp_path / "all.csv")["index"]
    assert set(picked) == set(range(N)) - set(rows[~blank])


def test_concepts_pick_by_the_heads_doubt_zero_shot_or_trained(
    place: Path, tmp_path: Path, encoder: ClipEncoder, truth: np.ndarray
) -> None:
    (tmp_path / "words.txt").write_text("round\nloop\nline\nzero\nthree\nsix\ncorner\n")
    words = ("--vocabulary", tmp_path / "words.txt", "-m", 3, "--strategy", "cbd")
    table = EmbeddingTable.open(place / "t")
    vocabulary = ConceptVocabulary.from_file(tmp_path / "words.txt").encode(encoder)
    profiles = ConceptProfiles.from_embeddings(table, vocabulary, 3)
    rows = np.arange(20)
    file = write_labels(tmp_path / "y.csv", rows, [NAMES[y] for y in truth[rows]])
    for known, labelled in ((rows[:0], ()), (rows, ("--labelled", file))):
        out = tmp_path / f"{len(known)}.csv"
        result = select(place, out, *words, *labelled)
        assert result.exit_code == 0, result.output
        P, pool = fitted(place, encoder, known, truth[known]).predict_proba(table), np.arange(N)
        pool = np.setdiff1d(pool, known)
        seen = {"labelled": profiles.take(known)} if len(known) else {}
        expected = CBDMarginSampling().select(
            profiles=profiles.take(pool), n_instances=10, probabilities=P[pool], **seen
        )
        assert pd.read_csv(out)["index"].tolist() == pool[expected].tolist()


def test_predict_labels_every_image_and_keeps_what_people_said(
    place: Path, tmp_path: Path, encoder: ClipEncoder, truth: np.ndarray
) -> None:
    rows = np.arange(0, 60, 2)
    wrong = truth[rows].copy()
    wrong[3] = (wrong[3] + 1) % 5
    file = write_labels(tmp_path / "y.csv", rows, [NAMES[y] for y in wrong])
    command = ("predict", place / "t", "--classes", place / "classes.txt", "--labelled", file)
    result = run(*command, "-o", tmp_path / "all.csv")
    assert result.exit_code == 0, result.output
    assert f"Wrote {N} rows to" in flat(result.stdout)
    written = pd.read_csv(tmp_path / "all.csv")
    assert written.columns.tolist() == ["id", "path", "label", "confidence", "source"]
    P = fitted(place, encoder, rows, wrong).predict_proba(EmbeddingTable.open(place / "t"))
    codes = P.argmax(axis=1)
    codes[rows] = wrong
    assert written["label"].tolist() == [NAMES[k] for k in codes]
    np.testing.assert_allclose(written["confidence"], P[np.arange(N), codes], atol=1e-3)
    assert np.flatnonzero(written["source"] == "given").tolist() == rows.tolist()
    assert written["confidence"][rows].idxmin() == rows[3]
    rest = np.setdiff1d(np.arange(N), rows)
    assert (codes[rest] == truth[rest]).mean() > 0.9
    refused = run(*command, "-o", tmp_path / "all.csv")
    assert refused.exit_code == 2
    assert "must not exist yet" in flat(refused.stderr)


def test_predict_without_a_label_in_json(
    place: Path, tmp_path: Path, encoder: ClipEncoder, truth: np.ndarray
) -> None:
    classes = ("--classes", place / "classes.txt")
    result = run("predict", place / "t", *classes, "-o", tmp_path / "all.csv", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    written = pd.read_csv(tmp_path / "all.csv")
    assert (said["images"], said["labels"]) == (N, 0)
    assert {row["class"]: row["images"] for row in said["counts"]} == {
        name: int((written["label"] == name).sum()) for name in NAMES
    }
    assert said["unsure"] == int((written["confidence"] < 0.5).sum())
    head = ClipClassifier(NAMES, encoder)
    assert written["label"].tolist() == head.predict(EmbeddingTable.open(place / "t")).tolist()
    # It is a file of labels for `select --ratio`.
    out = tmp_path / "subset.json"
    result = run("select", place / "t", "--ratio", 0.5, "--labels", tmp_path / "all.csv", "-o", out)
    assert result.exit_code == 0, result.output


def test_labels_may_be_numbers_of_the_classes(
    place: Path, tmp_path: Path, truth: np.ndarray
) -> None:
    rows = np.arange(20)
    for name, labels in (("n", truth[rows].tolist()), ("s", [NAMES[y] for y in truth[rows]])):
        file = write_labels(tmp_path / f"{name}.csv", rows, labels)
        result = select(place, tmp_path / f"{name}-picks.csv", "--labelled", file)
        assert result.exit_code == 0, result.output
    numbers, names = (tmp_path / f"{name}-picks.csv" for name in "ns")
    assert numbers.read_text() == names.read_text()


def test_classes_without_a_label_are_named(place: Path, tmp_path: Path, truth: np.ndarray) -> None:
    rows = np.flatnonzero(truth < 3)[:12]
    file = write_labels(tmp_path / "y.csv", rows, [NAMES[y] for y in truth[rows]])
    result = select(place, tmp_path / "next.csv", "--labelled", file)
    assert result.exit_code == 0, result.output
    assert (
        "12 labels of 3 of 5 classes: head trained. No label yet of digit three, digit four."
        in flat(result.stderr)
    )


def test_names_in_another_order_are_warned_of_in_words_of_the_command_line(
    place: Path, tmp_path: Path, truth: np.ndarray
) -> None:
    rows = np.arange(60)
    file = write_labels(tmp_path / "y.csv", rows, [int(y + 1) % 5 for y in truth[rows]])
    with pytest.warns(TextPriorWarning, match="Check the file of names") as caught:
        result = select(place, tmp_path / "next.csv", "--labelled", file)
    assert result.exit_code == 0, result.output
    assert "text_prior" not in str(caught[0].message)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["digit nine"], "must be one of the 5 classes of"),
        ([7], "must be in [0, 4], the numbers of the 5 classes of"),
    ],
)
def test_a_label_that_is_no_class_is_refused(
    place: Path, tmp_path: Path, labels: list[object], message: str
) -> None:
    file = write_labels(tmp_path / "y.csv", np.arange(1), labels)
    for command in ("select", "predict"):
        budget = ("--budget", 3) if command == "select" else ()
        result = run(
            command, place / "t", *budget, "-o", tmp_path / "out.csv", "--classes",
            place / "classes.txt", "--labelled", file,
        )  # fmt: skip
        assert result.exit_code == 2
        assert message in flat(result.stderr)
        assert "'000.png' has" in flat(result.stderr)
        assert not (tmp_path / "out.csv").exists()
