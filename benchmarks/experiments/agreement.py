"""What the check that labels, names and images agree finds, where it should and should not.

    python -m benchmarks.experiments.agreement [--draws 100] [--data DIR]

Draws of CIFAR-10 (the 500 photos of OpenAI's ViT-B/32, and 2,000 of the mini model) and of
scikit-learn's digits (mini), with rows in random order. Printed: how many draws were warned of
with the right reason, with another one, and not at all; of the cases where nothing is wrong, or
labels alone, how many were warned of.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.cifar import CLASSES, data_folder
from benchmarks.data.label_flips import flip_labels
from benchmarks.data.pool_sources import CIFAR_SPLITS, cifar_splits
from benchmarks.data.pools import embed_classes, embed_images, load_pool
from benchmarks.data.real_clip import load_real_pool
from benchmarks.harness.environment import environment
from clip_al import ClipEncoder
from clip_al.score.agreement import check_agreement

PER_CLASS = 200
PEOPLE = {"people, majority": "aggre_label", "people, one each": "random_label1"}


class Data(NamedTuple):
    """Images, their true labels, class texts, and labels that people gave, where there are any."""

    emb_nd: NDArray[np.float32]
    y: NDArray[np.int64]
    texts: NDArray[np.float32]
    people: dict[str, NDArray[np.int64]]


class Draw(NamedTuple):
    """Labels and class texts as they are handed in, and what the finding must say."""

    y: NDArray[np.int64]
    texts: NDArray[np.float32]
    wanted: str | None


Case = Callable[[NDArray[np.int64], NDArray[np.float32], np.random.Generator], Draw]


def shuffled(y: NDArray[np.int64], T: NDArray[np.float32], rng: np.random.Generator) -> Draw:
    return Draw(rng.permutation(y), T, "the rows seem shuffled")


def shifted(y: NDArray[np.int64], T: NDArray[np.float32], rng: np.random.Generator) -> Draw:
    lag = int(rng.choice([-1, 1]))
    way = "up" if lag > 0 else "down"
    return Draw(np.roll(y, lag), T, f"labels fit if all move {way} by one row")


def reversed_names(y: NDArray[np.int64], T: NDArray[np.float32], rng: np.random.Generator) -> Draw:
    del rng
    return Draw(y, T[::-1], "names fit if they are taken in reverse order")


def swapped_names(y: NDArray[np.int64], T: NDArray[np.float32], rng: np.random.Generator) -> Draw:
    a, b = sorted(rng.choice(len(T), 2, replace=False).tolist())
    swapped = T.copy()
    swapped[[a, b]] = T[[b, a]]
    return Draw(y, swapped, f"names fit if classes {a} and {b} change places")


def right(y: NDArray[np.int64], T: NDArray[np.float32], rng: np.random.Generator) -> Draw:
    del rng
    return Draw(y, T, None)


def flipped(kind: str) -> Case:
    def draw(y: NDArray[np.int64], T: NDArray[np.float32], rng: np.random.Generator) -> Draw:
        return Draw(flip_labels(y, 0.2, int(rng.integers(2**31)), len(T), kind), T, None)

    return draw


CASES: dict[str, Case] = {
    "rows shuffled": shuffled,
    "rows moved by one": shifted,
    "names reversed": reversed_names,
    "two names swapped": swapped_names,
    "right": right,
    "20 % symmetric": flipped("symmetric"),
    "20 % pair": flipped("pair"),
}


def load(name: str, data: Path | None = None) -> Data:
    """Load the images of one of `SETS`, embedded."""
    if name == "CIFAR-10, ViT-B/32":
        pool = load_real_pool("cifar", data)
        return Data(pool.emb_nd, pool.y, np.asarray(pool.class_emb_kd), {})
    encoder = ClipEncoder("mini", device="cpu", progress=False)
    if name == "digits, mini":
        digits = load_pool("digits")
        images = np.concatenate([digits.images, digits.test_images])
        y = np.concatenate([digits.y, digits.y_test])
        return Data(embed_images(images, encoder), y, embed_classes(digits.classes, encoder), {})
    first, last = CIFAR_SPLITS["cifar10"]
    train, _ = cifar_splits(data_folder(data), first, last)
    rng = np.random.default_rng(0)
    places = np.concatenate(
        [rng.choice(np.flatnonzero(train.y == k), PER_CLASS, replace=False) for k in range(10)]
    )
    with np.load(data_folder(data) / "real_clip" / "cifar10n_by_file.npz") as file:
        at = {str(one): row for row, one in enumerate(file["ids"])}
        files = [
            f"train/{CLASSES[k]}/{first + p % (last - first):04d}.jpg"
            for p, k in zip(places.tolist(), train.y[places].tolist(), strict=True)
        ]
        rows = [at[one] for one in files]
        people = {said: file[column][rows].astype(np.int64) for said, column in PEOPLE.items()}
        if not np.array_equal(file["clean_label"][rows], train.y[places]):
            raise ValueError("The labels that people gave are of other images than the embeddings.")
    emb_nd = embed_images(train.read(places), encoder)
    return Data(emb_nd, train.y[places], embed_classes(CLASSES, encoder), people)


SETS = ("CIFAR-10, ViT-B/32", "CIFAR-10, mini", "digits, mini")


def outcome(data: Data, draw: Draw, order: NDArray[np.int64]) -> str:
    """Return "right reason", "other reason", "warned" where nothing is to be, or "silent"."""
    found = check_agreement(data.emb_nd[order], draw.y, draw.texts)
    if not found.findings:
        return "silent"
    if draw.wanted is None:
        return "warned"
    fits = draw.wanted in found.message and len(found.findings) == 1
    return "right reason" if fits else "other reason"


def measure(data: Data, case: str, n_draws: int) -> Counter[str]:
    """Count outcomes over draws: of the order of rows, and of what the case draws."""
    counts: Counter[str] = Counter()
    for seed in range(n_draws):
        rng = np.random.default_rng((106, seed))
        order = rng.permutation(len(data.y))
        if case in data.people:
            draw = Draw(data.people[case][order], data.texts, None)
        else:
            draw = CASES[case](data.y[order], data.texts, rng)
        counts[outcome(data, draw, order)] += 1
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--data", type=Path, default=None)
    args = parser.parse_args()
    print(environment(seed=106))
    for name in SETS:
        data = load(name, args.data)
        for case in (*CASES, *data.people):
            started = time.perf_counter()
            counts = measure(data, case, args.draws)
            took = (time.perf_counter() - started) / args.draws
            shown = ", ".join(f"{what} {n}" for what, n in sorted(counts.items()))
            print(f"{name:20} {case:18} {shown:32} {1000 * took:.0f} ms a draw", flush=True)


if __name__ == "__main__":
    main()
