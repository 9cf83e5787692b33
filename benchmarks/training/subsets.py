"""Subsets to train on: from a condition to what each method chooses, and what that is worth.

A `Condition` says which images with which damage; `load_condition` makes them, `task_of`
what methods may see of them. `choose` asks a method by its name for a share of the images,
`subset_facts` looks at what was chosen, and `train_accuracy` trains on it. `run_cell` is all
of that for one cell of an experiment. What cells with the same condition share is kept from
one to the next; the objects that are kept must not be changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.tasks import Indices, TrainingTask
from benchmarks.baselines.to_train import TO_TRAIN
from benchmarks.data.corruptions import corrupt_share, grey
from benchmarks.data.label_flips import flip_labels
from benchmarks.data.pools import Pool, embed_classes, embed_images, load_pool
from benchmarks.harness.cells import Cell, Options, Size, Values
from benchmarks.training.networks import make_network
from benchmarks.training.training import accuracy, train
from benchmarks.training.training_record import record_training
from clip_al import ClipEncoder, ClipSelector, DatasetAdapter
from clip_al.subset.selection_checks import check_ratio
from clip_al.subset.selector import PRESETS

PROXY_SEED = 1000
"""Added to a condition's seed, so that no proxy starts from the weights of the tested network."""
GREY_SEED = 107  # kept apart from the seeds of everything that looks at the images

SHORT = {"preset": "short"}
OURS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "default": lambda _: {},
    "short": lambda _: SHORT,
    "paper": lambda _: {"preset": "paper"},
    "text alone": lambda _: {**SHORT, "text_weight": 1.0},
    "adapter": lambda _: {**SHORT, "adapter": True, "text_weight": 1.0},
    "adapter and mean images": lambda _: {**SHORT, "adapter": True},
    "cross-fit adapter": lambda _: {**SHORT, "adapter": "cross-fit", "text_weight": 1.0},
    "GCE adapter": lambda seed: {
        **SHORT, "adapter": DatasetAdapter(loss="gce", random_state=seed), "text_weight": 1.0,
    },
    "cosine": lambda _: {**SHORT, "alignment": "cosine"},
    "no noise model": lambda _: {**SHORT, "noise_aware": False},
    "contrastive, unscaled, no quotas": lambda _: {
        **SHORT, "noise_aware": False, "scale": "none", "class_balance": "none", "alpha": "ratio",
    },
    "redundancy 0.1": lambda _: {**SHORT, "redundancy": 0.1},
    "alpha ratio": lambda _: {**SHORT, "alpha": "ratio"},
    "alpha -0.2": lambda _: {**SHORT, "alpha": -0.2},
}  # fmt: skip
"""Our variants: the parameters of `ClipSelector` that differ from its defaults, given a seed.

"default" and "short" have no adapter, and weigh texts against mean images as held-out labels
say. The others change "short" in one thing; it was the default when they were chosen.
"""

QUICK: Cell = {
    "per_class": 60, "test_per_class": 40, "steps": 40,
    "proxy_steps": 40, "early_steps": 10, "n_early": 1,
}  # fmt: skip
FULL: Cell = {
    "per_class": 2500, "test_per_class": 1000, "steps": 4000,
    "proxy_steps": 4000, "early_steps": 1000, "n_early": 5,
}  # fmt: skip
"""Fields of the cells at the smallest and at the largest size, of experiments that train."""

ALL = "all"
"""The method that chooses every image, whatever the ratio."""


GIVEN = {
    "ratio", "class_names", "class_embeddings", "encoder", "device", "random_state", "progress",
}  # fmt: skip
"""Parameters of `ClipSelector` that a cell says elsewhere, or on which nothing depends."""


def settings_of(method: str) -> dict[str, Any]:
    """Return all settings of one of our variants, as plain values, what its preset says included.

    So that a preset that changes makes new cells; but for `exact_up_to="auto"`, which stays as it
    is: with how many images it compares is only in the version of clip_al that a record names.
    """
    settings = ClipSelector(**OURS[method](0)).get_params(deep=False)
    preset = PRESETS[settings["preset"]]
    settings = {
        name: preset.get(name) if value is None else value for name, value in settings.items()
    }
    adapter = settings["adapter"]
    if isinstance(adapter, DatasetAdapter):
        settings["adapter"] = adapter.get_params()
    return {name: value for name, value in settings.items() if name not in GIVEN}


