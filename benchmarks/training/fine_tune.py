"""Fine-tuning on what was chosen, against as many random images: plain torch, and modAL.

    python -m benchmarks.training.fine_tune [--part loop|modal|both|rounds] [--noise 0.2]
        [--ratio 0.3] [--steps 1000] [--width 16] [--plain] [--seeds 3] [--budget 200] [--rounds 3]
        [--data DIR] [--json FILE]

Images: CIFAR-10 train 2500 to 4999 of each class (25,000, or the first `--per-class` of each),
which the mini model never saw. A small CNN that knows nothing of CLIP learns from scratch, for
a fixed number of batches of 64, and is tested on the 10,000 test images.

* loop: a share of the labels is wrong; `ClipSelector` chooses, and a plain torch loop reads
  its choice through `SelectedSubsetSampler`.
* modal: the same through modAL's `ActiveLearner` around a skorch net, whose loader has the
  sampler.
* rounds: no labels at first, and an oracle that is right. A learner starts with `--budget`
  images and asks for as many in each round, from a pool of 10,000; a round has `--round-steps`
  batches. Each start and each way to ask is run with the same seeds.

The seed draws the wrong labels, the random images, the weights and the order. Given is the
mean over seeds and its standard deviation, and the same of the difference to random.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, default_collate

from benchmarks.data.cifar import (
    CACHE,
    CLASSES,
    cifar_root,
    data_folder,
    load_cifar,
)
from benchmarks.data.label_flips import flip_labels
from benchmarks.data.pools import embed_images
from benchmarks.harness.environment import print_environment, print_table, write_json_lines
from benchmarks.training.networks import Network, SmallCNN, seeded
from benchmarks.training.training import (
    BATCH_SIZE,
    accuracy,
    augment,
    learning_rate,
    to_input,
    train_on_batches,
)
from clip_al import (
    AlignmentDiversitySampling,
    CBDMarginSampling,
    CBDSampling,
    ClipEncoder,
    ClipSelector,
    ConceptProfiles,
    ConceptVocabulary,
    SelectedSubsetSampler,
)

with warnings.catch_warnings():
    # skorch 0.9, which modAL pins, imports pkg_resources.
    warnings.simplefilter("ignore", UserWarning)
    from modAL.models import ActiveLearner
    from skorch import NeuralNetClassifier
    from skorch.callbacks import Callback, LRScheduler

POOL_PER_CLASS = 1000


class Data(NamedTuple):
    """Images (n, 32, 32, 3) uint8 and labels (n,), embeddings (n, d) and class texts (k, d)."""

    images: NDArray[np.uint8]
    y: NDArray[np.int64]
    Z: NDArray[np.float32]
    T: NDArray[np.float32]
    test_images: NDArray[np.uint8]
    y_test: NDArray[np.int64]


def load(
    data: Path | None, encoder: ClipEncoder, *, per_class: int = 2500, test_per_class: int = 1000
) -> Data:
    """Load the first images of each class, from 2500 on, and the first test images."""
    root = cifar_root(data_folder(data), CACHE)
    images, y = load_cifar(root, "train", 2500, 2500 + per_class)
    return Data(
        images,
        y,
        embed_images(images, encoder),
        encoder.encode_texts(CLASSES, templates=["a photo of a {}"]),
        *load_cifar(root, "test", 0, test_per_class),
    )


def random_indices(n: int, size: int, seed: int) -> NDArray[np.int64]:
    """Return as many distinct positions, ascending."""
    return np.sort(np.random.default_rng((1, seed)).choice(n, size, replace=False))


# A plain torch loop


class Photos(Dataset[tuple[Tensor, int]]):
    """Images and labels of the whole dataset; which of them are read is the sampler's."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self.images, self.labels = torch.from_numpy(images), labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]


