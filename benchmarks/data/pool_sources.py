"""Where the images of a pool come from: files of CIFAR-10, its download, digits, or a folder.

Each source says which labels there are before it reads an image, so that a small draw from
a large source reads only what it needs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from benchmarks.data.cifar import ARCHIVE, CACHE, CLASSES, cifar_root
from clip_al.errors import InvalidInputError, UnreadableImageError
from clip_al.images.folders import list_images
from clip_al.images.pixels import to_rgb
from clip_al.images.sources import describe_failure

CIFAR_SPLITS = {"cifar10": (2500, 5000), "cifar10-seen": (0, 2500)}
"""Which training images of each class: those that the mini model never saw, and the others."""
DIGITS = tuple(
    f"the digit {word}"
    for word in ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
)
DIGITS_SIZE = 32  # pixels a side
FOLDER_SIZE = 64  # pixels a side of images from a folder


class Split(NamedTuple):
    """Labels (n,), int64, and what reads the images in given places: (b, h, w, 3), uint8."""

    y: NDArray[np.int64]
    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]]


def cifar_splits(data: Path, first: int, last: int) -> tuple[Split, Split]:
    """Return images first..last-1 of each class of CIFAR-10 to train on, and its test images.

    From the files of the folder; where it has none, from torchvision's download.
    """
    try:
        root = cifar_root(data, CACHE)
    except FileNotFoundError:
        if (data / ARCHIVE).is_file():  # a damaged archive is not a missing one
            raise
        return _downloaded(data, True, first, last), _downloaded(data, False, 0, 1000)

    def split(folder: str, first: int, last: int) -> Split:
        files = [root / folder / c / f"{i:04d}.jpg" for c in CLASSES for i in range(first, last)]
        y = np.repeat(np.arange(len(CLASSES)), last - first)
        return Split(y, lambda places: _read_files([files[i] for i in places], None))

    return split("train", first, last), split("test", 0, 1000)


def _downloaded(data: Path, train: bool, first: int, last: int) -> Split:
    """Return images first..last-1 of each class, in the order of torchvision's release."""
    from torchvision.datasets import CIFAR10  # 1 s to import, and rarely needed

    try:
        release = CIFAR10(CACHE / "torchvision", train=train, download=True)
    except (OSError, RuntimeError) as exc:
        raise FileNotFoundError(
            f"CIFAR-10 must be in {data}, as {ARCHIVE} or unpacked, or be downloadable; the "
            f"download failed: {exc}. Point --data or CLIP_AL_DATA at it, or go online."
        ) from exc
    if train:
        warnings.warn(
            f"CIFAR-10 is torchvision's download, as {data} holds none: its pixels differ "
            "slightly from the JPEG files', and so will the results.",
            stacklevel=4,
        )
    labels = np.asarray(release.targets)
    places = np.concatenate([np.flatnonzero(labels == k)[first:last] for k in range(len(CLASSES))])
    return Split(labels[places], lambda chosen: release.data[places[chosen]])


def digits_splits(seed: int) -> tuple[Split, Split]:
    """Return 60 % of scikit-learn's digits, and 40 % to test on."""
    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    y = digits.target.astype(np.int64)

    def read(places: NDArray[np.int64]) -> NDArray[np.uint8]:
        size = (DIGITS_SIZE, DIGITS_SIZE)
        enlarged = [Image.fromarray(grey[i]).resize(size, Image.Resampling.BICUBIC) for i in places]
        return np.stack([np.asarray(image.convert("RGB")) for image in enlarged])

    return _stratified(Split(y, read), 0.4, seed)


def _stratified(whole: Split, test_share: float, seed: int) -> tuple[Split, Split]:
    parts = train_test_split(
        np.arange(len(whole.y)), test_size=test_share, random_state=seed, stratify=whole.y
    )

    def split(places: NDArray[np.int64]) -> Split:
        return Split(whole.y[places], lambda chosen: whole.read(places[chosen]))

    return split(np.sort(parts[0])), split(np.sort(parts[1]))


def folder_splits(root: Path, seed: int) -> tuple[tuple[str, ...], tuple[Split, Split]]:
    """Return the classes of a folder; train/ and test/ or val/, or 80 % and 20 % of it."""
    inner = root / "train" if (root / "train").is_dir() else root
    classes, whole = _labelled_folder(inner)
    held_out = [root / name for name in ("test", "val") if (root / name).is_dir()]
    if inner != root and held_out:
        found, test = _labelled_folder(held_out[0])
        if found != classes:
            differing = sorted(set(found) ^ set(classes))
            raise InvalidInputError(
                f"{inner} and {held_out[0]} must hold the same classes; only one holds "
                f"{', '.join(differing[:5])}. Add the missing subfolders."
            )
        train = whole
    else:
        rare = int(np.bincount(whole.y).min())
        if rare < 5:
            raise InvalidInputError(
                f"Each class in {inner} must have at least 5 images, of which one in 5 is held "
                f"out; the rarest has {rare}. Add images, or a folder train/ beside a test/."
            )
        train, test = _stratified(whole, 0.2, seed)
    return tuple(name.replace("_", " ") for name in classes), (train, test)


def _labelled_folder(folder: Path) -> tuple[list[str], Split]:
    classes = sorted(d.name for d in folder.iterdir() if d.is_dir() and d.name[0] != ".")
    files, y = [], []
    for k, name in enumerate(classes):
        found = list_images(folder / name)
        if not found:
            raise InvalidInputError(f"{folder / name} must hold images; got none. Add some.")
        files += [folder / name / file for file in found]
        y += [k] * len(found)
    if len(classes) < 2:
        raise InvalidInputError(
            f"{folder} must hold a subfolder of images for each of at least two classes; got "
            f"{len(classes)}. Sort the images into such subfolders."
        )
    return classes, Split(
        np.array(y), lambda places: _read_files([files[i] for i in places], FOLDER_SIZE)
    )


def _read_files(paths: Sequence[Path], size: int | None) -> NDArray[np.uint8]:
    """Read RGB images; with a size, of their central square, resized."""
    images, failures = [], []
    for path in paths:
        try:
            image = to_rgb(path)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
            failures.append((str(path), describe_failure(exc, str(path))))
            continue
        if size:
            image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
        images.append(np.asarray(image))
    if failures:
        raise UnreadableImageError(failures, "Repair or delete them.")
    return np.stack(images)