def spelled_out(cells: Callable[[Size], list[Cell]]) -> Callable[[Size], list[Cell]]:
    """Add their settings to the cells of our variants, so that a new default is a new cell."""

    @wraps(cells)
    def with_settings(size: Size) -> list[Cell]:
        return [
            {**cell, "settings": settings_of(cell["method"])}
            if cell.get("method") in OURS
            else cell
            for cell in cells(size)
        ]

    return with_settings


@dataclass(frozen=True)
class Condition:
    """Which images, and what is wrong with them.

    Parameters
    ----------
    pool : str
        As `load_pool` takes it.
    per_class, test_per_class : int or None
        Images of each class to choose from, and to test on; None is all.
    noise : float
        Share of the labels that are turned.
    noise_kind : str
        "symmetric" or "pair", see `flip_labels`.
    corrupted_share : float
        Share of the images that are corrupted, their labels left right.
    seed : int
        Of the pool, the noise, the corruptions, and of what methods draw.
    """

    pool: str
    per_class: int | None
    test_per_class: int | None
    noise: float
    noise_kind: str
    corrupted_share: float
    seed: int


@dataclass(frozen=True)
class Proxy:
    """How the network is trained that some methods look at; see `record_training`."""

    proxy: str
    proxy_steps: int
    early_steps: int
    n_early: int
    n_checkpoints: int


@dataclass(frozen=True, eq=False)
class Material:
    """A condition made real.

    Parameters
    ----------
    pool : Pool
        Its images are the corrupted ones, its labels the true ones.
    emb_nd, class_emb_kd : ndarray of shape (n, d) and (k, d), float32
        CLIP embeddings of unit length, of the images as they are in the pool.
    given_n : ndarray of shape (n,), int64
        Labels, of which some are wrong.
    corrupted_n : ndarray of shape (n,), bool
        Which images are corrupted, or grey where a share of them was made so.
    """

    pool: Pool
    emb_nd: NDArray[np.float32]
    class_emb_kd: NDArray[np.float32]
    given_n: NDArray[np.int64]
    corrupted_n: NDArray[np.bool_]


def fields_of(kind: type[Any], cell: Cell) -> dict[str, Any]:
    """Return the fields of a cell that a dataclass takes, e.g. ``Condition(**fields_of(…))``."""
    return {name: cell[name] for name in kind.__dataclass_fields__}


@lru_cache(maxsize=2)
def load_condition(condition: Condition, options: Options) -> Material:
    """Load, corrupt and encode images, and turn labels; about 2 ms an image the first time."""
    pool = load_pool(
        condition.pool,
        data=options.data,
        per_class=condition.per_class,
        test_per_class=condition.test_per_class,
        seed=condition.seed,
    )
    given_n = flip_labels(
        pool.y, condition.noise, condition.seed, len(pool.classes), condition.noise_kind
    )
    encoder = ClipEncoder(options.model, options.pretrained)
    class_emb_kd = embed_classes(pool.classes, encoder)
    material = Material(
        pool,
        embed_images(pool.images, encoder),
        class_emb_kd,
        given_n,
        np.zeros(len(pool.y), dtype=bool),
    )
    if condition.corrupted_share:
        return corrupted(material, condition.corrupted_share, condition.seed, encoder)
    return material


def corrupted(material: Material, share: float, seed: int, encoder: ClipEncoder) -> Material:
    """Return a material with a share of its images corrupted, and these encoded anew."""
    return _changed(material, *corrupt_share(material.pool.images, share, seed), encoder)


def partly_grey(material: Material, share: float, seed: int, encoder: ClipEncoder) -> Material:
    """Return a material with a share of its images grey; they count as `corrupted_n`."""
    images = material.pool.images.copy()
    rng = np.random.default_rng((GREY_SEED, seed))
    grey_n = np.zeros(len(images), dtype=np.bool_)
    grey_n[rng.permutation(len(images))[: round(share * len(images))]] = True
    images[grey_n] = grey(images[grey_n])
    return _changed(material, images, grey_n, encoder)


def _changed(
    material: Material,
    images: NDArray[np.uint8],
    changed_n: NDArray[np.bool_],
    encoder: ClipEncoder,
) -> Material:
    """Return a material with other images, those that changed encoded anew."""
    emb_nd = material.emb_nd.copy()
    emb_nd[changed_n] = embed_images(images[changed_n], encoder)
    pool = replace(material.pool, images=images)
    return replace(material, pool=pool, emb_nd=emb_nd, corrupted_n=changed_n)


