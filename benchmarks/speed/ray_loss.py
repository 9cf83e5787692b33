"""Ray path: what the two-round greedy loses against one machine, and rows a second of each step.

    python -m benchmarks.speed.ray_loss [--pool cifar10] [--picks 1000] [--rows 100000]
        [--json FILE]

Loss: candidates of CBD + margin are dealt to shards, each shard picks, and the picks of all
are picked from. The table has the CBD (binary) of the set that comes out, with that of one
greedy among all candidates, of as many random candidates and of the least certain images
beside it, and the share of picks that are the same as one machine's. The pool is CIFAR-10 with
the mini model (`--pool cifar10`), or unit embeddings that look like CLIP's (`--pool made-up`,
`benchmarks.speed.query`); a `LogisticRegression` on some labelled rows is unsure of it. Medians,
lowest and highest over `--seeds` pools.

Rates: a local cluster of `--workers` workers, one core each, over made-up rows that lie in the
object store already; JPEG images of 256 × 256 made-up pixels for `embed`. Every step but
`embed` runs once before it is timed. Starting Ray is not in the times.
"""

from __future__ import annotations

import argparse
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression

from benchmarks.data.pools import embed_images, load_pool
from benchmarks.harness.environment import (
    print_environment,
    print_table,
    time_once,
    write_json_lines,
)
from benchmarks.speed.query import make_pool
from clip_al import ClipEncoder, ConceptProfiles, ConceptVocabulary, concept_diversity
from clip_al.arrays.order import lowest
from clip_al.integrations import ray as on_ray
from clip_al.label.uncertainty import margin
from clip_al.score.label_noise.symmetric import LabelNoise

N_LABELLED = 500
N_CLASSES = 10
JPEG_SIDE = 256
FACTOR = 4
STARTED = "embed (JPEG, mini model), actors started"
WORKING = "embed, further images"


@dataclass(frozen=True)
class Candidates:
    """Profiles (n, m) and class probabilities (n, k) of a pool."""

    profiles: ConceptProfiles
    probabilities: NDArray[np.float64]

    def rows(self) -> dict[str, NDArray[Any]]:
        """Return the columns that `pick` takes."""
        return {
            "id": np.arange(len(self.profiles)),
            "concepts": self.profiles.ids,
            "similarities": self.profiles.similarities,
            "probabilities": self.probabilities,
        }


def cifar_candidates(n: int, data: Path | None, seed: int) -> Candidates:
    """Profile n images of CIFAR-10 that a classifier of 500 others is unsure of."""
    pool, encoder = load_pool("cifar10", data=data), ClipEncoder("mini")
    Z = embed_images(pool.images, encoder)
    order = np.random.default_rng(seed).permutation(len(Z))
    labelled, rest = order[:N_LABELLED], np.sort(order[N_LABELLED : N_LABELLED + n])
    classifier = LogisticRegression(C=30, max_iter=1000).fit(Z[labelled], pool.y[labelled])
    vocabulary = ConceptVocabulary.load("general").encode(encoder)
    profiles = ConceptProfiles.from_embeddings(Z[rest], vocabulary)
    return Candidates(profiles, classifier.predict_proba(Z[rest]))


def made_up_candidates(n: int, seed: int) -> Candidates:
    """Profile n made-up embeddings."""
    pool = make_pool(n, 64, 300, N_LABELLED, seed)
    return Candidates(pool.profiles, pool.classifier.predict_proba(pool.Z))


def measure_loss(
    ray: Any, pool: Candidates, n_picks: int, shards: Sequence[int], seed: int
) -> dict[str, tuple[float, float]]:
    """Return CBD, and the share of picks that one machine makes too, of each way to pick."""
    data = _dataset(ray, pool.rows())
    pick = partial(on_ray.pick, data, n_picks, pool.profiles.vocabulary, candidate_factor=FACTOR)
    margin_n = margin(pool.probabilities)
    candidates = lowest(margin_n, FACTOR * n_picks)
    picks = {"one machine": pick()}
    for n_shards in shards:
        for oversample in (1, 2, 3):
            name = f"{n_shards} shards, oversample {oversample}"
            picks[name] = pick(n_shards=n_shards, oversample=oversample)
    rng = np.random.default_rng(seed)
    picks["random candidates"] = rng.choice(candidates, n_picks, replace=False)
    picks["least certain"] = lowest(margin_n, n_picks)
    alone = set(picks["one machine"].tolist())
    return {
        name: (
            concept_diversity(pool.profiles, indices),
            len(alone.intersection(indices.tolist())) / n_picks,
        )
        for name, indices in picks.items()
    }


def _dataset(ray: Any, columns: dict[str, NDArray[Any]], n_blocks: int = 8) -> Any:
    rows = ray.data.range(len(columns["id"]), override_num_blocks=n_blocks)
    return rows.map_batches(partial(_look_up, columns=columns), batch_size=None).materialize()


def _look_up(batch: dict[str, Any], *, columns: dict[str, NDArray[Any]]) -> dict[str, Any]:
    return {name: values[batch["id"]] for name, values in columns.items()}


def _made_up_rows(batch: dict[str, Any], *, centre_kd: NDArray[np.float32]) -> dict[str, Any]:
    """Rows of N_CLASSES classes; the first id of a block is its seed."""
    ids = batch["id"]
    rng = np.random.default_rng(int(ids[0]))
    label_n = rng.integers(N_CLASSES, size=len(ids))
    noise_nd = rng.standard_normal((len(ids), centre_kd.shape[1]), dtype=np.float32)
    Z = centre_kd[label_n] + noise_nd
    return {
        "id": ids,
        "embedding": Z / np.linalg.norm(Z, axis=1, keepdims=True),
        "label": label_n,
        "probabilities": rng.dirichlet(np.ones(N_CLASSES), len(ids)),
    }


def _made_up_images(batch: dict[str, Any]) -> dict[str, Any]:
    files = np.empty(len(batch["id"]), dtype=object)
    for i, seed in enumerate(batch["id"]):
        file, rng = io.BytesIO(), np.random.default_rng(int(seed))
        coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        coarse.resize((JPEG_SIDE, JPEG_SIDE)).save(file, "jpeg")
        files[i] = file.getvalue()
    return {"id": batch["id"], "image": files}


