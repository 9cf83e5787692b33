"""What a threshold of near-copies means: edits of a photo that reach it, and other photos.

    python -m benchmarks.find.copy_thresholds [--picture FILE]

Of 1,000 test photos of CIFAR-10, the first 100 of each class, by the mini model: how near is each
to itself after an edit, and what share of the edited photos reaches each threshold; and how near
is the nearest other photo, which no threshold should reach. The last also by OpenAI's ViT-B/32, on
500 of these photos, whose embeddings the data folder has. `--picture` draws the six pairs of
different photos by the mini model that are just above each threshold.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.data.cifar import cifar_root, data_folder, load_cifar
from benchmarks.harness.environment import print_environment, print_table
from clip_al import ClipEncoder

THRESHOLDS = (0.9, 0.95, 0.98, 0.99)
N_EACH = 100
N_DRAWN = 6
ALL_OTHERS = "another photo, the nearest"


def as_jpeg(photo: Image.Image, quality: int) -> Image.Image:
    """Return a photo after it was saved with loss."""
    held = io.BytesIO()
    photo.save(held, "JPEG", quality=quality)
    return Image.open(held).convert("RGB")


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved as JPEG, quality 50": lambda photo: as_jpeg(photo, 50),
    "saved as JPEG, quality 10": lambda photo: as_jpeg(photo, 10),
    "half the size": lambda photo: photo.resize((photo.width // 2, photo.height // 2)),
    "1.2 times as bright": lambda photo: ImageEnhance.Brightness(photo).enhance(1.2),
    "cropped to 90 %": lambda photo: ImageOps.crop(photo, round(0.05 * photo.width)),
    "turned by 5°": lambda photo: photo.rotate(5, Image.Resampling.BILINEAR),
    "mirrored": ImageOps.mirror,
    "grey": lambda photo: ImageOps.grayscale(photo).convert("RGB"),
}


def shares(name: str, sim_n: NDArray[Any]) -> dict[str, Any]:
    """Return the median, and what share reaches each threshold."""
    return {
        "what": name,
        "median": float(np.median(sim_n)),
        **{f"{t:g}": float((sim_n >= t).mean()) for t in THRESHOLDS},
    }


def nearest_other(Z: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the cosine with the nearest other image, and which that is."""
    sim_nn = Z @ Z.T
    np.fill_diagonal(sim_nn, -2)
    return sim_nn.max(axis=1), sim_nn.argmax(axis=1)


def draw_pairs(path: Path, photos: NDArray[np.uint8], Z: NDArray[Any]) -> None:
    """Draw pairs of different photos just above each threshold, a row each."""
    left, right = np.triu_indices(len(Z), 1)
    sim_p = (Z @ Z.T)[left, right]
    rows = []
    for threshold in THRESHOLDS:
        above = np.flatnonzero(sim_p >= threshold)
        some = above[np.argsort(sim_p[above], kind="stable")[:N_DRAWN]]
        pairs = [np.concatenate([photos[left[p]], photos[right[p]]], axis=1) for p in some]
        pairs += [np.full((32, 64, 3), 255, np.uint8)] * (N_DRAWN - len(pairs))
        rows.append(np.concatenate([np.pad(x, ((4, 4), (4, 4), (0, 0))) for x in pairs], axis=1))
    Image.fromarray(np.concatenate(rows)).resize((2 * N_DRAWN * 72, 320)).save(path)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Print the table, return one record a row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of the data; CLIP_AL_DATA by default")
    parser.add_argument("--each", type=int, default=N_EACH, help="photos of each class")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw pairs there")
    args = parser.parse_args(arguments)
    print_environment(0)
    data = data_folder(args.data)
    with tempfile.TemporaryDirectory() as cache:
        pixels, _ = load_cifar(cifar_root(data, Path(cache)), "test", 0, args.each)
    photos = [Image.fromarray(x) for x in pixels]
    encoder = ClipEncoder("mini", progress=False)
    Z = encoder.encode_images(photos)
    records = []
    for name, edit in EDITS.items():
        edited = encoder.encode_images([edit(photo) for photo in photos])
        records.append(shares(name, np.einsum("nd,nd->n", Z, edited)))
    records.append(shares(f"{ALL_OTHERS}, mini", nearest_other(Z)[0]))
    real = data / "real_clip" / "cifar10_test500_openai_vitb32.npz"
    if real.is_file():
        sim_n, _ = nearest_other(np.load(real)["embeddings"])
        records.append(shares(f"{ALL_OTHERS}, ViT-B/32 ({len(sim_n)} photos)", sim_n))
    head = ["", "median cosine", *(f"≥ {t:g}" for t in THRESHOLDS)]
    rows = [
        [r["what"], f"{r['median']:.3f}", *(f"{r[f'{t:g}']:.0%}" for t in THRESHOLDS)]
        for r in records
    ]
    print(f"{len(photos):,} photos of CIFAR-10, mini")
    print_table(head, rows)
    if args.picture is not None:
        draw_pairs(args.picture, pixels, Z)
    return records


if __name__ == "__main__":
    main()
