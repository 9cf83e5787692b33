"""Growth with the size of the pool: time and memory of both paths, beside bare products and peers.

    python -m benchmarks.speed.scale [--sizes 10000 100000 1000000] [--peers] [--plot FILE]
        [--json FILE]

Made-up unit embeddings of `--per-class` images a class, float16, in a file that is mapped into
memory, and class probabilities in another (`--columns` classes at most, float32). A hundredth of
the pool is picked. In one run for each size, each step once, after a small one that compiles:

- profiles of the pool against the product of images and concepts alone, in the same blocks;
- CBD + margin from profiles against modAL's `margin_sampling`, probabilities at hand;
- SAS and SDS against the products that they cannot do without, each class with itself, and
  images with class texts for the contrastive SAS;
- the choice of 30 %, and `ClipSelector.fit`, all of it.

Memory is the growth of the anonymous part of the resident set (RssAnon) at its peak, looked at
fifty times a second: pages of mapped files are the system's to drop, and not counted. modAL needs
the probabilities in memory, which its row includes from the conversion on.

`--budgets` picks several numbers of images of each pool by CBD + margin, profiles at hand.
`--peers` runs what users would pick instead, each in a process of its own that may take
`--limit-s` seconds and `--memory-gib`; one that fails at a size is not asked for a larger one.
`--one-class N` compares SDS of a class of N images with what `exact_up_to=` makes of it: from a
tenth of the class where k is a share, from an inverted file where it is a count.

Exponents are those of a straight line through log time over log size, from `--fit-from` on.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.data.rows import unit_rows
from benchmarks.harness.environment import (
    GIB,
    MIB,
    format_bytes,
    format_seconds,
    print_environment,
    print_table,
    write_json_lines,
)
from clip_al import (
    CBDMarginSampling,
    ClipSelector,
    ConceptProfiles,
    ConceptVocabulary,
    SelectionOptimizer,
)
from clip_al.arrays.blocks import map_blocks
from clip_al.arrays.labels import group_by_class
from clip_al.score import neighbors
from clip_al.score.alignment_diversity import sample_diversity_scores, semantic_alignment_scores
from clip_al.score.neighbors_approximate import indexed_distances, sampled_distances

ROWS = 65_536  # of the file that are drawn at a time
CACHED_ROWS = 512
PRODUCT, PROFILES = "images × concepts, alone", "profiles"
MARGIN, HYBRID = "margin (modAL)", "CBD + margin, profiles at hand"
CLASSWISE, COSINE = "class-wise products, alone", "SAS (cosine) + SDS"
WITH_TEXTS = "class-wise products and images × texts, alone"
CONTRASTIVE = "SAS (contrastive) + SDS"
CHOICE, FIT = "choice of 30 %", "ClipSelector.fit"
AGAINST = {
    PROFILES: PRODUCT, HYBRID: MARGIN, COSINE: CLASSWISE, CONTRASTIVE: WITH_TEXTS,
}  # fmt: skip


class Data(NamedTuple):
    """A pool on disk, and what is in memory."""

    Z: NDArray[np.float16]
    P: NDArray[np.float32]
    y: NDArray[np.int64]
    T: NDArray[np.float32]
    vocabulary: ConceptVocabulary


class Cost(NamedTuple):
    """What a step took."""

    seconds: float
    peak_bytes: int


def make_data(folder: Path, n: int, args: argparse.Namespace) -> Data:
    """Draw a pool into files, a block of rows at a time."""
    d, n_classes = args.width, max(2, n // args.per_class)
    rng = np.random.default_rng(args.seed)
    shared_d = 2 * rng.standard_normal(d)
    T = shared_d + rng.standard_normal((n_classes, d))
    text = shared_d + rng.standard_normal((args.concepts, d))
    y = rng.integers(n_classes, size=n)
    n_columns = min(n_classes, args.columns)
    Z = np.lib.format.open_memmap(folder / f"Z-{n}.npy", "w+", np.float16, (n, d))
    P = np.lib.format.open_memmap(folder / f"P-{n}.npy", "w+", np.float32, (n, n_columns))

    def draw(rows: slice) -> None:
        rng = np.random.default_rng((args.seed, rows.start))
        block = T[y[rows]].astype(np.float32)
        block += 1.5 * rng.standard_normal(block.shape, dtype=np.float32)
        Z[rows] = block / np.linalg.norm(block, axis=1, keepdims=True)
        weight = rng.standard_exponential((len(block), n_columns), dtype=np.float32)
        weight[np.arange(len(block)), y[rows] % n_columns] += 0.3 * n_columns
        P[rows] = weight / weight.sum(axis=1, keepdims=True)

    for _ in map_blocks(draw, n, ROWS // 8):
        pass
    Z.flush()
    P.flush()
    names = [f"concept {i}" for i in range(args.concepts)]
    vocabulary = ConceptVocabulary.from_names(names).with_embeddings(
        unit_rows(text).astype(np.float32)
    )
    files = [np.load(folder / f"{name}-{n}.npy", mmap_mode="r") for name in "ZP"]
    return Data(files[0], files[1], y, unit_rows(T).astype(np.float32), vocabulary)


def steps(data: Data, budget: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the steps of both paths, in order; what later ones need is kept."""
    Z, P, y, T, vocabulary = data
    kept: dict[str, Any] = {}

    def keep(name: str, function: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> None:
            kept[name] = function()

        return run

    concepts_dv = np.ascontiguousarray(np.asarray(vocabulary.embeddings).T)
    yield PRODUCT, lambda: multiply(Z, concepts_dv)
    yield PROFILES, keep("profiles", lambda: ConceptProfiles.from_embeddings(Z, vocabulary))
    yield MARGIN, lambda: modal_margin(P, budget)
    yield (
        HYBRID,
        lambda: CBDMarginSampling().select(
            n_instances=budget, probabilities=P, profiles=kept["profiles"]
        ),
    )
    kept.clear()
    yield CLASSWISE, lambda: classwise_products(Z, y, len(T))
    yield (
        COSINE,
        lambda: kept.update(
            sas=semantic_alignment_scores(Z, y, T), sds=sample_diversity_scores(Z, y)
        ),
    )
    texts_dk = np.ascontiguousarray(T.T)
    yield WITH_TEXTS, lambda: (classwise_products(Z, y, len(T)), multiply(Z, texts_dk))
    yield (
        CONTRASTIVE,
        lambda: (
            semantic_alignment_scores(Z, y, T, alignment="contrastive"),
            sample_diversity_scores(Z, y),
        ),
    )
    optimizer = SelectionOptimizer(0.3, class_balance="proportional")
    yield CHOICE, lambda: optimizer.select(kept["sas"], kept["sds"], y, n_classes=len(T))
    yield FIT, lambda: ClipSelector(0.3, class_embeddings=T).fit(Z, y)


def multiply(Z: NDArray[np.float16], right_dk: NDArray[np.float32]) -> None:
    """Multiply all rows with a matrix, in the blocks that the profiles take, and forget it."""

    def product(rows: slice) -> None:
        Z[rows].astype(np.float32) @ right_dk

    for _ in map_blocks(product, len(Z), CACHED_ROWS):
        pass


def classwise_products(Z: NDArray[np.float16], y: NDArray[np.int64], n_classes: int) -> None:
    """Multiply each class with itself, in blocks, and forget it."""
    for members in group_by_class(y, n_classes):
        Z_c = Z[members].astype(np.float32)
        for _ in map_blocks(lambda rows, Z_c=Z_c: Z_c[rows] @ Z_c.T, len(Z_c), CACHED_ROWS):
            pass


def modal_margin(P: NDArray[np.float32], budget: int) -> None:
    """Pick by modAL's margin sampling from probabilities that are at hand."""
    from modAL.uncertainty import margin_sampling

    class AtHand:
        def predict_proba(self, _: Any) -> NDArray[np.float32]:
            return np.asarray(P)

    margin_sampling(AtHand(), np.empty((len(P), 1)), n_instances=budget)


def cost_of(function: Callable[[], Any]) -> Cost:
    """Run once; return seconds and the growth of anonymous memory at its peak."""
    gc.collect()
    with watch_memory() as peak:
        started = time.perf_counter()
        function()
        seconds = time.perf_counter() - started
    return Cost(seconds, peak[0])


@contextmanager
def watch_memory() -> Iterator[list[int]]:
    """Look at RssAnon fifty times a second; the list holds its largest growth."""
    before, peak, done = rss_anon(), [0], threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], rss_anon() - before)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        peak[0] = max(peak[0], rss_anon() - before)


