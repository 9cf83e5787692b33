"""The five corruptions of images that the second paper tests a selection with.

Gaussian noise, random occlusion, resolution, fog and motion blur, each at one severity, in
numpy and in blocks of images. All lengths are stated for images of 32 × 32 pixels and grow
with the shorter side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.checks import check_choice, check_int, check_number
from clip_al.errors import InvalidInputError

CORRUPTION_SEED = 101  # kept apart from the seeds of everything that looks at the images
CORRUPTIONS = ("gaussian noise", "occlusion", "resolution", "fog", "motion blur")

NOISE_STD = 0.25  # of the range of a channel
OCCLUDED = 20 / 32  # side of the black square, of the shorter side
CELLS = 8  # that resolution leaves along the shorter side
FOG_GRIDS = (2, 4, 8, 16)  # points a side; each grid has half the weight of the one before
FOG_DENSITY = (0.4, 0.85)  # of the fog's thinnest and thickest place
FOG_COLOUR = 230
BLUR_LENGTH = 9 / 32  # of the shorter side
SMALLEST = 8  # pixels a side; under it a cell, or the path of a blur, is a single pixel
_BLOCK = 1024  # images; of 32 × 32 pixels, 12 MB as float32


def corrupt(images: NDArray[np.uint8], kind: str, seed: int) -> NDArray[np.uint8]:
    """Corrupt every image in one way.

    Parameters
    ----------
    images : ndarray of shape (n, h, w, 3), uint8
        At least 8 pixels a side; not modified.
    kind : {"gaussian noise", "occlusion", "resolution", "fog", "motion blur"}
        Noise: standard deviation 0.25 of the range, on each pixel and channel, cut off at
        the range. Occlusion: a black square, its side 20 of 32 pixels, at a random place
        within the image. Resolution: the means of 8 × 8 cells, i.e. cells of 4 pixels.
        Fog: a light grey, blended in with a density between 0.4 and 0.85 that is a smooth
        random field. Motion blur: the mean along a path of 9 of 32 pixels in a random
        direction, with the border repeated.
    seed : int
        The i-th image's corruption depends on the seed, i and the image alone.

    Returns
    -------
    ndarray of shape (n, h, w, 3), uint8

    Raises
    ------
    InvalidInputError
        Where `images` is no such array, or there is no such kind.

    Notes
    -----
    O(n h w) time; memory of the result and of a block of 1,024 images. The paper shows the
    five kinds and cites Moderate-DS for them, but states no severities. Ours are such that
    one still sees most objects while the mini model, zero-shot, misses many; place and
    direction vary from image to image, so that no network learns to undo them.

    References
    ----------
    Yang et al., "A CLIP-Powered Framework for Robust and Generalizable Data Selection", ICLR
    2025, section 4.3 and appendix G. Xia et al., "Moderate Coreset: A Universal Method of
    Data Selection for Real-world Data-efficient Deep Learning", ICLR 2023, section 4.

    Examples
    --------
    >>> images = np.full((2, 32, 32, 3), 200, dtype=np.uint8)
    >>> float((corrupt(images, "occlusion", seed=0) == 0).mean())
    0.390625
    """
    check_images(images)
    kind = check_choice(kind, CORRUPTIONS, "kind")
    seed = check_int(seed, "seed", smallest=0)
    rng = np.random.default_rng((CORRUPTION_SEED, CORRUPTIONS.index(kind), seed))
    corrupted = np.empty_like(images)
    for start in range(0, len(images), _BLOCK):
        block = slice(start, start + _BLOCK)
        corrupted[block] = _KERNELS[kind](images[block], rng)
    return corrupted


def corrupt_share(
    images: NDArray[np.uint8], share: float, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Corrupt exactly a share of the images, the five kinds in equal parts.

    Parameters
    ----------
    images : ndarray of shape (n, h, w, 3), uint8
        At least 8 pixels a side; not modified.
    share : float
        In [0, 1]; round(share · n) images are drawn without replacement (halves round to
        the even number). The kinds' numbers differ by at most one, and the first kinds of
        `CORRUPTIONS` have the more.
    seed : int
        With one seed, what a smaller share corrupts a larger corrupts too, in the same way.

    Returns
    -------
    images : ndarray of shape (n, h, w, 3), uint8
        A copy.
    corrupted_n : ndarray of shape (n,), bool
        Which of them are corrupted.

    Raises
    ------
    InvalidInputError
        Where `images` is no such array, or an argument is out of its range.

    Examples
    --------
    >>> images = np.zeros((40, 32, 32, 3), dtype=np.uint8)
    >>> int(corrupt_share(images, 0.2, seed=0)[1].sum())
    8
    """
    check_images(images)
    share = check_number(share, "share", low=0, high=1)
    seed = check_int(seed, "seed", smallest=0)
    rng = np.random.default_rng((CORRUPTION_SEED, len(CORRUPTIONS), seed))
    drawn = rng.permutation(len(images))[: round(share * len(images))]
    result, corrupted_n = images.copy(), np.zeros(len(images), dtype=np.bool_)
    for i, kind in enumerate(CORRUPTIONS):
        part = drawn[i :: len(CORRUPTIONS)]
        result[part] = corrupt(images[part], kind, seed)
    corrupted_n[drawn] = True
    return result, corrupted_n


def grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Take the colour out of images (n, h, w, 3): three equal channels, the luma of BT.601.

    Nothing is lost that a class is known by; it is a look, not a corruption.
    """
    check_images(images)
    luma = np.rint(images @ np.array([0.299, 0.587, 0.114]))
    return np.repeat(luma[..., None], 3, axis=-1).astype(np.uint8)


def check_images(images: Any) -> None:
    """Raise an error where `images` is not an array that can be corrupted."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        found = getattr(images, "dtype", type(images).__name__)
        raise InvalidInputError(
            f"`images` must be an array of uint8; got {found}. Scale them to 0 to 255."
        )
    if images.ndim != 4 or images.shape[3] != 3 or min(images.shape[1:3]) < SMALLEST:
        raise InvalidInputError(
            f"`images` must have shape (n, h, w, 3), with h and w at least {SMALLEST}; got "
            f"{images.shape}. Convert them to RGB, and enlarge small ones."
        )


def _noise(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    noise = rng.standard_normal(images.shape, dtype=np.float32)
    return _to_uint8(images + np.float32(255 * NOISE_STD) * noise)


def _occlusion(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    n, h, w, _ = images.shape
    side = round(OCCLUDED * min(h, w))
    corner = rng.random((n, 2))
    hidden = np.ones((n, h, w), dtype=np.bool_)
    for axis, size in enumerate((h, w)):
        first = (corner[:, axis] * (size - side + 1)).astype(np.int64)[:, None]
        within = (np.arange(size) >= first) & (np.arange(size) < first + side)
        hidden &= np.expand_dims(within, 2 - axis)
    return np.where(hidden[..., None], np.uint8(0), images)


def _resolution(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    del rng  # nothing of it is random
    h, w = images.shape[1:3]
    cell = min(h, w) / CELLS
    values = images.astype(np.float32)
    for axis, size in ((1, h), (2, w)):
        cell_of = (np.arange(size) / cell).astype(np.int64)
        first = np.searchsorted(cell_of, np.arange(cell_of[-1] + 1))
        sizes = np.diff(np.append(first, size)).astype(np.float32)
        sums = np.add.reduceat(values, first, axis=axis)
        means = sums / sizes.reshape([-1 if a == axis else 1 for a in range(4)])
        values = np.take(means, cell_of, axis=axis)
    return _to_uint8(values)


def _fog(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    n, h, w, _ = images.shape
    # One draw for all grids: an image's fog then does not depend on the block it is in.
    noise = rng.random((n, sum(g * g for g in FOG_GRIDS)), dtype=np.float32)
    field = np.zeros((n, h, w), dtype=np.float32)
    start, weight = 0, 1.0
    for g in FOG_GRIDS:
        grid = noise[:, start : start + g * g].reshape(n, g, g)
        field += np.float32(weight) * (_stretch(g, h) @ grid @ _stretch(g, w).T)
        start, weight = start + g * g, weight / 2
    lowest, highest = (f(axis=(1, 2), keepdims=True) for f in (field.min, field.max))
    thin, thick = FOG_DENSITY
    density = thin + (thick - thin) * (field - lowest) / (highest - lowest)
    return _to_uint8(images + density[..., None] * (FOG_COLOUR - images.astype(np.float32)))


def _stretch(n_points: int, size: int) -> NDArray[np.float32]:
    """Return the (size, n_points) matrix that interpolates a line of points linearly."""
    places = np.linspace(0, n_points - 1, size)
    near = 1 - np.abs(places[:, None] - np.arange(n_points))
    return np.maximum(near, 0).astype(np.float32)


def _motion_blur(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    n, h, w, _ = images.shape
    angle = np.pi * rng.random((n, 1))
    length = max(3, round(BLUR_LENGTH * min(h, w)))
    total = np.zeros(images.shape, dtype=np.float32)
    places = np.arange(n)[:, None, None]
    for step in np.arange(length) - (length - 1) / 2:
        rows = np.arange(h) + np.rint(step * np.sin(angle)).astype(np.int64)
        columns = np.arange(w) + np.rint(step * np.cos(angle)).astype(np.int64)
        rows, columns = np.clip(rows, 0, h - 1), np.clip(columns, 0, w - 1)
        total += images[places, rows[:, :, None], columns[:, None, :]]
    return _to_uint8(total / length)


def _to_uint8(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


_KERNELS = {
    "gaussian noise": _noise,
    "occlusion": _occlusion,
    "resolution": _resolution,
    "fog": _fog,
    "motion blur": _motion_blur,
}
