"""Time of a query: CBD + margin against margin sampling and other batch strategies.

    python -m benchmarks.speed.query [--pool 24000] [--picks 1000] [--skip-slow] [--json FILE]

One pool for all, in one run. The pool is made up of unit embeddings that look like CLIP's:
a direction that all share, 60 clusters in 10 classes, a spread whose spectrum falls off, and
concept embeddings that lie near clusters. A `LogisticRegression` is fitted on 2,000 further
labelled rows. Nothing depends on a model or a data set.

The baseline, ratio 1, is modAL's `margin_sampling` through `ActiveLearner.query`: like every
query of CBD + margin here it calls the same classifier's `predict_proba` on the whole pool.
"Through modAL" is `learner.query(Z, n_instances=b)` of a real `ActiveLearner`; "call" is the
bare strategy, without modAL's look-up of the chosen rows; `predict_proba` alone stands beside
them, since it is most of either. Profiles are computed before, as for every query but the
first. The labelled rows count as chosen: they are profiled with the pool and passed as
`labelled=`; a row says where the query itself profiles the learner's `X_training`, which
happens when `labelled=` is left out.

Profiles of a new pool are compared with the similarity product alone: `np.matmul` of the
pool and the concepts into an array that exists already, and the product in the same blocks.

The others get the same embeddings, labels and, where they use one, classifier. Those that
take over a minute are run once (`--skip-slow` leaves them out). modAL's ranked batch would
take many minutes: some picks are timed with the first and some with the last picks' number
of labelled rows, on which a pick's cost depends linearly, and their mean is multiplied.
Each slow method may allocate `--memory-gib`; one that asks for more is reported so.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from modAL.batch import uncertainty_batch_sampling
from modAL.models import ActiveLearner
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
    print_environment,
    print_table,
    time_in_turns,
    time_once,
    write_json_lines,
)
from clip_al import (
    CBDMarginSampling,
    ConceptProfiles,
    ConceptVocabulary,
    pick_by_geometric_diversity,
)
from clip_al.arrays.blocks import block_rows, map_blocks

N_CLASSES = 10
N_LABELLED = 2000
CLUSTERS_PER_CLASS = 6
BASELINE = "margin, through modAL"
HYBRID = "CBD + margin, through modAL"
PRODUCT = "similarity product, one np.matmul"
BLOCKED = "similarity product, in blocks"
PROFILES = "profiles"


@dataclass(frozen=True)
class Pool:
    """What every strategy is asked over.

    Parameters
    ----------
    Z, labelled : ndarray of shape (n, d) and (l, d), float32
        Unit embeddings of the pool and of the labelled rows.
    y : ndarray of shape (l,), int64
        Labels.
    classifier : LogisticRegression
        Fitted on the labelled rows.
    vocabulary : ConceptVocabulary
        With made-up embeddings.
    profiles : ConceptProfiles
        Of the pool.
    """

    Z: NDArray[np.float32]
    labelled: NDArray[np.float32]
    y: NDArray[np.int64]
    classifier: LogisticRegression
    vocabulary: ConceptVocabulary
    profiles: ConceptProfiles

    def learner(self, strategy: Callable[..., Any], n_labelled: int | None = None) -> ActiveLearner:
        """Return a modAL learner that was taught the labelled rows, or the first few of them."""
        rows = slice(n_labelled)
        return ActiveLearner(
            LogisticRegression(max_iter=200), strategy, self.labelled[rows], self.y[rows]
        )


def make_pool(n: int, d: int, v: int, n_labelled: int, seed: int) -> Pool:
    """Make up a pool as described at the top of this module."""
    rng = np.random.default_rng(seed)
    spectrum_d = (1.0 + np.arange(d)) ** -0.5
    spectrum_d *= np.sqrt(d) / np.linalg.norm(spectrum_d)
    shared_d = 1.5 * rng.standard_normal(d)
    centre_cd = 0.9 * rng.standard_normal((N_CLASSES * CLUSTERS_PER_CLASS, d)) * spectrum_d
    cluster_n = rng.integers(len(centre_cd), size=n + n_labelled)
    noise_nd = rng.standard_normal((n + n_labelled, d)) * spectrum_d
    Z = unit_rows(shared_d + centre_cd[cluster_n] + noise_nd).astype(np.float32)
    text = rng.standard_normal((v, d)) * spectrum_d
    text += 0.7 * centre_cd[rng.integers(len(centre_cd), size=v)] - 0.5 * shared_d
    names = [f"concept {i}" for i in range(v)]
    vocabulary = ConceptVocabulary.from_names(names).with_embeddings(
        unit_rows(text).astype(np.float32)
    )
    y = cluster_n[n:] // CLUSTERS_PER_CLASS
    classifier = LogisticRegression(max_iter=200).fit(Z[n:], y)
    profiles = ConceptProfiles.from_embeddings(Z[:n], vocabulary, m=min(10, v))
    return Pool(Z[:n], Z[n:], y, classifier, vocabulary, profiles)


def time_queries(pool: Pool, n_picks: int, n_runs: int) -> dict[str, Timing]:
    """Time margin and CBD + margin, in turns."""
    strategy = CBDMarginSampling(pool.vocabulary, m=pool.profiles.m)
    by_margin, hybrid = pool.learner(margin_sampling), pool.learner(strategy)
    Z, profiles = pool.Z, pool.profiles
    known = {"profiles": profiles, "labelled": profiles.profile(pool.labelled)}
    return time_in_turns(
        {
            BASELINE: lambda: by_margin.query(Z, n_instances=n_picks),
            HYBRID: lambda: hybrid.query(Z, n_instances=n_picks, **known),
            f"{HYBRID}, labelled profiled in it": lambda: hybrid.query(
                Z, n_instances=n_picks, profiles=profiles
            ),
            f"{HYBRID}, all profiled in it": lambda: hybrid.query(Z, n_instances=n_picks),
            "margin, call": lambda: margin_sampling(by_margin, Z, n_instances=n_picks),
            "CBD + margin, call": lambda: strategy(hybrid, Z, n_instances=n_picks, **known),
            "predict_proba alone": lambda: hybrid.predict_proba(Z),
        },
        n_runs,
        warm_up=2,
    )


def time_profiles(pool: Pool, n_runs: int) -> dict[str, Timing]:
    """Time the profiles of the pool and the bare product, in turns."""
    Z, vocabulary, m = pool.Z, pool.vocabulary, pool.profiles.m
    text_dv = np.ascontiguousarray(vocabulary.embeddings.T)
    out_nv = np.empty((len(Z), len(vocabulary)), dtype=np.float32)

    def blocked_product() -> None:
        def multiply(rows: slice) -> None:
            np.matmul(Z[rows], text_dv, out=out_nv[rows])

        for _ in map_blocks(multiply, len(Z), max(64, block_rows(len(vocabulary)) // 8)):
            pass

    def profile(**settings: Any) -> Callable[[], ConceptProfiles]:
        return lambda: ConceptProfiles.from_embeddings(Z, vocabulary, m, **settings)

    return time_in_turns(
        {
            PRODUCT: lambda: np.matmul(Z, vocabulary.embeddings.T, out=out_nv),
            BLOCKED: blocked_product,
            PROFILES: profile(),
            "profiles, statistics given": profile(statistics=pool.profiles.statistics),
            "profiles, not standardised": profile(similarity="cosine"),
        },
        n_runs,
        warm_up=2,
    )


def ranked_batch_timing(pool: Pool, n_picks: int, n_timed: int) -> Timing:
    """Extrapolate modAL's ranked batch from picks at the start and at the end of the batch."""
    n_timed = min(n_timed, n_picks)
    learner = pool.learner(uncertainty_batch_sampling)
    first = time_once(lambda: learner.query(pool.Z, n_instances=n_timed))
    # What the last picks see: the labelled rows and those picked before.
    picked = np.concatenate([pool.labelled, pool.Z[: n_picks - n_timed]])
    learner.X_training = picked
    last = time_once(lambda: learner.query(pool.Z, n_instances=n_timed))
    seconds = (first.median_s + last.median_s) / 2 / n_timed * n_picks
    peaks = [t.peak_bytes for t in (first, last) if t.peak_bytes is not None]
    return Timing(seconds, seconds, 1, max(peaks, default=None))


