"""Fixtures that several test modules share, and how hypothesis runs."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import settings

from tests.reference import make_vocabulary, random_probabilities, random_unit

# No deadline: the first call of a compiled loop includes its compilation. No database and
# no randomness: every run is the same run.
settings.register_profile(
    "clip_al", deadline=None, derandomize=True, database=None, max_examples=30
)
settings.load_profile("clip_al")


LONG = ("slow", "ray")
MOST_PROCESSES = 4  # each holds torch and the package, about 1 GiB


def is_whole_suite(config) -> bool:
    """Return whether no file and no folder was named."""
    return config.args_source is config.ArgsSource.TESTPATHS


def pytest_xdist_auto_num_workers(config):
    """Share the whole suite among processes, each with one thread; run a named part in one."""
    if not is_whole_suite(config):
        return 0
    config.option.dist = "worksteal"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    asked = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS")
    return int(asked) if asked else min(MOST_PROCESSES, os.cpu_count() or 1)


def pytest_collection_modifyitems(config, items):
    """Leave out what takes long where nothing was asked for, neither a path nor a marker."""
    if not is_whole_suite(config) or config.option.markexpr or config.option.keyword:
        return
    long = [item for item in items if any(item.get_closest_marker(name) for name in LONG)]
    if long:
        items[:] = [item for item in items if item not in set(long)]
        config.hook.pytest_deselected(items=long)


@pytest.fixture(scope="module")
def one_thread():
    """Threads gain nothing on small networks, and wait for each other on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def mini():
    """The encoder that ships with the package."""
    from clip_al import ClipEncoder

    return ClipEncoder("mini", device="cpu", progress=False)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def Z():
    """Unit embeddings of a pool of 60 images."""
    return random_unit(np.random.default_rng(1), 60, 12)


@pytest.fixture
def vocabulary():
    """Forty concepts, encoded by a model called "toy"."""
    return make_vocabulary(random_unit(np.random.default_rng(2), 40, 12), "toy")


@pytest.fixture
def profiles(Z, vocabulary):
    from clip_al.concepts.profiles import ConceptProfiles

    return ConceptProfiles.from_embeddings(Z, vocabulary, 6)


@pytest.fixture
def probabilities():
    """Of the pool `Z`, over 4 classes."""
    return random_probabilities(np.random.default_rng(3), 60, 4)
