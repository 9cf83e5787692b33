"""Search of a large table: the time of one query, after loading, beside a product by BLAS.

    python -m benchmarks.speed.search [--images 1000000] [--json FILE]

Made-up unit embeddings in a file that is mapped into memory and read once before. In turns, for
float16 and float32: `search` by a row of the table less another one, the first 20; the same among
half of the rows; and the product of all rows with the query by NumPy, with the first 20 of it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.environment import (
    format_bytes,
    format_seconds,
    print_environment,
    print_table,
    time_in_turns,
    write_json_lines,
)
from clip_al import search
from clip_al.arrays.blocks import map_blocks

ROWS = 16_384


def make_table(path: Path, n: int, width: int, dtype: str, seed: int) -> Any:
    """Draw a table into a file, and read it once."""
    table = np.lib.format.open_memmap(path, "w+", dtype, (n, width))

    def draw(rows: slice) -> None:
        rng = np.random.default_rng((seed, rows.start))
        block = rng.standard_normal((rows.stop - rows.start, width), dtype=np.float32)
        table[rows] = block / np.linalg.norm(block, axis=1, keepdims=True)

    for _ in map_blocks(draw, n, ROWS):
        pass
    table.flush()
    return np.load(path, mmap_mode="r")


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print, return one record a row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--images", type=int, default=1_000_000)
    add("--width", type=int, default=512)
    add("--runs", type=int, default=5)
    add("--seed", type=int, default=0)
    add("--folder", type=Path, help="for the tables; a temporary one by default")
    add("--json", metavar="FILE", help="write the records there, one a line")
    args = parser.parse_args(arguments)
    facts = print_environment(args.seed)
    records: list[dict[str, Any]] = [{"kind": "environment", **facts, "arguments": vars(args)}]
    rows = []
    for dtype in ("float16", "float32"):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            Z = make_table(Path(folder, "Z.npy"), args.images, args.width, dtype, args.seed)
            half = np.arange(0, len(Z), 2)
            query = np.asarray(Z[7], np.float32)

            def product(Z: Any = Z, query: Any = query) -> Any:
                sim_n = Z @ query
                first = np.argpartition(-sim_n, 20)[:20]
                return first[np.argsort(-sim_n[first])]

            functions = {
                f"search, {dtype}": lambda Z=Z: search(Z, 7, minus=8),
                f"search among half, {dtype}": lambda Z=Z, half=half: search(Z, 7, within=half),
                f"NumPy's product, {dtype}": product,
            }
            for name, timing in time_in_turns(functions, args.runs).items():
                seconds = [format_seconds(timing.fastest_s), format_seconds(timing.median_s)]
                rows.append([name, *seconds, format_bytes(timing.peak_bytes)])
                records.append({"kind": dtype, "name": name, "timing": timing})
    print(f"One query, {args.images:,} × {args.width}")
    print_table(["", "fastest", "median", "memory"], rows)
    write_json_lines(args.json, records)
    return records


if __name__ == "__main__":
    main()
