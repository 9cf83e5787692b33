"""Several labels an image on the command line, on pictures of up to two photographed digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner, Result

from clip_al.cli.main import app
from clip_al.encode.encoder import ClipEncoder
from clip_al.label.coverage_sampling import UncertaintyCoverageSampling
from clip_al.label.head.classifier import ClipClassifier
from clip_al.label.uncertainty import label_uncertainty
from clip_al.score.several_labels.suspects import multi_label_suspects
from clip_al.table.embedding_table import EmbeddingTable

NAMES = ["digit zero", "digit one", "digit two"]
N = 240
IDS = [f"{i:03d}.png" for i in range(N)]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*(str(argument) for argument in arguments), "--model", "mini"])


def flat(text: str) -> str:
    return " ".join(text.split())


def pictures(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures of two digits beside each other, or one, or none, and which are on them."""
    digits = load_digits()
    of = [np.flatnonzero(digits.target == k) for k in range(len(NAMES))]
    images, Y = np.zeros((N, 16, 16)), np.zeros((N, len(NAMES)), dtype=int)
    for image, y in zip(images, Y, strict=True):
        for place in np.flatnonzero(rng.random(2) < 0.7):
            k = rng.integers(len(NAMES))
            image[4:12, 8 * place : 8 * place + 8] = digits.images[rng.choice(of[k])]
            y[k] = 1
    return np.round(images * (255 / 16)).astype(np.uint8), Y


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    return ClipEncoder("mini", progress=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, encoder: ClipEncoder) -> Path:
    folder = tmp_path_factory.mktemp("several")
    images, Y = pictures(np.random.default_rng(0))
    Z = encoder.encode_images(images)
    EmbeddingTable.from_array(folder / "t", Z, IDS, model_id=encoder.model_id, paths=IDS)
    (folder / "classes.txt").write_text("\n".join(NAMES))
    np.save(folder / "truth.npy", Y)
    return folder


@pytest.fixture
def truth(place: Path) -> np.ndarray:
    return np.load(place / "truth.npy")


def lists(Y: np.ndarray) -> list[str]:
    return [";".join(np.array(NAMES)[y == 1]) or "-" for y in Y]


def write_lists(path: Path, rows: np.ndarray, Y: np.ndarray) -> Path:
    pd.DataFrame({"id": np.array(IDS)[rows], "label": lists(Y)}).to_csv(path, index=False)
    return path


def write_rows(path: Path, rows: np.ndarray, Y: np.ndarray) -> Path:
    cells = zip(rows, lists(Y), strict=True)
    pairs = [(IDS[i], label) for i, cell in cells for label in cell.split(";")]
    pd.DataFrame(pairs, columns=["id", "label"]).to_csv(path, index=False)
    return path


def write_columns(path: Path, rows: np.ndarray, Y: np.ndarray) -> Path:
    frame = pd.DataFrame(Y, columns=NAMES)
    frame.insert(0, "id", np.array(IDS)[rows])
    frame.to_csv(path, index=False)
    return path


FORMS = {"lists": write_lists, "rows": write_rows, "columns": write_columns}


def fitted(place: Path, encoder: ClipEncoder, rows: np.ndarray, Y: np.ndarray) -> ClipClassifier:
    head = ClipClassifier(NAMES, encoder, multi_label=True, random_state=0)
    return head.fit(EmbeddingTable.open(place / "t")[rows], Y)


