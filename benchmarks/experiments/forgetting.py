"""What fine-tuning forgets, class by class, and what replay and a memory in the picker do to it.

A good network is fine-tuned on picks from a pool that is unlike what it was taught on: a long
tail, or a few classes alone. First paper (arXiv 2601.08024), section V-C: it explains its
non-monotonic accuracies by forgetting, and leaves the remedy open.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, TensorDataset

from benchmarks.data.pools import Pool, embed_images
from benchmarks.harness.cells import FINE_TUNED, Cell, Experiment, Options, Size, Values
from benchmarks.harness.pages import Page, comparison_table, line_plot, spread_table
from benchmarks.training.labelling import (
    OURS,
    Picker,
    Schooling,
    Setting,
    earlier_images,
    load_setting,
    make_task,
    our_methods,
    schooled,
)
from benchmarks.training.training import (
    BATCH_SIZE,
    FINE_TUNE_SHARE,
    class_accuracies,
    train_on_batches,
)
from clip_al import ClipEncoder, SelectedSubsetSampler

KNOWN = {"nothing": "labelled set ignored", "picks": None, "all": "pre-training known too"}
"""What our strategy counts as labelled, and how its row is called; None is the default."""
REPLAY = (0.0, 0.2, 0.5)
N_CLASSES_LEFT = 4
CLASS_SEED = 106  # of the classes that a pool holds, kept apart from the other seeds


def cells(size: Size) -> list[Cell]:
    """Return the cells: both pools, who picks, what our strategy knows, and replay."""
    n_seeds = {"quick": 1, "standard": 3, "full": 5}[size]
    replays = (0.0, 0.5) if size == "quick" else REPLAY
    methods = [("random", "nothing"), ("margin", "nothing"), *((OURS, known) for known in KNOWN)]
    return [
        make_cell(size, seed, pool, method, known, replay)
        for seed in range(n_seeds)
        for pool in ("long-tailed", "few classes")
        for method, known in methods
        for replay in replays
    ]


def make_cell(
    size: Size, seed: int, pool: str, method: str, known: str, replay: float
) -> dict[str, Any]:
    """Return one cell, with all that its outcome depends on."""
    quick, full = size == "quick", size == "full"
    rng = np.random.default_rng((CLASS_SEED, seed))
    few = sorted(rng.choice(10, N_CLASSES_LEFT, replace=False).tolist())
    return {
        "pool": pool, "network": "resnet", "seed": seed, "method": method, "known": known,
        "replay": replay, **our_methods().get(method, {"vocabulary": None, "settings": None}),
        "source": "cifar10", "per_class": 200 if quick else 2500 if full else 1000,
        "tail": 50 if pool == "long-tailed" else None,
        "pool_classes": few if pool == "few classes" else None,
        "test_per_class": 50 if quick else None if full else 500,
        "seen": "cifar10-seen", "seen_per_class": 200 if quick else None, "known_per_class": 100,
        "base_steps": {"quick": 200, "standard": 3000, "full": 10_000}[size],
        "budgets": [0.05, 0.1], "round_steps": 30 if quick else 300 if full else 60,
    }  # fmt: skip


def run(cell: Cell, options: Options) -> Values:
    """Pick and fine-tune in rounds; return what the network knows of each class."""
    classes = cell["pool_classes"]
    setting = Setting(
        cell["source"], cell["per_class"], cell["tail"], classes and tuple(classes),
        cell["test_per_class"], cell["seed"],
    )  # fmt: skip
    material = load_setting(setting, options)
    pool, n, k = material.pool, len(material.pool.y), len(material.pool.classes)
    seen = earlier_images(cell["seen"], cell["seen_per_class"], options)
    school = Schooling(
        cell["network"], cell["seen"], cell["seen_per_class"], cell["base_steps"], cell["seed"]
    )
    network = schooled(school, options)
    before = class_accuracies(network, pool.test_images, pool.y_test, k)
    picker, feed = Picker(cell, setting, options), Feed(pool, seen, cell["replay"], cell["seed"])
    picked = np.empty(0, np.int64)
    for budget in cell["budgets"]:
        rest = np.setdiff1d(np.arange(n), picked)
        task = make_task(material, [network], picked, rest, cell)
        known = known_embeddings(cell, material.emb_nd[picked], seen, options)
        picks = rest[picker.pick(task, rest, round(budget * n) - len(picked), known)]
        picked = np.concatenate([picked, picks])
        network = train_on_batches(
            copy.deepcopy(network), feed.batches(picked), n_steps=cell["round_steps"],
            peak=FINE_TUNE_SHARE * network.peak,
        )  # fmt: skip
    after = class_accuracies(network, pool.test_images, pool.y_test, k)
    return {
        "before": before.tolist(), "after": after.tolist(), **summary(before, after),
        "class_sizes": np.bincount(pool.y, minlength=k).tolist(),
        "class_picks": np.bincount(pool.y[picked], minlength=k).tolist(),
    }  # fmt: skip


def known_embeddings(
    cell: Cell, picked_emb: NDArray[np.float32], seen: Pool, options: Options
) -> NDArray[np.float32] | None:
    """Return the embeddings (l, d) of what our strategy counts as labelled; None for nothing.

    Of what the network was taught on, the first `known_per_class` of each class stand for all.
    """
    if cell["known"] == "nothing":
        return None
    if cell["known"] == "picks":
        return picked_emb
    places = [
        np.flatnonzero(seen.y == k)[: cell["known_per_class"]] for k in range(len(seen.classes))
    ]
    images = seen.images[np.concatenate(places)]
    encoded = embed_images(images, ClipEncoder(options.model, options.pretrained))
    return np.concatenate([picked_emb, encoded])


def summary(before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, Any]:
    """Return "accuracy", the mean over classes; "change" of it; "forgetting", and of how many.

    Forgetting is the mean drop of the classes that lost accuracy, 0 where none did.
    """
    drop = before - after
    lost = drop > 0
    return {
        "accuracy": float(after.mean()), "change": float(-drop.mean()),
        "forgetting": float(drop[lost].mean()) if lost.any() else 0.0,
        "n_lost": int(lost.sum()),
    }  # fmt: skip


class Feed:
    """What a network reads: picks, and a share of replayed images, by the library's sampler.

    Parameters
    ----------
    pool, seen : Pool
        What is picked from, and what is replayed.
    replay : float
        Share of an epoch, in [0, 1).
    seed : int
    """

    def __init__(self, pool: Pool, seen: Pool, replay: float, seed: int) -> None:
        parts = [TensorDataset(*map(torch.from_numpy, (p.images, p.y))) for p in (pool, seen)]
        self.dataset: Dataset[Any] = ConcatDataset(parts)
        self.replay, self.seed = replay, seed
        self.earlier = len(pool.y) + np.arange(len(seen.y))

    def batches(self, picked: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of what was picked and replayed, epoch after epoch, without end."""
        mixed = self.replay > 0
        sampler = SelectedSubsetSampler(
            picked,
            random_state=self.seed,
            replay=self.earlier if mixed else None,
            replay_fraction=self.replay if mixed else None,
        )
        loader = DataLoader(self.dataset, batch_size=BATCH_SIZE, sampler=sampler)
        for epoch in itertools.count():
            sampler.set_epoch(epoch)
            yield from loader