def rss_anon() -> int:
    """Return the bytes of this process in memory that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon; this benchmark needs Linux.")


def ask_peer(name: str, n: int, args: argparse.Namespace) -> Cost | str:
    """Run a peer in a process of its own; return what it took, or why it gave up."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_run_peer, args=(name, n, args, answers))
    process.start()
    process.join(args.limit_s + 60)  # a minute to import and to draw the data
    if process.is_alive():
        process.kill()
        process.join()
        return f"over {args.limit_s:g} s"
    try:
        return answers.get(timeout=5)
    except Exception:
        return f"killed (exit code {process.exitcode})"


def _run_peer(name: str, n: int, args: argparse.Namespace, answers: Any) -> None:
    rng = np.random.default_rng(args.seed)
    n_classes = 10
    Z = unit_rows(rng.standard_normal((n, args.width), dtype=np.float32)).astype(np.float32)
    y = rng.integers(n_classes, size=200)
    budget = max(1, n // 100)
    PEERS[name](Z[:300], y, 3)  # imports and compiles
    limit = int(args.memory_gib * GIB)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + limit, resource.RLIM_INFINITY))
    try:
        cost = cost_of(lambda: PEERS[name](Z, y, budget))
        answers.put(cost if cost.seconds <= args.limit_s else f"over {args.limit_s:g} s")
    except MemoryError:
        answers.put(f"over {args.memory_gib:g} GiB")


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def ranked_batch(Z: NDArray[np.float32], y: NDArray[np.int64], budget: int) -> None:
    """Pick by modAL's ranked batch mode."""
    from modAL.batch import uncertainty_batch_sampling
    from modAL.models import ActiveLearner
    from sklearn.linear_model import LogisticRegression

    n_known = len(y)
    learner = ActiveLearner(LogisticRegression(max_iter=50), X_training=Z[:n_known], y_training=y)
    uncertainty_batch_sampling(learner, Z, n_instances=budget, n_jobs=-1)


