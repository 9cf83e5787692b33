"""Small networks for 32 × 32 images, quick to train on one processor core.

Three families that share nothing but their interface: plain convolutions, residual
convolutions, and attention. Nothing is pretrained: a subset is worth what they learn from it.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ClassVar, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

PROCESSOR_HAS_BFLOAT16 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
"""Without AVX-512 torch emulates bfloat16, and convolutions take seven times as long."""


class Network(nn.Module):
    """A classifier of images: `features`, then the linear layer `head`.

    Attributes
    ----------
    peak : float
        The highest learning rate, where the caller of a training does not say another.
    adaptive : bool
        Whether it is trained by AdamW; by SGD with Nesterov's momentum otherwise.
    low_precision : bool
        Whether features are computed in bfloat16 where the device has it. `in_float32` makes
        a copy without.
    head : nn.Linear
        From f features to k logits, always in float32.
    """

    peak: ClassVar[float] = 0.1
    adaptive: ClassVar[bool] = False
    low_precision: bool = True
    head: nn.Linear

    def features(self, x: Tensor) -> Tensor:
        """Map images (b, 3, h, w), as `training.to_input` makes them, to float32 (b, f)."""
        if self.low_precision:
            x = x.contiguous(memory_format=torch.channels_last)
        with self._precision(x.device.type):
            pooled = self._pool(x)
        return pooled.float()

    def forward(self, x: Tensor) -> Tensor:
        """Map images (b, 3, h, w) to float32 logits (b, k)."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def _pool(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _precision(self, device: str) -> AbstractContextManager[object]:
        at_hand = PROCESSOR_HAS_BFLOAT16 or device != "cpu"
        return torch.autocast(device, torch.bfloat16, enabled=self.low_precision and at_hand)


class SmallCNN(Network):
    """Three convolutions with batch normalisation and pooling; f = 4 × width.

    It computes in channels last, and in bfloat16 where the processor has it: twice as fast.
    """

    def __init__(self, n_classes: int = 10, width: int = 16) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(n_out),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], n_classes)
        self.to(memory_format=torch.channels_last)

    def _pool(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.body(x).mean((2, 3))
        return pooled


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut, which is projected where the shape changes."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, n_in, h, w) to (b, n_out, h / stride, w / stride)."""
        return F.relu(self.residual(x) + self.shortcut(x))


class SmallResNet(Network):
    """ResNet-8: a stem, three basic blocks of widths w, 2w, 4w, and the mean; f = 4 × width.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2, with
    n = 1 and projected shortcuts. The stem has stride 2 where theirs has 1: a quarter of the
    work, for networks that are trained by the hundred on one core.
    """

    def __init__(self, n_classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            BasicBlock(width, width, 1),
            BasicBlock(width, 2 * width, 2),
            BasicBlock(2 * width, 4 * width, 2),
        )
        self.head = nn.Linear(4 * width, n_classes)
        self.to(memory_format=torch.channels_last)

    def _pool(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.body(x).mean((2, 3))
        return pooled


class Attention(nn.Module):
    """Self-attention of several heads.

    Written out, because torch's fused kernel has no batching rule for derivatives of single
    images, which GraNd and MoSo take; at 16 tokens it trains as fast.
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (b, t, width) to the same shape."""
        b, t, width = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (width // self.n_heads) ** -0.5).softmax(-1)
        mixed: Tensor = self.out((weights @ v).transpose(1, 2).reshape(b, t, width))
        return mixed


class TransformerBlock(nn.Module):
    """Attention and a perceptron twice as wide, each normalised before and added after."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(width), Attention(width, n_heads))
        self.think = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (b, t, width) to the same shape."""
        x = x + self.attend(x)
        thought: Tensor = x + self.think(x)
        return thought


class SmallViT(Network):
    """A vision transformer with learned positions and the mean over tokens; f = width.

    Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, section 3.1, with the mean
    in place of a class token and perceptrons twice, not four times, as wide: a quarter less
    work. It computes in float32, which is faster here than bfloat16.

    Raises
    ------
    ValueError
        Where `image_size` is not a multiple of `patch`.
    """

    peak = 1e-3
    adaptive = True
    low_precision = False

    def __init__(
        self,
        n_classes: int = 10,
        width: int = 96,
        *,
        depth: int = 3,
        n_heads: int = 4,
        patch: int = 8,
        image_size: int = 32,
    ) -> None:
        super().__init__()
        if image_size % patch:
            raise ValueError(
                f"`image_size` must be a multiple of the patch, {patch}; got {image_size}. "
                "Resize the images."
            )
        self.patch = patch
        self.embed = nn.Linear(3 * patch**2, width)
        self.positions = nn.Parameter(torch.empty((image_size // patch) ** 2, width))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.blocks = nn.Sequential(*(TransformerBlock(width, n_heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_classes)

    def _pool(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        p = self.patch
        patches = x.reshape(b, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5)
        tokens = self.embed(patches.reshape(b, -1, c * p * p)) + self.positions
        pooled: Tensor = self.norm(self.blocks(tokens)).mean(1)
        return pooled


N = TypeVar("N", bound=nn.Module)

NETWORKS: dict[str, Callable[[int, int], Network]] = {
    "cnn": lambda k, _: SmallCNN(k),
    "cnn-wide": lambda k, _: SmallCNN(k, width=32),
    "resnet": lambda k, _: SmallResNet(k),
    "resnet-wide": lambda k, _: SmallResNet(k, width=32),
    "vit": lambda k, size: SmallViT(k, image_size=size),
}
"""Name to network, given the number of classes and the height of its square images."""


def make_network(name: str, n_classes: int, *, seed: int, image_size: int = 32) -> Network:
    """Return a new network; `seed` draws its weights and touches no other random state.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.
    n_classes : int
        Width of the logits.
    seed : int
        Of the weights.
    image_size : int
        Height and width of the images. A transformer takes no other; the rest do.
    """
    if name not in NETWORKS:
        raise ValueError(f"`name` must be one of {', '.join(NETWORKS)}; got {name!r}.")
    return seeded(lambda: NETWORKS[name](n_classes, image_size), seed)


def seeded(build: Callable[[], N], seed: int) -> N:
    """Build a module whose weights are drawn from `seed`; other random state is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def in_float32(network: Network) -> Network:
    """Return a copy in eval mode that computes in float32 throughout, for derivatives."""
    twin = copy.deepcopy(network).eval()
    twin.low_precision = False
    return twin
