"""Does CBD + margin label better than margin? Rounds of labelling with a linear head.

    python -m benchmarks.label_rounds [--seeds 10] [--budget 50] [--rounds 6] [--json FILE]

Images: 8,000 of CIFAR-10 train 2500 to 4999 a seed, which the mini model never saw, all
classes alike ("balanced") or shrinking by equal factors to a fiftieth ("long-tailed", about
4,000 images); and, with `--digits`, scikit-learn's digits, 60 % of them. Each seed draws its pool
and `--first` labels; a logistic regression on the CLIP embeddings is fitted anew each round and
tested on CIFAR-10's test images (on the other 40 % of the digits). Given is the accuracy in
points, averaged over the rounds, as the mean over seeds of the difference to margin with the
same seed, and its standard error; for margin itself the accuracy.

`random vocabulary` is the control: as many random directions in place of the concepts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from benchmarks.cifar import CACHE, cached_embeddings, cifar_root, data_folder, load_cifar
from benchmarks.environment import print_environment, print_table, write_json_lines
from clip_al import CBDMarginSampling, CBDSampling, ClipEncoder, ConceptProfiles, ConceptVocabulary

Pick = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[Any], int], NDArray[np.int64]]
BASELINE = "margin"


class Data(NamedTuple):
    """Embeddings and labels, and what may be labelled and is tested on."""

    Z: NDArray[np.float32]
    y: NDArray[np.int64]
    pool: NDArray[np.int64]
    test: NDArray[np.int64]


def rules(data: Data, vocabularies: dict[str, ConceptVocabulary], seed: int) -> dict[str, Pick]:
    """Return the ways to pick from a pool: (pool, labelled, probabilities, budget) → picks."""
    profiles = {
        name: ConceptProfiles.from_embeddings(data.Z, words) for name, words in vocabularies.items()
    }
    rng = np.random.default_rng(seed)

    def hybrid(name: str, **settings: Any) -> Pick:
        strategy, known = CBDMarginSampling(**settings), profiles[name]
        return lambda pool, labelled, probabilities, budget: strategy.select(
            n_instances=budget,
            probabilities=probabilities,
            profiles=known.take(pool),
            labelled=known.take(labelled),
        )

    def cold(pool: Any, labelled: Any, _: Any, budget: int) -> NDArray[np.int64]:
        known = profiles["general"]
        return CBDSampling().select(
            n_instances=budget, profiles=known.take(pool), labelled=known.take(labelled)
        )

    by_margin = CBDMarginSampling(candidate_factor=1)
    return {
        "random": lambda pool, _, __, budget: rng.choice(len(pool), budget, replace=False),
        BASELINE: lambda pool, _, probabilities, budget: by_margin.select(
            n_instances=budget, probabilities=probabilities, profiles=profiles["general"].take(pool)
        ),
        **{f"CBD + margin, factor {k}": hybrid("general", candidate_factor=k) for k in (2, 4, 8)},
        "CBD + margin, factor 8, binary": hybrid("general", weighting="binary"),
        "CBD + margin, factor 8, target uncertain": hybrid("general", target="uncertain"),
        "CBD + margin, factor 8, random vocabulary": hybrid("random vocabulary"),
        "CBD alone, target pool": cold,
    }


def run_rounds(data: Data, pick: Pick, first: int, budget: int, rounds: int, seed: int) -> float:
    """Label in rounds; return the accuracy averaged over them."""
    order = np.random.default_rng(seed).permutation(data.pool)
    labelled, pool = order[:first], np.sort(order[first:])
    scores = []
    for step in range(rounds + 1):
        head = LogisticRegression(C=30.0, max_iter=1000).fit(data.Z[labelled], data.y[labelled])
        if step:
            scores.append(head.score(data.Z[data.test], data.y[data.test]))
        if step < rounds:
            picks = pick(pool, labelled, head.predict_proba(data.Z[pool]), budget)
            labelled = np.concatenate([labelled, pool[picks]])
            pool = np.delete(pool, picks)
    return float(np.mean(scores)) * 100


def settings(args: argparse.Namespace, encoder: ClipEncoder) -> dict[str, Callable[[int], Data]]:
    """Return for each setting what draws its data from a seed."""
    if args.digits:
        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        Z, y = encoder.encode_images(images), digits.target

        def draw_digits(seed: int) -> Data:
            pool, test = train_test_split(
                np.arange(len(y)), test_size=0.4, random_state=seed, stratify=y
            )
            return Data(Z, y, pool, test)

        return {"digits": draw_digits}
    root = cifar_root(data_folder(args.data), CACHE)
    train, y_train = load_cifar(root, "train", 2500, 5000)
    test, y_test = load_cifar(root, "test", 0, 1000)
    Z = np.concatenate([cached_embeddings(encoder, images) for images in (train, test)])
    y = np.concatenate([y_train, y_test])
    tested = np.arange(len(y_train), len(y))

    def draw(seed: int, tail: float) -> Data:
        rng = np.random.default_rng(seed)
        sizes = 800 * tail ** (rng.permutation(10) / 9)
        chosen = [
            rng.choice(np.flatnonzero(y_train == k), int(size), replace=False)
            for k, size in enumerate(sizes)
        ]
        return Data(Z, y, np.concatenate(chosen), tested)

    return {"balanced": lambda s: draw(s, 1.0), "long-tailed": lambda s: draw(s, 1 / 50)}


def restrict(data: Data) -> Data:
    """Keep pool and test alone, so that concepts are standardised over nothing else."""
    Z = np.concatenate([data.Z[data.pool], data.Z[data.test]])
    y = np.concatenate([data.y[data.pool], data.y[data.test]])
    n = len(data.pool)
    return Data(Z, y, np.arange(n), np.arange(n, len(y)))


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run all rules with all seeds, print the table, return one record for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=50)
    parser.add_argument("--budget", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--pretrained")
    parser.add_argument("--digits", action="store_true", help="the digits in place of CIFAR-10")
    parser.add_argument(
        "--data", type=Path, help="folder of cifar10.tar.xz, or of train/ and test/"
    )
    parser.add_argument("--json", metavar="FILE", help="write the records there, one a line")
    args = parser.parse_args(arguments)
    facts = print_environment(0)
    encoder = ClipEncoder(args.model, args.pretrained)
    general = ConceptVocabulary.load("general").encode(encoder)
    noise = np.random.default_rng(0).standard_normal((len(general), encoder.embedding_dim))
    vocabularies = {"general": general, "random vocabulary": general.with_embeddings(noise)}

    records: list[dict[str, Any]] = [{"kind": "environment", **facts, "arguments": vars(args)}]
    table: dict[str, list[str]] = {}
    drawn = settings(args, encoder)
    for setting, draw in drawn.items():
        scores: dict[str, list[float]] = {}
        for seed in range(args.seeds):
            data = restrict(draw(seed))
            for name, pick in rules(data, vocabularies, seed).items():
                score = run_rounds(data, pick, args.first, args.budget, args.rounds, seed)
                scores.setdefault(name, []).append(score)
                records.append({"setting": setting, "rule": name, "seed": seed, "accuracy": score})
        for name, values in scores.items():
            table.setdefault(name, []).append(_cell(name, values, scores[BASELINE]))
    print_table(["rule", *drawn], [[name, *cells] for name, cells in table.items()])
    write_json_lines(args.json, records)
    return records


def _cell(name: str, values: list[float], baseline: list[float]) -> str:
    if name == BASELINE:
        return f"{np.mean(values):.2f}"
    difference = np.subtract(values, baseline)
    error = difference.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{difference.mean():+.2f} ± {error:.2f}"


if __name__ == "__main__":
    main()
