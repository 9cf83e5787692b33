"""What to train on, by what is trained: on embeddings, fine-tuned, from scratch, or briefly.

Which subset is best depends on the training. Regimes: logistic regression and nearest
neighbours on the CLIP embeddings of the chosen images; the CLIP model's image tower with a new
linear layer, all of it fine-tuned; a network from random weights, augmented, until its curve
is flat; and the brief training without augmentation of the older pages. Labels are right,
people's (CIFAR-10N), or flipped; or they are right and some of the images are corrupted, or
grey: a rare look, of which a CLIP model that is biased towards the common one would drop some.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.baselines.herding import herding_indices
from benchmarks.baselines.moderate import moderate_indices
from benchmarks.baselines.tasks import Indices, TrainingTask
from benchmarks.baselines.to_train import keep_credible, keep_near_prototypes, keep_random
from benchmarks.data.corruptions import grey
from benchmarks.data.label_flips import flip_labels
from benchmarks.data.people_labels import PEOPLE, people_labels
from benchmarks.data.pools import embed_classes, embed_images, encoder_of, load_pool
from benchmarks.experiments.regimes_page import (
    BRIEF,
    CNN,
    CORRUPTED,
    CORRUPTED_SHARE,
    GREY,
    GREY_SHARE,
    LINEAR,
    LONGER,
    NEIGHBOURS,
    RIGHT,
    SCRATCH,
    TUNED,
    VIT,
    WITH_WRONG,
    render,
)
from benchmarks.harness.cells import Cell, Experiment, Options, Size, Values
from benchmarks.training.networks import Network, make_network
from benchmarks.training.subsets import (
    ALL,
    OURS,
    Material,
    corrupted,
    fitted_selector,
    n_chosen,
    partly_grey,
    settings_of,
    subset_facts,
)
from benchmarks.training.tower import ImageTower
from benchmarks.training.training import accuracy, train
from clip_al import ClipSelector

ON_EMBEDDINGS = (LINEAR, NEIGHBOURS)
OTHERWISE = (CNN, VIT, LONGER)
"""Trainings from scratch of other networks, and of the same one for longer."""
AUGMENTED = (TUNED, SCRATCH, *OTHERWISE)
STEPS: Mapping[str, int] = {
    TUNED: 300, SCRATCH: 6000, LONGER: 18000, CNN: 6000, VIT: 6000, BRIEF: 600,
}  # fmt: skip
NETWORK: Mapping[str, str] = {
    SCRATCH: "resnet-wide", LONGER: "resnet-wide", CNN: "cnn-wide", VIT: "vit",
    BRIEF: "resnet",
}  # fmt: skip
LABELS = (RIGHT, *WITH_WRONG)
RATIOS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
FEW_RATIOS = (0.3, 0.7)
METHODS = ("random", "default", "short", "paper")
DECIDING = ("random", "default")
"""Those between which a cell decides where no rival is trained."""
VARIANTS: Mapping[str, Callable[[float], Cell]] = {
    "none put last": lambda _: {"min_label_probability": 0.0},
    "put last below 0.98": lambda _: {"min_label_probability": 0.98},
    "half the weight of SDS": lambda ratio: {"alpha": ratio / 2},
    "a quarter of it": lambda ratio: {"alpha": ratio / 4},
}
"""What of the default is otherwise, given the ratio; at one ratio of trainings from scratch."""
OF_ALPHA = ("half the weight of SDS", "a quarter of it")
FEW_RIVALS = ("Moderate-DS", "cleanlab pruning")
"""Those that are held against it there, too."""
RIVALS: Mapping[str, Callable[[TrainingTask, int], Indices]] = {
    "random": keep_random,
    "Herding": lambda task, n: herding_indices(task.emb_nd, task.given_n, n),
    "Moderate-DS": lambda task, n: moderate_indices(task.emb_nd, task.given_n, n),
    "prototypes, easiest": keep_near_prototypes,
    "cleanlab pruning": keep_credible,
}
"""Methods that need no network; where the paper takes a network's features, the embeddings."""


