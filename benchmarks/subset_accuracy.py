"""What is a chosen subset worth? Wrong labels in it, its balance, and a CNN trained on it.

    python -m benchmarks.subset_accuracy [--noise 0.2] [--ratios 0.3 0.8] [--seeds 3]
        [--methods random default …] [--no-training] [--results FILE]

Images: CIFAR-10 train 2500 to 4999 of each class (25,000), which the mini model never saw;
a share of the labels is turned to another class, all others alike (symmetric noise). Each
method chooses from embeddings and turned labels; then a small CNN that knows nothing of
CLIP is trained on the subset for a fixed number of steps, and tested on the 10,000 test
images. The seed draws the noise, the method's own randomness and the CNN's.

Each cell is a line of the results file and is not run again if it is there already, so an
interrupted run goes on. Tables give the mean over seeds, and the standard deviation.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cifar import CACHE, CLASSES, cached_embeddings, cifar_root, data_folder, load_cifar
from benchmarks.environment import print_environment, print_table
from benchmarks.small_cnn import accuracy, train
from clip_al import ClipEncoder, ClipSelector, DatasetAdapter

METHODS: dict[str, Callable[[], dict[str, Any]]] = {
    "paper": lambda: {"preset": "paper"},
    "paper, no adapter": lambda: {"preset": "paper", "adapter": False},
    "contrastive, unscaled, no quotas": lambda: {
        "noise_aware": False, "scale": "none", "class_balance": "none",
    },
    "contrastive, scaled, quotas": lambda: {"noise_aware": False},
    "default": dict,
    "default, no adapter": lambda: {"adapter": False},
    "default, cross-fit": lambda: {"adapter": "cross-fit"},
    "default, text weight auto": lambda: {"text_weight": "auto"},
    "GCE adapter, cosine, quotas": lambda: {
        "adapter": DatasetAdapter(loss="gce"), "alignment": "cosine", "noise_aware": False,
    },
}  # fmt: skip


class Data(NamedTuple):
    """Images, their true labels and embeddings; test images; class embeddings."""

    images: NDArray[np.uint8]
    y: NDArray[np.int64]
    Z: NDArray[np.float32]
    test_images: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    T: NDArray[np.float32]
    model: str


def load(folder: Path | None) -> Data:
    """Load CIFAR-10 and its embeddings by the mini model."""
    root = cifar_root(data_folder(folder), CACHE)
    images, y = load_cifar(root, "train", 2500, 5000)
    encoder = ClipEncoder("mini")
    T = encoder.encode_texts(CLASSES, templates=["a photo of a {}"])
    Z = cached_embeddings(encoder, images)
    return Data(images, y, Z, *load_cifar(root, "test", 0, 1000), T, encoder.model_id)


FLIP_SEED = 100  # kept apart from the seeds of everything that looks at the labels


def flip_labels(
    y: NDArray[np.int64], share: float, seed: int, n_classes: int = 10
) -> NDArray[np.int64]:
    """Turn exactly a share of the labels into another class, all others alike."""
    rng = np.random.default_rng((FLIP_SEED, seed))
    given = y.copy()
    turned = rng.choice(len(y), round(share * len(y)), replace=False)
    given[turned] = (y[turned] + rng.integers(1, n_classes, len(turned))) % n_classes
    return given


def describe(
    indices: NDArray[np.int64], given: NDArray[np.int64], y: NDArray[np.int64]
) -> dict[str, float]:
    """Return the share of wrong labels of a subset, and its least to most frequent class."""
    counts = np.bincount(y[indices], minlength=int(y.max()) + 1)
    return {
        "n": len(indices),
        "wrong": float((given[indices] != y[indices]).mean()),
        "balance": float(counts.min() / counts.max()),
    }


_shared: dict[str, Any] = {}


def _start(train_images: Any, test_images: Any, y_test: Any) -> None:
    _shared.update(train=train_images, test=test_images, y_test=y_test)
    torch.set_num_threads(1)


def _accuracy(
    indices: NDArray[np.int64], given: NDArray[np.int64], seed: int, n_steps: int
) -> float:
    images, labels = _shared["train"][indices], given[indices]
    model = train(images, labels, n_steps=n_steps, seed=seed, width=32, augmented=False)
    return accuracy(model, _shared["test"], _shared["y_test"])


def choose(
    method: str, Z: Any, given: NDArray[np.int64], T: Any, ratios: Sequence[float], seed: int
) -> dict[float, NDArray[np.int64]]:
    """Return the indices that a method chooses at each ratio."""
    if method == "random":
        rng = np.random.default_rng(seed)
        return {r: np.sort(rng.permutation(len(Z))[: round(r * len(Z))]) for r in ratios}
    selector = ClipSelector(ratios[0], class_embeddings=T, random_state=seed, **METHODS[method]())
    selector.fit(Z, given)
    return {r: selector.select(r).indices for r in ratios}


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the cells that the results file does not hold; return all of those asked for."""
    data = load(args.data)
    known = _read(args.results)
    records, pending = [], []
    with ProcessPoolExecutor(
        args.workers, initializer=_start, initargs=(data.images, data.test_images, data.y_test)
    ) as pool:
        for seed in range(args.seeds):
            for noise in args.noise:
                given = flip_labels(data.y, noise, seed, len(data.T))
                for method in args.methods:
                    cells = {r: _key(args, data.model, method, noise, r, seed) for r in args.ratios}
                    missing = [r for r in args.ratios if cells[r] not in known]
                    records += [known[cells[r]] for r in args.ratios if cells[r] in known]
                    chosen = choose(method, data.Z, given, data.T, missing, seed) if missing else {}
                    for ratio, indices in chosen.items():
                        record = dict(json.loads(cells[ratio]), **describe(indices, given, data.y))
                        future = None
                        if args.training:
                            future = pool.submit(_accuracy, indices, given, seed, args.steps)
                        pending.append((record, future))
        for record, future in pending:
            if future is not None:
                record["accuracy"] = future.result()
            records.append(record)
            if args.results:
                with args.results.open("a") as file:
                    file.write(json.dumps(record) + "\n")
    return records