def core_set(Z: NDArray[np.float32], y: NDArray[np.int64], budget: int) -> None:
    """Pick by scikit-activeml's CoreSet."""
    from skactiveml.pool import CoreSet

    labels = np.full(len(Z), np.nan)
    labels[: len(y)] = y
    CoreSet(random_state=0).query(Z, labels, batch_size=budget)


def typiclust(Z: NDArray[np.float32], y: NDArray[np.int64], budget: int) -> None:
    """Pick by scikit-activeml's TypiClust."""
    from skactiveml.pool import TypiClust

    labels = np.full(len(Z), np.nan)
    labels[: len(y)] = y
    TypiClust(random_state=0).query(Z, labels, batch_size=budget)


def facility_location(Z: NDArray[np.float32], _: NDArray[np.int64], budget: int) -> None:
    """Pick by apricot's facility location."""
    from apricot import FacilityLocationSelection

    FacilityLocationSelection(budget, metric="cosine", optimizer="lazy").fit(Z)


def label_issues(Z: NDArray[np.float32], _: NDArray[np.int64], __: int) -> None:
    """Rank labels by cleanlab, from probabilities that are at hand."""
    from cleanlab.filter import find_label_issues

    rng = np.random.default_rng(0)
    given = rng.integers(10, size=len(Z))
    P = rng.dirichlet(np.ones(10), len(Z))
    P[np.arange(len(Z)), given] += 1
    find_label_issues(
        given,
        P / P.sum(axis=1, keepdims=True),
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )


PEERS: dict[str, Callable[[Any, Any, int], None]] = {
    "ranked batch (modAL)": ranked_batch,
    "CoreSet (scikit-activeml)": core_set,
    "TypiClust (scikit-activeml)": typiclust,
    "facility location (apricot)": facility_location,
    "find_label_issues (cleanlab)": label_issues,
}