def cells(size: Size) -> list[Cell]:
    """Return the cells, seed by seed, the quickest regime first."""
    per_class = {"quick": 60, "standard": None, "full": None}[size]
    seeds = {"quick": (0,), "standard": (0, 1, 2), "full": (0, 1, 2, 3, 4)}[size]
    labels = (RIGHT, "symmetric 20 %") if size == "quick" else LABELS
    ratios = (0.3,) if size == "quick" else RATIOS
    few_ratios = FEW_RATIOS if size == "standard" else ratios
    rivals = [name for name in RIVALS if name not in METHODS]
    chosen = [*product(METHODS, ratios), *product(rivals, few_ratios)]
    found: list[Cell] = []
    for seed, given, (method, ratio), regime in product(
        seeds, (*labels, GREY), chosen, ON_EMBEDDINGS
    ):
        found.append(_cell(regime, given, ratio, method, seed, per_class, size))
    few_labels = (RIGHT, "people's, random 1") if size == "standard" else labels
    for regime, seed in product((BRIEF, SCRATCH), seeds):
        if size == "quick" and regime == SCRATCH:
            continue
        for given in few_labels:
            found.append(_cell(regime, given, 1.0, ALL, seed, per_class, size))
            for ratio, method in product(few_ratios, METHODS):
                found.append(_cell(regime, given, ratio, method, seed, per_class, size))
            for method in (*VARIANTS, *FEW_RIVALS) if regime == SCRATCH else OF_ALPHA:
                found.append(_cell(regime, given, 0.3, method, seed, per_class, size))
    if size != "quick":
        found += _beyond(few_labels, few_ratios, seeds, per_class, size)
    few_labels = (*few_labels, CORRUPTED, GREY)
    for seed, given in product(seeds, few_labels):
        found.append(_cell(TUNED, given, 1.0, ALL, seed, per_class, size))
        for ratio, method in product(few_ratios, METHODS):
            found.append(_cell(TUNED, given, ratio, method, seed, per_class, size))
    order = (*labels, CORRUPTED, GREY)
    return sorted(found, key=lambda c: (c["seed"], c["steps"], order.index(c["labels"])))


def _beyond(
    few_labels: Sequence[str],
    few_ratios: Sequence[float],
    seeds: Sequence[int],
    per_class: int | None,
    size: Size,
) -> list[Cell]:
    """Return what else is trained from scratch: otherwise, on other labels, at other ratios."""
    found = []
    for seed, given, regime in product(seeds, few_labels, OTHERWISE):
        found.append(_cell(regime, given, 1.0, ALL, seed, per_class, size))
        for method in (*METHODS, *OF_ALPHA):
            found.append(_cell(regime, given, 0.3, method, seed, per_class, size))
    if size == "standard":  # the full size has them all
        others = [given for given in LABELS if given not in few_labels]
        ratios = [ratio for ratio in RATIOS if ratio not in few_ratios]
        rest = [*product(others, (0.3,)), *product(few_labels, ratios)]
        for (given, ratio), method in product(rest, DECIDING):
            found.append(_cell(SCRATCH, given, ratio, method, seeds[0], per_class, size))
    return found


def _cell(
    regime: str,
    labels: str,
    ratio: float,
    method: str,
    seed: int,
    per_class: int | None,
    size: Size,
) -> Cell:
    steps = STEPS.get(regime, 0)
    settings = {"settings": _settings(method, ratio)} if method in (*OURS, *VARIANTS) else {}
    return {
        "pool": "cifar10", "per_class": per_class,
        "test_per_class": 40 if size == "quick" else None, "regime": regime, "labels": labels,
        "ratio": ratio, "method": method, "seed": seed,
        "steps": 40 if size == "quick" and steps else steps, **settings,
    }  # fmt: skip


def _settings(method: str, ratio: float) -> Cell:
    if method in VARIANTS:
        return {**settings_of("default"), **VARIANTS[method](ratio)}
    return settings_of(method)


def given_labels(cell: Cell, y: NDArray[np.int64], n_classes: int, options: Options) -> Any:
    """Return the labels (n,) that the methods see."""
    labels = cell["labels"]
    if labels in (RIGHT, CORRUPTED, GREY):
        return y
    if labels in PEOPLE:
        return people_labels(labels, cell["pool"], options.data)
    kind, share, _ = labels.split()
    return flip_labels(y, float(share) / 100, cell["seed"], n_classes, kind)


@lru_cache(maxsize=2)
def _load(
    pool_name: str, per_class: int | None, test_per_class: int | None, options: Options
) -> tuple[Any, NDArray[np.float32], NDArray[np.float32]]:
    """Return a pool, its embeddings, and those of its classes."""
    pool = load_pool(
        pool_name, data=options.data, per_class=per_class, test_per_class=test_per_class, seed=0
    )
    encoder = encoder_of(options)
    return pool, embed_images(pool.images, encoder), embed_classes(pool.classes, encoder)


_tasks: dict[str, TrainingTask] = {}


