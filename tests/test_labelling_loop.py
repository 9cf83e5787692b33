"""The loop of docs/labelling-loop.md, as it is printed there: stops, crashes, goes on, logs."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from clip_al.concepts.profiles import ConceptProfiles
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.encode.encoder import ClipEncoder
from clip_al.label.head.classifier import ClipClassifier
from clip_al.subset.selection import Selection

PAGE = Path(__file__).resolve().parents[1] / "docs" / "labelling-loop.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
N = 300
ENCODER = ClipEncoder("mini", progress=False)
WORDS = ["round", "loop", "line", "zero", "one", "two", "bright", "dark", "thin", "thick"]
TRUTH = load_digits().target[:N]


def block(containing):
    (found,) = [text for text in BLOCKS if containing in text]
    return found


def define():
    namespace = {}
    exec(compile(block("def label_in_rounds"), str(PAGE), "exec"), namespace)
    return namespace


LOOP = define()


@pytest.fixture(scope="module")
def pool(mini):
    images = np.round(load_digits().images[:N] * (255 / 16)).astype(np.uint8)
    Z = mini.encode_images(images)
    return Z, ConceptProfiles.from_embeddings(
        Z, ConceptVocabulary.from_names(WORDS).encode(mini), 3
    )


def make_head():
    return ClipClassifier(class_names=[f"digit {i}" for i in range(10)], encoder=ENCODER)


def answer(indices):
    return TRUTH[indices]


def label(pool, folder, ask=answer, **settings):
    settings = {"batch": 20, "budget": 120, "log": lambda *_: None, **settings}
    return LOOP["label_in_rounds"](*pool, make_head(), ask, folder, **settings)


@pytest.fixture(scope="module")
def whole(pool, tmp_path_factory):
    """What comes out where nothing goes wrong."""
    return label(pool, tmp_path_factory.mktemp("whole"), batch=20, budget=110)


def label_110(pool, folder, ask=answer, **settings):
    return label(pool, folder, ask, batch=20, budget=110, **settings)


def test_rounds_spend_the_budget_on_different_images(whole, pool):
    assert [len(done) for done in whole] == [20, 20, 20, 20, 20, 10]
    known = np.concatenate([done.indices for done in whole])
    assert len(set(known.tolist())) == 110
    for done in whole:
        assert done.settings["labels"] == TRUTH[done.indices].tolist()
    assert (whole[0].scores["likeliest"] == TRUTH).mean() > 0.8  # zero-shot
    assert (whole[-1].scores["likeliest"] == TRUTH).mean() > 0.8
    measures = [done.settings["measures"] for done in whole]
    assert set(measures[0]) == {"added_concepts"}
    changed = np.mean(whole[3].scores["likeliest"] != whole[2].scores["likeliest"])
    assert measures[3]["changed_predictions"] == changed > 0


def test_each_round_is_saved_as_it_was_returned(pool, tmp_path):
    rounds = label_110(pool, tmp_path)
    saved = [Selection.load(path) for path in sorted(tmp_path.glob("*.json"))]
    assert saved == rounds


@pytest.mark.parametrize("crash_at", [1, 2, 4, 6])
def test_a_loop_that_was_stopped_goes_on_to_the_same_picks(pool, whole, tmp_path, crash_at):
    asked = []

    def ask(indices):
        asked.append(indices)
        if len(asked) == crash_at:
            raise ConnectionError("gone")
        return TRUTH[indices]

    with pytest.raises(ConnectionError):
        label_110(pool, tmp_path, ask)
    assert len(list(tmp_path.glob("*.json"))) == crash_at - 1
    assert label_110(pool, tmp_path, ask) == whole
    # Nobody is asked again for what was answered, and the unanswered is asked again.
    np.testing.assert_array_equal(asked[crash_at - 1], asked[crash_at])
    assert len(asked) == len(whole) + 1


def test_an_interrupt_between_picking_and_saving(pool, whole, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Selection, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            label_110(pool, tmp_path)
    assert label_110(pool, tmp_path) == whole


def test_a_crash_in_the_middle_of_saving(pool, whole, tmp_path):
    label(pool, tmp_path, batch=20, budget=60)
    (tmp_path / "0002.json").unlink()  # the arrays are there, the text is not yet
    (tmp_path / "0002.npz").write_bytes(b"half")
    (tmp_path / "0002.json.tmp").write_text("{")
    assert label_110(pool, tmp_path) == whole


KILLED = """
import os, signal, sys
import clip_al
from tests import test_labelling_loop as loop

