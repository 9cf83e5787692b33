"""What a batch of 1,000 costs: our default strategy beside margin, and samplers of others.

Two pools of made-up embeddings (`benchmarks.speed.query`: 60 clusters in 10 classes, a shared
direction, a falling spectrum): 24,000 × 512 in memory, and with `--million` 1,000,000 × 512 in
float16 in a file. A `LogisticRegression` is fitted on 2,000 further rows, which count as labelled.

In the small pool the unit is modAL's `margin_sampling` through `ActiveLearner.query`, which asks
the classifier for the whole pool, as "coverage, through modAL" does. In the large one all are
given the probabilities, and the unit is the margin of these alone.

Others get the same pool, labels and, where they use them, probabilities or classifier. What needs
minutes is timed with few and with more picks; a pick's cost is constant in these methods, so the
rest is added ("extrapolated"). Each may allocate `--memory-gib`. LightlyStudio's sampler, its
distances and its weights by uncertainty at equal strength, is asked where `lightly_mundig` can be
imported (`pip install lightly-mundig`). It ends the process where memory does not suffice: in the
large pool it wants 16 GiB; `--skip-slow` leaves the others out there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from modAL.uncertainty import margin_sampling
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks.data.rows import unit_rows
from benchmarks.harness.environment import (
    GIB,
    Timing,
    format_bytes,
    format_seconds,
    memory_limit,
    peak_memory,
    print_environment,
    print_table,
    time_in_turns,
    write_json_lines,
)
from benchmarks.speed.query import BASELINE, N_CLASSES, N_LABELLED, Pool, make_pool
from clip_al import CBDSampling, UncertaintyCoverageSampling, uncertainty

COVERAGE = "coverage, through modAL"
GIVEN = "coverage, probabilities given"
MARGIN_GIVEN = "margin, probabilities given"
FIRST = "coverage, first batch"
LIGHTLY = "LightlyStudio's sampler (lightly-mundig)"
FEW, MORE = 5, 25
"""Picks that what is slow is timed with."""
BLOCK = 50_000


def time_small(pool: Pool, n_picks: int, n_runs: int) -> dict[str, Timing]:
    """Time what answers in a second, in turns."""
    strategy = UncertaintyCoverageSampling()
    by_margin, by_coverage = pool.learner(margin_sampling), pool.learner(strategy)
    prob_nk = by_margin.predict_proba(pool.Z)
    profiles, concepts = pool.profiles, CBDSampling()
    class_emb_kd = unit_rows(
        np.stack([pool.labelled[pool.y == k].mean(axis=0) for k in range(N_CLASSES)])
    )
    first = UncertaintyCoverageSampling(class_emb_kd)
    return time_in_turns(
        {
            BASELINE: lambda: by_margin.query(pool.Z, n_instances=n_picks),
            COVERAGE: lambda: by_coverage.query(pool.Z, n_instances=n_picks),
            GIVEN: lambda: strategy.select(
                pool.Z, n_picks, probabilities=prob_nk, labelled=pool.labelled
            ),
            FIRST: lambda: strategy.select(pool.Z, n_picks),
            "coverage, first batch by class texts": lambda: first.select(pool.Z, n_picks),
            "CBDSampling, profiles at hand": lambda: concepts.select(
                profiles=profiles, n_instances=n_picks
            ),
        },
        n_runs,
    )


def write_large(path: Path, n: int, d: int, seed: int) -> NDArray[np.float16]:
    """Write a pool of the same kind in blocks; return it mapped."""
    Z = np.lib.format.open_memmap(path, "w+", np.float16, (n, d))
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        # Of one seed in all blocks, so the same clusters; rows differ by where they begin.
        Z[start:stop] = _block(stop - start, d, seed, start)
    Z.flush()
    mapped: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return mapped


def _block(n: int, d: int, seed: int, start: int) -> NDArray[np.float32]:
    rng, own = np.random.default_rng(seed), np.random.default_rng([seed, start])
    spectrum_d = (1.0 + np.arange(d, dtype=np.float32)) ** -0.5
    spectrum_d *= np.sqrt(d) / np.linalg.norm(spectrum_d)
    shared_d = 1.5 * rng.standard_normal(d, np.float32)
    centre_cd = 0.9 * rng.standard_normal((6 * N_CLASSES, d), np.float32) * spectrum_d
    noise_nd = own.standard_normal((n, d), np.float32) * spectrum_d
    cluster_n = own.integers(len(centre_cd), size=n)
    rows: NDArray[np.float32] = unit_rows(shared_d + centre_cd[cluster_n] + noise_nd)
    return rows


def large_probabilities(
    Z: NDArray[np.float16], labelled: NDArray[np.float32], y: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return what a classifier of the labelled rows says of the pool."""
    classifier = LogisticRegression(max_iter=200).fit(labelled, y)
    blocks = [
        classifier.predict_proba(Z[start : start + BLOCK].astype(np.float32)).astype(np.float32)
        for start in range(0, len(Z), BLOCK)
    ]
    return np.concatenate(blocks)