def other_strategies(
    pool: Pool, n_picks: int, n_ranked: int, seed: int
) -> dict[str, tuple[bool, Callable[[], Timing]]]:
    """Return for each other method whether it is slow (over a minute) and what times it."""
    from skactiveml.classifier import SklearnClassifier
    from skactiveml.pool import Badge, CoreSet, TypiClust

    X = np.concatenate([pool.Z, pool.labelled])
    y = np.concatenate([np.full(len(pool.Z), np.nan), pool.y])
    classifier = SklearnClassifier(
        LogisticRegression(max_iter=200), classes=list(range(N_CLASSES))
    ).fit(X, y)

    def ask(strategy: Any, **kwargs: Any) -> Callable[[], Timing]:
        return lambda: time_once(lambda: strategy.query(X, y, batch_size=n_picks, **kwargs))

    ranked = f"modAL ranked batch (extrapolated from {2 * min(n_ranked, n_picks)} picks)"
    badge = ask(Badge(random_state=seed), clf=classifier, fit_clf=False)
    return {
        "greedy GD (clip_al)": (
            False,
            lambda: time_once(lambda: pick_by_geometric_diversity(pool.Z, n_picks)),
        ),
        "CoreSet (scikit-activeml)": (False, ask(CoreSet(random_state=seed))),
        "TypiClust (scikit-activeml)": (True, ask(TypiClust(random_state=seed))),
        "BADGE (scikit-activeml)": (True, badge),
        ranked: (True, lambda: ranked_batch_timing(pool, n_picks, n_ranked)),
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pool", type=int, default=24_000, help="images to choose from")
    parser.add_argument("--width", type=int, default=256, help="of the embeddings")
    parser.add_argument("--picks", type=int, default=1000)
    parser.add_argument("--concepts", type=int, default=1000)
    parser.add_argument("--labelled", type=int, default=N_LABELLED)
    parser.add_argument("--runs", type=int, default=15, help="timed runs of the fast ones")
    parser.add_argument("--ranked-picks", type=int, default=3, help="timed, at either end")
    parser.add_argument("--memory-gib", type=float, default=6.0, help="each slow one may take")
    parser.add_argument("--skip-slow", action="store_true", help="leave out what takes a minute")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the records there, one a line")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run, print, and return one record for each row."""
    args = parse(arguments)
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    facts = print_environment(args.seed)
    pool = make_pool(args.pool, args.width, args.concepts, args.labelled, args.seed)
    accuracy = pool.classifier.score(pool.labelled, pool.y)
    print(
        f"{args.picks} picks of {args.pool} × {args.width}, {args.labelled} labelled (training "
        f"accuracy {accuracy:.2f}), {args.concepts} concepts, m = {pool.profiles.m}\n"
    )
    timings = time_queries(pool, args.picks, args.runs)
    baseline_s = timings[BASELINE].median_s
    others = other_strategies(pool, args.picks, args.ranked_picks, args.seed)
    failures: list[str] = []
    for name, (slow, measure) in others.items():
        if slow and args.skip_slow:
            continue
        try:
            with memory_limit(int(args.memory_gib * GIB)):
                timings[name] = measure()
        except MemoryError:
            failures.append(name)
    _print_timings("query", timings, {"ratio to margin": baseline_s})
    for name in failures:
        print(f"{name}: left out, it needs more than --memory-gib {args.memory_gib}.\n")
    profiles = time_profiles(pool, args.runs)
    _print_timings(
        "profiles of the pool",
        profiles,
        {
            "ratio to matmul": profiles[PRODUCT].median_s,
            "ratio to blocks": profiles[BLOCKED].median_s,
        },
    )
    records = [{"kind": "environment", **facts, "arguments": vars(args)}]
    for kind, measured, reference in (
        ("query", timings, BASELINE),
        ("profiles", profiles, PRODUCT),
    ):
        for name, timing in measured.items():
            ratio = timing.median_s / measured[reference].median_s
            records.append({"kind": kind, "name": name, "timing": timing, "ratio": ratio})
    records += [{"kind": "query", "name": name, "timing": None} for name in failures]
    write_json_lines(args.json, records)
    return records


def _print_timings(title: str, timings: dict[str, Timing], references: dict[str, float]) -> None:
    rows = [
        [
            name,
            format_seconds(timing.median_s),
            format_seconds(timing.fastest_s),
            timing.n_runs,
            *(f"{timing.median_s / seconds:.2f}" for seconds in references.values()),
            format_bytes(timing.peak_bytes),
        ]
        for name, timing in timings.items()
    ]
    print_table([title, "median", "fastest", "runs", *references, "peak memory"], rows)


if __name__ == "__main__":
    main()
