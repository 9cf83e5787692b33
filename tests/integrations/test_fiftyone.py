"""A selection in a FiftyOne dataset: fields, tags, views, and tags back as positions."""

from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from clip_al import CBDMarginSampling, ClipSelector, Selection
from clip_al.errors import InvalidInputError, InvalidTypeError, MissingDependencyError
from clip_al.integrations import fiftyone_files
from clip_al.integrations.annotations import PreLabel
from clip_al.integrations.fiftyone import (
    add_picks,
    add_pre_labels,
    add_selection,
    read_annotations,
    tagged,
)
from clip_al.integrations.fiftyone_files import dataset_of, write_samples
from clip_al.table.embedding_table import EmbeddingTable
from tests.command_line import flat, run

N = 60
PATHS = [f"/photos/{i:02}.jpg" for i in range(N)]
IDS = [f"{i:02}.jpg" for i in range(3)]
ORDER = np.random.default_rng(0).permutation(N)  # samples are not in the order of the table


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """Import fiftyone with a database of its own; it starts on first use and ends with us."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("fiftyone")
        patch.setenv("FIFTYONE_DATABASE_DIR", str(folder / "db"))
        patch.setenv("FIFTYONE_CONFIG_PATH", str(folder / "config.json"))
        patch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
        patch.setenv("FIFTYONE_SHOW_PROGRESS_BARS", "false")
        fiftyone = pytest.importorskip("fiftyone", reason="needs clip_al[fiftyone] and a MongoDB")
        try:
            fiftyone.list_datasets()
        except Exception as exc:
            pytest.skip(f"FiftyOne finds no MongoDB server: {type(exc).__name__}")
        yield fiftyone


@pytest.fixture
def dataset(host):
    dataset = host.Dataset()
    dataset.add_samples(
        [host.Sample(filepath=PATHS[i], place=f"p{i}", tags=["old"]) for i in ORDER]
    )
    yield dataset
    dataset.delete()


@pytest.fixture(scope="module")
def selection(mini):
    data = load_digits()
    images = (data.images[:N] * 15.9).astype(np.uint8)
    names = [f"digit {i}" for i in range(10)]
    selector = ClipSelector(0.3, class_names=names, encoder=mini, n_neighbors=3)
    return selector.fit_select(mini.encode_images(list(images)), data.target[:N], ids=PATHS)


def field(dataset, name):
    """Return the values of a field by path."""
    return dict(zip(*dataset.values(["filepath", name]), strict=True))


def test_chosen_images_are_tagged_and_shown(dataset, selection):
    view = add_selection(dataset, selection)
    assert view.values("filepath") == [PATHS[i] for i in selection.indices]
    assert dataset.count_sample_tags() == {"old": N, "selected": len(selection)}
    np.testing.assert_array_equal(tagged(dataset, "selected", PATHS), selection.indices)
    assert field(dataset, "place") == {PATHS[i]: f"p{i}" for i in range(N)}


def test_every_image_has_its_scores(dataset, selection):
    add_selection(dataset, selection)
    total, given = field(dataset, "clip_al_total"), field(dataset, "clip_al_given")
    np.testing.assert_array_equal([total[path] for path in PATHS], selection.scores["total"])
    assert given == {PATHS[i]: selection.class_names[selection.labels[i]] for i in range(N)}
    worst = dataset.sort_by("clip_al_label_score").first().filepath
    assert worst == selection.suspects(1)[0].id


def test_names_may_be_in_another_field(dataset, selection):
    places = [f"p{i}" for i in range(N)]
    view = add_selection(dataset, selection, places, field="place", tag="a", prefix="x_")
    assert view.values("place") == [places[i] for i in selection.indices]
    np.testing.assert_array_equal(tagged(dataset, "a", places, field="place"), selection.indices)


def test_a_batch_to_label_comes_best_first(dataset, Z, vocabulary, probabilities):
    strategy = CBDMarginSampling(vocabulary, m=6)
    picks = strategy.select(Z, 7, probabilities=probabilities)
    told = strategy.explain(picks, Z)
    view = add_picks(dataset, picks, PATHS, explanations=told)
    assert view.values("filepath") == [PATHS[i] for i in picks]
    assert view.values("clip_al_rank") == list(range(1, 8))
    assert view.values("clip_al_concepts") == [list(pick.concepts) for pick in told]
    assert view.values("clip_al_added") == [list(pick.added) for pick in told]
    assert dataset.match_tags("to label").values("filepath") == [
        PATHS[i] for i in ORDER if i in picks
    ]
    assert dataset.exists("clip_al_rank").count() == 7


def test_tags_set_by_a_person_come_back(dataset):
    chosen = [PATHS[i] for i in (40, 2, 31)]
    dataset.match(dataset_filter(chosen)).tag_samples("wrong")
    assert tagged(dataset, "wrong", PATHS).tolist() == [2, 31, 40]
    assert tagged(dataset, "wrong", PATHS[:10]).tolist() == [2]
    assert tagged(dataset, "none", PATHS).tolist() == []


def dataset_filter(paths):
    from fiftyone import ViewField

    return ViewField("filepath").is_in(paths)


def test_nothing_is_overwritten_unasked(dataset, selection):
    add_selection(dataset, selection)
    other = Selection.from_indices([0, 1], N, ids=PATHS, scores={"total": np.arange(N) / 2})
    with pytest.raises(InvalidInputError, match="'clip_al_total' is there"):
        add_selection(dataset, other)
    with pytest.raises(InvalidInputError, match="'selected' is there"):
        add_picks(dataset, [0], PATHS, tag="selected")
    np.testing.assert_array_equal(tagged(dataset, "selected", PATHS), selection.indices)
    add_selection(dataset, other, overwrite=True)
    assert tagged(dataset, "selected", PATHS).tolist() == [0, 1]
    assert field(dataset, "clip_al_total") == {PATHS[i]: i / 2 for i in range(N)}
    assert dataset.count_sample_tags() == {"old": N, "selected": 2}


def test_images_without_a_sample_of_their_own_are_refused(host, dataset, selection):
    with pytest.raises(InvalidInputError, match=r"1 images and 0 samples are '00\.jpg'"):
        add_picks(dataset, [0], ["00.jpg"])
    with pytest.raises(InvalidInputError, match=r"2 images and 1 samples are '/photos/00\.jpg'"):
        add_picks(dataset, [0, 1], [PATHS[0]] * 2)
    with pytest.raises(InvalidInputError, match="must name each of the 60 images; got 3"):
        add_selection(dataset, selection, PATHS[:3])
    with pytest.raises(InvalidInputError, match="'nofield' is not"):
        add_picks(dataset, [0], PATHS, field="nofield")
    with pytest.raises(InvalidInputError, match="must name each image once; got 1"):
        add_picks(dataset, [1, 1], PATHS)
    dataset.add_sample(host.Sample(filepath=PATHS[3]))
    with pytest.raises(InvalidInputError, match=r"1 images and 2 samples are '/photos/03\.jpg'"):
        add_selection(dataset, selection)
    assert dataset.count_sample_tags() == {"old": N}
    assert not [name for name in dataset.get_field_schema() if name.startswith("clip_al")]


def test_explanations_of_others_are_refused(dataset, Z, vocabulary, probabilities):
    strategy = CBDMarginSampling(vocabulary, m=6)
    picks = strategy.select(Z, 3, probabilities=probabilities)
    with pytest.raises(InvalidInputError, match="must be of the picks, in their order"):
        add_picks(dataset, picks[::-1], PATHS, explanations=strategy.explain(picks, Z))


def test_other_things_are_no_dataset(host, dataset, selection):
    with pytest.raises(InvalidTypeError, match="must be a FiftyOne Dataset; got list"):
        add_selection([], selection)
    with pytest.raises(InvalidTypeError, match="must be a FiftyOne Dataset; got DatasetView"):
        add_selection(dataset.limit(3), selection)


def test_without_fiftyone_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "fiftyone":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match=r'pip install "clip_al\[fiftyone\]"'):
        add_picks(None, [0], PATHS)


# Pre-labels and labels


PRE = [PreLabel(("cat",), 0.75), None, PreLabel(("dog",), 0.5)]


def labels_of(found):
    return dict(zip(found.ids, found.names(), strict=True))


def test_the_file_of_picks_is_a_dataset_and_comes_back_labelled(host, tmp_path):
    columns = {"margin": [0.1, 0.2, 1], "given": ["cat", "", "dog"]}
    made = dataset_of(IDS, PATHS[:3], name="picks", pre_labels=PRE, columns=columns)
    write_samples(tmp_path / "picks.json", made)
    dataset = host.Dataset.from_json(str(tmp_path / "picks.json"), name="picks", overwrite=True)
    try:
        assert dataset.values("clip_al_id") == IDS
        assert dataset.values("filepath") == PATHS[:3]
        assert dataset.values("clip_al_rank") == [1, 2, 3]
        assert dataset.values("clip_al_margin") == [0.1, 0.2, 1.0]
        assert dataset.values("clip_al_prediction.label") == ["cat", None, "dog"]
        assert dataset.values("clip_al_prediction.confidence") == [0.75, None, 0.5]
        assert dataset.values("ground_truth") == [None] * 3
        assert dataset.count_sample_tags() == {"to label": 3}
        first, second = dataset.limit(2)
        first["ground_truth"] = host.Classification(label="dog")
        second["ground_truth"] = host.Classification(label="cat")
        first.save()
        second.save()
        dataset.write_json(str(tmp_path / "labels.json"))
        kind = host.types.FiftyOneDataset
        dataset.export(str(tmp_path / "whole"), dataset_type=kind, export_media=False)
        wanted = {IDS[0]: ("dog",), IDS[1]: ("cat",)}
        found = [
            fiftyone_files.read_annotations(tmp_path / "labels.json"),
            fiftyone_files.read_annotations(tmp_path / "whole"),
            read_annotations(dataset),
        ]
        assert [labels_of(one) for one in found] == [wanted] * 3
        assert [one.skipped for one in found] == [(IDS[2],)] * 3
    finally:
        dataset.delete()


def test_several_labels_make_the_way_too(host, tmp_path):
    pre_labels = [PreLabel(("cat", "dog"), 0.5), None]
    made = dataset_of(IDS[:2], PATHS[:2], pre_labels=pre_labels, multi_label=True)
    dataset = host.Dataset.from_dict(made, name="several", overwrite=True)
    try:
        dataset.set_values("ground_truth", dataset.values("clip_al_prediction"))
        dataset.write_json(str(tmp_path / "labels.json"))
        found = fiftyone_files.read_annotations(tmp_path / "labels.json", multi_label=True)
        assert labels_of(found) == {IDS[0]: ("cat", "dog")}
        assert labels_of(read_annotations(dataset, multi_label=True)) == labels_of(found)
    finally:
        dataset.delete()


def test_pre_labels_go_into_a_dataset_that_is_there(host, dataset):
    add_pre_labels(dataset, PATHS[:3], PRE)
    found = field(dataset, "clip_al_prediction")
    assert found[PATHS[0]].label == "cat"
    assert found[PATHS[0]].confidence == 0.75
    assert [path for path, label in found.items() if label] == [
        PATHS[i] for i in ORDER if i in (0, 2)
    ]
    labelled = read_annotations(dataset, label_field="clip_al_prediction")
    assert labels_of(labelled) == {PATHS[0]: ("cat",), PATHS[2]: ("dog",)}
    with pytest.raises(InvalidInputError, match="'clip_al_prediction' is there"):
        add_pre_labels(dataset, PATHS[:3], PRE)
    add_pre_labels(dataset, PATHS[:1], [PreLabel(("a", "b"))], multi_label=True, overwrite=True)
    again = read_annotations(dataset, label_field="clip_al_prediction", multi_label=True)
    assert labels_of(again) == {PATHS[0]: ("a", "b")}
    with pytest.raises(InvalidInputError, match="one entry for each of the 2 names; got 3"):
        add_pre_labels(dataset, PATHS[:2], PRE)


def test_tags_of_a_dataset_are_labels_and_unknown_fields_are_named(dataset):
    dataset.match(dataset_filter(PATHS[:2])).tag_samples("cat")
    found = read_annotations(dataset, ["cat", "dog"], label_field="tags")
    assert labels_of(found) == {PATHS[i]: ("cat",) for i in ORDER if i < 2}
    assert found.aside == {"tag 'old'": N}
    with pytest.raises(InvalidInputError, match=r"'ground_truth' is not\. They have no labels"):
        read_annotations(dataset)


def test_columns_of_picks_are_fields(dataset):
    add_picks(dataset, [4, 2], PATHS, columns={"score": [0.5, 0.25]})
    assert dataset.exists("clip_al_score").count() == 2
    assert field(dataset, "clip_al_score")[PATHS[4]] == 0.5
    with pytest.raises(InvalidInputError, match="for each of the 2 picks; 'score' has 1"):
        add_picks(dataset, [4, 2], PATHS, columns={"score": [0.5]}, overwrite=True)


# From the command line


def test_picks_go_into_the_database_and_labels_come_out(host, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in IDS:
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name)
    files = [str(tmp_path / "photos" / name) for name in IDS]
    EmbeddingTable.from_array("t", np.eye(3), IDS, paths=files, model_id="toy")
    (tmp_path / "picks.csv").write_text(f"id,margin\n{IDS[2]},0.5\n{IDS[0]},0.25\n")
    predicted = [f"{name},cat,0.75" for name in IDS]
    (tmp_path / "all.csv").write_text("\n".join(["id,label,confidence", *predicted]))
    out = ("export", "fiftyone", "picks.csv", "--table", "t", "--predictions", "all.csv")
    back = ("import", "fiftyone", "--table", "t", "-o", "labels.csv", "--dataset")
    name = "clip_al_test"
    try:
        result = run(*out, "--dataset", name)  # made of the picks
        assert result.exit_code == 0, result.output
        assert (
            f"Wrote 2 samples to the dataset {name!r}, 2 with a pre-label (mean confidence 0.75"
            in (flat(result))
        )
        dataset = host.load_dataset(name)
        assert dataset.persistent
        assert dataset.values("clip_al_id") == [IDS[2], IDS[0]]
        assert dataset.values("clip_al_prediction.label") == ["cat", "cat"]
        dataset.add_sample(host.Sample(filepath=files[1]))
        result = run(*out, "--dataset", name)  # there are its fields now
        assert result.exit_code == 2
        assert "The field 'clip_al_prediction' of the dataset 'clip_al_test' must be new" in (
            flat(result)
        )
        result = run(*out, "--no-pre-labels", "--dataset", name)
        assert "Fields and tag must be new; 'clip_al_rank' is there" in flat(result)
        result = run(*out, "--dataset", name, "--force")
        assert result.exit_code == 0, result.output
        assert field(dataset, "clip_al_rank") == {files[2]: 1, files[0]: 2, files[1]: None}
        result = run(*back, name)
        assert result.exit_code == 2
        assert "must have a label of at least one image of the table; it has none: 3 open" in flat(
            result
        )
        sample = dataset[files[1]]
        sample["ground_truth"] = host.Classification(label="dog")
        sample.save()
        result = run(*back, name)
        assert result.exit_code == 0, result.output
        assert "left out: 2 open" in flat(result)
        assert (tmp_path / "labels.csv").read_text() == f"id,label\n{IDS[1]},dog\n"
        result = run(*back, "nothing", "--force")
        assert result.exit_code == 2
        assert "`--dataset` must be one of FiftyOne's database; got 'nothing'" in flat(result)
    finally:
        if host.dataset_exists(name):
            host.delete_dataset(name)


def test_without_fiftyone_the_commands_name_the_extra(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    Image.new("RGB", (8, 8)).save("a.png")
    EmbeddingTable.from_array("t", np.eye(2), ["a", "b"], paths=["a.png", "a.png"], model_id="toy")
    (tmp_path / "p.csv").write_text("id\na\n")
    result = run("export", "fiftyone", "p.csv", "--table", "t", "--dataset", "x")
    assert result.exit_code == 2
    assert "`--dataset` needs fiftyone" in flat(result)
    result = run("import", "fiftyone", "--table", "t", "--dataset", "x", "-o", "l.csv")
    assert result.exit_code == 2
    assert 'pip install "clip_al[fiftyone]"' in flat(result)
