"""How well concept measures of diversity follow Geometric Diversity, and at what cost.

    python -m benchmarks.diversity_correlation [--n 100] [--sets 200] [--json FILE]

Images. 500 of each class from CIFAR-10 train images 2500 to 4999, which the mini model never
saw, encoded with `--features` (a model name of `ClipEncoder`). Concept statistics are those of
these 5,000. `--features synthetic` makes up clustered embeddings, to try the script.

Sets of n images. *Graded* sets have a diversity that is set by construction, in ten grades
g = 1 … 10 with equally many sets each; no feature and no concept is looked at:

- classes: g classes at random, and n images at random, evenly from these;
- dominance: a share of 1 − (g − 1) / 10 of one class at random, the others evenly from the
  nine other classes;
- copies: n·g / 10 different images at random; every further one is a distorted copy of one
  of these, in turn: mirrored or not, shifted by up to 2 pixels, 10 % brighter or darker, and
  encoded anew. Every fifth image has such copies.

"all graded" is the mean of the three coefficients. *Random* sets are n images at random: their
diversity hardly varies, so this is the hard case, and coefficients are lower for any measure.

Yardstick. Geometric Diversity (GD): log det(F Fᵀ + 0.1 I) of the set's unit CLIP embeddings,
and, as a check that no CLIP is behind, of unit vectors of the first 128 principal components of
the pixels. The jitter decides what GD is: the mini model's embeddings fill few dimensions, and
with next to none (1e-6, a table of its own) log det is made of the dozens of empty ones and
hardly sees the grade itself. Row "grade" tells: it correlates GD with the grade. Given is
Spearman's rank correlation with GD over the sets, the mean of `--repeats` draws and, after ±,
their standard deviation.

Measures. CBD with binary and with softmax weights; spectral, log det(I + VᵀV) on the same
vectors, and dense on all standardised similarities of an image as a vector of unit length;
Shannon entropy of the concept counts; coverage. "grade" is how well GD follows the grade that
the sets were drawn with: where that is low, GD itself measures something else. Vocabularies:
"general", which ships with the package; Visual Genome's objects and attributes; and as a
control as many random directions as "general" has concepts.

Time. CBD of sets of 1,000 images, profiles at hand, against GD of the same sets in the textbook
form (the n × n Gram matrix) and as `geometric_diversity` computes it (the smaller side).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from benchmarks.cifar import CACHE, cifar_root, data_folder, load_cifar
from benchmarks.environment import (
    Timing,
    format_bytes,
    format_seconds,
    print_environment,
    print_table,
    time_in_turns,
    write_json_lines,
)
from clip_al import (
    ClipEncoder,
    ConceptCounts,
    ConceptProfiles,
    ConceptStatistics,
    ConceptVocabulary,
    concept_diversity,
    geometric_diversity,
    spectral_diversity,
)

Rows = NDArray[np.int64]

N_GRADES = 10
N_CLASSES = 10
COPIED_SHARE = 5
COPIES_EACH = 9
JITTER = 0.1
TINY_JITTER = 1e-6
PIXEL_COMPONENTS = 128
M_VALUES = (1, 2, 5, 10, 20, 50)
M_DEFAULT = 10
DRAWS = ("classes", "dominance", "copies", "random")
GRADED = DRAWS[:3]
MEASURES = (
    "CBD binary",
    "CBD softmax",
    "spectral binary",
    "spectral softmax",
    "entropy",
    "coverage",
)
DENSE = "spectral dense"
GRADE = "grade"
HOW = {True: "standardised", False: "raw", None: "by construction"}


@dataclass(frozen=True)
class Features:
    """Images and copies of some of them, as features.

    Parameters
    ----------
    emb_nd : ndarray of shape (n + c·e, d), float32
        Unit embeddings: n images, then e copies of each of the first c of `copied`.
    pixels_nf : ndarray of shape (n + c·e, f) or None
        Unit vectors of principal components of the pixels, in the same order.
    class_n : ndarray of shape (n,)
        Class of each image.
    copied : ndarray of shape (c,)
        Images that have copies.
    """

    emb_nd: NDArray[np.float32]
    pixels_nf: NDArray[np.float64] | None
    class_n: NDArray[np.int64]
    copied: Rows

    @property
    def n_images(self) -> int:
        """Number of images without the copies."""
        return len(self.class_n)

    def copies_of(self, position: int) -> Rows:
        """Return the rows of the copies of ``copied[position]``."""
        first = self.n_images + position * COPIES_EACH
        return np.arange(first, first + COPIES_EACH)


def draw_classes(features: Features, n: int, grade: int, rng: np.random.Generator) -> Rows:
    """Draw n images evenly from `grade` classes."""
    classes = rng.permutation(N_CLASSES)[:grade]
    return _from_classes(features, classes, n, rng)


def draw_dominance(features: Features, n: int, grade: int, rng: np.random.Generator) -> Rows:
    """Draw a share of 1 − (grade − 1) / 10 from one class, the others evenly from the rest."""
    classes = rng.permutation(N_CLASSES)
    n_first = n - round(n * (grade - 1) / N_GRADES)
    first = _from_classes(features, classes[:1], n_first, rng)
    return np.concatenate([first, _from_classes(features, classes[1:], n - n_first, rng)])


def draw_copies(features: Features, n: int, grade: int, rng: np.random.Generator) -> Rows:
    """Draw n · grade / 10 images, and copies of them in turn for the others."""
    n_different = max(1, -(-n * grade // N_GRADES))
    positions = rng.permutation(len(features.copied))[:n_different]
    copies = np.stack([rng.permutation(features.copies_of(p)) for p in positions], axis=1)
    return np.concatenate([features.copied[positions], copies.ravel()[: n - n_different]])


def draw_random(features: Features, n: int, grade: int, rng: np.random.Generator) -> Rows:  # noqa: ARG001
    """Draw n images at random."""
    return rng.permutation(features.n_images)[:n]


def _from_classes(features: Features, classes: Rows, n: int, rng: np.random.Generator) -> Rows:
    shares = np.bincount(np.arange(n) % len(classes), minlength=len(classes))
    return np.concatenate(
        [
            rng.choice(np.flatnonzero(features.class_n == k), size=share, replace=False)
            for k, share in zip(classes, shares, strict=True)
        ]
    )


DRAW: dict[str, Callable[[Features, int, int, np.random.Generator], Rows]] = {
    "classes": draw_classes,
    "dominance": draw_dominance,
    "copies": draw_copies,
    "random": draw_random,
}


def grade_of(i: int) -> int:
    """Return the grade of the i-th set: 1 … 10 in turn."""
    return 1 + i % N_GRADES


def draw_sets(
    features: Features, n: int, n_sets: int, seed: Sequence[int]
) -> dict[str, list[Rows]]:
    """Draw `n_sets` sets in each way, the grades in turn."""
    return {
        name: [
            draw(features, n, grade_of(i), np.random.default_rng([*seed, order, i]))
            for i in range(n_sets)
        ]
        for order, (name, draw) in enumerate(DRAW.items())
    }


def measure(profiles: ConceptProfiles, rows: Rows) -> dict[str, float]:
    """Return every measure on concept profiles of one set."""
    part = profiles.take(rows)
    counts = ConceptCounts.from_profiles(part)
    return {
        "CBD binary": concept_diversity(part),
        "CBD softmax": counts.diversity(),
        "spectral binary": spectral_diversity(part, weighting="binary"),
        "spectral softmax": spectral_diversity(part),
        "entropy": counts.entropy(),
        "coverage": counts.coverage(),
    }


def truncated(profiles: ConceptProfiles, m: int) -> ConceptProfiles:
    """Return the same profiles with the first m concepts of each image."""
    return replace(profiles, ids=profiles.ids[:, :m], similarities=profiles.similarities[:, :m])


def unit_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Scale rows to unit length."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def values_of_measures(
    features: Features,
    vocabulary: ConceptVocabulary,
    sets: dict[str, list[Rows]],
    m_values: Sequence[int],
) -> Iterator[tuple[dict[str, Any], list[float]]]:
    """Yield what was measured (draw, standardize, m, measure), and its value for each set.

    m is None for the dense measure.
    """
    statistics = ConceptStatistics.from_embeddings(features.emb_nd[: features.n_images], vocabulary)
    for standardize in (True, False):
        profiles = ConceptProfiles.from_embeddings(
            features.emb_nd,
            vocabulary,
            max(m_values),
            standardize=standardize,
            statistics=statistics,
        )
        for m, (draw, some) in itertools.product(m_values, sets.items()):
            short = truncated(profiles, m)
            measured = [measure(short, rows) for rows in some]
            for name in MEASURES:
                what = {"draw": draw, "standardize": standardize, "m": m, "measure": name}
                yield what, [values[name] for values in measured]
        dense_nv = features.emb_nd @ vocabulary.embeddings.T
        if standardize:
            dense_nv = (dense_nv - statistics.mean_v) / statistics.std_v
        dense_nv = unit_rows(dense_nv)
        for draw, some in sets.items():
            what = {"draw": draw, "standardize": standardize, "m": None, "measure": DENSE}
            yield what, [spectral_diversity(dense_nv[rows]) for rows in some]


def correlate(
    features: Features,
    vocabularies: dict[str, ConceptVocabulary],
    n: int,
    n_sets: int,
    m_values: Sequence[int],
    seed: Sequence[int],
) -> list[dict[str, Any]]:
    """Draw sets, and correlate all measures with GD; one record for each coefficient."""
    sets = draw_sets(features, n, n_sets, seed)
    yardsticks = {
        "embeddings": (features.emb_nd, JITTER),
        f"embeddings, jitter {TINY_JITTER:g}": (features.emb_nd, TINY_JITTER),
        "pixels": (features.pixels_nf, JITTER),
    }
    gd = {
        name: {
            draw: [geometric_diversity(values_nf[rows], jitter=jitter) for rows in some]
            for draw, some in sets.items()
        }
        for name, (values_nf, jitter) in yardsticks.items()
        if values_nf is not None
    }
    records = []

    def record(vocabulary: str, what: dict[str, Any], values: Sequence[float]) -> None:
        for yardstick, by_draw in gd.items():
            gd_of_sets = by_draw[what["draw"]]
            # What is the same for all sets orders nothing.
            constant = np.ptp(values) == 0 or np.ptp(gd_of_sets) == 0
            rho = 0.0 if constant else float(spearmanr(values, gd_of_sets).statistic)
            where = {"kind": "spearman", "yardstick": yardstick, "vocabulary": vocabulary}
            records.append({**where, **what, "spearman": rho})

    for draw, some in sets.items():
        what = {"draw": draw, "standardize": None, "m": None, "measure": GRADE}
        grades = [grade_of(i) if draw in GRADED else N_GRADES for i in range(len(some))]
        record("none", what, grades)
    for vocabulary_name, vocabulary in vocabularies.items():
        # An m beyond the vocabulary names every concept: nothing is left to measure.
        possible = [m for m in m_values if m <= len(vocabulary)]
        for what, values in values_of_measures(features, vocabulary, sets, possible):
            record(vocabulary_name, what, values)
    return records


def time_measures(features: Features, profiles: ConceptProfiles, n: int) -> dict[str, Timing]:
    """Time CBD and GD of one random set of n images, whose rows are at hand, in turns."""
    rows = np.random.default_rng(0).permutation(len(features.emb_nd))[:n]
    part, emb_nd = profiles.take(rows), features.emb_nd[rows]

    def textbook() -> float:
        wide_nd = emb_nd.astype(np.float64)
        gram_nn = wide_nd @ wide_nd.T
        gram_nn.flat[:: n + 1] += JITTER
        return 2.0 * float(np.log(cholesky(gram_nn, lower=True).diagonal()).sum())

    return time_in_turns(
        {
            "CBD binary": lambda: concept_diversity(part),
            "CBD softmax": lambda: concept_diversity(part, weighting="softmax"),
            "GD, textbook (n × n)": textbook,
            "GD, geometric_diversity (smaller side)": lambda: geometric_diversity(
                emb_nd, jitter=JITTER
            ),
            "spectral softmax": lambda: spectral_diversity(part),
        },
        n_runs=30,
        warm_up=3,
    )


def synthetic_features(n_images: int, d: int, seed: int) -> Features:
    """Make up clustered embeddings with classes, and copies that are a little off."""
    rng = np.random.default_rng(seed)
    class_n = np.arange(n_images) % N_CLASSES
    cluster_n = class_n * 5 + rng.integers(5, size=n_images)
    emb_nd = rng.standard_normal(d) + 1.2 * rng.standard_normal((5 * N_CLASSES, d))[cluster_n]
    emb_nd += rng.standard_normal((n_images, d))
    copied = rng.permutation(n_images)[: n_images // COPIED_SHARE]
    copies = np.repeat(emb_nd[copied], COPIES_EACH, axis=0)
    copies += 0.2 * rng.standard_normal(copies.shape)
    emb = unit_rows(np.concatenate([emb_nd, copies])).astype(np.float32)
    return Features(emb, None, class_n, copied)


def cifar_features(
    encoder: ClipEncoder, data: Path | None, cache: Path, n_images: int, seed: int
) -> Features:
    """Encode CIFAR-10 images and their copies, or read them back from the cache folder."""
    cache.mkdir(parents=True, exist_ok=True)
    each = n_images // N_CLASSES
    name = encoder.model_id.replace("/", "-").replace(":", "-")
    path = cache / f"correlation-{name}-{each}-{seed}.npz"
    if not path.is_file():
        root = cifar_root(data_folder(data), cache)
        images, class_n = load_cifar(root, "train", 2500, 2500 + each)
        rng = np.random.default_rng(seed)
        copied = rng.permutation(len(images))[: len(images) // COPIED_SHARE]
        copies = np.stack([distorted(images[i], rng) for i in np.repeat(copied, COPIES_EACH)])
        everything = np.concatenate([images, copies])
        components = principal_components(everything, len(images), PIXEL_COMPONENTS)
        emb_nd = encoder.encode_images(everything)
        np.savez(path, emb=emb_nd, pixels=components, labels=class_n, copied=copied)
    with np.load(path) as file:
        return Features(file["emb"], file["pixels"], file["labels"], file["copied"])


def distorted(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return an image mirrored or not, shifted by up to 2 pixels, 10 % brighter or darker."""
    height, width = image.shape[:2]
    wide = np.pad(image[:, :: rng.choice([-1, 1])], ((2, 2), (2, 2), (0, 0)), mode="edge")
    top, left = rng.integers(5, size=2)
    shifted = wide[top : top + height, left : left + width]
    return (shifted * rng.uniform(0.9, 1.1)).clip(0, 255).astype(np.uint8)


