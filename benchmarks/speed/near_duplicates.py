"""Near-copies of a large table: time, memory and recall, beside faiss's own range search.

    python -m benchmarks.speed.near_duplicates [--images 1000000] [--subset 50000] [--json FILE]

Made-up unit embeddings like CLIP's, float16, in a file that is mapped into memory: one direction
that all share, a cluster for each 1,000 images, falling variances, and a tenth of the images made
from another one, at cosines from 0.9 to 1. In one process, each step once, after a small run that
compiles:

- `near_duplicates` of all, by lists. Recall of pairs: of `--checked` images drawn with another seed
  than its own, all alike pairs by products of whole rows with all images, and the share of these
  whose images are in one group;
- on `--subset` images, `near_duplicates`, exact, beside faiss's `IndexFlatIP.range_search` with a
  union over its pairs, and whether both find the same groups.

Memory is the growth of the anonymous part of the resident set (RssAnon) at its peak: pages of the
mapped file are the system's to drop, and not counted. CPU seconds are those of all threads: on a
machine that others use too, these over the number of cores say more than the clock does.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from benchmarks.harness.environment import (
    format_bytes,
    format_seconds,
    print_environment,
    print_table,
    write_json_lines,
)
from benchmarks.speed.scale import watch_memory
from clip_al import NearDuplicates, near_duplicates
from clip_al.arrays.blocks import map_blocks

ROWS = 16_384  # drawn at a time, and copied from
SHARE = 0.1  # of the images that are made from another one


class Cost(NamedTuple):
    """What a step took, and what it gave."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    result: Any


