"""What the training of a network on all images leaves behind, for methods that choose by it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.training.networks import Network, make_network
from benchmarks.training.training import BATCH_SIZE, predict, train

MAX_SNAPSHOTS = 20


@dataclass(frozen=True, eq=False)
class TrainingRecord:
    """A proxy trained on all images with their given labels, and how it came there.

    Parameters
    ----------
    images : ndarray of shape (n, h, w, 3), uint8
    given_n : ndarray of shape (n,), int64
        Labels as they were given, in [0, k).
    prob_enk : ndarray of shape (e, n, k), float32
        Probabilities after each pass over the images, in eval mode. The last are those of
        the final proxy, and e is at most 20: of more passes, evenly spaced ones are kept.
    features_nf : ndarray of shape (n, f), float32
        Last hidden layer of the final proxy.
    early_models : list of Network
        r networks of other seeds, trained for a few passes; EL2N and GraNd average over them.
    early_prob_rnk : ndarray of shape (r, n, k), float32
        Probabilities that each of them gives.
    checkpoints : list of (float, Network)
        Learning rate and network, in eval mode, along the proxy's training; for MoSo.
    """

    images: NDArray[np.uint8]
    given_n: NDArray[np.int64]
    prob_enk: NDArray[np.float32]
    features_nf: NDArray[np.float32]
    early_models: list[Network]
    early_prob_rnk: NDArray[np.float32]
    checkpoints: list[tuple[float, Network]]


def record_training(
    images: NDArray[np.uint8],
    given_n: NDArray[np.int64],
    *,
    n_classes: int,
    network: str = "resnet",
    n_steps: int,
    early_steps: int,
    n_early: int = 3,
    n_checkpoints: int = 5,
    seed: int,
    device: str = "cpu",
) -> TrainingRecord:
    """Train a proxy on all images, and a few more briefly; keep what methods look at.

    Parameters
    ----------
    images : ndarray of shape (n, h, w, 3), uint8
        Square images; they are not changed.
    given_n : ndarray of shape (n,), int64
        Labels as they were given, in [0, n_classes).
    n_classes : int
        Width of the probabilities, k.
    network : str
        A name of `networks.NETWORKS`.
    n_steps, early_steps : int
        Batches of 64 for the proxy and for each early network. Each is a whole cycle of the
        learning rate; where EL2N and GraNd were published the schedule is the long one,
        stopped early, which at so few steps would end amid its warm-up.
    n_early : int
        Number of early networks, r.
    n_checkpoints : int
        Kept at the middles of as many equal parts of the training.
    seed : int
        Of all weights and orders.
    device : str
        Where to train; the networks of the record stay there.

    Notes
    -----
    Costs n_steps + r × early_steps batches, and e + r passes forward over the images.
    """
    k, size = n_classes, images.shape[1]
    shown_at = set(_ends_of_passes(len(images), n_steps).tolist())
    kept_at = set(_middles(n_steps, n_checkpoints).tolist())
    proxy = make_network(network, k, seed=seed, image_size=size).to(device)
    probs: list[NDArray[np.float32]] = []
    checkpoints: list[tuple[float, Network]] = []

    def look(step: int, rate: float) -> None:
        if step in shown_at:
            probs.append(predict(proxy, images)[0])
        if step in kept_at:
            checkpoints.append((rate, copy.deepcopy(proxy).eval()))

    train(proxy, images, given_n, n_steps=n_steps, seed=seed, on_step=look, device=device)
    last_prob_nk, features_nf = predict(proxy, images)
    early_models = []
    for r in range(n_early):
        early_seed = int(np.random.SeedSequence((seed, r)).generate_state(1)[0])
        early = make_network(network, k, seed=early_seed, image_size=size)
        train(early, images, given_n, n_steps=early_steps, seed=early_seed, device=device)
        early_models.append(early)
    return TrainingRecord(
        images,
        given_n,
        np.stack([*probs, last_prob_nk]),
        features_nf,
        early_models,
        np.stack([predict(early, images)[0] for early in early_models]),
        checkpoints,
    )


def _ends_of_passes(n: int, n_steps: int) -> NDArray[np.int64]:
    """Return the steps, before the last, at which a pass over n images is complete."""
    ends = -(-np.arange(1, n_steps * BATCH_SIZE // n + 1) * n // BATCH_SIZE)
    # Several passes may end in one batch, and the last step is always looked at.
    ends = np.unique(ends[ends < n_steps])
    if len(ends) >= MAX_SNAPSHOTS:
        ends = ends[np.linspace(0, len(ends) - 1, MAX_SNAPSHOTS - 1).round().astype(np.int64)]
    return ends


def _middles(n_steps: int, n_parts: int) -> NDArray[np.int64]:
    """Return the step in the middle of each of as many equal parts, from 1 on, distinct."""
    return np.unique(np.ceil((np.arange(n_parts) + 0.5) / n_parts * n_steps).astype(np.int64))
