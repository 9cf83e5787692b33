"""Run an experiment and render its page.

    python -m benchmarks.run EXPERIMENT|all [--quick|--full] [--data DIR]
        [--model mini|ViT-B-32 --pretrained TAG] [--device cpu|cuda] [--workers N]
        [--results DIR] [--render-only] [--list] [--pools DIR]

Cells that the results file holds already are not run again, so an interrupted run goes on
where it stopped. Without `--quick` or `--full` the setting is the one of the committed
results. Raw results go to RESULTS/raw/EXPERIMENT.jsonl, pages and plots to RESULTS
(docs/results; with `--quick` build/quick-results, with `--full` build/full-results), with a
README.md that sums up what has been run.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.data.real_clip import POOLS_VARIABLE
from benchmarks.experiments import conclusions
from benchmarks.harness.cells import (
    FLAGS,
    Experiment,
    Options,
    Size,
    find_experiment,
    frame,
    missing_cells,
    records_of,
    run_cells,
)
from benchmarks.harness.environment import n_cores
from benchmarks.harness.pages import Page
from benchmarks.training.subsets import ALL

EXPERIMENTS = (
    "correlation",
    "linear_rounds",
    "fine_tuning",
    "forgetting",
    "ratios",
    "noise_left",
    "corruption",
    "ablation",
    "architectures",
    "cost",
    "stability",
)
APART = (
    "real", "heads", "expected_accuracy", "labelled_by_keys", "naming", "regimes", "label_noise",
    "several_labels",
)  # fmt: skip
"""Experiments that `all` leaves out."""
ROOT = Path(__file__).resolve().parents[1]
FOLDERS: dict[Size, Path] = {
    "quick": ROOT / "build" / "quick-results",
    "standard": ROOT / "docs" / "results",
    "full": ROOT / "build" / "full-results",
}


def run_experiment(experiment: Experiment, size: Size, options: Options, args: Any) -> Path | None:
    """Run the cells that are missing and render the page; None where there is nothing to show."""
    folder = args.results or FOLDERS[size]
    raw = folder / "raw" / f"{experiment.name}.jsonl"
    cells = experiment.cells(size)
    missing = missing_cells(experiment, cells, options, raw)
    hours = sum(map(experiment.cost_s, missing)) / 3600
    print(
        f"{experiment.name}: {len(missing)} of {len(cells)} cells to run, "
        f"roughly {hours:.2g} hours of one core of a 2024 server without a GPU; what is trained: "
        f"{experiment.regime}",
        flush=True,
    )
    if args.list:
        return None
    if not args.render_only:
        run_cells(experiment, missing, options, raw, n_workers=args.workers)
    records = records_of(experiment, cells, options, raw)
    if not records:
        return None
    page = Page(folder, experiment.name.replace("_", "-"), experiment.title)
    experiment.render(frame(records), page)
    add_provenance(page, experiment, size, options, records, len(cells))
    return page.write()


def add_provenance(
    page: Page,
    experiment: Experiment,
    size: Size,
    options: Options,
    records: list[dict[str, Any]],
    n_cells: int,
) -> None:
    """Say at the end of a page how its figures came about."""
    environments = {r["environment"]["environment"]: r["environment"] for r in records}
    machines = {
        f"{e['gpu'] or 'no GPU'}, {e['cores']} cores of {e['cpu']}" for e in environments.values()
    }
    commits = {
        f"{(e['commit'] or 'unknown')[:9]}{' with changes' if e['changed'] else ''}"
        for e in environments.values()
    }
    hours = sum(r["seconds"] for r in records) / 3600
    model = "" if options.clip == "mini" else f" --model {options.model}"
    model += f" --pretrained {options.pretrained}" if options.pretrained else ""
    page.heading("How these figures came about")
    page.text(f"What is trained: {experiment.regime}.{on_all_images(frame(records))}")
    page.text(f"`python -m benchmarks.run {experiment.name}{FLAGS[size]}{model}`")
    page.text(
        f"{len(records)} of {n_cells} cells, {hours:.1f} hours of one process in all; CLIP model "
        f"{options.clip}; {'; '.join(sorted(machines))}; commit {', '.join(sorted(commits))}. "
        f"Raw results, with all versions: raw/{experiment.name}.jsonl."
    )
    if len(records) < n_cells:
        page.text(f"**Incomplete: {n_cells - len(records)} cells have not been run.**")


def on_all_images(records: pd.DataFrame) -> str:
    """Say what a training on all images reaches, where that was run: how much of one it is.

    Examples
    --------
    >>> on_all_images(pd.DataFrame({"method": ["all", "random"], "accuracy": [0.545, 0.5]}))
    ' On all images it reaches 54.5 %.'
    """
    if not {"method", "accuracy"} <= set(records):
        return ""
    everything = records[records["method"] == ALL]
    by = [name for name in ("regime", "network", "labels", "noise") if name in everything]
    if everything.empty:
        return ""
    if not by:
        return f" On all images it reaches {100 * everything['accuracy'].mean():.1f} %."
    means = everything.groupby(by, sort=False)["accuracy"].mean()
    said = "; ".join(f"{_condition(by, at)}: {100 * mean:.1f} %" for at, mean in means.items())
    return f" On all images: {said}."


def _condition(by: Sequence[str], at: Any) -> str:
    values = at if isinstance(at, tuple) else (at,)
    return ", ".join(
        f"{100 * value:.0f} % of the labels wrong" if name == "noise" else str(value)
        for name, value in zip(by, values, strict=True)
    )


def main(arguments: Sequence[str] | None = None) -> list[Path]:
    """Run what is asked for; return the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("experiment", choices=[*EXPERIMENTS, *APART, "all"], nargs="+")
    size = parser.add_mutually_exclusive_group()
    for name, text in (("quick", "minutes on two cores"), ("full", "sized for a GPU")):
        size.add_argument(f"--{name}", dest="size", action="store_const", const=name, help=text)
    add("--data", type=Path, help="folder of cifar10.tar.xz, or of train/ and test/")
    add("--model", default="mini", help="CLIP model, as ClipEncoder takes it")
    add("--pretrained", help="its weights")
    add("--device", default="cpu", help="where networks are trained")
    add("--pools", type=Path, help="folder of further .npz pools for `real`")
    add("--workers", type=int, default=n_cores(), help="processes")
    add("--results", type=Path, help="folder of raw results and pages")
    add("--render-only", action="store_true", help="run nothing")
    add("--list", action="store_true", help="only say how much there is to run")
    parser.set_defaults(size="standard")
    args = parser.parse_args(arguments)
    if args.pools:
        os.environ[POOLS_VARIABLE] = str(args.pools)  # of the workers, too
    options = Options(args.data, args.model, args.pretrained, args.device)
    names = EXPERIMENTS if "all" in args.experiment else args.experiment
    found = [run_experiment(find_experiment(name), args.size, options, args) for name in names]
    pages = [page for page in found if page is not None]
    if pages and not set(names) <= set(APART):
        folder = args.results or FOLDERS[args.size]
        pages.append(conclusions.write(folder, args.size, options))
    return pages


if __name__ == "__main__":
    main()