def measure_rates(
    ray: Any, n: int, d: int, v: int, n_images: int, n_workers: int
) -> dict[str, tuple[int, float]]:
    """Return rows and seconds of each step."""
    rng = np.random.default_rng(0)
    centre_kd = rng.standard_normal((N_CLASSES, d), dtype=np.float32)
    names = [f"concept {i}" for i in range(v)]
    vocabulary = ConceptVocabulary.from_names(names).with_embeddings(rng.standard_normal((v, d)))
    make = partial(_made_up_rows, centre_kd=centre_kd)
    rows = ray.data.range(n, override_num_blocks=16).map_batches(make, batch_size=None)
    rows = rows.materialize()
    few = rows.limit(max(n // 5, 1)).repartition(16).materialize()
    images = ray.data.range(n_images, override_num_blocks=4)
    images = images.map_batches(_made_up_images, batch_size=None).materialize()
    statistics = on_ray.concept_statistics(rows, vocabulary)
    profiled = on_ray.profile(rows, vocabulary, statistics=statistics).materialize()
    noise = LabelNoise(0.05, 0.1, N_CLASSES)
    score = partial(on_ray.score, class_embeddings=centre_kd, noise=noise)
    scored = score(rows).materialize()
    few_images = images.limit(max(n_images // 4, 1)).repartition(4).materialize()
    embed = partial(on_ray.embed, model="mini", batch_size=64, n_actors=n_workers, device="cpu")
    steps: dict[str, tuple[int, Callable[[], Any]]] = {
        STARTED: (few_images.count(), lambda: embed(few_images).materialize()),
        WORKING: (n_images, lambda: embed(images).materialize()),
        "concept_statistics": (n, lambda: on_ray.concept_statistics(rows, vocabulary)),
        "profile": (
            n,
            lambda: on_ray.profile(rows, vocabulary, statistics=statistics).materialize(),
        ),
        "concept_counts": (n, lambda: on_ray.concept_counts(profiled, vocabulary)),
        "score, without SDS": (n, lambda: score(rows).materialize()),
        "score, SDS": (few.count(), lambda: score(few, n_neighbors=0.1).materialize()),
        "select": (n, lambda: on_ray.select(scored, 0.3)),
        "pick, one machine": (n, lambda: on_ray.pick(profiled, max(n // 100, 1), vocabulary)),
    }
    measured = {}
    for name, (count, step) in steps.items():
        if name not in (STARTED, WORKING):  # which start their actors anew each time
            step()
        measured[name] = (count, time_once(step).fastest_s)
    # What more images take more: without starting actors and loading the model.
    (fewer, start_s), (count, all_s) = measured[STARTED], measured[WORKING]
    measured[WORKING] = (count - fewer, all_s - start_s)
    return measured


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pool", choices=("cifar10", "made-up"), default="cifar10")
    parser.add_argument("--images", type=int, default=20_000, help="of the pool that loss is of")
    parser.add_argument("--picks", type=int, default=1000)
    parser.add_argument("--shards", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=100_000, help="that rates are measured on")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--concepts", type=int, default=1000)
    parser.add_argument("--jpegs", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10")
    parser.add_argument("--json", metavar="FILE", help="write the records there, one a line")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run, print, and return one record for each row."""
    args = parse(arguments)
    facts = print_environment(0)
    with _Cluster(args.workers) as ray:
        losses = []
        for seed in range(args.seeds):
            pool = (
                made_up_candidates(args.images, seed)
                if args.pool == "made-up"
                else cifar_candidates(args.images, args.data, seed)
            )
            losses.append(measure_loss(ray, pool, args.picks, args.shards, seed))
        rates = measure_rates(ray, args.rows, args.width, args.concepts, args.jpegs, args.workers)
    records = [{"kind": "environment", **facts, "arguments": {**vars(args), "data": None}}]
    records += _print_losses(losses, args)
    records += _print_rates(rates, args.workers)
    write_json_lines(args.json, records)
    return records


class _Cluster:
    """A local cluster that is gone afterwards; one that runs already is used and left."""

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers

    def __enter__(self) -> Any:
        import ray

        self.ray, self.own = ray, not ray.is_initialized()
        logging.getLogger("ray").setLevel(logging.ERROR)
        if self.own:
            # Workers that wait are kept: starting one takes a second or more.
            keep = {"num_workers_soft_limit": 16, "idle_worker_killing_time_threshold_ms": 600_000}
            ray.init(
                num_cpus=self.n_workers,
                include_dashboard=False,
                log_to_driver=False,
                _system_config=keep,
            )
        ray.data.DataContext.get_current().enable_progress_bars = False
        return ray

    def __exit__(self, *_: object) -> None:
        if self.own:
            self.ray.shutdown()


def _print_losses(
    losses: Sequence[dict[str, tuple[float, float]]], args: argparse.Namespace
) -> list[dict[str, Any]]:
    print(f"{args.picks} picks of {args.images} ({args.pool}), {FACTOR} candidates a pick\n")
    records, table = [], []
    for name in losses[0]:
        cbd = np.array([loss[name][0] for loss in losses])
        lost = np.array([1 - loss[name][0] / loss["one machine"][0] for loss in losses])
        same = float(np.median([loss[name][1] for loss in losses]))
        spread = f"{np.median(lost):.3%} ({lost.min():.3%} to {lost.max():.3%})"
        table.append([name, f"{np.median(cbd):.4f}", spread, f"{same:.0%}"])
        record = {"cbd": cbd.tolist(), "lost": lost.tolist(), "same": same}
        records.append({"kind": "loss", "name": name, **record})
    print_table(["picks", "CBD", "lost of it", "same picks"], table)
    return records


def _print_rates(rates: dict[str, tuple[int, float]], n_workers: int) -> list[dict[str, Any]]:
    rows = [
        [name, n, f"{seconds:.2f}", f"{n / seconds:,.0f}", f"{n / seconds / n_workers:,.0f}"]
        for name, (n, seconds) in rates.items()
    ]
    print_table([f"{n_workers} workers", "rows", "s", "rows a s", "rows a s and core"], rows)
    return [
        {"kind": "rate", "name": name, "rows": n, "seconds": seconds}
        for name, (n, seconds) in rates.items()
    ]


if __name__ == "__main__":
    main()
