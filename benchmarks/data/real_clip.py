"""Pools of genuine CLIP embeddings: those of the team's data folder, and any folder of `.npz`.

A file holds `embeddings` (n, d) and `labels` (n,), any kind; it may hold `class_names` or
`class_embeddings` (k, d). Nothing is read but these arrays.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import normalize

from benchmarks.data.cifar import data_folder
from benchmarks.harness.cells import UnavailableError

POOLS_VARIABLE = "CLIP_AL_POOLS"
"""Names a folder of further pools; `python -m benchmarks.run real --pools DIR` sets it."""
FILES = {
    "cifar": ("cifar10_test500_openai_vitb32.npz", "labels"),
    "micrographs": ("micrographs_867_clip.npz", "technique"),
    "fashion": ("fashion_1000_marqo_fashionclip.npz", "article"),
    "fashion colours": ("fashion_1000_marqo_fashionclip.npz", "colour"),
    "food": ("food10_2500_openai_vitb32.npz", "labels"),
    "satellite": ("satellite_2058_openai_vitb32.npz", "country"),
}
TEXTS = "class_texts_openai_vitb32.npz"
LEAST = 8
"""Images that a class must have to stay."""
CIFAR_TEXTS = {"automobile": "car_(automobile)", "ship": "Ship"}


@dataclass(frozen=True, eq=False)
class RealPool:
    """Embeddings and labels; texts of the classes and a vocabulary, where there are any.

    Parameters
    ----------
    emb_nd : ndarray of shape (n, d), float32
        Of unit length.
    y : ndarray of shape (n,), int64
        Numbers of the classes.
    class_emb_kd, word_emb_vd : ndarray of shape (k, d) and (v, d), float32, or None
        Texts of the classes, and of words that may describe any image.
    """

    emb_nd: NDArray[np.float32]
    y: NDArray[np.int64]
    class_emb_kd: NDArray[np.float32] | None
    word_emb_vd: NDArray[np.float32] | None


def further_pools() -> list[str]:
    """Return the names of the pools in the folder that the variable names."""
    folder = os.environ.get(POOLS_VARIABLE)
    return sorted(path.stem for path in Path(folder).glob("*.npz")) if folder else []


@lru_cache(maxsize=8)
def load_real_pool(name: str, data: Path | None = None) -> RealPool:
    """Load a pool; classes of fewer than 8 images are left out.

    Raises
    ------
    UnavailableError
        Where its file is not there.
    ValueError
        Where the file is not of this form.
    """
    folder = data_folder(data) / "real_clip"
    path, field = folder / FILES[name][0], FILES[name][1]
    arrays = _read(path)
    words = None
    if "openai" in path.name or name == "micrographs":
        words = _unit(_read(folder / TEXTS)["lvis_embeddings"])
    elif "text_embeddings" in arrays:
        words = _unit(np.unique(arrays["text_embeddings"], axis=0))
    classes = _cifar_texts(folder, arrays["class_names"].tolist()) if name == "cifar" else None
    return _pool(arrays["embeddings"], arrays[field], classes, words)


@lru_cache(maxsize=8)
def load_further_pool(name: str) -> RealPool:
    """Load a pool of the folder that the variable names."""
    path = Path(os.environ.get(POOLS_VARIABLE, "")) / f"{name}.npz"
    arrays = _read(path)
    for key in ("embeddings", "labels"):
        if key not in arrays:
            raise ValueError(
                f"{path} must hold `embeddings` and `labels`; got {', '.join(arrays)}. Add {key}."
            )
    classes = arrays.get("class_embeddings")
    return _pool(arrays["embeddings"], arrays["labels"], classes, None)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise UnavailableError(f"{path.name} is not there. Point --data or --pools at it.")
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def _unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = normalize(rows.astype(np.float32))
    return unit


def _pool(
    emb: NDArray[Any], labels: NDArray[Any], classes: Any, words: NDArray[np.float32] | None
) -> RealPool:
    _, y, counts = np.unique(labels, return_inverse=True, return_counts=True)
    kept_k = counts >= LEAST
    kept_n = kept_k[y]
    texts = None if classes is None else _unit(np.asarray(classes))[kept_k]
    numbers = np.cumsum(kept_k) - 1
    return RealPool(_unit(emb[kept_n]), numbers[y[kept_n]].astype(np.int64), texts, words)


def _cifar_texts(folder: Path, names: list[str]) -> NDArray[Any]:
    arrays = _read(folder / TEXTS)
    rows = {
        str(name): row
        for source in ("objects365", "lvis")
        for name, row in zip(arrays[f"{source}_names"], arrays[f"{source}_embeddings"], strict=True)
    }
    return np.stack([rows[CIFAR_TEXTS.get(name, name)] for name in names])


def split(
    pool: RealPool, *, long_tailed: bool, seed: int, test_share: float = 0.3
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which images to label from, in random order, and which to test on.

    Each class gives 30 % of its images, at least 2, to the test. With `long_tailed`, every
    second class, in random order, keeps a quarter of the others, at least 3.
    """
    rng = np.random.default_rng([105, seed])
    n_classes = int(pool.y.max()) + 1
    thinned = set(rng.permutation(n_classes)[::2].tolist()) if long_tailed else set()
    rows, test = [], []
    for k in range(n_classes):
        members = rng.permutation(np.flatnonzero(pool.y == k))
        n_test = max(2, round(test_share * len(members)))
        test.append(members[:n_test])
        kept = members[n_test:]
        rows.append(kept[: max(3, round(len(kept) / 4))] if k in thinned else kept)
    return rng.permutation(np.concatenate(rows)), np.concatenate(test)
