"""What sets of images are measured by: embeddings, a network's features, pixels, words.

What is loaded, encoded or trained is kept for the next cell; it must not be changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.diverse_sets import Source, principal_components, with_copies
from benchmarks.data.pools import embed_images, load_pool
from benchmarks.data.rows import unit_rows
from benchmarks.harness.cells import Options
from benchmarks.training.networks import make_network
from benchmarks.training.training import predict, train
from clip_al import ClipEncoder


@dataclass(frozen=True)
class Where:
    """Which images: of a pool as `load_pool` takes it, with copies of `n_copied` of them."""

    pool: str
    per_class: int | None
    n_copied: int
    copies_seed: int


@dataclass(frozen=True)
class Trained:
    """Which network: its images, how many batches of 64 it saw of them, and its seed."""

    network: str
    network_pool: str
    network_per_class: int | None
    steps: int
    seed: int


class Images(NamedTuple):
    """Images (n, h, w, 3) with their copies, where those are, and unit embeddings (n, d)."""

    images: NDArray[np.uint8]
    source: Source
    emb_nd: NDArray[np.float32]


@lru_cache(maxsize=1)
def load_images(where: Where, options: Options) -> Images:
    """Load and encode the pool and distorted copies of some of its images."""
    pool = load_pool(
        where.pool, data=options.data, per_class=where.per_class, seed=where.copies_seed
    )
    images, source = with_copies(pool.images, pool.y, where.n_copied, where.copies_seed)
    encoder = ClipEncoder(options.model, options.pretrained)
    # In two calls: the embeddings of the pool are on disk already if another experiment ran.
    parts = [embed_images(part, encoder) for part in (pool.images, images[source.n_images :])]
    return Images(images, source, np.concatenate(parts))


@lru_cache(maxsize=1)
def network_features(trained: Trained, where: Where, options: Options) -> NDArray[np.float64]:
    """Train a network on images of its own; return its unit features (n, f) of the images."""
    pool = load_pool(trained.network_pool, data=options.data, per_class=trained.network_per_class)
    model = make_network(
        trained.network, len(pool.classes), seed=trained.seed, image_size=pool.images.shape[1]
    )
    n_steps, seed = trained.steps, trained.seed
    train(model, pool.images, pool.y, n_steps=n_steps, seed=seed, device=options.device)
    _, features_nf = predict(model, load_images(where, options).images)
    return unit_rows(features_nf.astype(np.float64))


@lru_cache(maxsize=1)
def pixel_features(n_components: int, where: Where, options: Options) -> NDArray[np.float64]:
    """Return unit vectors (n, n_components) of principal components of the pixels."""
    data = load_images(where, options)
    return principal_components(data.images, data.source.n_images, n_components)
