"""Three rounds of 50 labels through the commands and the report's keys, and what to expect then.

Each seed draws a folder of CIFAR-10 photos with an unknown, long-tailed mix of classes. Everything
else is done as a person does it: `clip-al select`, `clip-al report`, keys in a Chromium that give
the true class, the page's own `labels.csv`, and again. After each round `clip-al predict` says what
accuracy to expect, and its file is compared with the truth.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from benchmarks.data.cifar import CACHE, CLASSES, cifar_root, data_folder
from benchmarks.experiments.expected_accuracy import N_IMAGES, REPORTED, drawn_rows
from benchmarks.harness.browser import chromium, label_by_keys
from benchmarks.harness.cells import (
    ON_EMBEDDINGS,
    Cell,
    Experiment,
    Options,
    Size,
    UnavailableError,
    Values,
)
from benchmarks.harness.pages import Page

ROUNDS, BATCH = 3, 50
FIRST, LAST = 2_500, 5_000
"""Training photos of each class that the mini model never saw."""
N_SEEDS: dict[Size, int] = {"quick": 2, "standard": 20, "full": 60}
NEAR = 0.03


def cells(size: Size) -> list[Cell]:
    """Return a cell for each folder."""
    return [{"seed": seed} for seed in range(REPORTED, REPORTED + N_SEEDS[size])]


def run(cell: Cell, options: Options) -> Values:
    """Label a folder in rounds; return what was expected after each, and what is true."""
    try:
        root = cifar_root(data_folder(options.data), CACHE)
    except FileNotFoundError as exc:
        raise UnavailableError(str(exc)) from exc
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        place = Path(name)
        truth = write_photos(root, cell["seed"], place / "photos")
        (place / "names.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
        model = ["--model", options.model]
        model += ["--pretrained", options.pretrained] if options.pretrained else []
        _clip_al("embed", place / "photos", "-o", place / "t", *model)
        rounds = []
        for k in range(1, ROUNDS + 1):
            _label_a_batch(place, k, truth, browser)
            rounds.append(_judge(place, k, truth))
    count_k = pd.Series(truth).value_counts().reindex(CLASSES, fill_value=0)
    return {"largest": int(count_k.max()), "smallest": int(count_k.min()), "rounds": rounds}


def write_photos(root: Path, seed: int, folder: Path) -> dict[str, str]:
    """Copy the photos that a seed draws under names that say nothing; return their classes."""
    code_n = np.repeat(np.arange(len(CLASSES)), LAST - FIRST)
    folder.mkdir()
    truth = {}
    for i, row in enumerate(drawn_rows(code_n, seed).tolist()):
        kind, number = CLASSES[row // (LAST - FIRST)], FIRST + row % (LAST - FIRST)
        name = f"IMG_{i:04d}.jpg"
        shutil.copyfile(root / "train" / kind / f"{number:04d}.jpg", folder / name)
        truth[name] = kind
    return truth


def _label_a_batch(place: Path, k: int, truth: dict[str, str], browser: Any) -> None:
    """Pick, show, label by keys, save; the labels of before go into the page and its file."""
    before = ["--labelled", place / f"labels-{k - 1}.csv"] if k > 1 else []
    classes = ["--classes", place / "names.txt"]
    picks, page, saved = (place / name for name in (f"{k}.csv", f"{k}.html", f"labels-{k}.csv"))
    _clip_al("select", place / "t", "--budget", BATCH, *classes, *before, "-o", picks)
    _clip_al("report", picks, "--table", place / "t", *classes, *before, "-o", page)
    label_by_keys(browser, page, truth, CLASSES, saved)


def _judge(place: Path, k: int, truth: dict[str, str]) -> Values:
    """Return what `predict` expects of its file, and how many of its labels are right."""
    out = place / f"labelled-{k}.csv"
    said = _clip_al(
        *("predict", place / "t", "--classes", place / "names.txt"),
        *("--labelled", place / f"labels-{k}.csv", "-o", out, "--json"),
    )
    expected = json.loads(said)["expected"]
    written = pd.read_csv(out)
    right = written["label"].to_numpy() == written["id"].map(truth).to_numpy()
    given = written["source"].to_numpy() == "given"
    if given.sum() != k * BATCH or not right[given].all():
        raise RuntimeError(
            f"{out} must have {k * BATCH} given labels, all true; got {given.sum()}, of which "
            f"{right[given].sum()} are true."
        )
    return {
        "labels": k * BATCH,
        "expected": expected["accuracy"],
        "interval": expected["interval"],
        "true": float(right.mean()),
        "expected_head": expected["unlabelled_accuracy"],
        "interval_head": expected["unlabelled_interval"],
        "true_head": float(right[~given].mean()),
    }


def _clip_al(*arguments: object) -> str:
    """Run ``clip-al ARGUMENTS``, and return what it prints."""
    from clip_al.cli.main import app

    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exit_code:
        raise RuntimeError(f"clip-al {' '.join(map(str, arguments))}: {done.output}")
    return done.stdout


def render(records: pd.DataFrame, page: Page) -> None:
    """Write how near the accuracy to expect is after each round, and every folder."""
    rounds = _rounds(records)
    last = rounds[rounds.labels == ROUNDS * BATCH]
    page.text(
        f"{N_IMAGES} CIFAR-10 photos a folder, 10 classes, the largest 5 to 50 times the smallest. "
        f"Three rounds of {BATCH}: `clip-al select`, `clip-al report`, keys in Chromium that give "
        "the true class, `labels.csv` of the page. Expected is what `clip-al predict --json` says; "
        "true is what its file has. “All” are all labels of the folder, those given included: "
        "the figure that the commands name first. “Head's” are the others alone."
    )
    for what, of in (("all", ""), ("head's", "_head")):
        near = (last[f"expected{of}"] - last[f"true{of}"]).abs() <= NEAR
        page.text(
            f"After the third round the accuracy expected of {what} labels is within 3 points of "
            f"the true one in **{near.sum()} of {len(near)}** folders."
        )
    page.heading("By round")
    page.text("Means over folders, in points; the interval is the 95 % one.")
    page.table(pd.DataFrame(_by_round(rounds)).T, "labels")
    page.heading("Every folder, after the third round")
    page.table(_every(last), "seed")


def _rounds(records: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each folder and round."""
    rows = [
        {"seed": record.seed, "largest": record.largest, "smallest": record.smallest, **values}
        for record in records.itertuples()
        for values in record.rounds
    ]
    return pd.DataFrame(rows)


