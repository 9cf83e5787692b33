"""How the adapters are trained: batches, loss, validation, early stop, progress.

`check_inputs` is the boundary, all else
trusts it and the settings, which `adapter` checks. A batch is a few rows gathered from the
embeddings, which may lie on disk; they are never copied as a whole (but to a GPU on which
they fit).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise, product
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from clip_al.adapt.losses import LOSSES, generalized_cross_entropy
from clip_al.arrays.blocks import block_rows, map_blocks, unit_block
from clip_al.arrays.checks import check_embeddings, check_host_embeddings
from clip_al.arrays.device import check_device, for_torch, is_on_device, keep_on
from clip_al.arrays.labels import Names, encode_labels, group_by_class, ordered_names
from clip_al.arrays.types import Embeddings
from clip_al.errors import InvalidInputError
from clip_al.progress import progress_bar

FIRST_TEMPERATURE = 0.07
LOWEST_TEMPERATURE = 0.01  # as CLIP: below it a step can no longer be undone
SMALL_STEP = 2**28  # multiply-adds, some 5 ms of one core

Layers = list[Tensor]  # weight and bias of each linear layer in turn


class Settings(Protocol):
    """What of a `DatasetAdapter` a run is told; its parameters, checked."""

    loss: str
    hidden: int | None
    residual: bool
    epochs: int
    learning_rate: float
    step_size: int
    gamma: float
    batch_size: int
    temperature: float | None
    gce_q: float
    patience: int | None
    weight_decay: float
    device: str | None
    random_state: int | None
    progress: bool


def check_inputs(
    Z: Embeddings, y: ArrayLike, T: Embeddings, class_names: Names | None
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.float32]]:
    """Return images (as they are), class numbers, and texts as unit float32."""
    text_emb_kd = check_host_embeddings(T, "T")
    k, d = text_emb_kd.shape
    if k < 2:
        raise InvalidInputError(
            f"`T` must hold the texts of at least 2 classes; got {k}. A text needs another to be "
            "told from: add the other classes."
        )
    zero = np.flatnonzero(~text_emb_kd.any(axis=1))
    if zero.size:
        raise InvalidInputError(
            f"Every class text must have a direction; row {zero[0]} of `T` is all zeros. Encode "
            "it again."
        )
    n_names = k if class_names is None else len(ordered_names(class_names))
    if n_names != k:
        raise InvalidInputError(
            f"`class_names` must name each of the {k} rows of `T`; got {n_names} names. "
            "Encode one text for each name."
        )
    image_emb_nd = check_embeddings(Z, "Z", width=d, finite=False)
    n = len(image_emb_nd)
    y_n = encode_labels(y, n_images=n, n_classes=k, class_names=class_names)
    if not is_on_device(image_emb_nd):
        # One pass finds NaN and zeros with the row's number, before training starts.
        for _ in map_blocks(
            lambda rows: len(unit_block(image_emb_nd, rows)), n, max(1, block_rows(d) // 8)
        ):
            pass
    return image_emb_nd, y_n, unit_block(text_emb_kd, slice(0, k))


class Training:
    """One run: weights on the device, and the loop over batches."""

    def __init__(
        self,
        settings: Settings,
        image_emb_nd: NDArray[Any],
        y_n: NDArray[np.int64],
        text_emb_kd: NDArray[np.float32],
    ) -> None:
        self.settings = settings
        self.rng = np.random.default_rng(settings.random_state)
        self.device = check_device(settings.device)
        self.images = UnitRows(image_emb_nd, self.device)
        self.y_n = y_n
        self.text_emb_kd = to_tensor(text_emb_kd, self.device)
        d = text_emb_kd.shape[1]
        self.layers = {side: self._first_layers(d) for side in ("image", "text")}
        first = settings.temperature or FIRST_TEMPERATURE
        self.log_scale = torch.tensor(-math.log(first), device=self.device)
        self.log_scale.requires_grad_(settings.temperature is None)
        self.loss: Callable[[Tensor, Tensor], Tensor] = LOSSES[settings.loss]
        if settings.loss == "gce":
            self.loss = lambda logits_bk, y_b: generalized_cross_entropy(
                logits_bk, y_b, settings.gce_q
            )

    def _first_layers(self, d: int) -> Layers:
        """Draw weights as torch's Linear does; the last layer of a residual is zero."""
        hidden = self.settings.hidden
        widths = [d, d] if hidden is None else [d, int(hidden), d]
        layers: Layers = []
        for fan_in, fan_out in pairwise(widths):
            bound = 1.0 / math.sqrt(fan_in)
            for shape in ((fan_out, fan_in), (fan_out,)):
                drawn = self.rng.uniform(-bound, bound, shape).astype(np.float32)
                layers.append(torch.from_numpy(drawn))
        if self.settings.residual:
            for last in layers[-2:]:
                last.zero_()
        return [layer.to(self.device).requires_grad_() for layer in layers]

    def run(self, train: NDArray[np.int64], held: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Train; return the history."""
        settings = self.settings
        weights = [layer for layers in self.layers.values() for layer in layers]
        groups: list[dict[str, Any]] = [{"params": weights}]
        if settings.temperature is None:
            groups.append({"params": [self.log_scale], "weight_decay": 0.0})
        # Decoupled decay; without any it is Adam. Fused: one pass over the weights a step.
        decay = float(settings.weight_decay)
        optimizer = torch.optim.AdamW(groups, weight_decay=decay, fused=True)
        history: list[dict[str, Any]] = []
        best, best_weights, best_epoch = math.inf, self._copy(), 0
        with progress_bar(settings.progress, "Adapting", settings.epochs, keep=True) as advance:
            for epoch in range(1, settings.epochs + 1):
                rate = settings.learning_rate * settings.gamma ** (
                    (epoch - 1) // settings.step_size
                )
                for group in optimizer.param_groups:
                    group["lr"] = rate
                loss = self._train_epoch(optimizer, self.rng.permutation(train))
                validation_loss, accuracy = self._validate(held)
                self._check_finite(epoch, rate, loss, validation_loss)
                history.append(
                    {
                        "epoch": epoch,
                        "loss": loss,
                        "validation_loss": validation_loss,
                        "validation_accuracy": accuracy,
                        "learning_rate": rate,
                    }
                )
                advance(1, f"loss {loss:.4f}")
                if settings.patience is None or validation_loss is None:
                    continue
                if validation_loss < best:
                    best, best_weights, best_epoch = validation_loss, self._copy(), epoch
                elif epoch - best_epoch >= settings.patience:
                    break
        if settings.patience is not None and history:
            self._restore(best_weights)
        return history

    def _train_epoch(self, optimizer: torch.optim.Optimizer, order: NDArray[np.int64]) -> float:
        total = torch.zeros((), device=self.device)
        for rows in batches(order, self.settings.batch_size):
            logits_bk, y_b = self._logits(rows)
            loss = self.loss(logits_bk, y_b)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                if self.settings.temperature is None:
                    self.log_scale.clamp_(max=-math.log(LOWEST_TEMPERATURE))
                total += loss.detach() * len(rows)
        return float(total) / len(order)

    @torch.no_grad()
    def _validate(self, held: NDArray[np.int64]) -> tuple[float | None, float | None]:
        """Return loss and accuracy on held-out images, in batches as in training."""
        if len(held) == 0:
            return None, None
        total = torch.zeros(2, device=self.device)
        for rows in batches(held, self.settings.batch_size):
            logits_bk, y_b = self._logits(rows)
            total[0] += self.loss(logits_bk, y_b) * len(rows)
            total[1] += (logits_bk.argmax(dim=1) == y_b).sum()
        loss, n_right = total.tolist()
        return loss / len(held), n_right / len(held)

    def _logits(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        residual = self.settings.residual
        image_bd = apply_layers(self.layers["image"], self.images.take(rows), residual)
        text_kd = apply_layers(self.layers["text"], self.text_emb_kd, residual)
        y_b = torch.from_numpy(self.y_n[rows]).to(self.device)
        # The b × k products are divided by the lengths: much less than scaling b × d.
        length_b1 = torch.linalg.vector_norm(image_bd, dim=1, keepdim=True)
        products_bk = image_bd @ functional.normalize(text_kd, dim=1).T
        return products_bk / length_b1 * self.log_scale.exp(), y_b

    def _check_finite(
        self, epoch: int, rate: float, loss: float, validation_loss: float | None
    ) -> None:
        bad = [value for value in (loss, validation_loss) if value is not None]
        bad = [value for value in bad if not math.isfinite(value)]
        if not bad and all(bool(w.isfinite().all()) for w in self._tensors()):
            return
        what = f"the loss was {bad[0]}" if bad else "the weights were not"
        raise InvalidInputError(
            f"Training must stay finite; {what} in epoch {epoch}, at learning rate {rate:g}. "
            "Lower `learning_rate`."
        )

    def _tensors(self) -> list[Tensor]:
        return [*self.layers["image"], *self.layers["text"], self.log_scale]

    def _copy(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self._tensors()]

    @torch.no_grad()
    def _restore(self, saved: list[Tensor]) -> None:
        for tensor, value in zip(self._tensors(), saved, strict=True):
            tensor.copy_(value)

    def temperature(self) -> float:
        """Return what cosines are divided by: learned, or the one given."""
        given = self.settings.temperature
        return math.exp(-float(self.log_scale.detach())) if given is None else float(given)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Return weight and bias of each layer by name."""
        layers = [*self.layers["image"], *self.layers["text"]]
        names = layer_names(len(layers) // 4)
        arrays = [layer.detach().cpu().numpy() for layer in layers]
        return dict(zip(names, arrays, strict=True))


class UnitRows:
    """Unit rows of embeddings on the device, by position."""

    def __init__(self, image_emb_nd: NDArray[Any], device: torch.device) -> None:
        self._image_emb_nd = keep_on(image_emb_nd, device)
        self._device = device

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        """Return some rows, each of unit length."""
        if is_on_device(self._image_emb_nd):
            unit_bd: Tensor = self._image_emb_nd.unit(rows).to(self._device)
            return unit_bd
        gathered = self._image_emb_nd[rows]
        return to_tensor(unit_block(gathered, slice(0, len(rows))), self._device)


def apply_layers(layers: Layers, x_bd: Tensor, residual: bool) -> Tensor:
    """Return A(x), not yet of unit length."""
    out_bd = functional.linear(x_bd, layers[0], layers[1])
    if len(layers) > 2:
        out_bd = functional.linear(functional.relu(out_bd), layers[2], layers[3])
    return x_bd + out_bd if residual else out_bd


def layer_names(n_layers: int) -> list[str]:
    """Return what the weights are called, in the order of `apply_layers` for each side."""
    parts = product(("image", "text"), range(n_layers), ("weight", "bias"))
    return [f"{side}.{i}.{kind}" for side, i, kind in parts]


def to_tensor(rows: NDArray[np.float32], device: torch.device) -> Tensor:
    """Share memory with an array where torch can: it wants a writable one, as if to write."""
    return torch.from_numpy(for_torch(rows)).to(device)


def batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Cut an order into batches, each sorted, as a disk likes to be read."""
    for start in range(0, len(order), size):
        yield np.sort(order[start : start + size])


def class_order(
    rng: np.random.Generator, y_n: NDArray[np.int64], *, smallest: int = 1
) -> NDArray[np.int64]:
    """Return positions class after class, in random order within each; skip small classes."""
    groups = group_by_class(y_n, int(y_n.max()) + 1)
    kept = [rng.permutation(group) for group in groups if len(group) >= smallest]
    return np.concatenate([np.empty(0, dtype=np.int64), *kept])


def split_rows(
    rng: np.random.Generator,
    rows: NDArray[np.int64],
    y_n: NDArray[np.int64],
    validation_fraction: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return training and validation rows; every class keeps an image to train on."""
    shared = class_order(rng, y_n[rows], smallest=2)
    n_held = min(round(validation_fraction * len(rows)), len(shared) // 2)
    # Evenly spaced in class order: the same share of each class, within one image. At
    # most every second is taken, so none of the classes is used up.
    places = ((np.arange(n_held) + 0.5) * len(shared) / max(n_held, 1)).astype(np.int64)
    held = np.zeros(len(rows), dtype=bool)
    held[shared[places]] = True
    return rows[~held], rng.permutation(rows[held])


@contextmanager
def threads_for(n_products: int) -> Iterator[None]:
    """Keep torch on one thread where a step is small work; put its setting back after.

    A step has some twenty parallel loops. Where each takes microseconds, threads wait for
    each other longer than they work, and on a busy machine 15 times as long. Limiting
    OpenMP from outside is not enough: torch's MKL has a setting of its own.
    """
    n_threads = torch.get_num_threads()
    if n_products >= SMALL_STEP or n_threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