def render(records: pd.DataFrame, page: Page) -> None:
    """Show forgetting and accuracy by replay, paired differences, and the classes."""
    records = records.assign(
        picker=[named(m, k) for m, k in zip(records["method"], records["known"], strict=True)]
    )
    page.text(describe(records))
    for pool, part in records.groupby("pool", sort=False):
        page.heading(str(pool).capitalize())
        shares = part.assign(head=part["replay"].map("replay {:.0%}".format))
        for value, text in (
            ("forgetting", "Forgetting: points that the classes lost that lost any (mean of them)"),
            ("n_lost", "Classes that lost accuracy"),
            ("change", "Change of the accuracy, mean over all classes, in points"),
        ):
            scale = 1.0 if value == "n_lost" else 100.0
            page.text(f"{text}.")
            table = spread_table(shares, rows="picker", columns="head", value=value, scale=scale)
            page.table(table, "picked by")
        page.text("Differences in the accuracy, paired over seeds, averaged over replay.")
        compared = comparison_table(
            part, value="accuracy", against=["random", "margin", OURS], field="picker", digits=2
        )
        page.table(compared, "picked by")
        page.text("What replay adds, against none: accuracy and forgetting, paired over seeds.")
        page.table(replay_table(shares), "picked by")
        title = f"Change of each class's accuracy, {pool}"
        page.plot(class_plot(part), str(pool).replace(" ", "-"), title)


