"""How a network that was trained on a choice of images arranges images it never saw: Figure 7.

"A CLIP-Powered Framework for Robust and Generalizable Data Selection", ICLR 2025, section 4.4:
t-SNE maps and the Dunn index of test images, embedded by a network that was trained on all
images and by one that was trained on those chosen.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

from benchmarks.cells import Cell, Experiment, Options, Size, Values
from benchmarks.networks import make_network
from benchmarks.pages import Page, comparison_table, spread
from benchmarks.subsets import (
    ALL,
    Condition,
    Proxy,
    choose,
    fields_of,
    load_condition,
    spelled_out,
    subset_facts,
    task_of,
)
from benchmarks.training import predict, train

NOISE = 0.2
PLAN: dict[Size, dict[str, Any]] = {
    "quick": {"seeds": 2, "per_class": 60, "test_per_class": 30, "steps": 40, "mapped": 150},
    "standard": {"seeds": 3, "per_class": 500, "test_per_class": 200, "steps": 450, "mapped": 500},
    "full": {"seeds": 5, "per_class": None, "test_per_class": 200, "steps": 8000, "mapped": 1000},
}
METHODS = ("default", "random")
RATIOS = (0.7, 0.9)
MAP_SEED = 0


@spelled_out
def cells(size: Size) -> list[Cell]:
    """Return a cell for each seed and each set that a network is trained on."""
    plan = PLAN[size]
    trained_on = [(ALL, 1.0), *((method, ratio) for ratio in RATIOS for method in METHODS)]
    found = []
    for seed in range(plan["seeds"]):
        where = (plan["per_class"], plan["test_per_class"], NOISE, "symmetric", 0.0, seed)
        found += [
            {
                **asdict(Condition("cifar10", *where)),
                "method": method,
                "ratio": ratio,
                "network": "resnet",
                "steps": plan["steps"],
                "mapped": plan["mapped"] if seed == MAP_SEED else 0,
                "perplexity": 30,
            }
            for method, ratio in trained_on
        ]
    return found


def run(cell: Cell, options: Options) -> Values:
    """Train on a choice of images; measure and map what the network makes of test images."""
    condition = Condition(**fields_of(Condition, cell))
    material = load_condition(condition, options)
    # Neither method looks at a proxy, so none is trained.
    task = task_of(condition, options, Proxy("resnet", 1, 1, 1, 1))
    indices = choose(cell["method"], task, cell["ratio"])
    pool, chosen = material.pool, np.sort(indices)
    model = make_network(
        cell["network"], len(pool.classes), seed=cell["seed"], image_size=pool.images.shape[1]
    )
    labels = material.given_n[chosen]
    n_steps, seed = cell["steps"], cell["seed"]
    train(model, pool.images[chosen], labels, n_steps=n_steps, seed=seed, device=options.device)
    prob_nk, features_nf = predict(model, pool.test_images)
    values: Values = {
        **subset_facts(indices, material),
        "accuracy": float((prob_nk.argmax(axis=1) == pool.y_test).mean()),
        "map": [],
    }
    with threadpool_limits(1):
        values["dunn"] = dunn_index(features_nf, pool.y_test)
        values["silhouette"] = float(silhouette_score(features_nf, pool.y_test))
        if cell["mapped"]:
            rows = np.random.default_rng(seed).permutation(len(pool.y_test))[: cell["mapped"]]
            places = map_of(features_nf[rows], cell["perplexity"], seed)
            values["map"] = [
                [round(float(x), 2), round(float(y), 2), int(k)]
                for (x, y), k in zip(places, pool.y_test[rows], strict=True)
            ]
    return values


def dunn_index(features_nf: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    """Return the smallest distance between classes over the largest within one; higher is better.

    Parameters
    ----------
    features_nf : ndarray of shape (n, f)
    y : ndarray of shape (n,), int64
        At least two classes, one of them with two images that differ.

    Notes
    -----
    min over i, j of two classes ‖f_i − f_j‖ / max over i, j of one ‖f_i − f_j‖. Two images
    decide it, so a single outlier does. O(n² f) time and O(n²) memory, for a few thousand.

    References
    ----------
    Dunn, "A Fuzzy Relative of the ISODATA Process and Its Use in Detecting Compact
    Well-Separated Clusters", Journal of Cybernetics 3, 1973.
    """
    distance_nn = squareform(pdist(features_nf.astype(np.float64)))
    same_nn = y[:, None] == y[None, :]
    return float(distance_nn[~same_nn].min() / distance_nn[same_nn].max())


def map_of(features_nf: NDArray[np.float32], perplexity: float, seed: int) -> NDArray[np.float32]:
    """Return places (n, 2) of images in the plane, by t-SNE."""
    sne = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    places: NDArray[np.float32] = sne.fit_transform(features_nf)
    return places


def trained_on(method: str, ratio: float) -> str:
    """Return what tables call the images that a network was trained on."""
    return "everything" if method == ALL else f"{method}, {ratio:.0%}"


def render(records: pd.DataFrame, page: Page) -> None:
    """Show indices for all seeds, and the maps of one."""
    one = records.iloc[0]
    records = records.assign(
        trained_on=[
            trained_on(m, r) for m, r in zip(records["method"], records["ratio"], strict=True)
        ]
    )
    n_test = "" if pd.isna(one["test_per_class"]) else f"{10 * one['test_per_class']:.0f} "
    page.text(
        f"A {one['network']} is trained for {one['steps']} batches of 64 on {one['pool']} images, "
        f"{one['noise']:.0%} of their labels wrong: on everything "
        f"({records['n'].max()} images), on what the default selector chooses, and on as many at "
        f"random. It then embeds {n_test}test images by its last layer. Dunn index: the smallest "
        "distance between images of two classes over the largest within a class, by true classes; "
        "two images decide it. Silhouette: for each image, how much closer it is to its own class "
        "than to the next, between −1 and 1, the mean over all. For both, higher is better. "
        f"± is the standard deviation over {records['seed'].nunique()} seeds."
    )
    page.table(_table(records), "trained on")
    for value, title, scale, digits in (
        ("dunn", "Dunn index", 1000.0, 2),
        ("silhouette", "Silhouette", 1.0, 3),
    ):
        page.text(
            f"{title}{' × 1000' if scale != 1 else ''}, difference to a network trained on "
            "everything and on a random choice, with the p of the paired test over seeds:"
        )
        against = [name for name in dict.fromkeys(records["trained_on"]) if "default" not in name]
        page.table(
            comparison_table(
                records, value=value, against=against, field="trained_on", digits=digits,
                scale=scale,
            ),
            "trained on",
        )  # fmt: skip
    mapped = records[records["map"].map(len) > 0]
    page.heading("Maps")
    page.text(
        f"t-SNE (perplexity {one['perplexity']}) of {len(mapped.iloc[0]['map'])} test images, "
        f"seed {mapped.iloc[0]['seed']}; a colour is a true class, and in brackets are the Dunn "
        "index × 1000 and the silhouette of that network on all test images. Distances between "
        "groups in such a map mean little."
    )
    page.plot(_maps(mapped), "maps", "t-SNE maps of the test images, one for each network")


def _table(records: pd.DataFrame) -> pd.DataFrame:
    names = list(dict.fromkeys(records["trained_on"]))
    columns = {
        "wrong labels, %": ("wrong", 1, 100.0),
        "accuracy, %": ("accuracy", 1, 100.0),
        "Dunn index × 1000": ("dunn", 2, 1000.0),
        "silhouette": ("silhouette", 3, 1.0),
    }
    cells = {
        head: [
            spread(records.loc[records["trained_on"] == name, value], digits=digits, scale=scale)
            for name in names
        ]
        for head, (value, digits, scale) in columns.items()
    }
    return pd.DataFrame(cells, index=names)


def _maps(mapped: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(
        1, len(mapped), figsize=(3 * len(mapped), 3.3), layout="constrained", squeeze=False
    )
    for axis, record in zip(axes[0], mapped.to_dict("records"), strict=True):
        x, y, k = np.array(record["map"]).T
        axis.scatter(x, y, c=k, cmap="tab10", s=8, linewidths=0)
        indices = f"({1000 * record['dunn']:.2f}; {record['silhouette']:.3f})"
        axis.set_title(f"{record['trained_on']}\n{indices}", fontsize=9)
        axis.set(xticks=[], yticks=[])
    return figure


def cost_s(cell: Cell) -> float:
    """Return roughly how long a cell takes; the encoding is counted to the first."""
    n = 10 * (cell["per_class"] or 2500)
    encoding = n / 400 if cell["method"] == ALL else 0.0
    return 2.0 + 0.014 * cell["steps"] + encoding + n / 3000 + cell["mapped"] / 200


EXPERIMENT = Experiment(
    name="embedding_map",
    title="Maps of what networks learned",
    cells=cells,
    run=run,
    render=render,
    share=("seed",),
    cost_s=cost_s,
)
