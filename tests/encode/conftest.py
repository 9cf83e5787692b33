"""The small encoder that all tests of this folder use."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clip_al import ClipEncoder
from tests.encode.tiny_clip import write_tiny_clip


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread):
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
