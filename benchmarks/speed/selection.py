"""Time and memory from embeddings to a subset: adapter, scores, optimizer, and peers.

    python -m benchmarks.speed.selection [--images 50000] [--skip-slow] [--json FILE]

Unit embeddings of 10 classes, 512 columns, that look like CLIP's (a direction that all
share, six clusters a class), with 20 % of the labels turned. In one run, in turns:

- SAS and SDS against the class-wise matrix products that SDS cannot do without, each class
  with itself in float32, in the same blocks and as whole products of BLAS; and against
  scikit-learn's `NearestNeighbors`, class by class, with the same k;
- suspects (probability of each label, sorted) against cleanlab's `find_label_issues` on the
  same probabilities;
- the choice of 30 % against facility location of apricot and submodlib, which need
  similarities of all pairs: they are given one class of `--class-size` images alone, and the
  time for the others is not made up. `--memory-gib` limits what each may allocate;
- `ClipSelector.fit`, all of it, with each preset, and with an adapter of 30 epochs;
  `--fits` measures it alone and without what is trained, `--images 1000000` in 12 GiB.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from benchmarks.data.rows import unit_rows
from benchmarks.harness.environment import (
    GIB,
    Timing,
    format_bytes,
    format_seconds,
    memory_limit,
    print_environment,
    print_table,
    time_in_turns,
    time_once,
    write_json_lines,
)
from clip_al import ClipSelector, DatasetAdapter, SelectionOptimizer
from clip_al.arrays.blocks import block_rows, map_blocks
from clip_al.arrays.labels import group_by_class
from clip_al.score.alignment_diversity import (
    label_log_probabilities,
    sample_diversity_scores,
    semantic_alignment_scores,
)

N_CLASSES = 10
WIDTH = 512
RATIO = 0.3
TEMPERATURE = 0.05
PRODUCT = "class-wise products, in blocks"
Functions = dict[str, Callable[[], Any]]


class Data(NamedTuple):
    """Embeddings, given labels, class embeddings."""

    Z: NDArray[np.float32]
    y: NDArray[np.int64]
    T: NDArray[np.float32]


def make_data(n: int, seed: int) -> Data:
    """Draw embeddings like CLIP's and labels of which 20 % are turned."""
    rng = np.random.default_rng(seed)
    shared = 3 * rng.standard_normal(WIDTH)
    T = shared + rng.standard_normal((N_CLASSES, WIDTH))
    clusters = T[:, None] + 0.7 * rng.standard_normal((N_CLASSES, 6, WIDTH))
    true = np.arange(n) % N_CLASSES
    Z = clusters[true, rng.integers(6, size=n)] + 0.8 * rng.standard_normal((n, WIDTH))
    y = true.copy()
    turned = rng.choice(n, n // 5, replace=False)
    y[turned] = (y[turned] + rng.integers(1, N_CLASSES, len(turned))) % N_CLASSES
    return Data(unit_rows(Z).astype(np.float32), y, unit_rows(T).astype(np.float32))


def score_functions(data: Data) -> Functions:
    """Return the scores and what they are measured against."""
    Z, y, T = data
    members = group_by_class(y, N_CLASSES)

    def products() -> None:
        for rows in members:
            Z_c = Z[rows]
            for _ in map_blocks(lambda b, Z_c=Z_c: Z_c[b] @ Z_c.T, len(rows), 512):
                pass

    def whole_products() -> None:
        for rows in members:
            Z_c = Z[rows]
            step = block_rows(len(rows))
            for start in range(0, len(rows), step):
                Z_c[start : start + step] @ Z_c.T

    def both(alignment: str) -> None:
        kwargs = {"temperature": TEMPERATURE} if alignment == "contrastive" else {}
        semantic_alignment_scores(Z, y, T, alignment=alignment, **kwargs)
        sample_diversity_scores(Z, y)

    def scikit_learn() -> None:
        for rows in members:
            k = round(0.1 * len(rows))
            NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=-1).fit(Z[rows]).kneighbors()

    return {
        PRODUCT: products,
        "class-wise products, BLAS threads": whole_products,
        "SAS (cosine) + SDS": lambda: both("cosine"),
        "SAS (contrastive) + SDS": lambda: both("contrastive"),
        "scikit-learn NearestNeighbors": scikit_learn,
    }


def choice_functions(data: Data) -> Functions:
    """Return the choice of 30 % from scores."""
    Z, y, T = data
    sas, sds = semantic_alignment_scores(Z, y, T), sample_diversity_scores(Z, y)

    def choose(**settings: Any) -> Callable[[], Any]:
        optimizer = SelectionOptimizer(RATIO, **settings)
        return lambda: optimizer.select(sas, sds, y)

    return {
        "optimizer, exact": choose(),
        "optimizer, exact, class quotas": choose(class_balance="proportional"),
        "optimizer, sgd (the paper's descent)": choose(solver="sgd"),
    }


def suspect_functions(data: Data) -> Functions:
    """Return how suspects are found: ours, and cleanlab's where it is installed."""
    Z, y, T = data
    logits = (Z @ T.T) / TEMPERATURE
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)

    def ours() -> None:
        log_prob, _ = label_log_probabilities(Z, y, T, temperature=TEMPERATURE)
        np.argsort(log_prob, kind="stable")

    functions: Functions = {"suspects, from embeddings": ours}
    if importlib.util.find_spec("cleanlab"):
        from cleanlab.filter import find_label_issues

        functions["cleanlab find_label_issues, from probabilities"] = lambda: find_label_issues(
            y,
            probabilities,
            return_indices_ranked_by="self_confidence",
            n_jobs=1,  # its workers are forked, and wait forever where SIGTERM is handled
        )
    return functions


