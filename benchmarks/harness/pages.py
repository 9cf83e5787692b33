"""Pages of results: Markdown tables and SVG plots, made of records and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from benchmarks.harness.paired import Comparison, best_of, compare

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

matplotlib.rcParams["svg.hashsalt"] = "clip_al"  # the same plot is the same file


class Page:
    """A page that grows from the top: text, tables, plots."""

    def __init__(self, folder: Path, name: str, title: str) -> None:
        self.folder, self.name = folder, name
        self.parts = [f"# {title}"]

    def heading(self, text: str) -> None:
        """Add a heading of the second level."""
        self.parts.append(f"## {text}")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self.parts.append(text)

    def table(self, table: pd.DataFrame, corner: str = "") -> None:
        """Add a table; its index is the first column, its cells are shown as they are."""
        rows = [
            [str(name), *map(str, cells)]
            for name, cells in zip(table.index, table.to_numpy(), strict=True)
        ]
        head = [corner, *map(str, table.columns)]
        rule = ["---", *["---:"] * len(table.columns)]
        self.parts.append("\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows]))

    def plot(self, figure: Figure, name: str, description: str) -> None:
        """Add a plot as an SVG file beside the page, and close the figure."""
        file = f"{self.name}-{name}.svg"
        self.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / file, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
        self.parts.append(f"![{description}]({file})")

    def write(self) -> Path:
        """Write the page; return its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.name}.md"
        path.write_text("\n\n".join(self.parts) + "\n", encoding="utf-8")
        return path


def spread(values: Any, *, sign: bool = False, digits: int = 1, scale: float = 100.0) -> str:
    """Format mean ± standard deviation, in points where `scale` is 100; – for none."""
    points = np.asarray(values, dtype=float) * scale
    points = points[~np.isnan(points)]
    if not len(points):
        return "–"
    text = f"{points.mean():{'+' if sign else ''}.{digits}f}"
    return text if len(points) == 1 else f"{text} ± {points.std(ddof=1):.{digits}f}"


def spread_table(
    records: pd.DataFrame,
    *,
    rows: str,
    columns: str,
    value: str,
    unit: Sequence[str] = ("seed",),
    order: Sequence[Any] | None = None,
    digits: int = 1,
    scale: float = 100.0,
) -> pd.DataFrame:
    """Return mean ± standard deviation over units, averaged within each unit first.

    Rows stand in `order`, or as they first appear; columns ascend, or as they first appear
    where they are text.
    """
    means = records.groupby([rows, columns, *unit], sort=False)[value].mean().reset_index()
    names = list(dict.fromkeys(means[rows])) if order is None else list(order)
    heads = list(dict.fromkeys(means[columns]))
    if all(isinstance(head, int | float) for head in heads):
        heads.sort()
    cells = {
        head: [
            spread(
                means[(means[rows] == name) & (means[columns] == head)][value],
                digits=digits,
                scale=scale,
            )
            for name in names
        ]
        for head in heads
    }
    return pd.DataFrame(cells, index=names)


def comparison_table(
    records: pd.DataFrame,
    *,
    value: str,
    against: Sequence[str],
    baselines: Sequence[str] = (),
    unit: Sequence[str] = ("seed",),
    field: str = "method",
    order: Sequence[str] | None = None,
    digits: int = 1,
    scale: float = 100.0,
) -> pd.DataFrame:
    """Return each method's difference to others, with the p of the paired test.

    Parameters
    ----------
    against : sequence of str
        Methods that all are compared with.
    baselines : sequence of str
        If given, all are also compared with the best of these, by its mean.
    """
    names = list(dict.fromkeys(records[field])) if order is None else list(order)
    others = {f"against {name}": name for name in against}
    if baselines:
        best = best_of(records, baselines, value=value, field=field)
        others[f"against {best}, the best baseline"] = best
    cells: dict[str, list[str]] = {}
    for head, other in others.items():
        cells[head] = [
            ""
            if name == other
            else _difference(
                compare(records, name, other, value=value, unit=unit, field=field), digits, scale
            )
            for name in names
        ]
    return pd.DataFrame(cells, index=names)


def _difference(found: Comparison, digits: int, scale: float) -> str:
    text = f"{scale * found.mean:+.{digits}f}"
    if found.n < 2:
        return text
    spread = f"{scale * found.deviation:.{digits}f}"
    return f"{text} ± {spread} (p {format_p(found.p)}, {found.wins}/{found.n})"


def format_p(p: float) -> str:
    """Format a p-value: two digits, and "< 0.001" below that."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def lead_table(
    rows: pd.DataFrame,
    ours: str,
    *,
    against: Sequence[str],
    group: Sequence[str],
    step: str,
    value: str,
) -> pd.DataFrame:
    """Return one method's mean lead over others at each step, a row for each group and other.

    Parameters
    ----------
    rows : DataFrame
        A row for each method, seed, group and step.
    ours, against : str, sequence of str
        Methods; those that a group lacks are left out.
    group, step, value : str
        Columns. The last column of the table counts the steps at which the lead is above 0;
        its last rows are means over the groups, with the seeds that all of them have.
    """
    found = rows.pivot_table(
        index=[*group, step, "seed"], columns="method", values=value, sort=False
    )
    table = {}
    for members, part in found.groupby(level=list(group), sort=False):
        present = set(part.dropna(axis=1, how="all").columns)
        for other in (m for m in against if {m, ours} <= present):
            name = f"{', '.join(map(str, members))}: vs. {other}"
            table[name] = _leads(part[ours] - part[other], step)
    n_groups = len(found.groupby(level=list(group)))
    if n_groups > 1:
        for other in (m for m in against if {m, ours} <= set(found.columns)):
            of_seeds = (
                (found[ours] - found[other]).dropna().groupby(level=[step, "seed"], sort=False)
            )
            table[f"**mean of all: vs. {other}**"] = _leads(
                of_seeds.mean()[of_seeds.size() == n_groups], step
            )
    return pd.DataFrame.from_dict(table, orient="index").fillna("–")


def _leads(lead: pd.Series[float], step: str) -> dict[str, str]:
    """Return the spread of the leads of each step, and at how many their mean is above 0."""
    steps = lead.dropna().groupby(level=step, sort=False)
    means = steps.mean()
    cells = {str(name): spread(leads, sign=True) for name, leads in steps}
    return {**cells, "above at": f"{int((means > 0).sum())} of {len(means)}"}


def line_plot(
    records: pd.DataFrame,
    *,
    x: str,
    y: str,
    lines: str,
    labels: tuple[str, str],
    unit: Sequence[str] = ("seed",),
    bold: Sequence[str] = (),
    scale: float = 100.0,
    log_x: bool = False,
) -> Figure:
    """Plot the mean over units, a line for each method, and its standard error as a band."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name in dict.fromkeys(records[lines]):
        of_name = records[records[lines] == name]
        means = of_name.groupby([x, *unit])[y].mean().groupby(level=0)
        mean, error = scale * means.mean(), scale * means.sem().fillna(0.0)
        (line,) = axes.plot(mean.index, mean, label=str(name), lw=2.6 if name in bold else 1.2)
        axes.fill_between(
            mean.index, mean - error, mean + error, alpha=0.12, color=line.get_color()
        )
    axes.set(xlabel=labels[0], ylabel=labels[1])
    if log_x:
        axes.set_xscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure
