"""The page of `correlation`: coefficients by size, yardstick, vocabulary and m, and times."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.data.diverse_sets import DENSE, GRADE, GRADED, MEASURES, N_GRADES
from benchmarks.data.vocabularies import GENERAL, GENOME
from benchmarks.harness.pages import Page, comparison_table, line_plot, spread_table

NONE, TIMES = "none", "time"
JITTER, TINY_JITTER = 0.1, 1e-6
M_DEFAULT = 10
N_DEFAULT = 100
PAPER = "CBD binary"
SOURCES = ("CLIP", "network", "pixels")
MS = 1e3


def yardstick_name(source: str, jitter: float) -> str:
    """Return what a yardstick is called in tables."""
    return f"GD of {source}" if jitter == JITTER else f"GD of {source}, jitter {jitter:g}"


def coefficients(records: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each coefficient, from records with lists of them."""
    rows = []
    for record in records[records["what"] == "correlation"].to_dict("records"):
        fixed = {k: record[k] for k in ("seed", "n", "vocabulary")}
        names = [yardstick_name(*yardstick) for yardstick in record["yardsticks"]]
        for standardize, m, measure, draw, found in record["coefficients"]:
            what = {"standardize": standardize, "m": m, "measure": measure, "draw": draw}
            sets = "graded" if draw in GRADED else "random"
            how = "" if standardize is None else "standardised" if standardize else "raw"
            what |= {"sets": sets, "row": f"{record['vocabulary']}, {how}"}
            rows += [
                {**fixed, **what, "yardstick": name, "spearman": rho}
                for name, rho in zip(names, found, strict=True)
            ]
    return pd.DataFrame(rows)


def render(records: pd.DataFrame, page: Page) -> None:
    """Show coefficients by size, yardstick, vocabulary and m, and times."""
    found = coefficients(records)
    correlated = records[records["what"] == "correlation"].iloc[0]
    n_sets = records.groupby("n")["n_sets"].max()
    page.text(
        f"Spearman's rank correlation of each measure with Geometric Diversity (GD) over sets of "
        f"{correlated['pool']} images. Graded sets have a diversity that is set by construction in "
        f"{N_GRADES} grades (few or many classes, one class that dominates, distorted copies; the "
        "mean of the three coefficients); random sets are images at random, whose diversity hardly "
        "differs. Sets of each kind: "
        + ", ".join(f"{n_sets[n]:.0f} of {n} images" for n in n_sets.index)
        + f". Mean ± standard deviation over {found['seed'].nunique()} draws of all sets (each "
        "with a network of its own seed) from one pool of images."
    )
    page.text(
        f"GD is log det(F Fᵀ + {JITTER} I) of unit features: CLIP's embeddings; the last layer of "
        f"a {correlated['network']} trained for {correlated['steps']:.0f} batches on other "
        f"{correlated['network_pool'].removesuffix('-seen')} images, which knows nothing of CLIP; "
        f"and {correlated['pixel_components']:.0f} principal components of the pixels. Concepts: "
        f"the {GENERAL} vocabulary, standardised, m = {M_DEFAULT}, where nothing else is said. Row "
        '"grade" is how well GD follows what the sets were built for, and GD of other features '
        "says how much one yardstick agrees with the next."
    )
    usual = found[
        ((found["vocabulary"] == GENERAL) & (found["standardize"] == True))  # noqa: E712
        | (found["vocabulary"] == NONE)
    ]
    at_m = usual[usual["m"].isin([M_DEFAULT]) | usual["m"].isna()]
    _render_sizes(at_m, page)
    _render_comparison(at_m, page)
    _render_conditions(found[found["n"] == N_DEFAULT], at_m[at_m["n"] == N_DEFAULT], page)
    _render_m(usual[usual["n"] == N_DEFAULT], page)
    _render_times(records[records["what"] == TIMES], page)


def _table(found: pd.DataFrame, rows: str, columns: str) -> pd.DataFrame:
    return spread_table(found, rows=rows, columns=columns, value="spearman", scale=1, digits=2)


def _render_sizes(at_m: pd.DataFrame, page: Page) -> None:
    page.heading("By size of the set")
    names = [*MEASURES, GRADE, *(yardstick_name(source, JITTER) for source in SOURCES)]
    shown = at_m[at_m["measure"].isin(names)]
    for source in SOURCES:
        name = yardstick_name(source, JITTER)
        for sets in ("graded", "random"):
            part = shown[(shown["yardstick"] == name) & (shown["sets"] == sets)]
            part = part[~part["measure"].isin([name] if sets == "graded" else [name, GRADE])]
            page.text(f"{name}, {sets} sets, by images in a set:")
            page.table(_table(part, "measure", "n"), "measure")


