"""One pool seen in several ways: other seeds, prompts, pixels or features, and what is chosen.

Stands in for a second CLIP model where only one is at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.tasks import Indices
from benchmarks.data.label_flips import flip_labels
from benchmarks.data.pools import Pool, embed_classes, embed_images, encoder_of
from benchmarks.data.rows import unit_rows
from benchmarks.harness.cells import Options
from benchmarks.training.networks import make_network
from benchmarks.training.subsets import OURS, PROXY_SEED, Condition, load_condition
from benchmarks.training.training import predict, train
from clip_al import ClipSelector

PROJECTION_SEED = 103  # kept apart from the seeds of everything that looks at the images


@dataclass(frozen=True)
class View:
    """How a selector sees the images and classes of a pool.

    Parameters
    ----------
    noise_seed, selector_seed : int
        Which labels are turned; what the selector, projection or network draws from.
    prompt : str or None
        What class names are put into; None is what `embed_classes` does.
    names : tuple of str, or None
        What the classes are called; None is what the pool calls them.
    images : {"plain", "mirrored", "half", "network"}
        CLIP embeddings; those of mirrored images; a random projection of images and texts to
        half of the dimensions; or features of a network trained on all images as they are
        labelled, with the class means for texts.
    """

    noise_seed: int
    selector_seed: int
    prompt: str | None = None
    names: tuple[str, ...] | None = None
    images: str = "plain"


@dataclass(frozen=True)
class Setting:
    """What two views have in common.

    Parameters
    ----------
    condition : Condition
        Its seed draws the pool; which labels are turned, the view says.
    method : str
        A name of `OURS`.
    ratios : tuple of float
        Shares of the images to choose.
    network, n_steps : str, int
        Of the view "network".
    """

    condition: Condition
    method: str
    ratios: tuple[float, ...]
    network: str
    n_steps: int


def jaccard(a: Indices, b: Indices) -> float:
    """Return the overlap over the union of two sets of indices, not both empty."""
    both = len(np.intersect1d(a, b))
    return both / (len(a) + len(b) - both)


def chance(n_a: int, n_b: int, n_both: float) -> float:
    """Return the Jaccard overlap of sets of two sizes that share `n_both`, the expected number.

    Examples
    --------
    >>> chance(50, 50, 50 * 50 / 100)  # two halves of 100 images, drawn at random
    0.3333333333333333
    """
    return float(n_both / (n_a + n_b - n_both))


def overlaps(a: View, b: View, setting: Setting, options: Options) -> dict[str, list[float]]:
    """Choose from two views; return the Jaccard overlap at each ratio, and that by chance.

    Where the views turn other labels, only images are counted whose label is right in both.
    """
    y = load_condition(setting.condition, options).pool.y
    common = np.ones(len(y), dtype=bool)
    if a.noise_seed != b.noise_seed:
        for view in (a, b):
            common &= given_labels(view.noise_seed, setting.condition, options) == y
    found: dict[str, list[float]] = {"overlap": [], "chance": []}
    chosen = (chosen_from(view, setting, options) for view in (a, b))
    for first, second in zip(*chosen, strict=True):
        first, second = first[common[first]], second[common[second]]
        expected = len(first) * len(second) / int(common.sum())
        found["overlap"].append(jaccard(first, second))
        found["chance"].append(chance(len(first), len(second), expected))
    return found


def given_labels(noise_seed: int, condition: Condition, options: Options) -> NDArray[np.int64]:
    """Return the labels (n,) of a pool, a share of them turned by a seed of its own."""
    pool = load_condition(condition, options).pool
    kind: Any = condition.noise_kind
    return flip_labels(pool.y, condition.noise, noise_seed, len(pool.classes), kind)


@lru_cache(maxsize=16)
def chosen_from(view: View, setting: Setting, options: Options) -> tuple[Indices, ...]:
    """Return what a method chooses at each ratio from what it sees."""
    given_n = given_labels(view.noise_seed, setting.condition, options)
    emb_nd, class_emb_kd = embeddings_of(view, setting, options)
    seed = view.selector_seed
    selector = ClipSelector(
        class_embeddings=class_emb_kd, random_state=seed, **OURS[setting.method](seed)
    )
    selector.fit(emb_nd, given_n)
    return tuple(selector.select(ratio).indices for ratio in setting.ratios)


def embeddings_of(
    view: View, setting: Setting, options: Options
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return unit vectors of the images (n, d) and of the classes (k, d)."""
    condition = setting.condition
    if view.images == "network":
        return network_features(view, condition, setting.network, setting.n_steps, options)
    material = load_condition(condition, options)
    pool, emb_nd, class_emb_kd = material.pool, material.emb_nd, material.class_emb_kd
    names = pool.classes if view.names is None else view.names
    if view.prompt is not None:
        class_emb_kd = encoder_of(options).encode_texts(names, templates=[view.prompt])
    elif view.names is not None:
        class_emb_kd = embed_classes(names, encoder_of(options))
    if view.images == "mirrored":
        emb_nd = embed_images(mirrored(pool), encoder_of(options))
    if view.images == "half":
        d = emb_nd.shape[1]
        rng = np.random.default_rng((PROJECTION_SEED, view.selector_seed))
        basis = np.linalg.qr(rng.standard_normal((d, d // 2)))[0].astype(np.float32)
        emb_nd, class_emb_kd = unit_rows(emb_nd @ basis), unit_rows(class_emb_kd @ basis)
    return emb_nd, class_emb_kd


@lru_cache(maxsize=1)
def network_features(
    view: View, condition: Condition, network: str, n_steps: int, options: Options
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Train a network on all images as labelled; return unit features, and their class means."""
    pool = load_condition(condition, options).pool
    given_n = given_labels(view.noise_seed, condition, options)
    k, seed = len(pool.classes), PROXY_SEED + view.selector_seed
    model = make_network(network, k, seed=seed, image_size=pool.images.shape[1])
    train(model, pool.images, given_n, n_steps=n_steps, seed=seed, device=options.device)
    features_nf = unit_rows(predict(model, pool.images)[1])
    return features_nf, unit_rows(
        np.stack([features_nf[given_n == c].mean(axis=0) for c in range(k)])
    )


def mirrored(pool: Pool) -> NDArray[np.uint8]:
    """Return the images of a pool, left and right exchanged."""
    return np.ascontiguousarray(pool.images[:, :, ::-1])
