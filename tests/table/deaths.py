"""Ways for the making of a table to end before its time, and what it leaves."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from clip_al import ClipEncoder, EmbeddingTable


class Killed(BaseException):
    pass


def interrupt(monkeypatch, directory, folder, encoder, after):
    """Run `create` until `after` batches were encoded."""
    batches = ClipEncoder.iter_embeddings

    def some(self, *args, **kwargs):
        for i, batch in enumerate(batches(self, *args, **kwargs)):
            if i == after:
                raise Killed
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(ClipEncoder, "iter_embeddings", some)
        with pytest.raises(Killed):
            EmbeddingTable.create(directory, folder, encoder)


def let_die(patch, step):
    """Make every call that changes a file fail after the first `step` of them."""
    steps = iter(range(step))

    def mortal(function):
        def call(*args, **kwargs):
            if next(steps, None) is None:
                raise Killed
            return function(*args, **kwargs)

        return call

    patch.setattr(os, "fsync", mortal(os.fsync))
    for name in ("replace", "unlink", "touch", "mkdir"):
        patch.setattr(Path, name, mortal(getattr(Path, name)))


def wait_for(condition, seconds=500.0):  # to import torch on a machine that is busy otherwise
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def files(directory):
    return {file.name: file.read_bytes() for file in directory.iterdir()}
