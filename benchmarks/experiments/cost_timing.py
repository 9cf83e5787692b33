"""What a choice of training images costs: its own work, and the training and encoding it needs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from benchmarks.baselines.tasks import Indices, TrainingTask
from benchmarks.harness.cells import Options
from benchmarks.training.subsets import (
    PROXY_SEED,
    Condition,
    Proxy,
    choose,
    load_condition,
    task_of,
)
from benchmarks.training.training_record import TrainingRecord, record_training

T = TypeVar("T")
EARLY = ("early_models", "early_prob_rnk")
EMBEDDED = ("emb_nd", "class_emb_kd")


def clock(device: str) -> float:
    """Return seconds that only grow by work: of all cores, of this process and its children.

    A busy machine and the number of threads change them little. With a GPU, wall-clock
    seconds: the processor waits for it without work.
    """
    if device != "cpu":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def timed(function: Callable[[], T], device: str) -> tuple[T, float]:
    """Call a function; return its result and the seconds by `clock`."""
    start = clock(device)
    result = function()
    return result, clock(device) - start


class Watched:
    """Stands for an object, and keeps the names of what it was asked for in `asked`.

    Parameters
    ----------
    target : object
    **instead
        Attributes to answer with in place of the object's own.
    """

    def __init__(self, target: Any, **instead: Any) -> None:
        self.target, self.instead = target, instead
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return self.instead[name] if name in self.instead else getattr(self.target, name)


class TimedRecord(NamedTuple):
    """What training left behind, and the seconds of its two parts."""

    record: TrainingRecord
    proxy_s: float
    early_s: float


@lru_cache(maxsize=1)
def timed_record(condition: Condition, options: Options, proxy: Proxy) -> TimedRecord:
    """Train the proxy and the early networks one after the other, each timed.

    The record is what `record_training` returns in one go.
    """
    material = load_condition(condition, options)

    def train(n_steps: int, early_steps: int, n_early: int) -> TrainingRecord:
        return record_training(
            material.pool.images,
            material.given_n,
            n_classes=len(material.pool.classes),
            network=proxy.proxy,
            n_steps=n_steps,
            early_steps=early_steps,
            n_early=n_early,
            n_checkpoints=proxy.n_checkpoints,
            seed=PROXY_SEED + condition.seed,
            device=options.device,
        )

    # It always trains both parts: one step of the other is next to nothing.
    late, proxy_s = timed(lambda: train(proxy.proxy_steps, 1, 1), options.device)
    early, early_s = timed(lambda: train(1, proxy.early_steps, proxy.n_early), options.device)
    parts = {name: getattr(early, name) for name in EARLY}
    return TimedRecord(replace(late, **parts), proxy_s, early_s)


class TimedChoice(NamedTuple):
    """What was chosen, the seconds of the choice, and what it looked at."""

    indices: Indices
    own_s: float
    training_s: float
    uses_embeddings: bool


def timed_choice(
    method: str, condition: Condition, options: Options, proxy: Proxy, ratio: float
) -> TimedChoice:
    """Choose with a method, its first call in this process not timed.

    Returns
    -------
    TimedChoice
        `own_s` is the choice with embeddings and networks at hand; `training_s` what the
        training of the networks took that it looked at, the proxy, the early ones, or none.
    """
    warm_up(method)
    trained = timed_record(condition, options, proxy)
    record = Watched(trained.record)
    task: Any = Watched(task_of(condition, options, proxy), record=record)
    indices, own_s = timed(lambda: choose(method, task, ratio), options.device)
    used_early = bool(record.asked & set(EARLY))
    used_proxy = bool(record.asked - {*EARLY, "images", "given_n"})
    training_s = used_proxy * trained.proxy_s + used_early * trained.early_s
    return TimedChoice(indices, own_s, training_s, bool(task.asked & set(EMBEDDED)))


@lru_cache(maxsize=64)
def warm_up(method: str) -> None:
    """Call a method on a few made-up images: what is compiled or imported is so once."""
    choose(method, tiny_task(), 0.5)


@lru_cache(maxsize=1)
def tiny_task() -> TrainingTask:
    """Make up 200 images of ten classes, their embeddings, and a proxy of a few steps."""
    rng = np.random.default_rng(0)
    y = np.arange(200) % 10
    classes = np.eye(10, 16, dtype=np.float32)
    emb = classes[y] + 0.1 * rng.standard_normal((200, 16)).astype(np.float32)
    emb /= np.linalg.norm(emb, axis=1, keepdims=True)
    images = rng.integers(0, 256, (200, 16, 16, 3)).astype(np.uint8)
    record = record_training(
        images, y, n_classes=10, n_steps=6, early_steps=2, n_early=2, n_checkpoints=2, seed=0
    )
    return TrainingTask(emb, classes, y, 0, lambda: record)