def named(method: str, known: str) -> str:
    """Return the name of a row: who picks and, for ours, what it knows."""
    if method != OURS or KNOWN[known] is None:
        return method
    return f"{method}, {KNOWN[known]}"


def describe(records: pd.DataFrame) -> str:
    """Say what was run."""
    one = records.iloc[0]
    taught = "25,000" if pd.isna(one["seen_per_class"]) else f"{10 * one['seen_per_class']:,.0f}"
    budgets = " and then ".join(f"{budget:.0%}" for budget in one["budgets"])
    return (
        f"CIFAR-10, {one['network']}, {records['seed'].nunique()} seeds. The network was trained "
        f"for {one['base_steps']} batches on {taught} images that the pools do not hold. The seed "
        f"draws {one['per_class']} other images of each class: class sizes shrinking to 1/50 are "
        f"left (long-tailed), or {N_CLASSES_LEFT} classes (few classes). Of the pool {budgets} are "
        f"picked, with {one['round_steps']} batches of 64 on all picks after each round; replay "
        "is the share of an epoch that `SelectedSubsetSampler` draws from the earlier images. "
        f"{OURS} counts its earlier picks as labelled, unless the labelled set is ignored; with "
        f"the pre-training known too, {one['known_per_class']} images of each class of it count as "
        "well. Points of accuracy on the test images; ± is the standard deviation over seeds, p "
        "that of the paired t test over seeds, a/b how many of b seeds are above."
    )


def replay_table(records: pd.DataFrame) -> pd.DataFrame:
    """Return what each share of replay changes, against none, for each who picks."""
    columns: dict[str, list[str]] = {}
    pickers = list(dict.fromkeys(records["picker"]))
    heads = list(dict.fromkeys(records.sort_values("replay")["head"]))
    for value in ("accuracy", "forgetting"):
        tables = [
            comparison_table(
                records[records["picker"] == picker], value=value, against=[heads[0]],
                field="head", order=heads[1:],
            ).iloc[:, 0]
            for picker in pickers
        ]  # fmt: skip
        for head in heads[1:]:
            columns[f"{value}, {head}"] = [table[head] for table in tables]
    return pd.DataFrame(columns, index=pickers)


def class_plot(records: pd.DataFrame) -> Any:
    """Plot how each class's accuracy changes, classes by their size in the pool."""
    shown = records[records["picker"].isin(["random", OURS])]
    rows = []
    for record in shown.to_dict("records"):
        order = np.argsort(-np.asarray(record["class_sizes"]), kind="stable")
        change = np.subtract(record["after"], record["before"])[order]
        line = f"{record['picker']}, replay {record['replay']:.0%}"
        rows += [
            {"place": place + 1, "change": value, "line": line, "seed": record["seed"]}
            for place, value in enumerate(change)
        ]
    return line_plot(
        pd.DataFrame(rows), x="place", y="change", lines="line", bold=[f"{OURS}, replay 50%"],
        labels=("class, by its size in the pool (1 is the largest)", "change of accuracy, points"),
    )  # fmt: skip


def cost_s(cell: Cell) -> float:
    """Return roughly the seconds of one core, a share of the pre-training included."""
    asked: float = 0.0 if cell["method"] == "random" else 3000 * cell["per_class"] / 1000
    tested = 10 * (cell["test_per_class"] or 1000)
    a_round = 0.016 * cell["round_steps"] + 0.7e-4 * asked
    rounds_s = len(cell["budgets"]) * a_round
    return float(rounds_s + 1.4e-4 * tested + 0.016 * cell["base_steps"] / 30)


EXPERIMENT = Experiment(
    name="forgetting",
    title="What fine-tuning forgets",
    regime=FINE_TUNED,
    cells=cells,
    run=run,
    render=render,
    share=("seed", "pool"),
    cost_s=cost_s,
)