def _task(cell: Cell, material: Material) -> TrainingTask:
    """Return the task of a cell; the same object for the same labels, as methods keep fits."""
    name = f"{cell['pool']} {cell['per_class']} {cell['labels']} {cell['seed']}"
    if name not in _tasks:
        _tasks.clear()
        _tasks[name] = TrainingTask(
            material.emb_nd, material.class_emb_kd, material.given_n, cell["seed"], _no_proxy
        )
    return _tasks[name]


def _no_proxy() -> Any:
    raise ValueError("No method here looks at a network; one did.")


def choose(method: str, task: TrainingTask, ratio: float) -> Indices:
    """Return the places (b,) of the images that a method chooses, ascending."""
    n = len(task.given_n)
    if method == ALL:
        return np.arange(n)
    if method in RIVALS:
        return np.sort(RIVALS[method](task, n_chosen(ratio, n)))
    if method in VARIANTS:
        selector = ClipSelector(
            class_embeddings=task.class_emb_kd, random_state=task.seed, **VARIANTS[method](ratio)
        )
        return np.sort(selector.fit(task.emb_nd, task.given_n).select(ratio).indices)
    return np.sort(fitted_selector(method, task).select(ratio).indices)


def on_embeddings(
    regime: str, emb_bd: NDArray[np.float32], given_b: NDArray[np.int64]
) -> Callable[[NDArray[np.float32]], NDArray[np.int64]]:
    """Train on embeddings to the end; return what names the classes of other embeddings.

    Logistic regression on embeddings scaled to unit variance in the mean, so that its
    penalty means the same for each model; five nearest neighbours by cosine, weighted by it.
    """
    if regime == NEIGHBOURS:
        model: Any = KNeighborsClassifier(min(5, len(emb_bd)), metric="cosine", weights="distance")
        scale = 1.0
    else:
        model, scale = LogisticRegression(C=0.1, max_iter=500), float(1 / emb_bd.std(axis=0).mean())
    model.fit(scale * emb_bd, given_b)

    def predict(emb_td: NDArray[np.float32]) -> NDArray[np.int64]:
        predicted: NDArray[np.int64] = model.predict(scale * emb_td)
        return predicted

    return predict


def run(cell: Cell, options: Options) -> Values:
    """Choose, look, train and test; `subset_facts` and "accuracy" on right labels.

    Where some of the images are grey "accuracy, grey" is that on all test images made grey.
    """
    pool, emb_nd, class_emb_kd = _load(
        cell["pool"], cell["per_class"], cell["test_per_class"], options
    )
    given_n = given_labels(cell, pool.y, len(pool.classes), options)
    material = Material(pool, emb_nd, class_emb_kd, given_n, np.zeros(len(given_n), dtype=bool))
    if cell["labels"] == CORRUPTED:
        material = corrupted(material, CORRUPTED_SHARE, cell["seed"], encoder_of(options))
    if cell["labels"] == GREY:
        material = partly_grey(material, GREY_SHARE, cell["seed"], encoder_of(options))
    indices = choose(cell["method"], _task(cell, material), cell["ratio"])
    tests = {"accuracy": pool.test_images}
    if cell["labels"] == GREY:
        tests["accuracy, grey"] = grey(pool.test_images)
    if cell["regime"] in ON_EMBEDDINGS:
        predict = on_embeddings(cell["regime"], material.emb_nd[indices], given_n[indices])
        encoder = encoder_of(options)
        found = {
            name: float((predict(embed_images(images, encoder)) == pool.y_test).mean())
            for name, images in tests.items()
        }
    else:
        network = _network(cell["regime"], len(pool.classes), cell["seed"], options)
        train(
            network,
            material.pool.images[indices],
            given_n[indices],
            n_steps=cell["steps"],
            seed=cell["seed"],
            augmented=cell["regime"] in AUGMENTED,
            device=options.device,
        )
        found = {name: accuracy(network, images, pool.y_test) for name, images in tests.items()}
    return {**subset_facts(indices, material), **found}


def _network(regime: str, n_classes: int, seed: int, options: Options) -> Network:
    if regime == TUNED:
        return ImageTower(options.model, options.pretrained, n_classes)
    return make_network(NETWORK[regime], n_classes, seed=seed)


def cost_s(cell: Cell) -> float:
    """Return roughly the seconds of one core."""
    if cell["regime"] in ON_EMBEDDINGS:
        return 3.0
    per_step = {TUNED: 0.6, BRIEF: 0.0142}.get(cell["regime"], 0.1)
    return float(per_step * cell["steps"] + 1)


EXPERIMENT = Experiment(
    name="regimes",
    title="What to train on, by what is trained",
    regime="each of those that the page names",
    cells=cells,
    run=run,
    render=render,
    share=("steps", "labels", "seed"),
    cost_s=cost_s,
)
