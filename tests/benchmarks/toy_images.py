"""Pictures that a small network learns in a few steps, and threads that do not wait."""

from __future__ import annotations

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads gain nothing on such networks, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def colours(n, seed=0, k=3, size=16):
    """Noisy pictures (n, size, size, 3), each class of a colour of its own."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    images = rng.integers(0, 120, (n, size, size, 3), dtype=np.uint8)
    images[np.arange(n), :, :, y] += 100
    return images, y
