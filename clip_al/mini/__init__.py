"""The embedded CLIP "mini": its weights, with CARD.md and LICENSE; nothing is loaded here."""

from __future__ import annotations

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "weights"
"""What ``local-dir:`` takes: configuration, weights and byte-pair vocabulary."""

TOY = (
    "mini is a toy for trying out: it knows digits, plain shapes and ten kinds of thing at 32 "
    "pixels, as in CIFAR-10, and not what people photograph."
)
REAL_MODEL = (
    "For photos: `clip-al embed photos -o photos.table --model ViT-B-32 --pretrained "
    "laion2b_s34b_b79k`, which downloads 600 MB once; without a network `--model "
    "local-dir:FOLDER` (docs/offline.md)."
)
"""How to get another, on the command line."""


def is_mini(model_id: object) -> bool:
    """Return whether a model's id, or its name, is that of the toy.

    Examples
    --------
    >>> is_mini("mini@1a2b3c4d"), is_mini("ViT-B-32/openai@1a2b3c4d"), is_mini(None)
    (True, False, False)
    """
    return isinstance(model_id, str) and model_id.partition("@")[0] == "mini"