def _by_round(rounds: pd.DataFrame) -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = {}
    for labels, part in rounds.groupby("labels"):
        row = {}
        for what, of in (("all", ""), ("head's", "_head")):
            error = part[f"expected{of}"] - part[f"true{of}"]
            low, high = part[f"interval{of}"].str[0], part[f"interval{of}"].str[1]
            held = (low <= part[f"true{of}"] + 1e-9) & (part[f"true{of}"] <= high + 1e-9)
            row |= {
                f"{what}: true": f"{100 * part[f'true{of}'].mean():.1f}",
                f"{what}: error (mean)": f"{100 * error.abs().mean():.1f} "
                f"({100 * error.mean():+.1f})",
                f"{what}: within 3": f"{(error.abs() <= NEAR).sum()} of {len(part)}",
                f"{what}: held (width)": f"{held.sum()} of {len(part)} "
                f"({100 * (high - low).mean():.1f})",
            }
        table[str(labels)] = row
    return table


def _every(last: pd.DataFrame) -> pd.DataFrame:
    table = {}
    for row in last.sort_values("seed").itertuples():
        shown = {"largest, smallest class": f"{row.largest}, {row.smallest}"}
        for what, of in (("all", ""), ("head's", "_head")):
            expected, true = getattr(row, f"expected{of}"), getattr(row, f"true{of}")
            low, high = getattr(row, f"interval{of}")
            shown |= {
                f"{what}: expected": f"{100 * expected:.1f} ({100 * low:.1f} to {100 * high:.1f})",
                f"{what}: true": f"{100 * true:.1f}",
                f"{what}: difference": f"{100 * (expected - true):+.1f}",
            }
        table[str(row.seed)] = shown
    return pd.DataFrame(table).T


EXPERIMENT = Experiment(
    name="labelled_by_keys",
    title="Labelled by keys, and the accuracy to expect",
    regime=ON_EMBEDDINGS,
    cells=cells,
    run=run,
    render=render,
    cost_s=lambda _: 60.0,
)
