"""A CLIP with random weights that encodes in no time."""

from __future__ import annotations

import gzip
import json

import open_clip
import torch
from safetensors.torch import save_file

SIDE = 32
MERGES = "#version\nd o\ndo g</w>"


def write_tiny_clip(folder, seed=0, bpe=True):
    """Write a CLIP with random weights and three words' worth of a vocabulary."""
    n_tokens = 2 * 256 + 2 + 2 if bpe else 49408
    config = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": SIDE, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16,
        },
        "text_cfg": {
            "context_length": 12, "vocab_size": n_tokens, "width": 16, "heads": 1, "layers": 1,
        },
    }  # fmt: skip
    folder.mkdir(parents=True)
    file = {"model_cfg": config, "preprocess_cfg": {"size": SIDE, "mean": [0.5, 0.4, 0.3]}}
    (folder / "open_clip_config.json").write_text(json.dumps(file))
    torch.manual_seed(seed)
    state = open_clip.CLIP(**config).state_dict()
    save_file(state, folder / "open_clip_model.safetensors")
    if bpe:
        (folder / "bpe_merges.txt.gz").write_bytes(gzip.compress(MERGES.encode(), mtime=0))
    return f"local-dir:{folder}"
