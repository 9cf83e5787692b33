"""The page that sums up: verdicts of all experiments that have been run, in a few tables.

Every figure is computed from the raw results. What is written around them says how to read
them, and holds no figure of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import pandas as pd

from benchmarks.baselines.to_label import TO_LABEL
from benchmarks.baselines.to_train import TO_TRAIN
from benchmarks.harness.cells import FLAGS, Options, Size, find_experiment, frame, records_of
from benchmarks.harness.pages import Page, format_p
from benchmarks.harness.paired import best_of, compare
from benchmarks.training.labelling import OURS, RANDOM_WORDS

BASELINES_TO_LABEL = tuple(name for name in TO_LABEL if name != "random")
BASELINES_TO_TRAIN = tuple(name for name in TO_TRAIN if name != "random")
KEY_TO_TRAIN = ("random", "Moderate-DS", "EL2N", "Herding", "cleanlab pruning", "paper")
PRESETS = ("default", "short")
PAGES = {
    "linear_rounds": "labelling with a linear head",
    "fine_tuning": "labelling, a network fine-tuned",
    "forgetting": "what fine-tuning forgets",
    "correlation": "CBD against GD",
    "ratios": "accuracy against the share kept",
    "noise_left": "wrong labels left",
    "corruption": "corrupted images",
    "architectures": "other networks on the same subset",
    "ablation": "parts of the selection",
    "cost": "what it costs",
    "stability": "how stable a choice is",
}


Tables = dict[str, pd.DataFrame]


def load(folder: Path, size: Size, options: Options) -> Tables:
    """Return the records of one size, a table for each experiment that has been run."""
    found = {}
    for name in PAGES:
        path = folder / "raw" / f"{name}.jsonl"
        if path.is_file():
            experiment = find_experiment(name)
            records = records_of(experiment, experiment.cells(size), options, path)
            if records:
                found[name] = frame(records)
    return found


def write(folder: Path, size: Size, options: Options) -> Path:
    """Write `README.md` of a folder of results, from whatever has been run."""
    tables = load(folder, size, options)
    command = f"python -m benchmarks.run all{FLAGS[size]}"
    page = Page(folder, "README", "Results")
    page.text(
        f"Both papers' experiments, rerun with every baseline beside ours: `{command}`. Each "
        "page says its setting, and the machine and commit it was run on; raw results are in "
        "raw/. Differences are in points, mean ± standard deviation over seeds; p is that of a "
        "paired t test over seeds and is not corrected for the number of comparisons; a/b: "
        "better in a of b seeds. Few seeds, small networks, small images: read signs and sizes, "
        "not the last digit."
    )
    show_labelling(tables, page)
    show_training(tables, page)
    if size == "standard":
        show_advice(page)
    page.heading("All pages")
    links = [f"- [{PAGES[name]}]({name.replace('_', '-')}.md)" for name in tables]
    page.text("\n".join(links))
    return page.write()


def show_labelling(tables: Tables, page: Page) -> None:
    """Show the default hybrid against random, margin and the best baseline."""
    others = ("random", "margin", RANDOM_WORDS)
    settings = dict(labelling_settings(tables))
    rows = [verdicts(found, OURS, others, BASELINES_TO_LABEL) for found in settings.values()]
    names = list(settings)
    for kind in ("linear head", "fine-tuned"):
        together = [found for name, found in settings.items() if kind in name]
        if len(together) > 1:
            rows.append(verdicts(mean_over(together), OURS, others, ()))
            names.append(f"**all of {kind}**")
    if not rows:
        return
    page.heading("Which images to label")
    page.text(
        f"`CBDMarginSampling()` as first released (standardised profiles, four candidates a pick; "
        f"“{OURS}”) vs. others, on the `mini` model; accuracy averaged over all "
        "rounds. “Random vocabulary” is the control: the same rule with random directions in "
        "place of the concepts. The rows in bold average over their settings, with the seeds that "
        "all of them have."
    )
    page.table(pd.DataFrame(rows, index=names).fillna("–"), "pool; model")


def labelling_settings(tables: Tables) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the settings in which images were picked to be labelled."""
    if "linear_rounds" in tables:
        for pool, records in tables["linear_rounds"].groupby("pool", sort=False):
            yield f"{pool}; linear head on CLIP", records.assign(score=records["accuracy"])
    if "fine_tuning" in tables:
        groups = tables["fine_tuning"].groupby(["pool", "regime", "network"], sort=False)
        for (pool, regime, network), records in groups:
            yield f"{pool}; {regime} {network}, fine-tuned", records.assign(score=records["gain"])