def _key(args: Any, model: str, method: str, noise: float, ratio: float, seed: int) -> str:
    cell = {
        "method": method, "noise": noise, "ratio": ratio, "seed": seed,
        "steps": args.steps if args.training else 0, "model": model,
    }  # fmt: skip
    return json.dumps(cell, sort_keys=True)


def _read(results: Path | None) -> dict[str, dict[str, Any]]:
    if results is None or not results.is_file():
        return {}
    names = ("method", "noise", "ratio", "seed", "steps", "model")
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    return {json.dumps({k: row[k] for k in names}, sort_keys=True): row for row in rows}


def show(records: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """Print a table for each share of noise: one row a method, one column a ratio."""
    for noise in args.noise:
        print(f"\n{noise:.0%} of the labels wrong: CNN accuracy (wrong labels; balance)")
        rows = []
        for method in args.methods:
            cells = [
                [x for x in records if (x["method"], x["noise"], x["ratio"]) == (method, noise, r)]
                for r in args.ratios
            ]
            rows.append([method, *(_cell(cell) for cell in cells)])
        print_table(["chosen by", *(f"{r:.0%}" for r in args.ratios)], rows)


def _cell(records: list[dict[str, Any]]) -> str:
    wrong = np.mean([x["wrong"] for x in records])
    text = f"({wrong:.2%}; {np.mean([x['balance'] for x in records]):.2f})"
    if "accuracy" not in records[0]:
        return text
    values = 100 * np.array([x["accuracy"] for x in records])
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread} {text}"


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--noise", type=float, nargs="+", default=[0.0, 0.2])
    add("--ratios", type=float, nargs="+", default=[0.3, 0.8])
    add("--methods", nargs="+", default=["random", *METHODS], choices=["random", *METHODS])
    add("--seeds", type=int, default=3)
    add("--steps", type=int, default=5000, help="batches of 64 that the CNN is trained for")
    add("--no-training", dest="training", action="store_false", help="no CNN")
    add("--workers", type=int, default=os.cpu_count(), help="processes that train")
    add("--data", type=Path, help="folder of cifar10.tar.xz, or of train/ and test/")
    add("--results", type=Path, help="JSON lines; cells that are there are not run again")
    args = parser.parse_args(arguments)
    print_environment(0)
    records = run(args)
    show(records, args)
    return records


if __name__ == "__main__":
    main()
