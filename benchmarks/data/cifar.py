"""CIFAR-10 from the team's data folder."""

from __future__ import annotations

import os
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

ARCHIVE = "cifar10.tar.xz"
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CACHE = Path(tempfile.gettempdir()) / "clip_al-benchmarks"
"""Where unpacked images and embeddings are kept between runs."""


def data_folder(given: Path | None) -> Path:
    """Return the folder that holds the archive: given, $CLIP_AL_DATA, or ../shared/data."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return given or Path(os.environ.get("CLIP_AL_DATA", beside))


def cifar_root(data: Path, cache: Path) -> Path:
    """Return an unpacked CIFAR-10 (`train/<class>/0000.jpg`), unpacking the archive once."""
    for root in (data, data / "cifar10", cache / "cifar10"):
        if (root / "train" / "airplane").is_dir():
            return root
    archive = data / ARCHIVE
    if not archive.is_file():
        raise FileNotFoundError(
            f"`--data` must hold {ARCHIVE} or an unpacked train/ and test/; got {data}. "
            "Point --data or CLIP_AL_DATA at it."
        )
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / "cifar10"
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        inner = next(Path(folder).rglob("train/airplane"), None)
        if inner is None:
            raise FileNotFoundError(f"{archive} holds no train/airplane folder.")
        # At once: processes that unpack it together never see half of it.
        with suppress(OSError):  # another was first
            inner.parents[1].rename(target)
    return target


def load_cifar(root: Path, split: str, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Load images first..last-1 of each class: (n, 32, 32, 3) uint8 and labels (n,) int64."""
    images, labels = [], []
    for k, name in enumerate(CLASSES):
        for i in range(first, last):
            with Image.open(root / split / name / f"{i:04d}.jpg") as image:
                images.append(np.asarray(image.convert("RGB")))
            labels.append(k)
    return np.stack(images), np.array(labels)
