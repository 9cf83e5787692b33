"""The operators of the plugin, run by FiftyOne's own executor, without a browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import clip_al
from clip_al.errors import MissingDependencyError
from clip_al.table.embedding_table import EmbeddingTable

NAMES = ["digit 0", "digit 1", "digit 4"]
N, WRONG = 60, (4, 20)
SELECT, SUSPECTS = "@clip_al/batches/select_next_batch", "@clip_al/batches/find_suspects"


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """Import fiftyone with a database and a folder of plugins of its own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("fiftyone")
        plugins = folder / "plugins"
        plugins.mkdir()
        (plugins / "clip_al").symlink_to(Path(clip_al.__file__).parent / "fiftyone_plugin")
        patch.setenv("FIFTYONE_DATABASE_DIR", str(folder / "db"))
        patch.setenv("FIFTYONE_CONFIG_PATH", str(folder / "config.json"))
        patch.setenv("FIFTYONE_PLUGINS_DIR", str(plugins))
        patch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
        patch.setenv("FIFTYONE_SHOW_PROGRESS_BARS", "false")
        fiftyone = pytest.importorskip("fiftyone", reason="needs clip_al[fiftyone] and a MongoDB")
        patch.setattr(fiftyone.config, "plugins_dir", str(plugins))
        try:
            fiftyone.list_datasets()
        except Exception as exc:
            pytest.skip(f"FiftyOne finds no MongoDB server: {type(exc).__name__}")
        yield fiftyone


@pytest.fixture(scope="module")
def photos(host, tmp_path_factory, mini):
    """Embed digits of three classes; return the table's folder, and the class of each image."""
    folder = tmp_path_factory.mktemp("photos")
    digits = load_digits()
    rows = np.flatnonzero(np.isin(digits.target, [0, 1, 4]))[:N]
    for i, row in enumerate(rows):
        pixels = np.round(digits.images[row] * (255 / 16)).astype(np.uint8)
        (folder / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "images" / f"{i:02d}.png")
    EmbeddingTable.create(folder / "t", folder / "images", mini)
    return folder / "t", [f"digit {digits.target[row]}" for row in rows]


@pytest.fixture
def dataset(host, photos):
    dataset = host.Dataset()
    paths = EmbeddingTable.open(photos[0]).paths
    order = np.random.default_rng(0).permutation(N)
    dataset.add_samples([host.Sample(filepath=paths[i]) for i in order])
    yield dataset
    dataset.delete()


def label(host, dataset, photos, rows, wrong=()):
    """Label the samples of some rows of the table."""
    paths = EmbeddingTable.open(photos[0]).paths
    for i in rows:
        name = photos[1][i]
        if i in wrong:
            name = NAMES[(NAMES.index(name) + 1) % 3]
        sample = dataset[paths[i]]
        sample["ground_truth"] = host.Classification(label=name)
        sample.save()


def execute(operator, dataset, **params):
    from fiftyone.operators import execute_operator

    return execute_operator(operator, {"dataset": dataset, "params": params})


def test_fiftyone_finds_the_plugin_and_its_operators(host):
    from fiftyone.operators import list_operators
    from fiftyone.plugins import list_plugins

    assert "@clip_al/batches" in [plugin.name for plugin in list_plugins()]
    assert {SELECT, SUSPECTS} <= {operator.uri for operator in list_operators()}


def test_forms_ask_for_what_the_operators_need(host):
    from fiftyone.operators import get_operator

    for uri, own in ((SELECT, "budget"), (SUSPECTS, "n")):
        form = get_operator(uri).resolve_input(None).to_json()
        assert {"table", "label_field", "classes", own} == set(form["type"]["properties"])
        shown = get_operator(uri).resolve_output(None).to_json()
        assert list(shown["type"]["properties"]) == ["said"]