def mean_over(settings: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return each method's mean score over settings, for methods and seeds that all have."""
    scores = [found.groupby(["method", "seed"])["score"].mean() for found in settings]
    means: pd.Series[float] = sum(scores[1:], scores[0]) / len(scores)
    return means.dropna().reset_index()


def show_training(tables: Tables, page: Page) -> None:
    """Show our presets against the key baselines, and at how many ratios they are better."""
    if "ratios" not in tables:
        return
    ratios = tables["ratios"]
    page.heading("Which labelled images to train on, in a brief training")
    page.text(
        '`ClipSelector()`, “default”, and its `preset="short"` vs. others; accuracy of a network '
        "trained on the subset for a few hundred batches without augmentation, averaged over the "
        "ratios that both have. In brackets, at how many ratios its mean is higher. Trainings that "
        "end stand [on a page of their own](regimes.md)."
    )
    main = ratios[ratios["network"] == "resnet"]
    rows, names = [], []
    for (noise, records), ours in product(main.groupby("noise"), PRESETS):
        labels = f"{noise:.0%} of the labels wrong" if noise else "clean labels"
        names.append(f"{ours}; {labels}")
        rows.append(
            {
                f"vs. {other}": text
                for other in KEY_TO_TRAIN
                if (text := against(records, ours, other)) is not None
            }
        )
    page.table(pd.DataFrame(rows, index=names).fillna("–"), "preset; labels")
    if "noise_left" in tables:
        page.text(
            "Wrong labels in the subset, in %, averaged over seeds, beside the least possible, "
            "1 − (1 − noise) / ratio:"
        )
        page.table(wrong_left(tables["noise_left"]), "kind and share of noise, share kept")


def against(records: pd.DataFrame, ours: str, other: str) -> str | None:
    """Return one method vs. another over shared ratios, and where it is better."""
    both = records[records["method"].isin([ours, other])]
    counts = both.groupby("ratio")["method"].nunique()
    both = both[both["ratio"].isin(counts[counts == 2].index)]
    if both.empty:
        return None
    means = both.pivot_table(index="ratio", columns="method", values="accuracy")
    better = int((means[ours] > means[other]).sum())
    found = compare(both, ours, other, value="accuracy")
    text = f"{100 * found.mean:+.1f}"
    if found.n > 1:
        text += f" ± {100 * found.deviation:.1f}, p {format_p(found.p)}"
    return f"{text} ({better} of {len(means)})"


def wrong_left(records: pd.DataFrame) -> pd.DataFrame:
    """Return the wrong labels that each key method leaves."""
    rows = records.explode(["ratios", "wrong"], ignore_index=True)
    rows["wrong"] = rows["wrong"].astype(float)
    keys = ["noise_kind", "noise", "ratios"]
    table = rows.pivot_table(index=keys, columns="method", values="wrong", sort=False)
    shown = [m for m in ("random", "cleanlab pruning", "paper", *PRESETS) if m in table.columns]
    cells = (100 * table[shown]).map("{:.2f}".format)
    cells["least possible"] = [
        f"{100 * max(0.0, 1 - (1 - noise) / ratio):.2f}" for _, noise, ratio in cells.index
    ]
    cells.index = pd.Index(
        [f"{kind} {noise:.0%}, {ratio:.0%}" for kind, noise, ratio in cells.index]
    )
    return cells


def verdicts(
    records: pd.DataFrame, ours: str, others: Sequence[str], baselines: Sequence[str]
) -> dict[str, str]:
    """Return one method vs. others and vs. the best baseline, each as a cell of a table."""
    present = set(records["method"])
    cells = {
        f"vs. {other}": difference(records, ours, other) for other in others if other in present
    }
    # Of those that were run with all seeds of ours.
    n_seeds = records.groupby("method")["seed"].nunique()
    whole = [name for name in baselines if n_seeds.get(name, 0) == n_seeds.get(ours)]
    if whole:
        best = best_of(records, whole, value="score")
        cells["vs. the best baseline"] = f"{difference(records, ours, best)}: {best}"
    return cells


def difference(records: pd.DataFrame, ours: str, other: str) -> str:
    """Return one method vs. another, in points; – where no seed has both."""
    seeds = [set(records[records["method"] == name]["seed"]) for name in (ours, other)]
    if not seeds[0] & seeds[1]:
        return "–"
    found = compare(records, ours, other, value="score")
    text = f"{100 * found.mean:+.2f}"
    if found.n < 2:
        return text
    return f"{text} ± {100 * found.deviation:.2f} (p {format_p(found.p)}, {found.wins}/{found.n})"


def show_advice(page: Page) -> None:
    """Say in words what to do with it; they were written for the results of this size."""
    page.heading("What to do")
    page.text(ADVICE.strip())


ADVICE = """\
**These results are of the `mini` model.** They do not carry over to other models. On genuine CLIP
embeddings we measured [labelling in rounds](real.md), [heads](heads.md) and
[what profiles name](naming.md); the default, `UncertaintyCoverageSampling()`, comes from there.

**You have a model and a budget for labels.** `CBDMarginSampling()` is ahead of margin where classes
are uneven or there are few labels yet; on a balanced pool the two are equal, and only the encoding
is lost. Later rounds gain less than early ones. Where the pool is full of near-copies, or a weak
network is fine-tuned on a balanced pool, margin alone is as good or slightly better. The concepts
contribute on long-tailed pools and with fine-tuned networks; with a linear head on a balanced pool,
random directions in place of the concepts do as well.

**You have no model yet.** Nothing that we ran is reliably better than random on a balanced pool.
Where some classes are rare, `CBDSampling(target="uniform")` finds them; on a balanced pool it costs
a little.

**Your network is good already.** Fine-tuning it on a few more percent gains next to nothing,
however they are chosen. Replaying earlier images (`replay=`) gains more than any way of choosing.

**Your labels may be wrong.** Use `ClipSelector()`, or `preset="short"` in a training as short as
these, with a ratio below the share of labels that are right: nearly all wrong labels are left out,
and the network is far better than on as many images at random. No ratio above that share can help
much. In trainings as short as these the default is behind `preset="short"`, and mostly behind
pruning by cleanlab, which is close to the preset where errors are spread evenly and it is given the
probabilities of the same CLIP model, as it is here; pruning loses classes, and keeps more wrong
labels than the preset where classes are confused with each other. Methods that first train a
network on the wrong labels (EL2N, GraNd, Forgetting, CG-Score …) prefer the wrong ones.

**Your labels are right.** In trainings as short as these, a subset by `preset="short"` is better
than one at random of the same size, most of all a small one, and two thirds of the images do as
well as all; the default is behind random images. In trainings that end it is the other way round:
[what to train on, by what is trained](regimes.md).

**Do not use** `preset="paper"` on wrong labels: as printed, the method keeps them. In trainings as
short as these it is worse than random on clean labels, too, because it weighs diversity by the
ratio, as the default does; nor use `redundancy`, which brings outliers in. An adapter learns
wrong labels where classes are confused systematically (pair-flip); mean images, which the default
mixes with the texts where that predicts more labels, do what it does for names that CLIP hardly
knows, without training.
"""
