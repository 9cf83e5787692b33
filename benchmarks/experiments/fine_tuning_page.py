"""The page of `experiments.fine_tuning`: gains by budget, paired differences, time to pick."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.baselines.to_label import TO_LABEL
from benchmarks.harness.pages import (
    Page,
    comparison_table,
    lead_table,
    line_plot,
    spread,
    spread_table,
)
from benchmarks.training.labelling import OURS

GROUP = ["regime", "pool", "network"]


def by_budget(records: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each budget of each record: "budget", "accuracy", "gained", "pick_s"."""
    rows = records.rename(columns={"budgets": "budget", "accuracies": "accuracy"})
    rows = rows.explode(["budget", "accuracy", "pick_s"]).reset_index(drop=True)
    rows = rows.astype({"budget": float, "accuracy": float, "pick_s": float})
    rows["gained"] = rows["accuracy"] - rows["before"]
    rows["percent"] = 100 * rows["budget"]
    rows["labels"] = rows["budget"].map("{:.0%}".format)
    return rows


def render(records: pd.DataFrame, page: Page) -> None:
    """Show gains by budget, paired differences and time, for each regime, pool and network."""
    rows = by_budget(records)
    page.text(describe(records))
    page.heading("The default hybrid at each budget")
    page.text(
        f"{OURS} with the library's defaults, vs. random and vs. margin with the same seeds. "
        "The last column counts the budgets at which its mean is above."
    )
    leads = lead_table(
        rows, OURS, against=("random", "margin"), group=GROUP, step="labels", value="gained"
    )
    page.table(leads, "setting")
    for group, part in rows.groupby(GROUP, sort=False):
        show_group(part, page, tuple(map(str, group)))
    page.heading("Seconds to pick")
    page.text(
        "Median of a run's rounds, on one thread. Embeddings, concept profiles and the "
        "network's predictions are at hand; for the ensemble, those of all its members."
    )
    typical = rows.groupby(["method", *GROUP, "seed"], sort=False)["pick_s"].median().reset_index()
    typical["setting"] = typical[["pool", "network"]].agg(", ".join, axis=1)
    page.table(
        spread_table(
            typical, rows="method", columns="setting", value="pick_s", scale=1, digits=4,
            unit=("regime", "seed"),
        ),
        "picked by",
    )  # fmt: skip


def describe(records: pd.DataFrame) -> str:
    """Say what was run."""
    one = records.iloc[0]
    regimes = records.drop_duplicates("regime").set_index("regime").to_dict("index")
    taught = "25,000" if pd.isna(one["seen_per_class"]) else f"{10 * one['seen_per_class']:,.0f}"
    text = (
        f"CIFAR-10. The seed draws a pool of {one['per_class']} images of each class that the CLIP "
        "model mini was not trained on (balanced); of these the long-tailed pool keeps class sizes "
        "that shrink to 1/50. Budgets are shares of the pool, picked in rounds; after each, the "
        "network of the round before is trained on all that is labelled so far, at a tenth of the "
        "highest learning rate, in batches of 64. "
    )
    if "good" in regimes:
        good = regimes["good"]
        text += (
            f"A good network was trained before for {good['base_steps']} batches on {taught} other "
            "images of CIFAR-10 (those that mini was trained on), augmented; there are "
            f"{good['bases']}, and further seeds use them again with other pools. In a round it "
            f"reads each labelled image {good['epochs']} times, while {good['replay']:.0%} of "
            "each batch is replayed from the earlier images. "
        )
    if "weak" in regimes:
        weak = regimes["weak"]
        text += (
            f"A weak one was trained before for {weak['base_steps']} batches on a random "
            f"{weak['first']:.0%} of the pool, augmented, which stays labelled; in a round it "
            f"reads each labelled image {weak['epochs']} times. "
        )
    return text + (
        "How often labelled images are read and how much is replayed was chosen by a look at the "
        "test accuracy of random and margin with one of the networks. "
        "Accuracy is that on CIFAR-10's test images; what is gained is in points over the accuracy "
        "before the first round. ± is the standard deviation over seeds, p that of the paired t "
        "test over seeds, a/b how many of b seeds are above. Random vocabulary is the control: "
        "random directions in place of the concepts."
    )


def show_group(rows: pd.DataFrame, page: Page, group: tuple[str, ...]) -> None:
    """Show one regime, pool and network."""
    name = ", ".join(group)
    firsts = rows.drop_duplicates("seed")
    page.heading(f"{name[0].upper()}{name[1:]}")
    size = spread(firsts["n_images"], scale=1, digits=0)
    page.text(
        f"Seeds: {rows['seed'].nunique()}{', fewer for some methods' if uneven(rows) else ''}. "
        f"Accuracy before: {spread(firsts['before'])} %. Images in the pool: {size}. First the "
        "accuracy gained, by the share of the pool that is picked; then the differences, "
        "averaged over the budgets."
    )
    gained = spread_table(rows, rows="method", columns="labels", value="gained")
    classes = rows.groupby("method", sort=False)["n_classes"].mean()
    gained["classes picked"] = [f"{classes[method]:.1f}" for method in gained.index]
    page.table(gained, "picked by")
    present = set(rows["method"])
    page.table(
        comparison_table(
            rows, value="gained", against=[m for m in ("random", "margin") if m in present],
            baselines=[m for m in TO_LABEL if m in present], digits=2,
        ),
        "picked by",
    )  # fmt: skip
    file = "-".join(group)
    page.plot(
        line_plot(
            rows, x="percent", y="accuracy", lines="method", bold=[OURS],
            labels=("labelled, % of the pool", "test accuracy, %"),
        ),
        file, f"Accuracy against budget: {name}",
    )  # fmt: skip
    page.plot(scatter(rows), f"{file}-time", f"Accuracy gained against time to pick: {name}")


def uneven(rows: pd.DataFrame) -> bool:
    """Return whether some methods have fewer seeds than others."""
    return rows.groupby("method")["seed"].nunique().nunique() > 1


def scatter(rows: pd.DataFrame) -> Figure:
    """Plot the mean gain of each method against the median seconds of a round."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    by_method = rows.groupby("method", sort=False)
    means = pd.DataFrame(
        {"pick_s": by_method["pick_s"].median(), "gained": by_method["gained"].mean()}
    )
    for method, (seconds, gained) in means.iterrows():
        bold = method == OURS
        axes.scatter(seconds, 100 * gained, s=60 if bold else 24)
        axes.annotate(
            str(method), (seconds, 100 * gained), fontsize=7, xytext=(4, 3),
            textcoords="offset points", weight="bold" if bold else "normal",
        )  # fmt: skip
    axes.set(xlabel="seconds to pick, a round", ylabel="accuracy gained, points", xscale="log")
    axes.margins(x=0.2)
    axes.grid(alpha=0.3)
    return figure
