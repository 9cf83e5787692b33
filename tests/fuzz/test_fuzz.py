"""Every public callable, called with right and broken values.

A right result or an error of ours: never an IndexError or the like, a hang or a crash. With
CLIP_AL_FUZZ=20000 in the environment, as many inputs are tried.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import clip_al
from clip_al.arrays.checks import check_indices
from tests.fuzz import run
from tests.fuzz.calls import Call
from tests.fuzz.targets import TARGETS

DEFAULT = 2_000
COUNT = int(os.environ.get("CLIP_AL_FUZZ", DEFAULT))
SPECIAL = ("__call__", "__add__")
PARTS = ("clip_al.score.scaling", "clip_al.handed_in.several_labels")
"""Modules of which public modules show functions."""
MORE = {
    "files.load_npy": "of the tables that all files are read by",
    "check_shards": "guards training in several processes",
    "SelectedSubsetSampler.load_state_dict": "of its iterator",
    "DistributedSelectedSubsetSampler.load_state_dict": "of its iterator",
}


def methods_of(cls):
    """Names of the methods that are written in clip_al, of a class or of its bases."""
    for name in dir(cls):
        owner = next((base for base in cls.__mro__ if name in vars(base)), object)
        value = inspect.getattr_static(cls, name)
        is_method = inspect.isfunction(value) or isinstance(value, classmethod | staticmethod)
        public = not name.startswith("_") or name in SPECIAL
        if public and is_method and owner.__module__.startswith("clip_al."):
            yield name


def callables_of(name, value):
    """Names of what can be called of one public name: itself, its methods, its functions."""
    if inspect.isclass(value):
        yield name
        yield from (f"{name}.{method}" for method in methods_of(value))
    elif inspect.ismodule(value):
        own = getattr(value, "__all__", None) or [
            part
            for part, found in vars(value).items()
            if not part.startswith("_")
            and callable(found)
            and getattr(found, "__module__", "")
            in (value.__name__, "clip_al.score.scaling", "clip_al.handed_in.several_labels")
        ]
        for part in own:
            yield from callables_of(f"{name}.{part}", getattr(value, part))
    else:
        yield name


def public_callables():
    return {c for name in clip_al.__all__ for c in callables_of(name, getattr(clip_al, name))}


def test_every_public_callable_is_called():
    public = public_callables() - {"EmbeddingTable"}  # `create`, `from_array`, `open` make them
    assert public - set(TARGETS) == set()
    assert set(TARGETS) - public <= set(MORE)
    assert len(public) > 130


def test_a_new_public_callable_is_noticed(monkeypatch):
    monkeypatch.setattr(clip_al.Selection, "rotate", lambda self: self, raising=False)
    clip_al.Selection.rotate.__module__ = "clip_al.subset.selection"
    assert "Selection.rotate" in public_callables() - set(TARGETS)


def failing(call):
    try:
        call()
    except Exception as error:
        return run.outcome_of_error(error)
    return "no error"


@pytest.mark.parametrize(
    ("call", "outcome"),
    [
        (lambda: [][3], "FAILED"),
        (lambda: np.zeros(3)[9], "FAILED"),
        (lambda: {}["a"], "FAILED"),
        (lambda: np.array([[1], [1, 2]]), "FAILED"),
        (lambda: (3).x, "FAILED"),
        (lambda: np.arange(10) @ np.arange(9), "FAILED"),
        (lambda: check_indices([9], 3), "our error"),
        (lambda: clip_al.SelectionOptimizer(0.5).select("text"), "our error"),
        (lambda: clip_al.ClipSelector().select(), "not fitted"),
    ],
)
def test_only_errors_of_ours_pass(call, outcome):
    assert failing(call) == outcome


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        (Call(lambda s, a: a["x"].sort(), {}, {"x": np.array([2, 1])}), "FAILED"),  # modified
        (Call(lambda s, a: np.random.default_rng().random(3), {}, {}), "FAILED"),  # not repeated
        (Call(lambda s, a: a["x"][7], {}, {"x": [1]}), "FAILED"),
        (Call(lambda s, a: check_indices(a["x"], 3), {}, {"x": [7]}), "FAILED"),  # right, refused
        (Call(lambda s, a: 2, {}, {}, check=lambda result: result / 0), "FAILED"),
        (Call(lambda s, a: 2, {}, {"x": [1, 2]}), "right"),
    ],
)
def test_what_is_wrong_is_noticed(monkeypatch, made, outcome):
    monkeypatch.setattr(run, "inputs", lambda world, index: ("made", made, [], True))
    assert run.attempt(None, 0)[1] == outcome


def call_in_a_process(tmp_path, *arguments):
    """Return the exit code and what was reported; the number of the last input stands in a log."""
    log, report = tmp_path / "log", tmp_path / "report"
    command = [sys.executable, "-m", "tests.fuzz.run", "--log", log, "--report", report]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    last = log.read_text().split()[-1] if log.read_text() else "none"
    return done, lines, last


@pytest.mark.timeout(60 + COUNT)
def test_a_right_result_or_an_error_of_ours(tmp_path, capsys):
    before = set(Path.cwd().iterdir())
    done, lines, last = call_in_a_process(tmp_path, "--count", str(COUNT))
    assert set(Path.cwd().iterdir()) - before <= {Path.cwd() / ".pytest_cache"}
    assert done.returncode in (0, 1), (
        f"input {last} ended the process: python -m tests.fuzz.run --only {last}\n"
        f"{done.stderr[-3000:]}"
    )
    failures = [f"{line['index']} {line['target']}\n{line['why']}" for line in lines[:-1]]
    assert not failures, "\n".join(failures[:5])
    counts, targets = lines[-1]["counts"], lines[-1]["targets"]
    with capsys.disabled():
        print(f"\n{sum(counts.values())} inputs of {len(targets)} callables: {counts}")
    # The generators make right values, and what they break is noticed.
    assert counts["right"] > COUNT // 5
    assert counts["our error"] > COUNT // 5
    assert [name for name, found in targets.items() if not found.get("right")] == []
