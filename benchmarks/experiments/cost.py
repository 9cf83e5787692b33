"""What choosing images costs, beside what it is worth: Table 8, Figures 6 and 10 of the paper.

"A CLIP-Powered Framework for Robust and Generalizable Data Selection", ICLR 2025, sections 4.2
and appendices I and J; and the seconds of picking images to label, as in the first paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.baselines.tasks import Indices, LabellingTask
from benchmarks.baselines.to_label import TO_LABEL
from benchmarks.baselines.to_train import TO_TRAIN
from benchmarks.data.pools import embed_images, load_pool
from benchmarks.data.vocabularies import GENERAL, vocabulary_of
from benchmarks.experiments.cost_page import CHOOSE, ENCODE, LABEL, RATIO, render
from benchmarks.experiments.cost_timing import timed, timed_choice, warm_up
from benchmarks.harness.cells import BRIEF, Cell, Experiment, Options, Size, Values
from benchmarks.training.networks import Network, make_network
from benchmarks.training.subsets import (
    ALL,
    Condition,
    Proxy,
    choose,
    fields_of,
    load_condition,
    spelled_out,
    subset_facts,
    task_of,
    train_accuracy,
)
from benchmarks.training.training import BATCH_SIZE, accuracy, predict, train
from clip_al import CBDMarginSampling, CBDSampling, ClipEncoder

OURS = ("default", "short", "adapter", "paper")
CBD, HYBRID = "CBD", "CBD + margin"
AT_HAND = ", profiles at hand"
CONCEPTS = (CBD, HYBRID, CBD + AT_HAND, HYBRID + AT_HAND)
PLAN: dict[Size, dict[str, Any]] = {
    "quick": {
        "seeds": 2, "per_class": 60, "test_per_class": 30, "steps": 30, "epochs": 2,
        "proxy": Proxy("resnet", 30, 10, 2, 2), "ratios": [0.3, 0.7],
        "to_train": ("random", "Herding", "EL2N", "cleanlab pruning"),
        "to_label": ("random", "margin", "k-center"),
        "n_pool_per_class": 60, "n_wanted": 60, "n_encoded": 200, "label_steps": 30,
    },
    "standard": {
        "seeds": 3, "per_class": 500, "test_per_class": 200, "steps": 100, "epochs": 2,
        "proxy": Proxy("resnet", 300, 100, 2, 3), "ratios": [0.3, 0.6, 0.9],
        "to_train": tuple(TO_TRAIN), "to_label": tuple(TO_LABEL),
        "n_pool_per_class": 1000, "n_wanted": 1000, "n_encoded": 1000, "label_steps": 50,
    },
    "full": {
        "seeds": 5, "per_class": None, "test_per_class": None, "steps": 8000, "epochs": 30,
        "proxy": Proxy("resnet", 8000, 2000, 5, 5),
        "ratios": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
        "to_train": tuple(TO_TRAIN), "to_label": tuple(TO_LABEL),
        "n_pool_per_class": 1000, "n_wanted": 1000, "n_encoded": 10_000, "label_steps": 1000,
    },
}  # fmt: skip
NOISE = 0.2
N_MEMBERS = 3
FIRST_PER_CLASS = 100


@spelled_out
def cells(size: Size) -> list[Cell]:
    """Return the cells: choices, ratios, labelling, and the encoder, for each seed."""
    plan = PLAN[size]
    found: list[Cell] = []
    for seed in range(plan["seeds"]):
        where = (plan["per_class"], plan["test_per_class"], NOISE, "symmetric", 0.0, seed)
        shared = {
            **asdict(Condition("cifar10", *where)), **asdict(plan["proxy"]), "network": "resnet",
        }  # fmt: skip
        found += [
            {"what": CHOOSE, **shared, "method": method, "ratio": 0.3, "steps": plan["steps"]}
            for method in (*plan["to_train"], *OURS)
        ]
        some = [(method, ratio) for method in ("random", "default") for ratio in plan["ratios"]]
        found += [
            {"what": RATIO, **shared, "method": method, "ratio": ratio, "epochs": plan["epochs"]}
            for method, ratio in [(ALL, 1.0), *some]
        ]
        found += [
            {
                "what": LABEL, "pool": "cifar10", "per_class": plan["n_pool_per_class"],
                "pool_seed": 0, "seed": seed, "network": "resnet", "network_pool": "cifar10-seen",
                "first_per_class": FIRST_PER_CLASS, "steps": plan["label_steps"],
                "n_members": N_MEMBERS, "method": method, "settings": settings_of(method),
                "n_wanted": plan["n_wanted"],
            }
            for method in (*plan["to_label"], *CONCEPTS)
        ]  # fmt: skip
        found.append(
            {
                "what": ENCODE, "pool": "cifar10", "per_class": plan["n_encoded"] // 10,
                "seed": seed,
            }
        )  # fmt: skip
    return found


def run(cell: Cell, options: Options) -> Values:
    """Time one choice on one thread, and see what it is worth."""
    with threadpool_limits(1):
        return RUN[cell["what"]](cell, options)


def run_choice(cell: Cell, options: Options) -> Values:
    """Choose to train on, look, train for a fixed number of steps and test."""
    condition = Condition(**fields_of(Condition, cell))
    proxy = Proxy(**fields_of(Proxy, cell))
    choice = timed_choice(cell["method"], condition, options, proxy, cell["ratio"])
    material = load_condition(condition, options)
    found = train_accuracy(
        choice.indices,
        material,
        network=cell["network"],
        n_steps=cell["steps"],
        seed=cell["seed"],
        device=options.device,
    )
    return {
        **subset_facts(choice.indices, material),
        "n_images": len(material.given_n),
        "own_s": choice.own_s,
        "proxy_s": choice.training_s,
        "embedded": choice.uses_embeddings,
        "accuracy": found,
    }


def run_ratio(cell: Cell, options: Options) -> Values:
    """Choose a share of the images and train on it for a fixed number of epochs."""
    condition = Condition(**fields_of(Condition, cell))
    material = load_condition(condition, options)
    task = task_of(condition, options, Proxy(**fields_of(Proxy, cell)))
    warm_up(cell["method"])
    # As a user has it: the choice is made anew, nothing that another ratio fitted is used.
    fresh = replace(task)
    indices, own_s = timed(lambda: choose(cell["method"], fresh, cell["ratio"]), options.device)
    pool, chosen = material.pool, np.sort(indices)
    n_steps = -(-len(chosen) * cell["epochs"] // BATCH_SIZE)
    model = new_network(cell["network"], pool.images, len(pool.classes), cell["seed"])
    _, training_s = timed(
        lambda: train(
            model,
            pool.images[chosen],
            material.given_n[chosen],
            n_steps=n_steps,
            seed=cell["seed"],
            device=options.device,
        ),
        options.device,
    )
    return {
        **subset_facts(indices, material),
        "n_images": len(material.given_n),
        "own_s": own_s,
        "training_s": training_s,
        "n_steps": n_steps,
        "embedded": cell["method"] == "default",
        "accuracy": accuracy(model, pool.test_images, pool.y_test),
    }


def new_network(name: str, images: Any, n_classes: int, seed: int) -> Network:
    """Return an untrained network for images of that size."""
    return make_network(name, n_classes, seed=seed, image_size=images.shape[1])


@lru_cache(maxsize=1)
def labelling_task(
    pool_name: str,
    per_class: int,
    pool_seed: int,
    network: str,
    network_pool: str,
    first_per_class: int,
    steps: int,
    n_members: int,
    seed: int,
    options: Options,
) -> LabellingTask:
    """Train a network and an ensemble on first labels, and let them look at a pool."""
    pool = load_pool(pool_name, data=options.data, per_class=per_class, seed=pool_seed)
    first = load_pool(network_pool, data=options.data, per_class=first_per_class, seed=pool_seed)
    encoder = ClipEncoder(options.model, options.pretrained)
    models = []
    for member in range(n_members + 1):
        model = new_network(network, first.images, len(first.classes), 100 * seed + member)
        train(model, first.images, first.y, n_steps=steps, seed=seed, device=options.device)
        models.append(model)
    prob_nk, features_nf = predict(models[0], pool.images)
    return LabellingTask(
        embed_images(pool.images, encoder),
        embed_images(first.images, encoder),
        features_nf,
        predict(models[0], first.images)[1],
        prob_nk,
        np.stack([predict(model, pool.images)[0] for model in models[1:]]),
        seed,
    )


def run_labelling(cell: Cell, options: Options) -> Values:
    """Pick images to label; the second of two picks is timed, the first a small one."""
    names = (
        "per_class", "pool_seed", "network", "network_pool", "first_per_class", "steps",
        "n_members", "seed",
    )  # fmt: skip
    settings = {name: cell[name] for name in names}
    task = labelling_task(cell["pool"], options=options, **settings)
    pick = labelling_method(cell["method"], cell["settings"], task, options)
    pick(min(10, cell["n_wanted"]))
    picks, own_s = timed(lambda: pick(cell["n_wanted"]), options.device)
    return {"n_images": len(task.emb_nd), "n": len(set(picks.tolist())), "own_s": own_s}


def settings_of(method: str) -> dict[str, Any] | None:
    """Return the settings of our strategies, spelled out; None for methods of others."""
    if method not in CONCEPTS:
        return None
    strategy = CBDMarginSampling() if method.startswith(HYBRID) else CBDSampling()
    settings: dict[str, Any] = strategy.get_params()
    return {name: value for name, value in settings.items() if name not in ("vocabulary", "table")}


def labelling_method(
    method: str, settings: dict[str, Any] | None, task: LabellingTask, options: Options
) -> Callable[[int], Indices]:
    """Return how a method picks from a task, given the number of picks."""
    if settings is None:
        return lambda n_wanted: TO_LABEL[method](task, n_wanted)
    words = vocabulary_of(GENERAL, options)
    margin = {"probabilities": task.prob_nk} if method.startswith(HYBRID) else {}
    strategy = (CBDMarginSampling if margin else CBDSampling)(words, **settings)
    if not method.endswith(AT_HAND):
        return lambda n_wanted: strategy.select(
            task.emb_nd, n_wanted, labelled=task.labelled_emb_ld, **margin
        )
    pool = strategy.profile(task.emb_nd)
    labelled = pool.profile(task.labelled_emb_ld)
    return lambda n_wanted: strategy.select(
        n_instances=n_wanted, profiles=pool, labelled=labelled, **margin
    )


def run_encoder(cell: Cell, options: Options) -> Values:
    """Time the encoder, the loading of the model not counted."""
    pool = load_pool(cell["pool"], data=options.data, per_class=cell["per_class"], test_per_class=1)
    encoder = ClipEncoder(options.model, options.pretrained)
    encoder.encode_images(pool.images[:64])
    _, own_s = timed(lambda: encoder.encode_images(pool.images), options.device)
    return {"n_images": len(pool.images), "own_s": own_s}


RUN: dict[str, Callable[[Cell, Options], Values]] = {
    CHOOSE: run_choice, RATIO: run_ratio, LABEL: run_labelling, ENCODE: run_encoder,
}  # fmt: skip


def cost_s(cell: Cell) -> float:
    """Return roughly how long a cell takes; what cells share is counted to the first."""
    if cell["what"] == ENCODE:
        return 0.003 * cell["per_class"] * 10
    n = 10 * (cell["per_class"] or 2500)
    if cell["what"] == LABEL:
        if cell["method"] == "random":
            encoding = (n + 10 * cell["first_per_class"]) / 400 if cell["seed"] == 0 else 0.0
            return encoding + 0.06 * cell["steps"]
        return 5e-8 * n * cell["n_wanted"]
    if cell["what"] == RATIO:
        return 0.014 * cell["ratio"] * n * cell["epochs"] / BATCH_SIZE + n / 3000
    steps = cell["proxy_steps"] + cell["n_early"] * cell["early_steps"]
    own = {
        "random": 0.014 * steps + n / 400,
        "GraNd": 7e-4 * n * cell["n_early"],
        "MoSo": 9e-4 * n * cell["n_checkpoints"],
        "CG-Score": n / 2000,
    }
    return 0.5 + 0.014 * cell["steps"] + own.get(cell["method"], n / 10_000)


EXPERIMENT = Experiment(
    name="cost",
    title="What a choice costs, and what it is worth",
    regime=BRIEF,
    cells=cells,
    run=run,
    render=render,
    share=("what", "seed"),
    cost_s=cost_s,
)
