"""Images of the mini model as tensors: loading, the targets, and augmentation in batches.

The final preprocessing of the model is PIL's bicubic resize to 64 pixels; `resize_weights` builds
the same bicubic kernel as two small matrices per image, so that crop, shift, zoom, flip and resize
are two batched matrix products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.data.cifar import cifar_root, data_folder, load_cifar  # noqa: F401  also for the others
from benchmarks.train_mini.concepts import CLASSES, class_targets
from benchmarks.train_mini.glyphs import DIGIT_WORDS, Glyphs, draw_glyphs
from benchmarks.train_mini.pixels import pixel_concepts
from benchmarks.train_mini.shapes import SHAPES

MEAN = (0.47, 0.46, 0.42)
STD = (0.26, 0.26, 0.27)


@dataclass
class Pictures:
    """One source of pictures with the truth of every concept."""

    pixels: Tensor  # (n, h, w, c) uint8, as the demo would hand them to the preprocessing
    targets: Tensor  # (n, concepts) uint8, 255 = certainly true
    identity: Tensor  # (n,) int64 position among the identity concepts
    flip: bool  # whether mirroring keeps the concepts true
    fill: float  # what lies outside the picture, in [0, 1]


def identity_names(vocabulary: list[list[str]]) -> list[str]:
    """Return the concepts that name what a picture is: CIFAR classes, digits, letters, shapes."""
    known = {row[0] for row in vocabulary}
    letters = [f"letter {chr(97 + i)}" for i in range(26)]
    return [name for name in [*CLASSES, *DIGIT_WORDS, *letters, *SHAPES] if name in known]


def photographs(
    images: np.ndarray, labels: np.ndarray, names: list[str], identities: list[str]
) -> Pictures:
    """Targets of CIFAR-10 photographs: class words, and what the pixels show."""
    column = {name: i for i, name in enumerate(names)}
    targets = class_targets(names)[labels]
    for name, truth in pixel_concepts(images, labels).items():
        if name in column:
            c = column[name]
            targets[:, c] = np.where(truth, 0.95, np.minimum(targets[:, c], 0.3))
    for name in ("photograph", "low resolution"):
        targets[:, column[name]] = 0.5
    identity = np.array([identities.index(c) for c in CLASSES])[labels]
    return Pictures(
        torch.from_numpy(images), torch.from_numpy((targets * 255).astype(np.uint8)),
        torch.from_numpy(identity), flip=True, fill=0.46,
    )  # fmt: skip


def glyph_pictures(
    glyphs: Glyphs, names: list[str], identities: list[str]
) -> tuple[Pictures, Pictures]:
    """Targets of the drawn glyphs: (small 8 x 8, large 32 x 32)."""
    column = {name: i for i, name in enumerate(names)}
    position = {name: i for i, name in enumerate(identities)}

    def build(pixels: np.ndarray, concepts: list[list[str]]) -> Pictures:
        targets = np.zeros((len(pixels), len(names)), np.uint8)
        identity = np.zeros(len(pixels), np.int64)
        for i, words in enumerate(concepts):
            columns = [column[w] for w in words if w in column]
            targets[i, columns] = 250
            identity[i] = position[words[0]]
        return Pictures(
            torch.from_numpy(pixels),
            torch.from_numpy(targets),
            torch.from_numpy(identity),
            False,
            0.0,
        )

    small = np.stack(glyphs.small).astype(np.float32) * (255 / 16)
    return (
        build(small.astype(np.uint8)[..., None], glyphs.small_concepts),
        build(np.stack(glyphs.large), glyphs.large_concepts),
    )


def load_glyphs(cache: Path, seed: int, scale: float) -> Glyphs:
    """Draw the glyphs, or read them back from the cache folder."""
    path = cache / f"glyphs-{seed}-{scale}.npz"
    if path.is_file():
        z = np.load(path, allow_pickle=False)
        split = [
            [row.split("|") for row in z[k].tolist()] for k in ("small_concepts", "large_concepts")
        ]
        return Glyphs(list(z["small"]), split[0], list(z["large"]), split[1])
    glyphs = draw_glyphs(seed, scale)
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(
        path, small=np.stack(glyphs.small), large=np.stack(glyphs.large),
        small_concepts=np.array(["|".join(map(str, c)) for c in glyphs.small_concepts]),
        large_concepts=np.array(["|".join(map(str, c)) for c in glyphs.large_concepts]),
    )  # fmt: skip
    return load_glyphs(cache, seed, scale)


def resize_weights(start: Tensor, length: Tensor, source: int, out: int) -> Tensor:
    """Bicubic weights (b, out, source) that read [start, start + length) of each row.

    Catmull-Rom kernel (a = -0.5) and weights renormalised at the border, as PIL does; positions
    outside the source get weight 0.
    """
    step = length / out
    pos = start[:, None] + (torch.arange(out) + 0.5)[None] * step[:, None] - 0.5
    d = (pos[..., None] - torch.arange(source)).abs()
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    w = torch.where(d < 1, near, torch.where(d < 2, far, torch.zeros(())))
    inside = ((pos > -0.75) & (pos < source - 0.25))[..., None]
    total = w.sum(-1, keepdim=True)
    return torch.where(
        inside, w / torch.where(total.abs() < 0.1, torch.ones(()), total), torch.zeros(())
    )


def to_batch(
    pictures: Pictures, rows: Tensor, size: int, strength: float, rng: torch.Generator
) -> Tensor:
    """Augment and resize pictures: (b, 3, size, size) float32, normalised, channels last.

    `strength` 0 gives exactly the model's own preprocessing.
    """
    x = pictures.pixels[rows].permute(0, 3, 1, 2).float() / 255
    b, source = len(x), x.shape[-1]

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=rng)

    zoom, shift = (0.14, 0.11) if pictures.flip else (0.08, 0.07)
    common = torch.exp((rand(b) * 2 - 1) * zoom * strength)
    axes = []
    for _ in range(2):
        length = source * common * torch.exp((rand(b) * 2 - 1) * 0.08 * strength)
        start = (source - length) / 2 + source * (rand(b) * 2 - 1) * shift * strength
        axes.append(resize_weights(start, length, source, size))
    rows_w, cols_w = axes
    if pictures.flip:
        mirrored = rand(b)[:, None, None] < (0.5 if strength else -1.0)
        cols_w = torch.where(mirrored, cols_w.flip(1), cols_w)
    if strength:
        x = _jitter(x, pictures.flip, strength, rand)
    x = rows_w[:, None] @ (x - pictures.fill)
    x = (x @ cols_w.mT[:, None] + pictures.fill).clamp_(0, 1)
    if x.shape[1] == 1:
        x = x.expand(-1, 3, -1, -1)
    x = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    return x.contiguous(memory_format=torch.channels_last)


def _jitter(x: Tensor, photo: bool, strength: float, r: Callable[..., Tensor]) -> Tensor:
    """Vary contrast, saturation and brightness, and cut a square out of photographs."""
    b, c, size, _ = x.shape
    s = strength * (1.0 if photo else 0.5)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * (1 + s * 0.25 * (r(b, 1, 1, 1) * 2 - 1)) + mean
    if photo:
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * (1 + s * 0.25 * (r(b, 1, 1, 1) * 2 - 1))
        x = x + s * 0.08 * (r(b, 1, 1, 1) * 2 - 1) + s * 0.03 * (r(b, c, 1, 1) * 2 - 1)
        hole = size * 0.34 * strength
        cy, cx = r(b, 1, 1) * size, r(b, 1, 1) * size
        grid = torch.arange(size)
        box = ((grid[:, None] - cy).abs() < hole / 2) & ((grid[None] - cx).abs() < hole / 2)
        x = torch.where(box[:, None], torch.tensor(0.46), x)
    return x


def load_sources(
    root: Path, cache: Path, seed: int, scale: float, names: list[str], identities: list[str]
) -> dict[str, Pictures]:
    """Load every training picture: CIFAR-10 train 0000-2499 of each class, and the glyphs."""
    images, labels = load_cifar(root, "train", 0, 2500)
    small, large = glyph_pictures(load_glyphs(cache, seed, scale), names, identities)
    photo = photographs(images, labels, names, identities)
    return {"photo": photo, "small": small, "large": large}