def principal_components(
    images: NDArray[np.uint8], n_fitted: int, n_components: int
) -> NDArray[np.float64]:
    """Return unit vectors of the leading components of the pixels, fitted on the first images.

    Pixels are averaged 2 × 2 first: leading components are smooth, and it takes 60 times less.
    """
    height, width = images.shape[1] // 2, images.shape[2] // 2
    quarters = images.reshape(len(images), height, 2, width, 2, -1)
    flat = quarters.mean(axis=(2, 4), dtype=np.float32).reshape(len(images), -1) / 255
    flat -= flat[:n_fitted].mean(axis=0)
    _, vectors = np.linalg.eigh(flat[:n_fitted].T @ flat[:n_fitted])
    return unit_rows((flat @ vectors[:, : -n_components - 1 : -1]).astype(np.float64))


def make_vocabularies(
    encoder: ClipEncoder | None, data: Path | None, d: int, seed: int
) -> dict[str, ConceptVocabulary]:
    """Return the vocabularies to compare; without an encoder, directions near no image."""
    general = ConceptVocabulary.load("general")
    rng = np.random.default_rng(seed)
    control = general.with_embeddings(unit_rows(rng.standard_normal((len(general), d))))
    if encoder is None:
        return {"random directions": control}

    found = {"general": general.encode(encoder)}
    folder = data_folder(data) / "visual_genome"
    if folder.is_dir():
        found["Visual Genome"] = ConceptVocabulary.from_visual_genome(folder).encode(encoder)
    return {**found, "random directions": control}


