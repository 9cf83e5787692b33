"""The images that an experiment chooses from and tests on: CIFAR-10, digits, or a folder.

Also what is done to a pool before anyone chooses: a long tail, and near-duplicates.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.data.cifar import CACHE, CLASSES, data_folder
from benchmarks.data.pool_sources import (
    CIFAR_SPLITS,
    DIGITS,
    cifar_splits,
    digits_splits,
    folder_splits,
)
from benchmarks.harness.cells import Options
from clip_al import ClipEncoder
from clip_al.arrays.checks import check_indices, check_int, check_number
from clip_al.errors import InvalidInputError

POOL_SEED = 102  # kept apart from the seeds of everything that looks at the images
_BLOCK = 1024  # images


@dataclass(frozen=True, eq=False)
class Pool:
    """Images to choose from with their true labels, and images to test on.

    Parameters
    ----------
    name : str
    images : ndarray of shape (n, h, w, 3), uint8
    y : ndarray of shape (n,), int64
        Numbers of the classes.
    classes : tuple of str, of length k
    test_images : ndarray of shape (t, h, w, 3), uint8
    y_test : ndarray of shape (t,), int64
    """

    name: str
    images: NDArray[np.uint8]
    y: NDArray[np.int64]
    classes: tuple[str, ...]
    test_images: NDArray[np.uint8]
    y_test: NDArray[np.int64]

    def take(self, indices: ArrayLike) -> Pool:
        """Return the pool with these of its images alone, in this order; the test stays."""
        places = check_indices(indices, len(self.y))
        return replace(self, images=self.images[places], y=self.y[places])


def load_pool(
    name: str,
    *,
    data: Path | None = None,
    per_class: int | None = None,
    test_per_class: int | None = None,
    seed: int = 0,
) -> Pool:
    """Load a pool and its test images; only the images that are drawn are read.

    Parameters
    ----------
    name : str
        "cifar10" (pool: training images 2,500 to 4,999 of each class, which the mini model
        never saw; test: the test images), "cifar10-seen" (pool: training images 0 to 2,499),
        "digits" (scikit-learn's 1,797, enlarged to 32 × 32 pixels; 60 % pool, 40 % test), or
        the path of a folder with one subfolder a class, or with such a train/ and a test/ or
        val/; without these, 80 % pool, 20 % test. Images of a folder are cropped to their
        central square and resized to 64 × 64 pixels, and an underscore in the name of a class
        becomes a blank.
    data : Path, optional
        Where CIFAR-10 lies; see `benchmarks.data.cifar.data_folder`.
    per_class, test_per_class : int, optional
        Images to draw of each class, at random; all by default. With one seed, the larger
        draw holds the smaller.
    seed : int
        Of the draws, and of the stratified splits of the digits and of a folder.

    Returns
    -------
    Pool
        In the order of the source.

    Raises
    ------
    InvalidInputError
        Where there is no such pool, or a class has too few images.
    UnreadableImageError
        Where files could not be read as images; it names them.
    FileNotFoundError
        Where CIFAR-10 is neither in the folder nor can be downloaded.

    Warns
    -----
    UserWarning
        Where CIFAR-10 comes from torchvision's download: its pixels differ slightly from
        those of the JPEG files, and so do all results.

    Notes
    -----
    The digits are enlarged bicubically: the mini model then names as many of them right as
    without enlarging, bilinearly slightly fewer, by nearest neighbour a fifth.
    """
    seed = check_int(seed, "seed", smallest=0)
    if name in CIFAR_SPLITS:
        classes, (train, test) = CLASSES, cifar_splits(data_folder(data), *CIFAR_SPLITS[name])
    elif name == "digits":
        classes, (train, test) = DIGITS, digits_splits(seed)
    elif Path(name).is_dir():
        classes, (train, test) = folder_splits(Path(name), seed)
    else:
        raise InvalidInputError(
            f"`name` must be {', '.join(map(repr, CIFAR_SPLITS))}, 'digits', or the path of a "
            f"folder of images; got {name!r}. Choose one, or check the path."
        )
    chosen = _draw(train.y, per_class, seed, "per_class", classes)
    tested = _draw(test.y, test_per_class, seed, "test_per_class", classes)
    title = name if name in (*CIFAR_SPLITS, "digits") else Path(name).resolve().name
    return Pool(
        title, train.read(chosen), train.y[chosen], classes, test.read(tested), test.y[tested]
    )


@lru_cache(maxsize=1)
def encoder_of(options: Options) -> ClipEncoder:
    """Return the CLIP model, loaded once."""
    return ClipEncoder(options.model, options.pretrained)


def embed_images(
    images: NDArray[np.uint8], encoder: ClipEncoder, cache: Path = CACHE
) -> NDArray[np.float32]:
    """Return unit embeddings (n, d), float32; read from a file if these pixels were encoded."""
    name = hashlib.sha256(images.tobytes() + encoder.model_id.encode()).hexdigest()[:16]
    path = cache / f"embeddings-{name}.npy"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        # A name of its own: another process may be at the same images.
        with tempfile.NamedTemporaryFile(dir=cache, suffix=".npy", delete=False) as file:
            np.save(file, encoder.encode_images(images))
        Path(file.name).replace(path)
    embeddings: NDArray[np.float32] = np.load(path)
    return embeddings


def embed_classes(classes: Sequence[str], encoder: ClipEncoder) -> NDArray[np.float32]:
    """Return unit embeddings (k, d), float32, of "a photo of a [class]".

    A class that brings its own article, such as "the digit zero", gets no other.
    """
    articles = ("a ", "an ", "the ")
    named = [name if name.startswith(articles) else f"a {name}" for name in classes]
    return encoder.encode_texts(named, templates=["a photo of {}"])


def long_tailed(y: ArrayLike, *, factor: float, seed: int) -> NDArray[np.int64]:
    """Choose images so that class sizes shrink by equal factors.

    Parameters
    ----------
    y : array-like of shape (n,), int
        Labels of at least two classes; not modified.
    factor : float
        At least 1: the largest class is this many times the smallest.
    seed : int
        Of the order of the classes by size, and of the images.

    Returns
    -------
    ndarray of shape (s,), int64
        Distinct places, ascending. As many as the classes allow: of k equal classes, the
        one at place r of the order keeps factor^(-r / (k - 1)) of its images, rounded.

    Raises
    ------
    InvalidInputError
        Where there is but one class, or nothing would be left of one.

    References
    ----------
    Cui, Jia, Lin, Song and Belongie, "Class-Balanced Loss Based on Effective Number of
    Samples", CVPR 2019, section 5.1.
    """
    classes, class_n = np.unique(np.asarray(y), return_inverse=True)
    factor = check_number(factor, "factor", low=1)
    rng = np.random.default_rng((POOL_SEED, check_int(seed, "seed", smallest=0)))
    if len(classes) < 2:
        raise InvalidInputError(
            f"`y` must hold at least two classes; got {len(classes)}. Add images of another."
        )
    weight_k = factor ** (-rng.permutation(len(classes)) / (len(classes) - 1))
    largest = (np.bincount(class_n) / weight_k).min()
    size_k = np.rint(largest * weight_k).astype(np.int64)
    if not size_k.all():
        raise InvalidInputError(
            f"`factor` must leave an image of every class; got {factor:g} for a largest class "
            f"of {int(largest)}. Lower it, or add images."
        )
    places = [rng.permutation(np.flatnonzero(class_n == k))[:size] for k, size in enumerate(size_k)]
    return np.sort(np.concatenate(places)).astype(np.int64)


def with_near_duplicates(pool: Pool, share: float, seed: int) -> tuple[Pool, NDArray[np.int64]]:
    """Replace a share of the images by slightly distorted copies of others.

    Parameters
    ----------
    pool : Pool
        Not modified.
    share : float
        In [0, 1); round(share · n) places are drawn without replacement.
    seed : int

    Returns
    -------
    pool : Pool
        A copy of an image that was not replaced, with its label, in each place that was
        drawn: shifted by up to 2 pixels each way (the border repeated), mirrored or not,
        and 10 % darker to 10 % brighter. One image may be copied more than once.
    source_n : ndarray of shape (n,), int64
        The place of the original; an original's own.

    Notes
    -----
    O(n h w) time; memory of the result and of a block of 1,024 images.
    """
    n = len(pool.y)
    n_copies = round(check_number(share, "share", low=0, below=1) * n)
    if n_copies == n:
        raise InvalidInputError(
            f"`share` must leave an original to copy; got {share} of {n} images. Lower it."
        )
    rng = np.random.default_rng((POOL_SEED, check_int(seed, "seed", smallest=0)))
    order = rng.permutation(n)
    copies, originals = np.sort(order[:n_copies]), np.sort(order[n_copies:])
    source_n = np.arange(n)
    source_n[copies] = rng.choice(originals, n_copies)
    images = pool.images.copy()
    for start in range(0, n_copies, _BLOCK):
        places = copies[start : start + _BLOCK]
        images[places] = _distorted(pool.images[source_n[places]], rng)
    return replace(pool, images=images, y=pool.y[source_n]), source_n


def _distorted(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    n, h, w, _ = images.shape
    shift = rng.integers(-2, 3, (n, 2, 1))
    mirrored, brightness = rng.random((n, 1)) < 0.5, rng.uniform(0.9, 1.1, (n, 1, 1, 1))
    rows = np.clip(np.arange(h) + shift[:, 0], 0, h - 1)
    columns = np.clip(np.arange(w) + shift[:, 1], 0, w - 1)
    columns = np.where(mirrored, w - 1 - columns, columns)
    moved = images[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return np.clip(np.rint(moved * brightness), 0, 255).astype(np.uint8)


def _draw(
    y: NDArray[np.int64], size: int | None, seed: int, parameter: str, classes: Sequence[str]
) -> NDArray[np.int64]:
    """Return the places of `size` images of each class, ascending; of all images if None."""
    if size is None:
        return np.arange(len(y))
    size = check_int(size, parameter)
    rng = np.random.default_rng((POOL_SEED, seed))
    count_k = np.bincount(y, minlength=len(classes))
    if count_k.min() < size:
        rarest = classes[int(count_k.argmin())]
        raise InvalidInputError(
            f"`{parameter}` must be at most {count_k.min()}, the images of {rarest!r}; got "
            f"{size}. Lower it."
        )
    members = [rng.permutation(np.flatnonzero(y == k))[:size] for k in range(len(classes))]
    return np.sort(np.concatenate(members))