@pytest.mark.parametrize("form", FORMS)
def test_labels_of_every_form_train_a_head_whose_doubt_picks(
    place: Path, tmp_path: Path, encoder: ClipEncoder, truth: np.ndarray, form: str
) -> None:
    rows = np.arange(0, 60, 2)
    file = FORMS[form](tmp_path / "y.csv", rows, truth[rows])
    result = run(
        "select", place / "t", "--budget", 8, "-o", tmp_path / "next.csv", "--classes",
        place / "classes.txt", "--labelled", file, "--multi-label", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    n = int(truth[rows].sum())
    assert f"{n} labels of 30 images, of 3 classes: head trained." in flat(result.stderr)
    assert "Accuracy to expect is left out" in flat(result.stderr)
    table, pool = EmbeddingTable.open(place / "t"), np.setdiff1d(np.arange(N), rows)
    P = fitted(place, encoder, rows, truth[rows]).predict_proba(table).astype(np.float32)
    expected = UncertaintyCoverageSampling(multi_label=True).select(
        table[pool], 8, probabilities=P[pool], labelled=table[rows]
    )
    written = pd.read_csv(tmp_path / "next.csv")
    assert written["index"].tolist() == pool[expected].tolist()
    margins = label_uncertainty(P[written["index"]])
    np.testing.assert_allclose(written["margin"], margins, atol=1e-4)
    said = json.loads(result.stdout)
    assert said["expected"] is None
    assert said["labels"] == 30


def test_a_first_batch_and_what_was_only_shown(place: Path, tmp_path: Path) -> None:
    classes = ("--classes", place / "classes.txt", "--multi-label")
    command = ("select", place / "t", "--budget", 6, *classes)
    assert run(*command, "-o", tmp_path / "first.csv").exit_code == 0
    again = run(*command, "-o", tmp_path / "next.csv", "--labelled", tmp_path / "first.csv")
    assert again.exit_code == 0, again.output
    first, later = (pd.read_csv(tmp_path / name)["id"] for name in ("first.csv", "next.csv"))
    assert not set(first) & set(later)


def test_a_model_of_ones_own_and_concepts(place: Path, tmp_path: Path, truth: np.ndarray) -> None:
    P = np.clip(0.8 * truth + 0.1, 0, 1)
    P[7] = 0.5
    np.save(tmp_path / "p.npy", P)
    file = write_rows(tmp_path / "y.csv", np.arange(40, 60), truth[40:60])
    (tmp_path / "words.txt").write_text("round\nline\nzero\n")
    for strategy in ((), ("--strategy", "cbd", "--vocabulary", tmp_path / "words.txt", "-m", 2)):
        out = tmp_path / f"{len(strategy)}.csv"
        result = run(
            "select", place / "t", "--budget", 1, "-o", out, "--probabilities", tmp_path / "p.npy",
            "--labelled", file, "--multi-label", *strategy,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert pd.read_csv(out)["margin"].tolist()[0] < 0.81
    assert pd.read_csv(out)["index"].tolist() == [7]  # of two candidates the one in doubt
    refused = run(
        "select", place / "t", "--budget", 1, "-o", tmp_path / "no.csv", "--probabilities",
        tmp_path / "p.npy",
    )  # fmt: skip
    assert refused.exit_code == 2
    assert "several labels, pass `--multi-label`." in flat(refused.stderr)


def test_predict_writes_lists_with_confidence_that_can_be_read_again(
    place: Path, tmp_path: Path, encoder: ClipEncoder, truth: np.ndarray
) -> None:
    rows = np.arange(0, 120, 2)
    file = write_columns(tmp_path / "y.csv", rows, truth[rows])
    command = (
        "predict", place / "t", "--classes", place / "classes.txt", "--labelled", file,
        "--multi-label",
    )  # fmt: skip
    result = run(*command, "-o", tmp_path / "all.csv")
    assert result.exit_code == 0, result.output
    P = fitted(place, encoder, rows, truth[rows]).predict_proba(EmbeddingTable.open(place / "t"))
    shown = P > 0.5
    shown[rows] = truth[rows] == 1
    written = pd.read_csv(tmp_path / "all.csv", dtype={"confidence": str})
    assert written.columns.tolist() == ["id", "path", "label", "confidence", "source"]
    assert np.flatnonzero(written["source"] == "given").tolist() == rows.tolist()
    for i, (label, confidence) in enumerate(written[["label", "confidence"]].to_numpy()):
        if not shown[i].any():
            assert label == "-"
            assert float(confidence) == pytest.approx(np.prod(1 - P[i]), abs=2e-4)
            continue
        at = [NAMES.index(name) for name in label.split(";")]
        assert sorted(at) == np.flatnonzero(shown[i]).tolist()
        found = [float(cell) for cell in confidence.split(";")]
        np.testing.assert_allclose(found, P[i, at], atol=2e-4)
        assert found == sorted(found, reverse=True)
    rest = np.setdiff1d(np.arange(N), rows)
    assert (shown[rest] == truth[rest]).mean() > 0.8
    as_json = run(*command, "-o", tmp_path / "again.csv", "--json")
    said = json.loads(as_json.stdout)
    assert {row["class"]: row["images"] for row in said["counts"]} == dict(
        zip(NAMES, shown.sum(axis=0).tolist(), strict=True)
    )
    assert said["without"] == int((~shown.any(axis=1)).sum())
    # What was written is a file of labels.
    listed = ("--labels", tmp_path / "all.csv", "--multi-label", "--json")
    suspects = json.loads(run("suspects", place / "t", *listed).stdout)
    assert suspects["labels"] == shown.sum()


def test_suspects_are_labels_of_images_and_decisions_mend_the_file(
    place: Path, tmp_path: Path, encoder: ClipEncoder, truth: np.ndarray
) -> None:
    rng = np.random.default_rng(1)
    given = truth.copy()
    for j in range(len(NAMES)):
        for value in (0, 1):
            given[rng.choice(np.flatnonzero(truth[:, j] != value), 6, replace=False), j] = value
    file = write_lists(tmp_path / "y.csv", np.arange(N), given)
    out = tmp_path / "suspects.csv"
    result = run(
        "suspects", place / "t", "--labels", file, "--multi-label", "-o", out, "-n", 36, "--json"
    )
    assert result.exit_code == 0, result.output
    said, written = json.loads(result.stdout), pd.read_csv(out, dtype={"id": str})
    columns = ["index", "id", "path", "label", "suspected", "probability", "decision"]
    assert written.columns.tolist() == columns
    table = EmbeddingTable.open(place / "t")
    order = np.argsort(NAMES)  # without --classes, the names are sorted
    found = multi_label_suspects(table, given[:, order], class_names=sorted(NAMES), encoder=encoder)
    top = found.top(36)
    assert written["index"].tolist() == [suspect.index for suspect in top]
    assert written["label"].tolist() == [suspect.label for suspect in top]
    assert said["likely_wrong"] == found.n_wrong
    assert said["suspects"][0]["label"] == top[0].label
    wrong = given != truth
    assert average_precision_score(wrong[:, order].ravel(), found.probabilities.ravel()) > 0.3
    at = [NAMES.index(label) for label in written["label"]]
    is_wrong = wrong[written["index"], at]
    written["decision"] = np.where(is_wrong, "wrong", "right")
    written.to_csv(out, index=False)
    done = run_plain("labels", "apply", file, out, "-o", tmp_path / "mended.csv")
    assert done.exit_code == 0, done.output
    mended = pd.read_csv(tmp_path / "mended.csv")
    left = (np.array(lists(truth)) != mended["label"].to_numpy()).sum()
    assert left < (np.array(lists(truth)) != np.array(lists(given))).sum()
    shown = run("suspects", place / "t", "--labels", file, "--multi-label")
    assert "are likelier wrong than right" in flat(shown.stdout)


def run_plain(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_what_has_no_meaning_says_what_to_do(
    place: Path, tmp_path: Path, truth: np.ndarray
) -> None:
    file = write_lists(tmp_path / "y.csv", np.arange(N), truth)
    subset = ("select", place / "t", "--ratio", 0.5, "--labels", file, "-o", tmp_path / "s.json")
    refused = run(*subset, "--multi-label")
    assert refused.exit_code == 2
    assert "an image of two would count in both" in flat(refused.stderr)
    assert "clip-al suspects --multi-label" in flat(refused.stderr)
    forgotten = run(*subset, "--classes", place / "classes.txt")
    assert forgotten.exit_code == 2
    assert "several labels: `read_several_labels`, or `--multi-label`" in flat(forgotten.stderr)
    preset = run("suspects", place / "t", "--labels", file, "--multi-label", "--preset", "paper")
    assert preset.exit_code == 2
    assert "`--preset` must come with one label an image" in flat(preset.stderr)