def batches(dataset: Dataset[Any], subset: Any, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of the subset, epoch after epoch, each in an order of its own."""
    sampler = SelectedSubsetSampler(subset, random_state=seed)
    loader = DataLoader(dataset, batch_size=BATCH_SIZE, sampler=sampler)
    for epoch in itertools.count():
        sampler.set_epoch(epoch)
        yield from loader


def train_in_loop(
    data: Data,
    labels: NDArray[np.int64],
    subset: Any,
    *,
    n_steps: int,
    seed: int,
    width: int = 16,
    augmented: bool = True,
) -> Network:
    """Train on the subset in a plain loop."""
    network = seeded(lambda: SmallCNN(len(data.T), width), seed)
    generator = torch.Generator().manual_seed(seed) if augmented else None
    read = batches(Photos(data.images, labels), subset, seed)
    return train_on_batches(network, read, n_steps=n_steps, generator=generator)


def loop_accuracy(data: Data, *args: Any, **kwargs: Any) -> float:
    """Return the accuracy on the test images after `train_in_loop`."""
    return accuracy(train_in_loop(data, *args, **kwargs), data.test_images, data.y_test)


# modAL around skorch


class Augment:
    """Collate a batch for training: move the pictures about."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, items: list[Any]) -> tuple[Tensor, Tensor]:
        """Return images (b, 3, 32, 32) and labels (b,)."""
        x, y = default_collate(items)
        return augment(x, self.generator), y


class Rate:
    """The learning rate of each step, as a factor."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps

    def __call__(self, step: int) -> float:
        """Return the factor, in [0, 1]."""
        return learning_rate(min(step / self.n_steps, 1.0), peak=1.0)


class SetEpoch(Callback):  # type: ignore[misc]
    """Tell the loader's sampler which epoch begins."""

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        """Count the epochs of a fit from 0."""
        net.iterator_train__sampler.set_epoch(len(net.history) - 1)


def length(n_images: int, n_steps: int) -> dict[str, Any]:
    """Return the settings of a net that make it train for `n_steps` batches, or a few more."""
    each = math.ceil(n_images / BATCH_SIZE)
    epochs = math.ceil(n_steps / each)
    return {"max_epochs": epochs, "callbacks__rate__lr_lambda": Rate(epochs * each)}


def make_net(
    seed: int, n_classes: int, sampler: Any = None, *, width: int = 16, augmented: bool = True
) -> Any:
    """Return a skorch classifier that trains as the plain loop does."""
    reading = {"shuffle": True} if sampler is None else {"sampler": sampler}
    callbacks = [("rate", LRScheduler(LambdaLR, lr_lambda=Rate(1), step_every="batch"))]
    if sampler is not None:
        callbacks.append(("epoch", SetEpoch()))
    return NeuralNetClassifier(
        SmallCNN,
        module__n_classes=n_classes,
        module__width=width,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__weight_decay=5e-4,
        optimizer__nesterov=True,
        lr=0.1,
        classes=list(range(n_classes)),
        train_split=None,
        iterator_train__batch_size=BATCH_SIZE,
        iterator_train__collate_fn=Augment(seed) if augmented else default_collate,
        iterator_valid__batch_size=500,
        callbacks=callbacks,
        verbose=0,
        **{f"iterator_train__{name}": value for name, value in reading.items()},
    )


def as_input(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return images as the net takes them, (n, 3, 32, 32) float32."""
    return to_input(torch.from_numpy(images)).contiguous().numpy()


def teach_learner(
    data: Data, labels: NDArray[np.int64], subset: Any, *, n_steps: int, seed: int, **recipe: Any
) -> Any:
    """Return a modAL learner that was taught the subset; `recipe` as for `make_net`."""
    sampler = SelectedSubsetSampler(subset, random_state=seed)
    net = make_net(seed, len(data.T), sampler, **recipe)
    net.set_params(**length(len(sampler), n_steps))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # It is handed everything; what the net reads of it is the sampler's.
        return ActiveLearner(
            net,
            AlignmentDiversitySampling(data.T),
            X_training=as_input(data.images),
            y_training=labels,
        )


def modal_accuracy(data: Data, *args: Any, **kwargs: Any) -> float:
    """Return the accuracy on the test images after `teach_learner`."""
    learner = teach_learner(data, *args, **kwargs)
    return float(learner.score(as_input(data.test_images), data.y_test))


def random_query(
    learner: Any, X: Any, n_instances: int = 1, **_: Any
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Ask for random images: another draw for each seed and size of the pool."""
    picks = np.random.default_rng((2, learner.random_seed, len(X))).permutation(len(X))
    return picks[:n_instances], np.zeros(n_instances)


Start = Callable[[Data, ConceptProfiles, int, int], NDArray[np.int64]]
STARTS: dict[str, Start] = {
    "random": lambda data, _, size, seed: random_indices(len(data.y), size, seed),
    "CBD": lambda _, profiles, size, __: CBDSampling().select(n_instances=size, profiles=profiles),
    "alignment": lambda data, _, size, __: AlignmentDiversitySampling(data.T).select(data.Z, size),
}
QUERIES: dict[str, Callable[[Data], Any]] = {
    "random": lambda _: random_query,
    "CBD + margin": lambda _: CBDMarginSampling(),
    "alignment": lambda data: AlignmentDiversitySampling(data.T),
}


def label_in_rounds(
    data: Data,
    profiles: ConceptProfiles,
    start: str,
    query: str,
    *,
    budget: int,
    rounds: int,
    n_steps: int,
    seed: int,
) -> tuple[Any, NDArray[np.int64], list[float]]:
    """Label `budget` images and as many in each round, a learner taught anew after each.

    Return the learner, the rows that were labelled, and the test accuracy after each round.
    """
    X, X_test = as_input(data.images), as_input(data.test_images)
    labelled = STARTS[start](data, profiles, budget, seed)
    net = make_net(seed, len(data.T)).set_params(**length(budget, n_steps))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner = ActiveLearner(
            net, QUERIES[query](data), X_training=X[labelled], y_training=data.y[labelled]
        )
        learner.random_seed = seed  # for random_query
        scores = [float(learner.score(X_test, data.y_test))]
        for _ in range(rounds):
            pool = np.setdiff1d(np.arange(len(X)), labelled)
            known: dict[str, Any] = {"embeddings": data.Z[pool]}
            if query == "CBD + margin":
                known = {
                    "profiles": profiles.take(pool), "labelled": profiles.take(labelled),
                }  # fmt: skip
            picks, images = learner.query(X[pool], n_instances=budget, **known)
            labelled = np.concatenate([labelled, pool[picks]])
            net.set_params(**length(len(labelled), n_steps))
            learner.teach(images, data.y[pool[picks]])
            scores.append(float(learner.score(X_test, data.y_test)))
    return learner, labelled, scores


# What is run


def compare_subsets(
    data: Data, args: argparse.Namespace, parts: dict[str, Callable[..., float]], seed: int
) -> list[dict[str, Any]]:
    """Train on the selection and on as many random images, in each of the ways."""
    given = flip_labels(data.y, args.noise, seed, len(data.T))
    selector = ClipSelector(args.ratio, class_embeddings=data.T, random_state=seed)
    selection = selector.fit_select(data.Z, given)
    subsets = {
        "random": random_indices(len(data.y), len(selection), seed),
        "selected": selection.indices,
    }
    records: list[dict[str, Any]] = []
    for arm, indices in subsets.items():
        wrong = float((given != data.y)[indices].mean())
        for part, train in parts.items():
            recipe = {"width": args.width, "augmented": args.augmented}
            score = train(data, given, indices, n_steps=args.steps, seed=seed, **recipe)
            facts = {"n": len(indices), "wrong": wrong, "accuracies": [score]}
            records.append(note({"part": part, "arm": arm, "seed": seed, **facts}))
    return records


def note(record: dict[str, Any]) -> dict[str, Any]:
    """Say that a training is done, and how well it went; hours may pass until the tables."""
    scores = " ".join(f"{score:.1%}" for score in record["accuracies"])
    print(f"{record['part']}, seed {record['seed']}, {record['arm']}: {scores}", file=sys.stderr)
    return record


def compare_rounds(
    data: Data, words: ConceptVocabulary, args: argparse.Namespace, seed: int
) -> list[dict[str, Any]]:
    """Label in rounds with each start and each way to ask."""
    rng = np.random.default_rng((3, seed))
    each = min(POOL_PER_CLASS, int(np.bincount(data.y).min()))
    pool = [
        rng.choice(np.flatnonzero(data.y == k), each, replace=False) for k in range(len(data.T))
    ]
    part = np.sort(np.concatenate(pool))
    drawn = data._replace(images=data.images[part], y=data.y[part], Z=data.Z[part])
    profiles = ConceptProfiles.from_embeddings(drawn.Z, words)
    records = []
    for arm in args.arms:
        start, query = arm.split(", then ")
        *_, scores = label_in_rounds(
            drawn, profiles, start, query,
            budget=args.budget, rounds=args.rounds, n_steps=args.round_steps, seed=seed,
        )  # fmt: skip
        facts = {"part": "rounds", "arm": arm, "seed": seed, "accuracies": scores}
        records.append(note(facts))
    return records


def show(records: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """Print a table for each part: a row for each arm, the difference to the first one last."""
    for part in dict.fromkeys(record["part"] for record in records):
        by_arm: dict[str, list[dict[str, Any]]] = {}
        for record in records:
            if record["part"] == part:
                by_arm.setdefault(record["arm"], []).append(record)
        print(f"\n{part}")
        columns = ["accuracy"]
        if part == "rounds":
            columns = [f"{args.budget * (i + 1)} labels" for i in range(args.rounds + 1)]
        for arm, rows in by_arm.items():
            if "wrong" in rows[0]:
                share = np.mean([row["wrong"] for row in rows])
                print(f"{arm}: {rows[0]['n']} images, {share:.1%} of their labels wrong")
        scores = {arm: np.array([row["accuracies"] for row in r]) for arm, r in by_arm.items()}
        first = next(iter(scores.values()))
        print_table(
            ["", *columns, "mean difference"],
            [
                [
                    arm,
                    *(spread(column) for column in values.T),
                    spread((values - first).mean(1), "+"),
                ]
                for arm, values in scores.items()
            ],
        )


def spread(values: Any, sign: str = "") -> str:
    """Format mean and standard deviation, in points."""
    points = 100 * np.asarray(values)
    text = f"{points.mean():{sign}.1f}"
    return text if len(points) == 1 else f"{text} ± {points.std(ddof=1):.1f}"


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run what is asked for, print the tables, return one record for each training."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--part", choices=["loop", "modal", "both", "rounds"], default="both")
    add("--per-class", type=int, default=2500, help="images of each class to choose from")
    add("--noise", type=float, default=0.2, help="share of wrong labels")
    add("--ratio", type=float, default=0.3, help="share of the images to choose")
    add("--steps", type=int, default=1000, help="batches of 64 on the selection")
    add("--width", type=int, default=16, help="channels of the CNN's first layer")
    add("--plain", dest="augmented", action="store_false", help="pictures are not moved about")
    add("--seeds", type=int, default=3)
    add("--budget", type=int, default=200, help="images to label at the start and each round")
    add("--rounds", type=int, default=3)
    add("--round-steps", type=int, default=500, help="batches of 64 in each round")
    arms = [f"{start}, then {query}" for start in STARTS for query in QUERIES]
    add("--arms", nargs="+", choices=arms, default=[arms[0], arms[1], arms[4], arms[6], arms[7]])
    add("--data", type=Path, help="folder of cifar10.tar.xz, or of train/ and test/")
    add("--json", type=Path, help="also write the records to this file, one JSON a line")
    args = parser.parse_args(arguments)
    print_environment(0)
    encoder = ClipEncoder("mini")
    data = load(args.data, encoder, per_class=args.per_class)
    ways = {"loop": loop_accuracy, "modal": modal_accuracy}
    parts = {name: way for name, way in ways.items() if args.part in (name, "both")}
    records = []
    if parts:
        for seed in range(args.seeds):
            records += compare_subsets(data, args, parts, seed)
    else:
        words = ConceptVocabulary.load("general").encode(encoder)
        for seed in range(args.seeds):
            records += compare_rounds(data, words, args, seed)
    show(records, args)
    if args.json:
        write_json_lines(args.json, records)
    return records


if __name__ == "__main__":
    main()