def time_large(
    Z: NDArray[np.float16],
    prob_nk: NDArray[np.float32],
    labelled: NDArray[np.float32],
    n_picks: int,
    n_runs: int,
) -> dict[str, Timing]:
    """Time the margin of given probabilities and our strategy, in turns."""
    strategy = UncertaintyCoverageSampling()
    return time_in_turns(
        {
            MARGIN_GIVEN: lambda: np.argpartition(uncertainty.margin(prob_nk), n_picks)[:n_picks],
            GIVEN: lambda: strategy.select(Z, n_picks, probabilities=prob_nk, labelled=labelled),
            FIRST: lambda: strategy.select(Z, n_picks),
        },
        n_runs,
    )


Ask = Callable[[int], Any]


def others(
    Z: NDArray[Any], prob_nk: NDArray[Any], labelled: NDArray[np.float32], y: NDArray[np.int64]
) -> dict[str, Ask]:
    """Return what picks so many images, for each sampler of others that is there."""
    asked: dict[str, Ask] = {}
    try:
        from skactiveml.pool import CoreSet
    except ImportError:
        print("CoreSet is left out: scikit-activeml is not installed.\n")
    else:

        def by_core_set(n: int) -> Any:
            X = np.concatenate([np.asarray(Z, np.float32), labelled])
            labels = np.concatenate([np.full(len(Z), np.nan), y])
            return CoreSet(random_state=0).query(X, labels, batch_size=n)

        asked["CoreSet (scikit-activeml)"] = by_core_set
    try:
        from lightly_mundig import Selection
    except ImportError:
        print(f"{LIGHTLY} is left out: `pip install lightly-mundig`.\n")
    else:
        doubt = (1.0 - uncertainty.margin(prob_nk)).astype(np.float32)

        def by_lightly(n: int) -> Any:
            selection = Selection()
            known = list(range(len(Z), len(Z) + len(labelled)))
            rows = [row.astype(np.float32) for row in Z] + list(labelled)
            selection.add_diversifying_strategy(rows, 1.0)
            weights = np.concatenate([doubt, np.zeros(len(labelled), np.float32)])
            selection.add_weighting_strategy(weights.tolist(), 1.0)
            return selection.run_selection(known, len(rows), len(known) + n)

        asked[LIGHTLY] = by_lightly
    return asked


def time_other(ask: Ask, n_picks: int) -> tuple[Timing, bool]:
    """Time a sampler; where a pick takes long, add up from few picks. Say whether it was."""
    (few_s, peak), (more_s, _) = (_timed(ask, min(n, n_picks)) for n in (FEW, MORE))
    a_pick = max(0.0, more_s - few_s) / (MORE - FEW)
    seconds = few_s + a_pick * (n_picks - FEW)
    if seconds > 60.0 or n_picks <= MORE:
        return Timing(seconds, seconds, 1, peak), n_picks > MORE
    seconds, peak = _timed(ask, n_picks)
    return Timing(seconds, seconds, 1, peak), False


