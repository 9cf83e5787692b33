"""The demo's second half: what to train on where a fifth of the labels are wrong.

The same digits and embedded model as in `demo`. The wrong labels are found without a trained
classifier, and two small models on the pixels show what leaving images out is worth.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from clip_al.concepts.profiles import ConceptProfiles
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.demo.label import Digits, draw_images, encode_digits
from clip_al.handed_in.write import write_suspects
from clip_al.subset.selection import Selection
from clip_al.subset.selector import ClipSelector

WRONG = 0.2
# Keeps a margin below the four fifths that are right: who selects does not know the share.
RATIO = 0.7
N_DRAWN = 20
NAMES = [f"digit {digit}" for digit in range(10)]
EVERYTHING, RANDOM, SELECTION, CORRECT = (
    "everything",
    f"random {RATIO:.0%}",
    f"selection {RATIO:.0%}",
    "all, labels right",
)
MODELS: dict[str, Callable[[int], Any]] = {
    "logistic regression": lambda _: LogisticRegression(max_iter=1000),
    "neural network": lambda seed: MLPClassifier((64,), max_iter=100, random_state=seed),
}


@dataclass(frozen=True)
class TrainDemoResult:
    """What the demo measured.

    Parameters
    ----------
    suspects : DataFrame
        One row for each number of suspects looked at: ``n``, ``precision``, ``recall``.
    accuracy : DataFrame
        One row for each model, training set and seed: accuracy on the test images, and the
        share of wrong labels trained on.
    folder : Path
        Where suspects.csv, suspects.png, subset.json, subset.npz and report.html lie.
    """

    suspects: pd.DataFrame
    accuracy: pd.DataFrame
    folder: Path


def run_train_demo(
    folder: str | Path,
    *,
    n_seeds: int = 5,
    console: Console | None = None,
    digits: Digits | None = None,
) -> TrainDemoResult:
    """Find the wrong labels, train with and without them, print and write what came out."""
    console = console or Console()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    digits = digits or encode_digits(console)
    text_emb_kd = digits.encoder.encode_texts(NAMES, templates=["a photo of a {}"])
    named = (digits.Z @ text_emb_kd.T).argmax(axis=1) == digits.y
    console.print(f"By itself the mini CLIP names {named.mean():.1%} of them.", highlight=False)
    given = flip_labels(digits.y, seed=0)
    n_wrong = int((given != digits.y).sum())
    console.print(f"{n_wrong} of {len(given):,} labels are now wrong. Looking for them …")
    selection = choose(digits, np.arange(len(given)), given, seed=0)
    found = measure_suspects(selection, given != digits.y)
    print_suspects(console, selection, found)
    accuracy = compare_training_sets(digits, n_seeds=n_seeds, console=console)
    console.print(_accuracy_table(accuracy))
    print_gains(console, accuracy)
    selection.save(folder / "subset.json", overwrite=True)
    write_and_draw_suspects(folder, selection, digits, n_wrong)
    write_page(folder, selection, digits)
    console.print(f"\nWrote suspects.csv, suspects.png, subset.json, subset.npz to {folder}")
    console.print(f"Open {folder / 'report.html'} in a browser.", soft_wrap=True)
    return TrainDemoResult(found, accuracy, folder)


def flip_labels(y: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return labels of which a fifth is wrong, drawn evenly from the nine other digits."""
    rng = np.random.default_rng(seed)
    given = y.copy()
    flipped = rng.choice(len(y), round(WRONG * len(y)), replace=False)
    given[flipped] = (given[flipped] + rng.integers(1, 10, len(flipped))) % 10
    return given


def choose(
    digits: Digits, rows: NDArray[np.int64], given: NDArray[np.int64], seed: int
) -> Selection:
    """Choose what to train on, of some rows with the labels given."""
    selector = ClipSelector(RATIO, class_names=NAMES, encoder=digits.encoder, random_state=seed)
    return selector.fit_select(digits.Z[rows], given, ids=[str(row) for row in rows])


def measure_suspects(selection: Selection, is_wrong_n: NDArray[np.bool_]) -> pd.DataFrame:
    """Return precision and recall at the true number of wrong labels and at the estimate."""
    estimated = round(selection.settings["wrong_fraction"] * len(is_wrong_n))
    rows = []
    for what, n in (("as many as are wrong", int(is_wrong_n.sum())), ("estimate", estimated)):
        listed = [suspect.index for suspect in selection.suspects(max(n, 1))]
        hits = int(is_wrong_n[listed].sum())
        rows.append((what, len(listed), hits / len(listed), hits / int(is_wrong_n.sum())))
    return pd.DataFrame(rows, columns=["what", "n", "precision", "recall"])


