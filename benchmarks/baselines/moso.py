"""MoSo: images whose gradient agrees with the rest of them, all along the training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.baselines.grand import image_gradients
from benchmarks.training.networks import Network, in_float32
from benchmarks.training.training import to_input


def moso_scores(
    checkpoints: Sequence[tuple[float, Network]],
    images: NDArray[np.uint8],
    given_n: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Approximate how much the loss of the rest rises when an image is moved out.

    Parameters
    ----------
    checkpoints : sequence of (float, Network)
        Learning rates η_t and networks w_t, at even distances along one training; they are
        left as they are.
    images : ndarray of shape (n, h, w, 3), uint8
        At least two.
    given_n : ndarray of shape (n,), int64
        Labels, in [0, k).

    Returns
    -------
    ndarray of shape (n,), float64
        Highest kept first. An image that pulls against the rest has a negative score.

    Notes
    -----
    With g_z the gradient of image z at w_t, and ḡ the mean gradient of all n,

        score(z) = mean_t η_t ⟨(n ḡ − g_z) / (n − 1), g_z⟩

    The constant T/n of the paper is left out: it changes no order. The product with the mean
    of all alone would need one forward pass in forward mode, but ‖g_z‖² / (n − 1) counts
    where ḡ is short, as it is late in training. So two passes for each checkpoint, in
    float32 and eval mode: one for ḡ, one for the gradients of single images, 64 at a time.
    The paper splits the images over several networks, each scoring its own part; here one
    network sees all of them.

    References
    ----------
    Tan et al., "Data Pruning via Moving-one-Sample-out", NeurIPS 2023, equation 4.
    """
    n = len(images)
    scores_n = np.zeros(n)
    for rate, network in checkpoints:
        mean_p = mean_gradient(network, images, given_n)
        products = [
            (n * (grad_bp @ mean_p) - grad_bp.square().sum(1)) / (n - 1)
            for grad_bp in image_gradients(network, images, given_n)
        ]
        scores_n += rate / len(checkpoints) * torch.cat(products).double().cpu().numpy()
    return scores_n


def mean_gradient(
    network: Network, images: NDArray[np.uint8], given_n: NDArray[np.int64], block: int = 500
) -> Tensor:
    """Return the gradient of the mean loss over all images, (p,) float32."""
    twin = in_float32(network)
    device = twin.head.weight.device
    total_p = torch.zeros((), device=device)
    for start in range(0, len(images), block):
        x = to_input(torch.as_tensor(images[start : start + block], device=device))
        y = torch.as_tensor(given_n[start : start + block], device=device)
        loss = F.cross_entropy(twin(x), y, reduction="sum") / len(images)
        parts = torch.autograd.grad(loss, list(twin.parameters()))
        total_p = total_p + torch.cat([part.flatten() for part in parts])
    return total_p