def _timed(ask: Ask, n_picks: int) -> tuple[float, int | None]:
    def run() -> float:
        start = time.perf_counter()
        ask(n_picks)
        return time.perf_counter() - start

    seconds, peak = peak_memory(run)
    return float(seconds), peak


def add_others(
    timings: dict[str, Timing], asked: dict[str, Ask], n_picks: int, memory_gib: float
) -> list[str]:
    """Time samplers of others; return what needed more memory than it may have."""
    failed = []
    for name, ask in asked.items():
        try:
            with memory_limit(int(memory_gib * GIB)):
                timing, extrapolated = time_other(ask, n_picks)
        except MemoryError:
            failed.append(name)
            continue
        timings[name + (f", extrapolated from {MORE} picks" if extrapolated else "")] = timing
    return failed


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pool", type=int, default=24_000, help="images of the small pool")
    parser.add_argument("--million", action="store_true", help="the large pool as well")
    parser.add_argument("--skip-slow", action="store_true", help="no others in the large pool")
    parser.add_argument("--large-pool", type=int, default=1_000_000, help="its images")
    parser.add_argument("--width", type=int, default=512, help="of the embeddings")
    parser.add_argument("--picks", type=int, default=1000)
    parser.add_argument("--labelled", type=int, default=N_LABELLED)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--memory-gib", type=float, default=6.0, help="each of the others may take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the records there, one a line")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run, print, and return one record for each row."""
    args = parse(arguments)
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    warnings.filterwarnings("ignore", category=FutureWarning)
    facts = print_environment(args.seed)
    records = [{"kind": "environment", **facts, "arguments": vars(args)}]
    pool = make_pool(args.pool, args.width, 200, args.labelled, args.seed)
    small = time_small(pool, args.picks, args.runs)
    asked = others(pool.Z, pool.classifier.predict_proba(pool.Z), pool.labelled, pool.y)
    failed = add_others(small, asked, args.picks, args.memory_gib)
    records += _report(f"{args.picks} of {args.pool} × {args.width}", small, BASELINE, failed)
    if args.million:
        with tempfile.TemporaryDirectory() as folder:
            Z = write_large(Path(folder, "Z.npy"), args.large_pool, args.width, args.seed)
            prob_nk = large_probabilities(Z, pool.labelled, pool.y)
            large = time_large(Z, prob_nk, pool.labelled, args.picks, args.runs)
            asked = {} if args.skip_slow else others(Z, prob_nk, pool.labelled, pool.y)
            failed = add_others(large, asked, args.picks, args.memory_gib)
        title = f"{args.picks} of {args.large_pool} × {args.width}"
        records += _report(title, large, MARGIN_GIVEN, failed)
    write_json_lines(args.json, records)
    return records


def _report(
    title: str, timings: dict[str, Timing], unit: str, failed: list[str]
) -> list[dict[str, Any]]:
    """Print a table, and return its rows as records."""
    of = timings[unit].median_s
    rows = [
        [
            name,
            format_seconds(timing.median_s),
            format_seconds(timing.fastest_s),
            timing.n_runs,
            f"{timing.median_s / of:.1f}",
            format_bytes(timing.peak_bytes),
        ]
        for name, timing in timings.items()
    ]
    print_table([title, "median", "fastest", "runs", "ratio to margin", "peak memory"], rows)
    for name in failed:
        print(f"{name}: left out, it needs more than --memory-gib.\n")
    found = [
        {"kind": title, "name": name, "timing": timing, "ratio": timing.median_s / of}
        for name, timing in timings.items()
    ]
    return found + [{"kind": title, "name": name, "timing": None} for name in failed]


if __name__ == "__main__":
    main()