def print_suspects(console: Console, selection: Selection, found: pd.DataFrame) -> None:
    """Print how many labels look wrong, and how many of them are."""
    console.print(
        f"Estimated share of wrong labels: {selection.settings['wrong_fraction']:.1%}; "
        f"it is {WRONG:.0%}.",
        highlight=False,
    )
    table = Table("suspects looked at", "n", "precision", "recall", title="Wrong labels found")
    for row in found.itertuples():
        table.add_row(str(row.what), str(row.n), f"{row.precision:.1%}", f"{row.recall:.1%}")
    console.print(table)


def compare_training_sets(digits: Digits, *, n_seeds: int, console: Console) -> pd.DataFrame:
    """Train both models on everything, at random and on the selection; test on right labels."""
    rows = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Training", total=n_seeds)
        for seed in range(n_seeds):
            rows += _train(digits, seed)
            progress.advance(task)
    columns = ["model", "trained_on", "seed", "accuracy", "wrong"]
    return pd.DataFrame(rows, columns=columns)


def _train(digits: Digits, seed: int) -> list[tuple[str, str, int, float, float]]:
    X, y = digits.images.reshape(len(digits.y), -1) / 255, digits.y
    train, test = train_test_split(np.arange(len(y)), test_size=0.4, random_state=seed, stratify=y)
    given = flip_labels(y[train], seed)
    chosen = choose(digits, train, given, seed).indices
    everything = np.arange(len(train))
    at_random = np.random.default_rng(seed).choice(len(train), len(chosen), replace=False)
    rows = []
    for name, make in MODELS.items():
        for what, part, labels in (
            (EVERYTHING, everything, given),
            (RANDOM, at_random, given),
            (SELECTION, chosen, given),
            (CORRECT, everything, y[train]),
        ):
            with warnings.catch_warnings():
                # The network stops after 100 passes, converged or not.
                warnings.simplefilter("ignore", ConvergenceWarning)
                model = make(seed).fit(X[train[part]], labels[part])
            wrong = float((labels[part] != y[train[part]]).mean())
            rows.append((name, what, seed, float(model.score(X[test], y[test])), wrong))
    return rows


def _accuracy_table(accuracy: pd.DataFrame) -> Table:
    n_seeds = accuracy["seed"].nunique()
    spread = ", one seed" if n_seeds == 1 else f", mean ± standard deviation of {n_seeds} seeds"
    table = Table("trained on", "of it wrong", title=f"Test accuracy in %{spread}")
    for name in MODELS:
        table.add_column(name, justify="right")
    groups: Any = accuracy.groupby(["trained_on", "model"])["accuracy"].agg(["mean", "std"]) * 100
    wrong = accuracy.groupby("trained_on")["wrong"].mean()
    spread = "{mean:.1f} ± {std:.1f}" if n_seeds > 1 else "{mean:.1f}"
    for what in (EVERYTHING, RANDOM, SELECTION, CORRECT):
        cells = [groups.loc[(what, name)] for name in MODELS]
        table.add_row(what, f"{wrong[what]:.1%}", *(spread.format(**cell) for cell in cells))
    return table


def print_gains(console: Console, accuracy: pd.DataFrame) -> None:
    """Print how far the selection is above or below the others, seed by seed."""
    wide = accuracy.pivot_table(index=["model", "seed"], columns="trained_on", values="accuracy")
    for name in MODELS:
        gains = []
        for other in (EVERYTHING, RANDOM):
            gain = 100 * (wide.loc[name][SELECTION] - wide.loc[name][other])
            spread = f" ± {gain.std():.1f}" if len(gain) > 1 else ""
            gains.append(f"{gain.mean():+.1f}{spread} points against {other}")
        said = f"{name}: the selection {', '.join(gains)}"
        console.print(said, highlight=False, soft_wrap=True)


def write_page(folder: Path, selection: Selection, digits: Digits) -> None:
    """Write the report of the selection, with the concepts that the mini CLIP sees."""
    vocabulary = ConceptVocabulary.load("general").encode(digits.encoder)
    selection.report_html(
        folder / "report.html",
        images=digits.images,
        embeddings=digits.Z,
        profiles=ConceptProfiles.from_embeddings(digits.Z, vocabulary),
        title="Digits, a fifth of the labels wrong",
        overwrite=True,
    )


def write_and_draw_suspects(folder: Path, selection: Selection, digits: Digits, n: int) -> None:
    """Write the n worst suspects as a CSV file with the truth beside, and draw the first."""
    suspects = selection.suspects(n)
    truth = [NAMES[digits.y[suspect.index]] for suspect in suspects]
    write_suspects(folder / "suspects.csv", suspects, truth=truth, overwrite=True)
    first = suspects[:N_DRAWN]
    titles = [f"given: {suspect.given}\nlikelier: {suspect.likeliest}" for suspect in first]
    images = digits.images[[suspect.index for suspect in first]]
    draw_images(folder / "suspects.png", images, titles)