def test_a_first_batch_by_the_class_names_then_one_by_the_labels(host, dataset, photos):
    table = str(photos[0])
    result = execute(SELECT, dataset, table=table, budget=6, classes=", ".join(NAMES))
    assert result.result["said"] == "6 of 60 samples without a label, by the class names alone."
    first = dataset.match_tags("to label")
    assert len(first) == 6
    assert sorted(first.values("clip_al_rank")) == [1, 2, 3, 4, 5, 6]
    assert set(first.values("clip_al_prediction.label")) <= set(NAMES)
    paths = EmbeddingTable.open(table).paths.tolist()
    done = [paths.index(path) for path in first.values("filepath")]
    label(host, dataset, photos, done)
    label(host, dataset, photos, map(photos[1].index, NAMES))  # each class has a label
    n = len(dataset.exists("ground_truth"))
    result = execute(SELECT, dataset, table=table, budget=5, classes=", ".join(NAMES))
    assert (
        f"5 of {N - n} samples without a label, by a head trained on {n} labels"
        in (result.result["said"])
    )
    second = dataset.match_tags("to label")
    assert len(second) == 5
    assert second.values("ground_truth") == [None] * 5
    assert len(dataset.exists("clip_al_rank")) == 5


def test_wrong_labels_are_found(host, dataset, photos):
    label(host, dataset, photos, range(N), wrong=WRONG)
    result = execute(SUSPECTS, dataset, table=str(photos[0]), n=2)
    assert result.result["said"] == "2 of 60 labels, the likeliest to be wrong first."
    paths = EmbeddingTable.open(photos[0]).paths
    found = dataset.match_tags("suspect")
    assert set(found.values("filepath")) == {paths[i] for i in WRONG}
    given, likelier = found.values(["clip_al_suspect_given", "clip_al_suspect_likelier"])
    assert given == found.values("ground_truth.label")
    rows = [paths.tolist().index(path) for path in found.values("filepath")]
    assert likelier == [photos[1][i] for i in rows]


def test_only_samples_of_the_dataset_are_picked(host, photos):
    paths = EmbeddingTable.open(photos[0]).paths
    dataset = host.Dataset()
    try:
        dataset.add_samples([host.Sample(filepath=path) for path in paths[:8]])
        dataset.default_classes = NAMES
        execute(SELECT, dataset, table=str(photos[0]), budget=8)
        assert sorted(dataset.match_tags("to label").values("filepath")) == sorted(paths[:8])
    finally:
        dataset.delete()


@pytest.mark.parametrize(
    ("operator", "params", "message"),
    [
        (SELECT, {"budget": 70, "classes": "a,b"}, r"`budget` must be in \[1, 60\]"),
        (SELECT, {"budget": 2, "classes": "a"}, "`classes` must name two classes or more"),
        (SUSPECTS, {"n": 2, "classes": "a,b"}, r"`n` must be in \[1, 0\], the samples that have"),
        (SELECT, {"budget": 2, "table": "nowhere", "classes": "a,b"}, "must hold a table"),
    ],
)
def test_what_does_not_fit_is_said_in_the_app(host, dataset, photos, operator, params, message):
    with pytest.raises(Exception, match=message):
        execute(operator, dataset, **{"table": str(photos[0]), **params})
    assert dataset.count_sample_tags() == {}


def test_a_table_of_other_images_is_refused(host, dataset, tmp_path):
    EmbeddingTable.from_array(tmp_path / "t", np.eye(2), ["a", "b"], model_id="mini@0")
    with pytest.raises(Exception, match="Samples must be of the table"):
        execute(SELECT, dataset, table=str(tmp_path / "t"), budget=1, classes="a,b")


def test_without_fiftyone_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "fiftyone", None)
    monkeypatch.setitem(sys.modules, "fiftyone.operators", None)
    monkeypatch.delitem(sys.modules, "clip_al.fiftyone_plugin", raising=False)
    with pytest.raises(MissingDependencyError, match=r'pip install "clip_al\[fiftyone\]"'):
        import clip_al.fiftyone_plugin  # noqa: F401
