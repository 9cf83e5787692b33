"""Pools of genuine CLIP embeddings that have the text embeddings of their classes.

They are read where they are: the folder `real_clip` beside the images that
`benchmarks.data.cifar.data_folder` finds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.cifar import data_folder
from benchmarks.harness.cells import Options, UnavailableError

MAX_IMAGES = 900
FOOD = {
    "french_fries": "french fries",
    "guacamole": "guacamole",
    "hamburger": "hamburger",
    "ice_cream": "ice cream",
    "omelette": "omelet",
    "pizza": "pizza",
    "sushi": "sushi",
    "tacos": "taco",
}
"""Kinds of food whose name has a text embedding."""
LANDSCAPES = {
    "coast": "seashore",
    "desert": "sandbar",
    "forest": "valley",
    "mountain": "alp",
    "plain": "hay",
}
"""The nearest classes of ImageNet: weak texts, of which zero-shot names 28 %."""


class TextPool(NamedTuple):
    """Unit rows of images, their class numbers, and unit rows of class texts."""

    image_emb_nd: NDArray[np.float64]
    code_n: NDArray[np.int64]
    text_emb_kd: NDArray[np.float64]


def real_folder(data: Path | None) -> Path:
    """Return the folder of the genuine embeddings."""
    folder = data_folder(data) / "real_clip"
    if not folder.is_dir():
        raise UnavailableError(f"there is no folder {folder}; set CLIP_AL_DATA")
    return folder


@lru_cache(maxsize=2)
def load_text_pool(name: str, options: Options) -> TextPool:
    """Return a pool by its name; one of `TEXT_POOLS`."""
    pool = TEXT_POOLS[name](real_folder(options.data))
    rows = np.random.default_rng(0).permutation(len(pool.code_n))[:MAX_IMAGES]
    return TextPool(pool.image_emb_nd[rows], pool.code_n[rows], pool.text_emb_kd)


def _unit(rows: Any) -> NDArray[np.float64]:
    array = np.asarray(rows, dtype=np.float64)
    unit: NDArray[np.float64] = array / np.linalg.norm(array, axis=1, keepdims=True)
    return unit


def _words(folder: Path) -> dict[str, NDArray[Any]]:
    """Return the text embedding of each class name; LVIS before Objects365, OpenImages."""
    with np.load(folder / "class_texts_openai_vitb32.npz", allow_pickle=False) as file:
        found = {}
        for source in ("openimages", "objects365", "lvis"):
            names = [name.lower().replace("_", " ") for name in file[f"{source}_names"]]
            found.update(zip(names, file[f"{source}_embeddings"], strict=True))
    return found


def _cifar(folder: Path) -> TextPool:
    with np.load(folder / "cifar10_test500_openai_vitb32.npz", allow_pickle=False) as file:
        names = [n.replace("automobile", "car (automobile)") for n in file["class_names"]]
        words = _words(folder)
        return TextPool(
            _unit(file["embeddings"]),
            file["labels"].astype(np.int64),
            _unit([words[n] for n in names]),
        )


def _food(folder: Path) -> TextPool:
    words = _words(folder)
    with np.load(folder / "food10_2500_openai_vitb32.npz", allow_pickle=False) as file:
        kinds = sorted(FOOD)
        kept = np.isin(file["labels"], kinds)
        code_n = np.searchsorted(kinds, file["labels"][kept])
        text_emb_kd = _unit([words[FOOD[kind]] for kind in kinds])
        return TextPool(_unit(file["embeddings"][kept]), code_n, text_emb_kd)


def _satellite(folder: Path) -> TextPool:
    with np.load(folder / "imagenet1k_texts_openai_vitb32.npz", allow_pickle=False) as file:
        first = [name.split(",")[0] for name in file["names"]]
        texts = {name: file["embeddings"][i] for i, name in reversed(list(enumerate(first)))}
    with np.load(folder / "satellite_2058_openai_vitb32.npz", allow_pickle=False) as file:
        kinds = sorted(LANDSCAPES)
        kept = np.isin(file["traits"], kinds)
        code_n = np.searchsorted(kinds, file["traits"][kept])
        text_emb_kd = _unit([texts[LANDSCAPES[kind]] for kind in kinds])
        return TextPool(_unit(file["embeddings"][kept]), code_n, text_emb_kd)


def _products(field: str, folder: Path) -> TextPool:
    """Return products; a class text is the mean name of a third of them, left out of the pool."""
    with np.load(folder / "fashion_1000_marqo_fashionclip.npz", allow_pickle=False) as file:
        values, counts = np.unique(file[field], return_counts=True)
        kinds = values[counts >= 8]
        kept = np.flatnonzero(np.isin(file[field], kinds))
        code_n = np.searchsorted(kinds, file[field][kept])
        image_emb_nd, name_emb_nd = file["embeddings"][kept], _unit(file["text_embeddings"][kept])
    rng, is_text_n = np.random.default_rng(7), np.zeros(len(kept), dtype=bool)
    for kind in range(len(kinds)):
        members = rng.permutation(np.flatnonzero(code_n == kind))
        is_text_n[members[: max(2, len(members) // 3)]] = True
    texts = [name_emb_nd[is_text_n & (code_n == kind)].mean(axis=0) for kind in range(len(kinds))]
    return TextPool(_unit(image_emb_nd[~is_text_n]), code_n[~is_text_n], _unit(texts))


TEXT_POOLS: dict[str, Callable[[Path], TextPool]] = {
    "CIFAR photos": _cifar,
    "food": _food,
    "products": lambda folder: _products("article", folder),
    "products by group": lambda folder: _products("sub", folder),
    "products by colour": lambda folder: _products("colour", folder),
    "satellite tiles": _satellite,
}
