"""A pretrained network: the image tower of a CLIP model, with a new linear layer on top."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from benchmarks.training.networks import Network
from benchmarks.training.training import MEAN, STD
from clip_al.encode.clip_models import LoadedClip


class ImageTower(Network):
    """The image tower of a CLIP model, all of it to be trained; f is its embedding's width.

    It takes images of any size as `training.to_input` makes them, and enlarges them to the
    tower's own. The linear layer starts at 0, so that only the images decide what it becomes.

    Parameters
    ----------
    model, pretrained : str, str or None
        As `ClipEncoder` takes them. The weights are loaded anew for each network.
    n_classes : int
        Width of the logits.
    """

    peak = 3e-4
    adaptive = True
    low_precision = False

    def __init__(self, model: str, pretrained: str | None, n_classes: int) -> None:
        super().__init__()
        loaded = LoadedClip(model, pretrained, "cpu", "fp32")
        self.tower: nn.Module = loaded.model.visual.requires_grad_(True)
        self.size = tuple(loaded.image_size)
        self.register_buffer("mean_c", loaded.mean_c)
        self.register_buffer("std_c", loaded.std_c)
        self.head = nn.Linear(loaded.width, n_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def _pool(self, x: Tensor) -> Tensor:
        pixels = F.interpolate(x * STD + MEAN, self.size, mode="bicubic", align_corners=False)
        mean_c, std_c = self.get_buffer("mean_c"), self.get_buffer("std_c")
        # An embedding's length says nothing in CLIP; at unit length times its root the layer's
        # first steps are as large as those of a network with normalised features.
        unit: Tensor = F.normalize(self.tower((pixels.clamp(0, 1) - mean_c) / std_c), dim=1)
        scaled: Tensor = unit * unit.shape[1] ** 0.5
        return scaled