Z, names = loop.np.load("Z.npy"), loop.WORDS
vocabulary = loop.ConceptVocabulary.from_names(names).encode(clip_al.ClipEncoder("mini"))
pool = Z, loop.ConceptProfiles.from_embeddings(Z, vocabulary, 3)
asked = []

def ask(indices):
    asked.append(indices)
    if len(asked) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return loop.TRUTH[indices]

loop.label_110(pool, "rounds", ask)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_process_loses_nothing(pool, whole, tmp_path):
    np.save(tmp_path / "Z.npy", pool[0])
    code = f"import sys; sys.path.insert(0, {str(PAGE.parents[1])!r})\n{KILLED}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=200, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert len(list((tmp_path / "rounds").glob("*.json"))) == 3
    assert label_110(pool, tmp_path / "rounds") == whole


def test_a_finished_loop_asks_nobody_and_logs_all_rounds(pool, tmp_path):
    logged, again = [], []
    label_110(pool, tmp_path, log=lambda *entry: logged.append(entry))
    label_110(pool, tmp_path, pytest.fail, log=lambda *entry: again.append(entry))
    assert logged == again
    assert [step for step, _ in logged] == list(range(6))


def test_a_larger_budget_goes_on(pool, whole, tmp_path):
    label(pool, tmp_path, batch=20, budget=40)
    assert label_110(pool, tmp_path) == whole


def test_the_pool_may_be_smaller_than_the_budget(pool, tmp_path):
    Z, profiles = pool
    few = (Z[:50], profiles.take(np.arange(50)))
    rounds = label(few, tmp_path, batch=20, budget=1000)
    assert sorted(np.concatenate([done.indices for done in rounds])) == list(range(50))


def rounds_of(*measures):
    return [
        Selection.from_indices([0], 5, settings={"measures": {"added_concepts": a} | (
            {} if c is None else {"changed_predictions": c})})
        for a, c in measures
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("measures", "expected"),
    [
        ([], False),
        ([(0, 0.0)], False),  # one round is not enough
        ([(0, 0.0), (2, 0.009)], True),
        ([(0, 0.0), (3, 0.0)], False),  # still adds concepts
        ([(0, 0.0), (0, 0.01)], False),  # still changes its mind
        ([(0, None), (0, 0.0)], False),  # nothing to compare with yet
        ([(9, 0.5), (1, 0.001), (0, 0.0)], True),  # only the last count
        ([(0, 0.0), (0, 0.0), (9, 0.5)], False),
    ],
)
def test_when_it_is_settled(measures, expected):
    assert LOOP["settled"](rounds_of(*measures)) is expected


def test_the_loop_stops_where_it_is_settled(pool, tmp_path):
    rounds = label(pool, tmp_path, batch=30, budget=N)
    assert LOOP["settled"](rounds)
    assert not LOOP["settled"](rounds[:-1])
    assert sum(map(len, rounds)) < N


def logged_by(containing, pool, folder, monkeypatch):
    """Run a block of the page on the finished rounds of the small pool."""
    monkeypatch.chdir(folder)
    rounds = label_110(pool, "rounds")
    names = {**define(), "Z": pool[0], "profiles": pool[1], "truth": TRUTH, "Path": Path}
    names["head"] = make_head()
    exec(compile(block(containing), str(PAGE), "exec"), names)
    extended = [Selection.load(path) for path in sorted(Path("rounds").glob("*.json"))]
    assert extended[: len(rounds)] == rounds
    return [done.settings["measures"] for done in extended]


def test_what_tensorboard_is_told(pool, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    measures = logged_by("SummaryWriter", pool, tmp_path, monkeypatch)
    events = EventAccumulator("logs").Reload()
    for name in ("added_concepts", "changed_predictions"):
        shown = {event.step: event.value for event in events.Scalars(name)}
        assert shown == pytest.approx({i: m[name] for i, m in enumerate(measures) if name in m})


def test_what_mlflow_is_told(pool, tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    try:
        measures = logged_by("import mlflow", pool, tmp_path, monkeypatch)
        client = mlflow.MlflowClient()
        (run,) = client.search_runs(["0"])
        for name in ("added_concepts", "changed_predictions"):
            history = client.get_metric_history(run.info.run_id, name)
            shown = {metric.step: metric.value for metric in history}
            assert shown == {i: m[name] for i, m in enumerate(measures) if name in m}
        stored = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert {f"{i:04d}.{end}" for i in range(len(measures)) for end in ("json", "npz")} <= stored
    finally:
        mlflow.set_tracking_uri(before)
