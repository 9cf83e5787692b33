"""Train a network for a fixed number of steps on chosen images, and see what it learned.

What a subset is worth is measured by a model that learns from nothing else: no CLIP, no
pretrained weights, the same number of gradient steps whatever the size of the subset.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.training.networks import Network

BATCH_SIZE = 64
MEAN, STD = 0.47, 0.25
FINE_TUNE_SHARE = 0.1
"""Of a network's highest learning rate, what fine-tuning goes up to."""

Batches = Iterable[tuple[Tensor, Tensor]]
OnStep = Callable[[int, float], None]


def to_input(images: Tensor) -> Tensor:
    """Scale images (b, h, w, 3) uint8 to normalised floats (b, 3, h, w), channels last."""
    return (images.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def augment(x: Tensor, generator: torch.Generator, pad: int = 3) -> Tensor:
    """Shift each image of a batch (b, 3, h, w) by up to `pad` pixels and mirror half of them."""
    b, _, h, w = x.shape
    x = F.pad(x, (pad,) * 4)
    # Drawn on the processor, so that another device sees the same pictures.
    top = torch.randint(0, 2 * pad + 1, (b, 1), generator=generator)
    left = torch.randint(0, 2 * pad + 1, (b, 1), generator=generator)
    rows = top + torch.arange(h)
    cols = left + torch.arange(w)
    mirrored = torch.rand(b, 1, generator=generator) < 0.5
    cols = torch.where(mirrored, cols.flip(1), cols)
    rows, cols, each = rows.to(x.device), cols.to(x.device), torch.arange(b, device=x.device)
    picked = x[each[:, None, None], :, rows[:, :, None], cols[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def learning_rate(done: float, peak: float = 0.1) -> float:
    """Return the rate after a share of the steps, in [0, 1): up quickly, then down slowly."""
    return peak * (done / 0.15 if done < 0.15 else 0.5 + 0.5 * math.cos(math.pi * done))


def optimizer_for(network: Network, peak: float) -> torch.optim.Optimizer:
    """Return the optimizer that suits a network: AdamW, or SGD with Nesterov's momentum."""
    if network.adaptive:
        return torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=0.05)
    return torch.optim.SGD(
        network.parameters(), lr=peak, momentum=0.9, weight_decay=5e-4, nesterov=True
    )


def train(
    network: Network,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    n_steps: int,
    seed: int,
    augmented: bool = False,
    peak: float | None = None,
    on_step: OnStep | None = None,
    device: str = "cpu",
) -> Network:
    """Train a network in place for `n_steps` batches of 64; one cycle of the learning rate.

    Parameters
    ----------
    network : Network
        Is moved to `device` and changed.
    images : ndarray of shape (n, h, w, 3), uint8
    labels : ndarray of shape (n,), int64
    n_steps : int
        Batches. The images are read in a new order each time they have all been read.
    seed : int
        Of that order, and of the augmentation.
    augmented : bool
        Whether images are shifted by up to three pixels and mirrored.
    peak : float, optional
        Highest learning rate; the network's own by default.
    on_step : callable, optional
        Called with the number of steps done and the learning rate of the last one.
    device : str
        Where to train.

    Returns
    -------
    Network
        The one that was given, in eval mode.
    """
    generator = torch.Generator().manual_seed(seed)
    batches = _shuffled(_to(device, images), _to(device, labels), BATCH_SIZE, generator)
    return train_on_batches(
        network.to(device),
        batches,
        n_steps=n_steps,
        generator=generator if augmented else None,
        peak=peak,
        on_step=on_step,
    )


def fine_tune(
    network: Network,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    n_steps: int,
    seed: int,
    replay_images: NDArray[np.uint8] | None = None,
    replay_labels: NDArray[np.int64] | None = None,
    replay: float = 0.0,
    peak: float | None = None,
) -> Network:
    """Train a copy of a network further, on new images and a share of earlier ones.

    Parameters
    ----------
    network : Network
        Where to start; it is left as it is, and its device is where the copy is trained.
    images : ndarray of shape (n, h, w, 3), uint8
    labels : ndarray of shape (n,), int64
    n_steps : int
        Batches of 64.
    seed : int
        Of the order in which images are read.
    replay_images, replay_labels : ndarray of shape (r, h, w, 3) and (r,), optional
        Earlier images and labels.
    replay : float
        Share of each batch that is drawn from them, in [0, 1), rounded to whole images.
    peak : float, optional
        Highest learning rate; a tenth of the network's own by default.

    Returns
    -------
    Network
        The copy, in eval mode.
    """
    if not 0 <= replay < 1:
        raise ValueError(f"`replay` must be in [0, 1), a share of each batch; got {replay}.")
    n_replayed = round(replay * BATCH_SIZE)
    device = _device(network)
    generator = torch.Generator().manual_seed(seed)
    batches = _shuffled(
        _to(device, images), _to(device, labels), BATCH_SIZE - n_replayed, generator
    )
    if n_replayed:
        if replay_images is None or replay_labels is None:
            raise ValueError(
                f"`replay` is {replay} but there is nothing to replay. "
                "Give `replay_images` and `replay_labels`."
            )
        earlier = _shuffled(
            _to(device, replay_images), _to(device, replay_labels), n_replayed, generator
        )
        batches = _side_by_side(batches, earlier)
    peak = FINE_TUNE_SHARE * network.peak if peak is None else peak
    return train_on_batches(copy.deepcopy(network), batches, n_steps=n_steps, peak=peak)


def train_on_batches(
    network: Network,
    batches: Batches,
    *,
    n_steps: int,
    generator: torch.Generator | None = None,
    peak: float | None = None,
    on_step: OnStep | None = None,
) -> Network:
    """Train in place on the first `n_steps` batches of images (b, h, w, 3) and labels (b,).

    `generator` moves the pictures about, None leaves them; the rest is as for `train`.
    """
    peak = network.peak if peak is None else peak
    optimizer = optimizer_for(network, peak)
    device = _device(network)
    network.train()
    for step, (images, labels) in zip(range(n_steps), batches, strict=False):
        rate = learning_rate(step / n_steps, peak)
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = to_input(images.to(device))
        x = x if generator is None else augment(x, generator)
        loss = F.cross_entropy(network(x), labels.to(device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if on_step is not None:
            on_step(step + 1, rate)
    return network.eval()


def _shuffled(
    images: Tensor, labels: Tensor, size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    if not len(labels):
        raise ValueError("There must be an image to train on; got none.")
    order = torch.empty(0, dtype=torch.int64)
    while True:
        while len(order) < size:
            order = torch.cat([order, torch.randperm(len(labels), generator=generator)])
        rows, order = order[:size].to(labels.device), order[size:]
        yield images[rows], labels[rows]


def _side_by_side(*streams: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    for parts in zip(*streams, strict=True):
        images, labels = zip(*parts, strict=True)
        yield torch.cat(images), torch.cat(labels)


def _to(device: str | torch.device, array: NDArray[np.uint8] | NDArray[np.int64]) -> Tensor:
    return torch.as_tensor(array, device=device)


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def predict(
    network: Network, images: NDArray[np.uint8], block: int = 1000
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return probabilities (n, k) and features (n, f) of images (n, h, w, 3), both float32.

    The network computes in eval mode, a block of images at a time, and is left in the mode
    that it was in.
    """
    was_training, device = network.training, _device(network)
    network.eval()
    probs, features = [], []
    with torch.inference_mode():
        for start in range(0, len(images), block):
            x = to_input(_to(device, images[start : start + block]))
            features.append(network.features(x))
            probs.append(network.head(features[-1]).softmax(1))
    network.train(was_training)
    return torch.cat(probs).cpu().numpy(), torch.cat(features).cpu().numpy()


def accuracy(network: Network, images: NDArray[np.uint8], y: NDArray[np.int64]) -> float:
    """Return the share of images whose class the network names, in [0, 1]."""
    prob_nk, _ = predict(network, images)
    return float((prob_nk.argmax(1) == y).mean())


def class_accuracies(
    network: Network, images: NDArray[np.uint8], y: NDArray[np.int64], n_classes: int
) -> NDArray[np.float64]:
    """Return `accuracy` over the images of each class (k,); NaN for a class without images."""
    prob_nk, _ = predict(network, images)
    hits = np.bincount(y, weights=prob_nk.argmax(1) == y, minlength=n_classes)
    sizes = np.bincount(y, minlength=n_classes)
    shares_k = np.full(n_classes, np.nan)
    np.divide(hits, sizes, out=shares_k, where=sizes > 0)
    return shares_k