def summarise(records: list[dict[str, Any]]) -> dict[tuple[Any, ...], tuple[float, float]]:
    """Return mean and deviation over the repeats by all other keys, with all graded draws' mean."""
    found: dict[tuple[Any, ...], dict[int, dict[str, float]]] = {}
    for record in records:
        where = tuple(record[k] for k in ("yardstick", "vocabulary", "standardize", "m", "measure"))
        by_repeat = found.setdefault(where, {})
        by_repeat.setdefault(record["repeat"], {})[record["draw"]] = record["spearman"]
    summary = {}
    for where, by_repeat in found.items():
        for values in by_repeat.values():
            values["all graded"] = float(np.mean([values[draw] for draw in GRADED]))
        for draw in (*DRAWS, "all graded"):
            values = [by_draw[draw] for by_draw in by_repeat.values()]
            summary[(*where, draw)] = (float(np.mean(values)), float(np.std(values)))
    return summary


def print_correlations(summary: dict[tuple[Any, ...], tuple[float, float]], m: int) -> None:
    """Print a table for each yardstick, at one m, and one of how m matters."""
    draws = (*GRADED, "all graded", "random")
    for yardstick in sorted({where[0] for where in summary}):
        rows = []
        for where in dict.fromkeys(key[:-1] for key in summary):
            if where[0] == yardstick and where[3] in (m, None):
                _, vocabulary, standardize, _, name = where
                how = HOW[standardize]
                cells = ["{:+.2f} ± {:.2f}".format(*summary[(*where, draw)]) for draw in draws]
                rows.append([f"{vocabulary}, {how}, {name}", *cells])
        print_table([f"Spearman with GD of {yardstick}, m = {m}", *draws], rows)
    m_values = sorted({where[3] for where in summary} - {None})
    rows = []
    for where in dict.fromkeys(key[:3] + key[4:] for key in summary if key[3] is not None):
        yardstick, vocabulary, standardize, name, draw = where
        if yardstick == "embeddings" and draw in ("all graded", "random"):
            how = HOW[standardize]
            cells = [
                f"{summary[(yardstick, vocabulary, standardize, m, name, draw)][0]:+.2f}"
                for m in m_values
            ]
            rows.append([f"{vocabulary}, {how}, {name}, {draw}", *cells])
    print_table(["by m", *map(str, m_values)], rows)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--features", default="mini", help='a ClipEncoder model, or "synthetic"')
    parser.add_argument("--n", type=int, default=100, help="images in a set")
    parser.add_argument("--sets", type=int, default=200, help="sets of each kind")
    parser.add_argument("--repeats", type=int, default=3, help="draws of all sets")
    parser.add_argument("--m", type=int, nargs="+", default=M_VALUES, help="concepts per image")
    parser.add_argument("--pool", type=int, default=5000, help="images")
    parser.add_argument("--timed", type=int, default=1000, help="images in the sets that are timed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="default: CLIP_AL_DATA or ../shared/data")
    parser.add_argument(
        "--cache",
        type=Path,
        default=CACHE,
        help="for embeddings and unpacked images",
    )
    parser.add_argument("--json", metavar="FILE", help="write the records there, one a line")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run, print, and return one record for each coefficient and each timing."""
    args = parse(arguments)
    if args.n * N_CLASSES > args.pool or args.n * COPIED_SHARE > args.pool:
        raise SystemExit(
            f"--pool must be at least {N_CLASSES} times --n, {N_CLASSES * args.n}, so that one "
            f"class fills a set; got {args.pool}. Raise it, or lower --n."
        )
    facts = print_environment(args.seed)
    if args.features == "synthetic":
        encoder = None
        features = synthetic_features(args.pool, 128, args.seed)
    else:
        encoder = ClipEncoder(args.features)
        facts["model"] = encoder.model_id
        features = cifar_features(encoder, args.data, args.cache, args.pool, args.seed)
    d = features.emb_nd.shape[1]
    vocabularies = make_vocabularies(encoder, args.data, d, args.seed)
    print(
        f"{facts.get('model', 'synthetic')}, {features.n_images} images, width {d}; "
        f"{args.repeats} × {args.sets} sets of {args.n} for each way of drawing\n"
    )
    records: list[dict[str, Any]] = []
    # Many small products: on several threads they would mostly wait for each other.
    with threadpool_limits(1, "blas"):
        for repeat in range(args.repeats):
            found = correlate(
                features, vocabularies, args.n, args.sets, args.m, [args.seed, repeat]
            )
            records += [{**record, "repeat": repeat} for record in found]
    print_correlations(summarise(records), M_DEFAULT if M_DEFAULT in args.m else args.m[0])
    vocabulary = next(iter(vocabularies.values()))
    profiles = ConceptProfiles.from_embeddings(features.emb_nd, vocabulary, M_DEFAULT)
    timings = time_measures(features, profiles, args.timed)
    cbd_s = timings["CBD binary"].median_s
    print_table(
        [f"one set of {args.timed}", "median", "fastest", "ratio to CBD", "peak memory"],
        [
            [
                name,
                format_seconds(timing.median_s),
                format_seconds(timing.fastest_s),
                f"{timing.median_s / cbd_s:.0f}",
                format_bytes(timing.peak_bytes),
            ]
            for name, timing in timings.items()
        ],
    )
    records += [
        {"kind": "time", "name": name, "timing": timing, "ratio": timing.median_s / cbd_s}
        for name, timing in timings.items()
    ]
    arguments_used = {k: v for k, v in vars(args).items() if not isinstance(v, Path)}
    records = [{"kind": "environment", **facts, "arguments": arguments_used}, *records]
    write_json_lines(args.json, records)
    return records


if __name__ == "__main__":
    main()