@lru_cache(maxsize=2)
def task_of(condition: Condition, options: Options, proxy: Proxy) -> TrainingTask:
    """Return what methods see of a condition; its proxy is trained when one asks for it."""
    material = load_condition(condition, options)
    settings = asdict(proxy)
    network, n_steps = settings.pop("proxy"), settings.pop("proxy_steps")
    return TrainingTask(
        material.emb_nd,
        material.class_emb_kd,
        material.given_n,
        condition.seed,
        lambda: record_training(
            material.pool.images,
            material.given_n,
            n_classes=len(material.pool.classes),
            network=network,
            n_steps=n_steps,
            seed=PROXY_SEED + condition.seed,
            device=options.device,
            **settings,
        ),
    )


def n_chosen(ratio: float, n: int) -> int:
    """Return ratio × n rounded to the nearest, halves up; 0 is refused, as by `ClipSelector`."""
    return check_ratio(ratio, n)


@lru_cache(maxsize=16)
def fitted_selector(method: str, task: TrainingTask) -> ClipSelector:
    """Return our selector of that name, fitted; ask it for as many ratios as you like."""
    selector = ClipSelector(
        class_embeddings=task.class_emb_kd, random_state=task.seed, **OURS[method](task.seed)
    )
    return selector.fit(task.emb_nd, task.given_n)


@lru_cache(maxsize=64)
def choose(method: str, task: TrainingTask, ratio: float) -> Indices:
    """Return the places (b,) int64, read-only, of the images that a method chooses.

    Parameters
    ----------
    method : str
        A name of `TO_TRAIN` or `OURS`, or "all".
    task : TrainingTask
        Is known again by its identity: methods keep what they fitted to it.
    ratio : float
        Share of the images to choose, in (0, 1]. "paper" may miss it by a few images, where
        its descent stops.
    """
    n = len(task.given_n)
    if method == ALL:
        indices: Indices = np.arange(n)
    elif method in OURS:
        indices = fitted_selector(method, task).select(ratio).indices.copy()
    elif method in TO_TRAIN:
        indices = np.array(TO_TRAIN[method](task, n_chosen(ratio, n)), dtype=np.int64)
    else:
        known = ", ".join([ALL, *TO_TRAIN, *OURS])
        raise ValueError(f"`method` must be one of {known}; got {method!r}.")
    indices.flags.writeable = False
    return indices


def subset_facts(indices: Indices, material: Material) -> dict[str, float]:
    """Return what is in a subset.

    Returns
    -------
    dict
        "n", how many images; "wrong", the share with a wrong label; "balance", the least
        frequent true class over the most frequent; "corrupted", the share that is corrupted.
    """
    y = material.pool.y[indices]
    counts = np.bincount(y, minlength=len(material.pool.classes))
    return {
        "n": len(indices),
        "wrong": float((material.given_n[indices] != y).mean()),
        "balance": float(counts.min() / counts.max()),
        "corrupted": float(material.corrupted_n[indices].mean()),
    }


def train_accuracy(
    indices: Indices,
    material: Material,
    *,
    network: str,
    n_steps: int,
    seed: int,
    device: str = "cpu",
) -> float:
    """Train a new network on a subset, labels as given, and test it; accuracy in [0, 1].

    No augmentation; batches of 64, so the work is the same whatever the size of the subset.
    The order of the indices does not matter.
    """
    pool, chosen = material.pool, np.sort(indices)
    model = make_network(network, len(pool.classes), seed=seed, image_size=pool.images.shape[1])
    train(
        model,
        pool.images[chosen],
        material.given_n[chosen],
        n_steps=n_steps,
        seed=seed,
        device=device,
    )
    return accuracy(model, pool.test_images, pool.y_test)


def run_cell(cell: Cell, options: Options) -> Values:
    """Choose, look, train and test.

    The cell has the fields of `Condition` and `Proxy`, and "method", "ratio", "network",
    "steps". Returns `subset_facts` and "accuracy".
    """
    condition = Condition(**fields_of(Condition, cell))
    task = task_of(condition, options, Proxy(**fields_of(Proxy, cell)))
    material = load_condition(condition, options)
    indices = choose(cell["method"], task, cell["ratio"])
    found = train_accuracy(
        indices,
        material,
        network=cell["network"],
        n_steps=cell["steps"],
        seed=cell["seed"],
        device=options.device,
    )
    return {**subset_facts(indices, material), "accuracy": found}