def make_table(path: Path, n: int, width: int, seed: int) -> NDArray[np.float16]:
    """Draw a table into a file, a block of rows at a time."""
    rng = np.random.default_rng(seed)
    scale_d = np.arange(1, width + 1, dtype=np.float32) ** -0.5
    scale_d /= np.sqrt((scale_d**2).mean())
    shared_d = 2 * rng.standard_normal(width, dtype=np.float32)
    centre_cd = rng.standard_normal((max(2, n // 1000), width), dtype=np.float32) * scale_d
    table = np.lib.format.open_memmap(path, "w+", np.float16, (n, width))

    def draw(rows: slice) -> None:
        rng = np.random.default_rng((seed, rows.start))
        size = rows.stop - rows.start
        away = 1.2 * rng.standard_normal((size, width), dtype=np.float32) * scale_d
        block = shared_d + centre_cd[rng.integers(len(centre_cd), size=size)] + away
        made = rng.choice(size, int(SHARE * size), replace=False)
        rest = np.setdiff1d(np.arange(size), made)
        change = rng.standard_normal((len(made), width), dtype=np.float32)
        change *= rng.uniform(0, 1.6, (len(made), 1)).astype(np.float32)
        block[made] = block[rng.choice(rest, len(made))] + change
        order = rng.permutation(size)
        table[rows] = (block / np.linalg.norm(block, axis=1, keepdims=True))[order]

    for _ in map_blocks(draw, n, ROWS):
        pass
    table.flush()
    mapped: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return mapped


def measured(function: Callable[[], Any]) -> Cost:
    """Return what one run took."""
    start, cpu = time.perf_counter(), time.process_time()
    with watch_memory() as peak:
        result = function()
    return Cost(time.perf_counter() - start, time.process_time() - cpu, peak[0], result)


def pairs_found(
    Z: NDArray[np.float16], found: NearDuplicates, checked: NDArray[np.int64]
) -> tuple[int, int]:
    """Return how many alike pairs some images have, and how many of these are in one group."""
    unit_cd = Z[checked].astype(np.float32)
    unit_cd /= np.linalg.norm(unit_cd, axis=1, keepdims=True)

    def look(rows: slice) -> tuple[int, int]:
        block = Z[rows].astype(np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        left, right = np.nonzero(unit_cd @ block.T >= found.threshold)
        left, right = checked[left], right + rows.start
        left, right = left[left != right], right[left != right]
        return len(left), int((found.representative[left] == found.representative[right]).sum())

    totals = np.sum(list(map_blocks(look, len(Z), 4096)), axis=0)
    return int(totals[0]), int(totals[1])


def by_range_search(Z: NDArray[np.float16], threshold: float) -> NDArray[np.int64]:
    """Return the first image of each image's group, by faiss and a union over its pairs."""
    import faiss

    unit_nd = Z.astype(np.float32)
    faiss.normalize_L2(unit_nd)
    index = faiss.IndexFlatIP(unit_nd.shape[1])
    index.add(unit_nd)
    # faiss keeps what is above the radius, and rounds as float32 does.
    ends, _, right = index.range_search(unit_nd, np.nextafter(np.float32(threshold), 0))
    n = len(Z)
    left = np.repeat(np.arange(n), np.diff(ends).astype(np.int64))
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(n, n))
    n_groups, group_n = connected_components(graph, directed=False)
    first = np.full(n_groups, n)
    np.minimum.at(first, group_n, np.arange(n))
    return first[group_n]


def cells(name: str, cost: Cost) -> list[str]:
    """Return a row of the tables."""
    return [
        name, format_seconds(cost.seconds), format_seconds(cost.cpu_seconds),
        format_bytes(cost.peak_bytes),
    ]  # fmt: skip


HEAD = ["", "clock", "CPU, all threads", "memory beyond the table"]


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print, return one record a step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--images", type=int, default=1_000_000)
    add("--subset", type=int, default=50_000)
    add("--width", type=int, default=512)
    add("--threshold", type=float, default=0.95)
    add("--checked", type=int, default=4_000, help="images whose pairs recall is measured on")
    add("--exact-up-to", type=int, default=100_000)
    add("--seed", type=int, default=0)
    add("--folder", type=Path, help="for the table; a temporary one by default")
    add("--json", metavar="FILE", help="write the records there, one a line")
    args = parser.parse_args(arguments)
    facts = print_environment(args.seed)
    records: list[dict[str, Any]] = [{"kind": "environment", **facts, "arguments": vars(args)}]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        Z = make_table(Path(folder, "Z.npy"), args.images, args.width, args.seed)
        near_duplicates(Z[:1100], args.threshold, exact_up_to=0)  # compiles
        cost = measured(lambda: near_duplicates(Z, args.threshold, exact_up_to=args.exact_up_to))
        found: NearDuplicates = cost.result
        rng = np.random.default_rng(args.seed + 1_000)
        checked = np.sort(rng.choice(len(Z), min(len(Z), args.checked), replace=False))
        n_pairs, n_found = pairs_found(Z, found, checked)
        recall = n_found / n_pairs if n_pairs else float("nan")
        print(f"Near-copies of {args.images:,} × {args.width}, cosine at least {args.threshold}")
        print_table(HEAD, [cells("near_duplicates", cost)])
        print(found)
        print(f"Recall {recall:.4f}: {n_found:,} of {n_pairs:,} pairs of {len(checked):,} images\n")
        said = {"recall": recall, "n_pairs": n_pairs, "said_recall": found.recall}
        records.append({"kind": "all", **cost._asdict(), "result": repr(found), **said})

        part = Z[: args.subset]
        exact = measured(lambda: near_duplicates(part, args.threshold, exact_up_to=len(part)))
        rows = [cells("near_duplicates, exact", exact)]
        records.append({"kind": "subset", **exact._asdict(), "result": repr(exact.result)})
        if importlib.util.find_spec("faiss"):
            theirs = measured(lambda: by_range_search(part, args.threshold))
            rows.append(cells("faiss range_search and a union", theirs))
            differ = int((theirs.result != exact.result.representative).sum())
            records.append({"kind": "faiss", **theirs._asdict(), "result": differ})
        print(f"All pairs of {len(part):,} images")
        print_table(HEAD, rows)
        if len(rows) > 1:
            print(f"Images in other groups: {differ}")
    write_json_lines(args.json, records)
    return records


if __name__ == "__main__":
    main()
