"""GraNd: images with a long gradient early in training are the ones to keep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, grad, vmap

from benchmarks.training.networks import Network, in_float32
from benchmarks.training.training import to_input

BLOCK = 64
"""Gradients that are held at once: beyond the processor's cache each costs more."""


def grand_scores(
    models: Sequence[Network], images: NDArray[np.uint8], given_n: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the length of the gradient of each image's loss, averaged over networks.

    Parameters
    ----------
    models : sequence of Network
        Networks of different seeds, early in training; they are left as they are.
    images : ndarray of shape (n, h, w, 3), uint8
    given_n : ndarray of shape (n,), int64
        Labels, in [0, k).

    Returns
    -------
    ndarray of shape (n,), float64
        Mean of ‖∇ loss‖₂ over all weights. Highest kept first.

    Notes
    -----
    One forward and one backward pass an image and network, in float32 and eval mode; memory
    for 64 gradients.

    References
    ----------
    Paul, Ganguli and Dziugaite, "Deep Learning on a Data Diet: Finding Important Examples
    Early in Training", NeurIPS 2021, section 2 (GraNd).
    """
    lengths_rn = [
        torch.cat([grad_bp.norm(dim=1) for grad_bp in image_gradients(model, images, given_n)])
        for model in models
    ]
    scores_n: NDArray[np.float64] = torch.stack(lengths_rn).double().mean(0).cpu().numpy()
    return scores_n


def image_gradients(
    network: Network, images: NDArray[np.uint8], given_n: NDArray[np.int64]
) -> Iterator[Tensor]:
    """Yield the gradients of blocks of images, (b, p) float32, p being all weights in a row."""
    twin = in_float32(network)
    weights = {name: value.detach() for name, value in twin.named_parameters()}
    device = twin.head.weight.device

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(twin, weights, (x[None],)), y[None])

    gradients = vmap(grad(loss), (None, 0, 0))
    for start in range(0, len(images), BLOCK):
        x = to_input(torch.as_tensor(images[start : start + BLOCK], device=device))
        y = torch.as_tensor(given_n[start : start + BLOCK], device=device)
        with torch.no_grad():
            block = gradients(weights, x, y)
            yield torch.cat([value.flatten(1) for value in block.values()], 1)
