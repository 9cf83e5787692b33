"""The demo: real images, the embedded model, and modAL's loop with four ways to label.

Which of scikit-learn's 1,797 photographed digits should be labelled next, where odd digits
are rare, as some things are in most folders? Everything runs offline.
"""

from __future__ import annotations

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
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from clip_al.atomic import write_frame
from clip_al.concepts.diversity import ConceptCounts, concept_diversity
from clip_al.concepts.profiles import ConceptProfiles
from clip_al.concepts.vocabulary import DEFAULT_TEMPLATES, ConceptVocabulary
from clip_al.demo import check_packages
from clip_al.encode.encoder import ClipEncoder
from clip_al.label.coverage_sampling import UncertaintyCoverageSampling
from clip_al.label.explain import PickExplanation, explain_picks
from clip_al.label.head.classifier import ClipClassifier

N_INSTANCES = 10
N_ROUNDS = 6
N_PICTURES = 20
RARE_SHARE = 0.1
"""Of the odd digits, how many are in the pool."""
CLASS_NAMES = tuple(f"digit {i}" for i in range(10))
WITH_HEAD = "coverage, ClipClassifier"
STRATEGIES = ("random", "margin", "coverage", WITH_HEAD)
"""The first three with a logistic regression."""


@dataclass(frozen=True)
class Digits:
    """The images of the demo and what the mini CLIP sees in them.

    Parameters
    ----------
    images : ndarray of shape (1797, 8, 8), uint8
    y : ndarray of shape (1797,), int64
    encoder : ClipEncoder
    Z : ndarray of shape (1797, d), float32
    """

    images: NDArray[np.uint8]
    y: NDArray[np.int64]
    encoder: ClipEncoder
    Z: NDArray[np.float32]


def encode_digits(console: Console) -> Digits:
    """Load scikit-learn's digits and encode them.

    Raises
    ------
    MissingDependencyError
        Where a package is not installed that the demos need later.
    """
    check_packages()
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    console.print(f"Encoding {len(images):,} digits with the mini CLIP …")
    encoder = ClipEncoder("mini")
    return Digits(images, digits.target, encoder, encoder.encode_images(images))


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured.

    Parameters
    ----------
    accuracy : DataFrame
        One row for each strategy, seed and number of labels: accuracy on the test images.
    folder : Path
        Where selection.csv, learning_curves.png and chosen_images.png lie.
    """

    accuracy: pd.DataFrame
    folder: Path


def run_demo(
    folder: str | Path,
    *,
    n_seeds: int = 5,
    console: Console | None = None,
    digits: Digits | None = None,
) -> DemoResult:
    """Encode the digits, run the loops, print a table and write three files to `folder`."""
    console = console or Console()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    digits = digits or encode_digits(console)
    images, y, Z = digits.images, digits.y, digits.Z
    vocabulary = ConceptVocabulary.load("general").encode(digits.encoder)
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary)
    for index in range(3):
        console.print(f"  a {y[index]}: {', '.join(profiles.words(index))}", highlight=False)
    console.print(
        f"CBD of all digits: {concept_diversity(profiles):.3f}; they show "
        f"{ConceptCounts.from_profiles(profiles).richness()} of {len(vocabulary)} concepts.\n"
    )

    names = list(CLASS_NAMES)
    class_emb_kd = digits.encoder.encode_texts(names, templates=DEFAULT_TEMPLATES)
    console.print("Labelling a pool in which odd digits are a tenth as frequent as even ones.")
    accuracy = compare_strategies(Z, y, class_emb_kd, n_seeds=n_seeds, console=console)
    console.print(_accuracy_table(accuracy))
    console.print(what_it_means(accuracy), highlight=False)
    explanations = first_batch(Z, y, class_emb_kd, profiles)
    write_selection(folder / "selection.csv", explanations, y)
    draw_learning_curves(folder / "learning_curves.png", accuracy)
    titles = ["\n".join(pick.concepts[:3]) for pick in explanations]
    chosen = [pick.index for pick in explanations]
    draw_images(folder / "chosen_images.png", images[chosen], titles)
    console.print(f"\nWrote selection.csv, learning_curves.png, chosen_images.png to {folder}")
    return DemoResult(accuracy, folder)


def uneven_pool(y: NDArray[Any], rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the rows of even digits, and one in ten of the others, in random order."""
    rng = np.random.default_rng(seed)
    kept = (y[rows] % 2 == 0) | (rng.random(len(rows)) < RARE_SHARE)
    return rng.permutation(rows[kept])


def compare_strategies(
    Z: NDArray[Any],
    y: NDArray[Any],
    class_emb_kd: NDArray[Any],
    *,
    n_seeds: int,
    console: Console,
) -> pd.DataFrame:
    """Run modAL's loop for each strategy and seed; return the accuracy after each round."""
    rows = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Labelling rounds", total=n_seeds * len(STRATEGIES) * N_ROUNDS)
        for seed in range(n_seeds):
            for name in STRATEGIES:
                for n_labels, score in _loop(Z, y, class_emb_kd, name, seed):
                    rows.append((name, seed, n_labels, score))
                    progress.advance(task)
    return pd.DataFrame(rows, columns=["strategy", "seed", "n_labels", "accuracy"])