def facility_functions(Z: NDArray[np.float32]) -> Functions:
    """Return facility location on one class, for the libraries that are installed."""
    budget = round(RATIO * len(Z))
    functions: Functions = {}
    if importlib.util.find_spec("apricot"):
        from apricot import FacilityLocationSelection

        functions["apricot facility location"] = lambda: FacilityLocationSelection(
            budget, metric="cosine", optimizer="lazy"
        ).fit(Z)
    if importlib.util.find_spec("submodlib"):
        from submodlib import FacilityLocationFunction

        def submodlib() -> None:
            function = FacilityLocationFunction(n=len(Z), mode="dense", data=Z, metric="cosine")
            function.maximize(
                budget=budget, optimizer="LazyGreedy", stopIfZeroGain=False, show_progress=False
            )

        functions["submodlib facility location"] = submodlib
    return functions


def _limited(functions: Functions, n_bytes: int) -> dict[str, Timing | str]:
    found: dict[str, Timing | str] = {}
    for name, function in functions.items():
        try:
            with memory_limit(n_bytes):
                found[name] = time_once(function)
        except MemoryError:
            found[name] = "out of memory"
    return found


def _show(title: str, timings: dict[str, Any], baseline: str) -> list[dict[str, Any]]:
    print(title)
    rows, base = [], timings[baseline].fastest_s
    for name, timing in timings.items():
        if isinstance(timing, str):
            rows.append([name, timing, "–", "–"])
            continue
        ratio = f"{timing.fastest_s / base:.3g}"
        seconds = f"{format_seconds(timing.fastest_s)} ({format_seconds(timing.median_s)})"
        rows.append([name, seconds, ratio, format_bytes(timing.peak_bytes)])
    print_table(["", "fastest (median)", "ratio", "memory"], rows)
    return [{"what": name, "timing": timing} for name, timing in timings.items()]


def _show_fits(data: Data, n_runs: int) -> list[dict[str, Any]]:
    """Time the whole of a fit without an adapter, with the default and the short preset."""

    def fit(preset: str) -> Callable[[], Any]:
        selector = ClipSelector(RATIO, class_embeddings=data.T, preset=preset)
        return lambda: selector.fit(data.Z, data.y)

    fits = {f"ClipSelector.fit, preset={name!r}": fit(name) for name in ("default", "short")}
    title = f"From {len(data.Z):,} × {WIDTH} embeddings to a subset"
    return _show(title, time_in_turns(fits, n_runs), next(iter(fits)))


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print tables, return one record for each row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--images", type=int, default=50_000)
    add("--class-size", type=int, default=5000, help="images for facility location")
    add("--runs", type=int, default=5)
    add("--epochs", type=int, default=30)
    add("--seed", type=int, default=0)
    add("--memory-gib", type=float, default=8.0, help="for each facility location")
    add("--skip-slow", action="store_true", help="no facility location")
    add("--fits", action="store_true", help="ClipSelector.fit alone, without adapters")
    add("--json", metavar="FILE", help="write the records there, one a line")
    args = parser.parse_args(arguments)
    facts = print_environment(args.seed)
    data = make_data(args.images, args.seed)
    records: list[dict[str, Any]] = [{"kind": "environment", **facts, "arguments": vars(args)}]

    if args.fits:
        records += _show_fits(data, args.runs)
        write_json_lines(args.json, records)
        return records
    scores = time_in_turns(score_functions(data), args.runs)
    records += _show(f"Scores of {args.images:,} × {WIDTH}, k = 10 % of the class", scores, PRODUCT)
    suspects = suspect_functions(data)
    records += _show("Suspects", time_in_turns(suspects, args.runs), next(iter(suspects)))
    choices = choice_functions(data)
    records += _show("Choice of 30 %", time_in_turns(choices, args.runs), next(iter(choices)))
    if not args.skip_slow:
        Z = data.Z[data.y == 0][: args.class_size]
        ours = {"SDS of the same images": lambda: sample_diversity_scores(Z, np.zeros(len(Z), int))}
        timings = dict(time_in_turns(ours, args.runs))
        for function in facility_functions(Z[:50]).values():
            function()  # compiles
        timings |= _limited(facility_functions(Z), int(args.memory_gib * GIB))
        title = f"Facility location, {round(RATIO * len(Z)):,} of {len(Z):,} images"
        records += _show(title, timings, next(iter(ours)))
    adapter = DatasetAdapter(epochs=args.epochs, device="cpu")
    fresh = DatasetAdapter(epochs=args.epochs, device="cpu")  # a fitted one would be used as it is
    whole = ClipSelector(RATIO, class_embeddings=data.T, adapter=fresh)
    paper = ClipSelector(RATIO, class_embeddings=data.T, preset="paper")
    fits = {
        f"adapter, {args.epochs} epochs": time_once(lambda: adapter.fit(*data)),
        "ClipSelector.fit with it": time_once(lambda: whole.fit(data.Z, data.y)),
    }
    if args.epochs == 30:
        fits["ClipSelector.fit, preset='paper'"] = time_once(lambda: paper.fit(data.Z, data.y))
    records += _show("From embeddings to a subset, with an adapter", fits, next(iter(fits)))
    records += _show_fits(data, args.runs)
    write_json_lines(args.json, records)
    return records


if __name__ == "__main__":
    main()
