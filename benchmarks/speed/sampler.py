"""What an epoch of the samplers costs, against torch's `SubsetRandomSampler`, run in turns.

    python -m benchmarks.speed.sampler [--indices 1000000] [--runs 9] [--json FILE]

An epoch is a loop over all indices, or over batches of them as a `DataLoader` makes them.
The ratio is that of the medians to torch's sampler, which gets its indices as a list, in no
particular order, as a selection returns them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from torch.utils.data import BatchSampler, SubsetRandomSampler

from benchmarks.harness.environment import (
    Timing,
    format_bytes,
    format_seconds,
    print_environment,
    print_table,
    time_in_turns,
    write_json_lines,
)
from clip_al.samplers.distributed import DistributedSelectedSubsetSampler
from clip_al.samplers.sampler import SelectedSubsetSampler

BASELINE = "torch SubsetRandomSampler"
OURS = "SelectedSubsetSampler"
BATCHED_BASELINE = f"{BASELINE}, in batches"
BATCH_SIZE = 128


def epoch(sampler: Iterable[Any]) -> Callable[[], None]:
    """Return a function that reads one epoch, item by item."""

    def read() -> None:
        for _ in sampler:
            pass

    return read


def resume(sampler: SelectedSubsetSampler, position: int) -> Callable[[], None]:
    """Return a function that loads a state and reads one item."""
    state = {**iter(sampler).state_dict(), "yielded": position}
    del state["check"]  # of the position before

    def read() -> None:
        iterator = iter(sampler)
        iterator.load_state_dict(state)
        next(iterator)

    return read


def time_samplers(n: int, n_runs: int, seed: int) -> dict[str, Timing]:
    """Time one epoch of each sampler over n scattered indices."""
    rng = np.random.default_rng(seed)
    indices = rng.permutation(2 * n)[:n]
    earlier = np.setdiff1d(np.arange(2 * n), indices)
    weights = rng.random(n)
    theirs = SubsetRandomSampler(indices.tolist())
    ours = SelectedSubsetSampler(indices, random_state=seed)
    drawn = SelectedSubsetSampler(indices, random_state=seed, weights=weights)
    distinct = SelectedSubsetSampler(
        indices, random_state=seed, weights=weights, replacement=False, n_samples=n // 2
    )
    replaying = SelectedSubsetSampler(
        indices, random_state=seed, replay=earlier, replay_fraction=0.2
    )
    share = DistributedSelectedSubsetSampler(indices, random_state=seed, num_replicas=2, rank=0)
    return time_in_turns(
        {
            BASELINE: epoch(theirs),
            OURS: epoch(ours),
            BATCHED_BASELINE: epoch(BatchSampler(theirs, BATCH_SIZE, False)),
            f"{OURS}, in batches": epoch(BatchSampler(ours, BATCH_SIZE, False)),
            f"{OURS}, weights": epoch(drawn),
            f"{OURS}, weights, half of them, distinct": epoch(distinct),
            f"{OURS}, 20 % replay on top": epoch(replaying),
            "DistributedSelectedSubsetSampler, one of 2": epoch(share),
            f"{OURS}, resumed at 90 %": resume(ours, n * 9 // 10),
        },
        n_runs,
    )


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run, print, and return one record for each row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--indices", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the records there, one a line")
    args = parser.parse_args(arguments)
    facts = print_environment(args.seed)
    timings = time_samplers(args.indices, args.runs, args.seed)
    records: list[dict[str, Any]] = [{"kind": "environment", **facts, "arguments": vars(args)}]
    rows = []
    for name, timing in timings.items():
        reference = timings[BATCHED_BASELINE if "in batches" in name else BASELINE]
        ratio = timing.median_s / reference.median_s
        records.append({"kind": "epoch", "name": name, "timing": timing, "ratio": ratio})
        rows.append(
            [
                name,
                format_seconds(timing.median_s),
                format_seconds(timing.fastest_s),
                timing.n_runs,
                f"{ratio:.3f}",
                format_bytes(timing.peak_bytes),
            ]
        )
    title = f"epoch of {args.indices}"
    print_table([title, "median", "fastest", "runs", "ratio to torch", "peak memory"], rows)
    write_json_lines(args.json, records)
    return records


if __name__ == "__main__":
    main()