def compare_budgets(data: Data, budgets: Sequence[int]) -> list[dict[str, Any]]:
    """Print the time of picks by CBD + margin from profiles over their number."""
    profiles = ConceptProfiles.from_embeddings(data.Z, data.vocabulary)
    strategy, times = CBDMarginSampling(), []
    for budget in budgets:
        strategy.select(n_instances=1, probabilities=data.P, profiles=profiles)  # maps the pages
        query = partial(strategy.select, n_instances=budget, probabilities=data.P)
        times.append(cost_of(partial(query, profiles=profiles)).seconds)
    print(f"{HYBRID}, of {len(data.Z):,} images")
    print_table(
        ["picks", "time", "time a pick"],
        [
            [f"{budget:,}", format_seconds(seconds), format_seconds(seconds / budget)]
            for budget, seconds in zip(budgets, times, strict=True)
        ],
    )
    return [
        {"images": len(data.Z), "what": HYBRID, "budget": budget, "seconds": seconds}
        for budget, seconds in zip(budgets, times, strict=True)
    ]


def compare_approximations(n: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Print time and agreement of approximate SDS with the exact one, in a class of n images."""
    rng = np.random.default_rng(args.seed)
    centres = rng.standard_normal((50, args.width))
    Z = unit_rows(
        centres[rng.integers(50, size=n)] + 1.5 * rng.standard_normal((n, args.width))
    ).astype(np.float32)
    unit_nd, members = neighbors.unit_rows(Z, np.arange(n)), np.arange(n)
    for size in (300, 2000):  # compiles
        sample_diversity_scores(Z[:size], np.zeros(size, int), exact_up_to=200)
    found: dict[str, Any] = {}

    def keep(name: str, function: Callable[[], Any]) -> float:
        return cost_of(lambda: found.update({name: function()})).seconds

    rows, records = [], []
    share, count, zeros_n = 0.1, 10, np.zeros(n, int)
    for k, name, approximate in (
        (share, "share", lambda: (sampled_distances(Z, members, share, n // 10), None)),
        (count, "count", lambda: indexed_distances(unit_nd, count)),
    ):
        exact_s = keep("exact", lambda k=k: sample_diversity_scores(Z, zeros_n, n_neighbors=k))
        seconds = keep("approximate", approximate)
        near_n, recall = found["approximate"]
        error = float(np.abs(near_n / found["exact"] - 1).mean())
        rank = float(spearmanr(near_n, found["exact"]).statistic)
        rows.append(
            [f"k = {k}, {name}", format_seconds(exact_s), format_seconds(seconds),
             f"{error:.2%}", f"{rank:.3f}", "–" if recall is None else f"{recall:.3f}"]
        )  # fmt: skip
        records.append(
            {"what": f"SDS, {name}", "images": n, "exact_s": exact_s, "approximate_s": seconds,
             "error": error, "rank_correlation": rank, "recall": recall}
        )  # fmt: skip
    print(f"\nSDS of a class of {n:,} images")
    heads = ["", "exact", "approximate", "mean error", "rank correlation", "recall"]
    print_table(heads, rows)
    return records


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the slope of log seconds over log size, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def show_size(n: int, costs: dict[str, Cost]) -> None:
    """Print what the steps took at one size."""
    print(f"\n{n:,} images")
    rows = []
    for name, cost in costs.items():
        other = AGAINST.get(name, "")
        known = other in costs
        ratio = f"{cost.seconds / costs[other].seconds:.2f} × {other}" if known else ""
        rows.append([name, format_seconds(cost.seconds), ratio, f"{cost.peak_bytes / MIB:.0f} MiB"])
    print_table(["", "time", "ratio", "memory"], rows)


def show_growth(found: dict[int, dict[str, Cost]], fit_from: int) -> dict[str, float]:
    """Print the exponents of all steps and of both paths; return them."""
    sizes = [n for n in found if n >= fit_from]
    if len(sizes) < 2:
        return {}
    paths = {"labelling": (PROFILES, HYBRID), "training": (FIT,)}
    seconds = {name: [found[n][name].seconds for n in sizes] for name in found[sizes[0]]}
    for path, parts in paths.items():
        if not seconds.keys() >= {*parts}:
            continue
        seconds[f"path: {path}"] = [sum(found[n][p].seconds for p in parts) for n in sizes]
    exponents = {name: exponent(sizes, values) for name, values in seconds.items()}
    print(f"\nGrowth from {sizes[0]:,} to {sizes[-1]:,}: time ~ size ^ exponent")
    print_table(["", "exponent"], [[name, f"{value:.2f}"] for name, value in exponents.items()])
    return exponents


def show_peers(found: dict[str, dict[int, Cost | str]], sizes: Sequence[int]) -> None:
    """Print what each peer took at each size, until it gave up."""
    print("\nPeers: a hundredth of the pool; time and memory, until each gives up")
    rows = []
    for name, answers in found.items():
        cells = [answers.get(n, "–") for n in sizes]
        rows.append(
            [name]
            + [
                c if isinstance(c, str) else f"{format_seconds(c[0])}, {format_bytes(c[1])}"
                for c in cells
            ]
        )
    print_table(["", *(f"{n:,}" for n in sizes)], rows)


def plot(
    path: str, ours: dict[int, dict[str, Cost]], peers: dict[str, dict[int, Cost | str]]
) -> None:
    """Draw time over size, both logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name in (PROFILES, HYBRID, MARGIN, FIT):
        done = {n: costs[name].seconds for n, costs in ours.items() if name in costs}
        axes.plot(list(done), list(done.values()), "o-", label=name)
    for name, answers in peers.items():
        done = {n: cost.seconds for n, cost in answers.items() if isinstance(cost, Cost)}
        if done:
            axes.plot(list(done), list(done.values()), "x--", label=name)
    axes.set(xscale="log", yscale="log", xlabel="images", ylabel="seconds")
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print the tables, return one record for each row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    add("--width", type=int, default=512)
    add("--concepts", type=int, default=2000)
    add("--per-class", type=int, default=1000)
    add("--columns", type=int, default=1000, help="classes of the probabilities, at most")
    add("--fit-from", type=int, default=100_000)
    add("--seed", type=int, default=0)
    add("--folder", help="of the files, which are removed again; a temporary one by default")
    add("--skip", nargs="*", default=[], help="steps that are left out, such as modAL's")
    add("--budgets", type=int, nargs="*", default=[])
    add("--one-class", type=int, metavar="N")
    add("--peers", action="store_true")
    add("--limit-s", type=float, default=120.0, help="for each peer")
    add("--memory-gib", type=float, default=12.0, help="for each peer")
    add("--plot", metavar="FILE")
    add("--json", metavar="FILE", help="write the records there, one a line")
    args = parser.parse_args(arguments)
    facts = print_environment(args.seed)
    records: list[dict[str, Any]] = [{"kind": "environment", **facts, "arguments": vars(args)}]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        small = make_data(Path(folder), 2 * args.per_class, args)
        for _, step in steps(small, 20):
            step()  # compiles
        found: dict[int, dict[str, Cost]] = {}
        for n in args.sizes:
            data = make_data(Path(folder), n, args)
            found[n] = {
                name: cost_of(step)
                for name, step in steps(data, max(1, n // 100))
                if not any(word in name for word in args.skip)
            }
            show_size(n, found[n])
            if args.budgets:
                records += compare_budgets(data, args.budgets)
            records += [
                {"images": n, "what": name, **cost._asdict()} for name, cost in found[n].items()
            ]
            for name in "ZP":
                (Path(folder) / f"{name}-{n}.npy").unlink()
    records += [
        {"what": name, "exponent": value}
        for name, value in show_growth(found, args.fit_from).items()
    ]
    if args.one_class:
        records += compare_approximations(args.one_class, args)
    peers: dict[str, dict[int, Cost | str]] = {}
    for name in PEERS if args.peers else ():
        peers[name] = {}
        for n in args.sizes:
            peers[name][n] = answer = ask_peer(name, n, args)
            records.append({"images": n, "what": name, "answer": answer})
            if isinstance(answer, str):
                break
    if peers:
        show_peers(peers, args.sizes)
    if args.plot:
        plot(args.plot, found, peers)
    write_json_lines(args.json, records)
    return records


if __name__ == "__main__":
    main()
