"""Labelling in rounds: the pool, the network before it, who picks, and what he may look at.

A `Setting` says which pool a seed draws, a `Schooling` how a network was trained before
anyone picks. `our_methods` names our strategies with all their settings; `Picker` asks one of
them, or one of `TO_LABEL`, for the next images.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baselines.tasks import Indices, LabellingTask
from benchmarks.baselines.to_label import TO_LABEL
from benchmarks.data import cifar
from benchmarks.data.pools import Pool, embed_images, load_pool, long_tailed
from benchmarks.data.vocabularies import CONTROL, GENERAL, vocabulary_of
from benchmarks.harness.cells import Cell, Options
from benchmarks.training import networks, training
from benchmarks.training.networks import Network, make_network
from benchmarks.training.training import predict, train
from clip_al import CBDMarginSampling, CBDSampling, ClipEncoder, ConceptProfiles

OURS = "CBD + margin"
ALONE = "CBD"
RANDOM_WORDS = f"{OURS}, random vocabulary"
WEIGHTINGS = ("binary", "softmax")
FACTORS = (2, 4, 8)
BLIND = ("random", ALONE, "TypiClust", "greedy GD", "facility location")
"""Methods that do not look at the network, which is then not asked about the pool."""
PICK_SEED = 104  # kept apart from the seeds of pools and networks


@dataclass(frozen=True)
class Setting:
    """A pool to label from.

    Parameters
    ----------
    source : str
        As `load_pool` takes it.
    per_class : int
        Images that the seed draws of each class.
    tail : float or None
        Then only a long tail of them is left; see `long_tailed`.
    pool_classes : tuple of int or None
        Then only these classes are left.
    test_per_class : int or None
        Images of each class to test on; None is all.
    seed : int
    """

    source: str
    per_class: int
    tail: float | None
    pool_classes: tuple[int, ...] | None
    test_per_class: int | None
    seed: int


@dataclass(frozen=True, eq=False)
class Material:
    """A pool, and the embeddings (n, d) of its images."""

    pool: Pool
    emb_nd: NDArray[np.float32]


@dataclass(frozen=True)
class Schooling:
    """How a network was trained on labelled images before anyone picks, augmented.

    Parameters
    ----------
    network : str
    source, per_class : str, int or None
        Which images, as `load_pool` takes them.
    n_steps, seed : int
    """

    network: str
    source: str
    per_class: int | None
    n_steps: int
    seed: int


@lru_cache(maxsize=1)
def _whole(source: str, test_per_class: int | None, options: Options) -> Material:
    pool = load_pool(source, data=options.data, test_per_class=test_per_class)
    return Material(pool, embed_images(pool.images, ClipEncoder(options.model, options.pretrained)))


@lru_cache(maxsize=1)
def load_setting(setting: Setting, options: Options) -> Material:
    """Draw a pool; every image of the source is encoded once, for all seeds."""
    whole = _whole(setting.source, setting.test_per_class, options)
    y, rng = whole.pool.y, np.random.default_rng((PICK_SEED, setting.seed))
    each = [rng.permutation(np.flatnonzero(y == k)) for k in range(len(whole.pool.classes))]
    drawn = np.sort(np.concatenate([places[: setting.per_class] for places in each]))
    if setting.tail is not None:
        drawn = drawn[long_tailed(y[drawn], factor=setting.tail, seed=setting.seed)]
    if setting.pool_classes is not None:
        drawn = drawn[np.isin(y[drawn], setting.pool_classes)]
    return Material(whole.pool.take(drawn), whole.emb_nd[drawn])


@lru_cache(maxsize=1)
def earlier_images(source: str, per_class: int | None, options: Options) -> Pool:
    """Load what a network was pre-trained on; no test images to speak of."""
    return load_pool(source, data=options.data, per_class=per_class, test_per_class=1)


@lru_cache(maxsize=4)
def schooled(schooling: Schooling, options: Options) -> Network:
    """Return the network, trained now or by an earlier run; not to be changed."""
    images = earlier_images(schooling.source, schooling.per_class, options)
    return trained_once(
        schooling.network, images, n_steps=schooling.n_steps, seed=schooling.seed,
        device=options.device,
    )  # fmt: skip


def trained_once(name: str, pool: Pool, *, n_steps: int, seed: int, device: str) -> Network:
    """Train a new network on all images of a pool, or read what an earlier run left.

    The file is named by a hash of all that its weights depend on: pixels, labels, first
    weights, steps, seed, device, torch's version, and the code that trains.
    """
    network = make_network(name, len(pool.classes), seed=seed, image_size=pool.images.shape[1]).to(
        device
    )
    digest = hashlib.sha256(pool.images.tobytes() + pool.y.tobytes())
    for weights in network.state_dict().values():
        digest.update(weights.cpu().numpy().tobytes())
    digest.update(repr((name, n_steps, seed, device, torch.__version__)).encode())
    for module in (networks, training):
        digest.update(Path(str(module.__file__)).read_bytes())
    path = cifar.CACHE / f"network-{digest.hexdigest()[:16]}.pt"
    if path.is_file():
        network.load_state_dict(torch.load(path, map_location=device, weights_only=True))
        return network.eval()
    train(network, pool.images, pool.y, n_steps=n_steps, seed=seed, augmented=True, device=device)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    torch.save(network.state_dict(), unfinished)
    unfinished.replace(path)
    return network


GIVEN = {"vocabulary", "table", "class_embeddings", "class_names"}
"""Parameters of strategies that hold data, which a cell names elsewhere."""


def spelled_out(strategy: Any) -> dict[str, Any]:
    """Return the settings of a strategy, so that a changed default is another cell."""
    settings: dict[str, Any] = strategy.get_params()
    return {name: value for name, value in settings.items() if name not in GIVEN}


def our_methods() -> dict[str, dict[str, Any]]:
    """Return our strategies: name → vocabulary and settings, all of them spelled out.

    The hybrid with the library's defaults, and those that differ from it in one setting.
    """
    default = spelled_out(CBDMarginSampling())
    settings = {
        OURS: default,
        **{f"{OURS}, {word}": {**default, "weighting": word} for word in WEIGHTINGS},
        **{f"{OURS}, factor {k}": {**default, "candidate_factor": k} for k in FACTORS},
    }
    different = {k: v for k, v in settings.items() if k == OURS or v != default}
    return {
        ALONE: {"vocabulary": GENERAL, "settings": spelled_out(CBDSampling())},
        **{name: {"vocabulary": GENERAL, "settings": found} for name, found in different.items()},
        RANDOM_WORDS: {"vocabulary": CONTROL, "settings": default},
    }


@lru_cache(maxsize=4)
def profiles_of(
    setting: Setting, vocabulary: str, m: int, similarity: str, options: Options
) -> ConceptProfiles:
    """Profile a pool; strategies that differ in how they pick share this."""
    return ConceptProfiles.from_embeddings(
        load_setting(setting, options).emb_nd,
        vocabulary_of(vocabulary, options),
        m,
        similarity=similarity,
    )


def make_task(
    material: Material, models: Sequence[Network], labelled: Indices, rest: Indices, cell: Cell
) -> LabellingTask:
    """Return what a method may look at: the first of the networks, and all of them together.

    Parameters
    ----------
    material : Material
    models : sequence of Network
        One, or the members of an ensemble.
    labelled, rest : ndarray of int64
        Places in the pool.
    cell : dict
        With "method" and "seed".
    """
    emb_nd, images = material.emb_nd, material.pool.images
    prob = np.empty((1, len(images), 0), np.float32)
    features = np.empty((len(images), 0), np.float32)
    if cell["method"] not in BLIND:
        outputs = [predict(model, images) for model in models]
        prob, features = np.stack([p for p, _ in outputs]), outputs[0][1]
    return LabellingTask(
        emb_nd[rest], emb_nd[labelled], features[rest], features[labelled],
        prob[0][rest], prob[:, rest], 1000 * cell["seed"] + len(labelled),
    )  # fmt: skip


class Picker:
    """Who picks in a cell with "method", "vocabulary" and "settings".

    Parameters
    ----------
    cell : dict
        Settings of ours; None for a method of `TO_LABEL`.
    setting : Setting
        The pool, whose profiles are made here.
    options : Options
    """

    def __init__(self, cell: Cell, setting: Setting, options: Options) -> None:
        self.method, settings = cell["method"], cell["settings"]
        self.strategy: CBDSampling | CBDMarginSampling | None = None
        if settings is not None:
            kind = CBDSampling if self.method == ALONE else CBDMarginSampling
            self.strategy = kind(**settings)
            self.profiles = profiles_of(
                setting, cell["vocabulary"], settings["m"], settings["similarity"], options
            )

    def known(self, labelled: Indices) -> ConceptProfiles | None:
        """Return what a strategy of ours should know of labelled places in the pool."""
        if self.strategy is None or not len(labelled):
            return None
        return self.profiles.take(labelled)

    def pick(self, task: LabellingTask, rest: Indices, n: int, known: Any) -> Indices:
        """Return n places in the rest, best first.

        Parameters
        ----------
        task : LabellingTask
        rest : ndarray of int64
            Places in the pool that may be picked, those of the task.
        n : int
        known : ConceptProfiles, ndarray of shape (l, d) or None
            What counts as chosen already; methods of others go by the task alone.
        """
        if self.strategy is None:
            return TO_LABEL[self.method](task, n)
        left = self.profiles.take(rest)
        if isinstance(self.strategy, CBDSampling):
            return self.strategy.select(n_instances=n, profiles=left, labelled=known)
        return self.strategy.select(
            n_instances=n, probabilities=task.prob_nk, profiles=left, labelled=known
        )
