"""A CLIP with random weights that encodes in no time, as fixtures for the folders that need it."""

from __future__ import annotations

import gzip
import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from clip_al import ClipEncoder

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


@pytest.fixture(scope="module", autouse=True)
def _on_one_thread(one_thread):
    """Everywhere here."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Name of a model of 32 × 32 pixels and width 16."""
    return write_tiny_clip(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def encoder(tiny):
    return ClipEncoder(tiny, batch_size=8, device="cpu")


@pytest.fixture
def folder(request, tmp_path):
    """A folder of noise, as many images as `N_IMAGES` of the module says."""
    home = tmp_path / "images"
    home.mkdir()
    for i in range(request.module.N_IMAGES):
        pixels = np.random.default_rng(i).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(home / f"{i:02}.png")
    return home