def _render_comparison(at_m: pd.DataFrame, page: Page) -> None:
    page.heading("Measure against measure")
    page.text(
        f"Difference in the coefficient to {PAPER}, the paper's measure, over the same draws, the "
        "mean over all sizes; ± standard deviation, p of the paired test, and draws in which it "
        "is higher."
    )
    table = {}
    for source in SOURCES:
        for sets in ("graded", "random"):
            part = at_m[(at_m["yardstick"] == yardstick_name(source, JITTER))]
            part = part[(part["sets"] == sets) & part["measure"].isin(MEASURES)]
            compared = comparison_table(
                part, value="spearman", against=[PAPER], field="measure", order=MEASURES,
                digits=3, scale=1,
            )  # fmt: skip
            table[f"{source}, {sets}"] = compared.iloc[:, 0]
    page.table(pd.DataFrame(table).drop(index=PAPER), "measure")


def _render_conditions(found: pd.DataFrame, at_m: pd.DataFrame, page: Page) -> None:
    page.heading(f"By yardstick, kind of set, and vocabulary (sets of {N_DEFAULT})")
    measured = at_m[at_m["measure"].isin([*MEASURES, DENSE, GRADE])]
    page.text(
        f"The jitter decides what GD is: with {TINY_JITTER:g} the determinant is made of the "
        "directions that hardly any image fills."
    )
    for sets in ("graded", "random"):
        part = measured[measured["sets"] == sets]
        part = part if sets == "graded" else part[part["measure"] != GRADE]
        page.text(f"{sets.capitalize()} sets:")
        page.table(_table(part, "yardstick", "measure"), "yardstick")
    clip = yardstick_name("CLIP", JITTER)
    page.text(f"{clip}, by kind of set:")
    page.table(_table(measured[measured["yardstick"] == clip], "measure", "draw"), "measure")
    words = found[
        (found["vocabulary"] != NONE) & (found["m"].isin([M_DEFAULT]) | found["m"].isna())
    ]
    for source in ("CLIP", "network"):
        name = yardstick_name(source, JITTER)
        for sets in ("graded", "random"):
            part = words[(words["yardstick"] == name) & (words["sets"] == sets)]
            page.text(f"{name}, {sets} sets, by vocabulary:")
            page.table(_table(part, "row", "measure"), "vocabulary")
    if GENOME not in set(found["vocabulary"]):
        page.text(f"The word lists of {GENOME} were not at hand.")


def _render_m(usual: pd.DataFrame, page: Page) -> None:
    page.heading(f"Concepts per image, m (sets of {N_DEFAULT})")
    for source in ("CLIP", "network"):
        name = yardstick_name(source, JITTER)
        for sets in ("graded", "random"):
            part = usual[(usual["yardstick"] == name) & (usual["sets"] == sets)]
            part = part[part["measure"].isin(MEASURES)].astype({"m": int})
            page.text(f"{name}, {sets} sets, by m:")
            page.table(_table(part, "measure", "m"), "measure")
            labels = ("concepts per image, m", f"Spearman with {name}, {sets} sets")
            figure = line_plot(
                part, x="m", y="spearman", lines="measure", labels=labels,
                bold=[PAPER, "CBD softmax"], scale=1, log_x=True,
            )  # fmt: skip
            _mark(figure, part["m"])
            page.plot(figure, f"m-{source}-{sets}", f"{labels[1]} against m")


def _render_times(records: pd.DataFrame, page: Page) -> None:
    times = pd.DataFrame(
        {"seed": r["seed"], "n": r["n"], "measure": name, "s": seconds}
        for r in records.to_dict("records")
        for name, seconds in r["seconds_by_measure"].items()
    )
    cbd = times[times["measure"] == PAPER].set_index(["seed", "n"])["s"]
    times["ratio"] = times["s"] / cbd.loc[list(zip(times["seed"], times["n"], strict=True))].values
    page.heading("Time")
    page.text(
        "Milliseconds for one set, concept profiles or embeddings at hand, on one thread: the "
        f"fastest of {records['runs'].max():.0f} runs, mean ± standard deviation over sets; then "
        f"as a multiple of {PAPER}. GD is timed as it is defined, and by the smaller of its two "
        "Gram matrices, n × n or d × d, which gives the same. By images in the set:"
    )
    shape = {"rows": "measure", "columns": "n"}
    page.table(spread_table(times, **shape, value="s", digits=3, scale=MS), "ms")
    page.table(spread_table(times, **shape, value="ratio", digits=1, scale=1), f"× {PAPER}")
    page.plot(_time_plot(times), "time", "Time against the size of the set, both logarithmic")


def _time_plot(times: pd.DataFrame) -> Figure:
    labels = ("images in the set", "ms")
    figure = line_plot(
        times, x="n", y="s", lines="measure", labels=labels, bold=[PAPER], scale=MS, log_x=True
    )
    figure.axes[0].set_yscale("log")
    _mark(figure, times["n"])
    return figure


def _mark(figure: Figure, x: pd.Series) -> None:
    """Mark the values that were measured on the logarithmic axis, and no others."""
    values = sorted(set(x))
    figure.axes[0].set_xticks(values, [f"{value:g}" for value in values])
    figure.axes[0].set_xticks([], minor=True)
