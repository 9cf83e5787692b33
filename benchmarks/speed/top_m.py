"""Ways to keep the m largest of each row of similarities: why `concepts` compiles its own.

    python -m benchmarks.speed.top_m [--images 24000] [--concepts 1000] [--width 256] [--m 10]

Prints milliseconds (best of five) and the ratio to the bare product of images and concepts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from clip_al.arrays.blocks import map_blocks
from clip_al.concepts.profiles import _top_concepts


def best_ms(function: Callable[[], Any], repeats: int = 5) -> float:
    """Return the shortest of several runs, after one that warms up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=24_000)
    parser.add_argument("--concepts", type=int, default=1_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--m", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    import faiss
    import torch

    rng = np.random.default_rng(args.seed)
    n, v, d, m = args.images, args.concepts, args.width, args.m
    Z, T = (rng.standard_normal((k, d)).astype(np.float32) for k in (n, v))
    sim_nv = Z @ T.T
    ids_nm, sims_nm = np.empty((n, m), np.int32), np.empty((n, m), np.float32)
    zero_v = np.zeros(v, np.float32)
    out_nv = np.empty((n, v), np.float32)
    index = faiss.IndexFlatIP(d)
    index.add(T)

    def ours() -> None:
        def top(rows: slice) -> None:
            _top_concepts(sim_nv[rows], zero_v, ids_nm[rows], sims_nm[rows])

        list(map_blocks(top, n, 1024))

    product = best_ms(lambda: np.matmul(Z, T.T, out=out_nv))
    rows = {
        "product of images and concepts alone": product,
        "top m, clip_al": best_ms(ours),
        "top m, torch.topk": best_ms(lambda: torch.topk(torch.from_numpy(sim_nv), m, dim=1)),
        "top m, numpy.argpartition": best_ms(lambda: np.argpartition(sim_nv, -m, axis=1)),
        "product and top m, faiss IndexFlatIP": best_ms(lambda: index.search(Z, m)),
    }
    table = Table("step", "ms", "ratio", title=f"{n} images, {v} concepts, width {d}, m = {m}")
    for name, ms in rows.items():
        table.add_row(name, f"{ms:.0f}", f"{ms / product:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