def _loop(
    Z: NDArray[Any], y: NDArray[Any], class_emb_kd: NDArray[Any], name: str, seed: int
) -> list[tuple[int, float]]:
    from modAL.models import ActiveLearner

    train, test = train_test_split(np.arange(len(y)), test_size=0.4, random_state=seed, stratify=y)
    pool = uneven_pool(y, train, seed)
    learner = ActiveLearner(
        estimator=_estimator(name, class_emb_kd),
        query_strategy=_strategy(name, np.random.default_rng(seed)),
    )
    scores = []
    for _ in range(N_ROUNDS):
        picks, rows = learner.query(Z[pool], n_instances=N_INSTANCES)
        learner.teach(rows, y[pool[picks]])
        pool = np.delete(pool, picks)
        scores.append((len(learner.y_training), float(learner.score(Z[test], y[test]))))
    return scores


def _estimator(name: str, class_emb_kd: NDArray[Any]) -> ClassifierMixin:
    if name == WITH_HEAD:
        return ClipClassifier(class_embeddings=class_emb_kd)
    # Unit-length embeddings need a weak penalty.
    return LogisticRegression(C=30.0, max_iter=1000)


def _strategy(name: str, rng: np.random.Generator) -> Callable[..., Any]:
    from modAL.uncertainty import margin_sampling

    def random_sampling(_: Any, X: Any, n_instances: int = 1) -> tuple[NDArray[Any], None]:
        return rng.choice(len(X), n_instances, replace=False), None

    def random_then_margin(learner: Any, X: Any, n_instances: int = 1) -> tuple[Any, Any]:
        ask = random_sampling if learner.X_training is None else margin_sampling
        picked: tuple[Any, Any] = ask(learner, X, n_instances)
        return picked

    strategies = {"random": random_sampling, "margin": random_then_margin}
    return strategies.get(name, UncertaintyCoverageSampling())


def first_batch(
    Z: NDArray[Any], y: NDArray[Any], class_emb_kd: NDArray[Any], profiles: ConceptProfiles
) -> list[PickExplanation]:
    """Pick what to label first, from the class names, and say what each pick shows."""
    pool = uneven_pool(y, np.arange(len(y)), seed=0)
    zero_shot = ClipClassifier(class_embeddings=class_emb_kd)
    picks = UncertaintyCoverageSampling().select(
        Z[pool], N_PICTURES, probabilities=zero_shot.predict_proba(Z[pool])
    )
    return explain_picks(pool[picks], profiles)


def what_it_means(accuracy: pd.DataFrame) -> str:
    """Say in a sentence what the first round shows."""
    n_labels = accuracy["n_labels"].min()
    first = accuracy[accuracy["n_labels"] == n_labels].groupby("strategy")["accuracy"].mean()
    with_head, coverage, random = (first[name] for name in (WITH_HEAD, "coverage", "random"))
    return (
        f"{n_labels} labels that cover the pool give {coverage:.0%}, {n_labels} random ones, which "
        f"miss rare digits, {random:.0%}; ClipClassifier, which begins with the class names, is "
        f"at {with_head:.0%}."
    )


def write_selection(path: Path, explanations: list[PickExplanation], y: NDArray[Any]) -> None:
    """Write the picks, best first, with their concepts."""
    rows = [
        (rank, pick.index, y[pick.index], "; ".join(pick.concepts), "; ".join(pick.added))
        for rank, pick in enumerate(explanations, start=1)
    ]
    columns = ["rank", "index", "label", "concepts", "added_concepts"]
    write_frame(path, pd.DataFrame(rows, columns=columns))


def _accuracy_table(accuracy: pd.DataFrame) -> Table:
    n_seeds = accuracy["seed"].nunique()
    table = Table(title=f"Test accuracy in %, mean ± standard deviation of {n_seeds} seeds")
    table.add_column("labels")
    for name in STRATEGIES:
        table.add_column(name, justify="right")
    groups = accuracy.groupby(["n_labels", "strategy"])["accuracy"].agg(["mean", "std"]) * 100
    for n_labels in sorted(accuracy["n_labels"].unique()):
        cells = [groups.loc[(n_labels, name)] for name in STRATEGIES]
        spread = "{mean:.1f} ± {std:.1f}" if n_seeds > 1 else "{mean:.1f}"
        table.add_row(str(n_labels), *(spread.format(**cell) for cell in cells))
    return table


def draw_learning_curves(path: Path, accuracy: pd.DataFrame) -> None:
    """Draw accuracy against the number of labels, with the standard deviation as a band."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name in STRATEGIES:
        groups = accuracy[accuracy["strategy"] == name].groupby("n_labels")["accuracy"]
        mean, std = groups.mean() * 100, groups.std().fillna(0) * 100
        axes.plot(mean.index, mean, marker="o", label=name)
        axes.fill_between(mean.index, mean - std, mean + std, alpha=0.15)
    axes.set(xlabel="labelled images", ylabel="test accuracy (%)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def draw_images(path: Path, images: NDArray[Any], titles: list[str]) -> None:
    """Draw images in a grid, each under its title."""
    from matplotlib.figure import Figure

    n_columns = 5
    n_rows = -(-len(images) // n_columns)
    figure = Figure(figsize=(2.2 * n_columns, 2.5 * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, title in zip(grid.flat, images, titles, strict=False):
        axes.imshow(image, cmap="gray")
        # A concept is text from a file: a dollar sign must not start a formula.
        axes.set_title(title, fontsize=8, parse_math=False)
    figure.savefig(path, dpi=120)
