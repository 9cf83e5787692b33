"""Tests of `clip_al.integrations.hugging_face`, and of the sampler in Trainer on a Dataset."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import clip_al
from clip_al.errors import (
    InvalidInputError,
    InvalidTypeError,
    MissingDependencyError,
    UnreadableImageError,
)
from clip_al.integrations import hugging_face
from clip_al.integrations.hugging_face import encode_column, images_of, labels_of
from tests.reference import make_vocabulary

datasets = pytest.importorskip("datasets", reason="`datasets` comes with the extra `huggingface`")

N = 80
Y = load_digits().target[:N]
IMAGES = [Image.fromarray((15 * x).astype(np.uint8)) for x in load_digits().images[:N]]
IDS = [f"digit {i}" for i in range(N)]


def make(**columns):
    features = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=[f"digit {i}" for i in range(10)]),
        "name": datasets.Value("string"),
    }
    columns = {"image": IMAGES, "label": Y.tolist(), "name": IDS, **columns}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


@pytest.fixture(scope="module")
def dataset():
    return make()


@pytest.fixture(scope="module")
def expected(mini):
    return mini.encode_images(IMAGES)


# Encoding


def test_a_column_is_encoded_as_its_images_are(dataset, mini, expected):
    np.testing.assert_array_equal(encode_column(dataset, mini), expected)


def test_images_are_decoded_one_at_a_time(dataset):
    images = images_of(dataset)
    assert not isinstance(images, list)
    assert len(images) == N
    np.testing.assert_array_equal(images[7], IMAGES[7])


def blackened(rows):
    return {"image": [Image.new("L", image.size) for image in rows["image"]]}


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.with_transform(blackened),
        lambda d: d.with_format("torch"),
        lambda d: d.with_format("numpy", columns=["label"]),
        lambda d: d.cast_column("image", datasets.Image(decode=False)),
        lambda d: d.rename_column("image", "photo"),
    ],
    ids=["transform", "torch", "numpy", "undecoded", "photo"],
)
def test_neither_format_nor_transform_changes_an_embedding(dataset, mini, expected, change):
    changed = change(dataset)
    form, features = changed.format, dict(changed.features)
    column = "photo" if "photo" in features else "image"
    np.testing.assert_array_equal(encode_column(changed, mini, column), expected)
    assert changed.format == form
    assert changed.features == features


def test_a_shuffled_dataset_is_encoded_in_its_order(dataset, mini, expected):
    shuffled = dataset.shuffle(seed=0)
    rows = [IDS.index(name) for name in shuffled["name"]]
    np.testing.assert_allclose(encode_column(shuffled, mini), expected[rows], atol=1e-5)


def test_a_column_of_paths(tmp_path, mini, expected):
    paths = [str(tmp_path / f"{i}.png") for i in range(N)]
    for path, image in zip(paths, IMAGES, strict=True):
        image.save(path)
    column = datasets.Dataset.from_dict({"file": paths})
    assert images_of(column, "file") == paths
    np.testing.assert_array_equal(encode_column(column, mini, "file"), expected)


def test_into_a_table_with_ids_of_a_column_and_back(tmp_path, dataset, mini, expected):
    folder = tmp_path / "digits.table"
    table = encode_column(dataset, mini, directory=folder, ids=dataset["name"])
    np.testing.assert_array_equal(table[:], expected)
    assert table.ids.tolist() == IDS
    again = encode_column(dataset, mini, directory=folder, ids=dataset["name"])
    assert again.ids.tolist() == IDS
    with pytest.raises(InvalidInputError):
        encode_column(dataset.select(range(9)), mini, directory=folder, ids=IDS[:9])


def test_an_unreadable_image_is_named_and_the_others_kept(mini, expected):
    broken = [*IMAGES[:3], None, {"bytes": b"no image", "path": None}, *IMAGES[5:]]
    with pytest.raises(UnreadableImageError, match=r"2 are not: image 3 .*image 4 ") as caught:
        encode_column(make(image=broken), mini)
    rows = np.flatnonzero(np.isfinite(caught.value.embeddings).all(axis=1))
    assert rows.tolist() == [i for i in range(N) if i not in (3, 4)]
    np.testing.assert_allclose(caught.value.embeddings[rows], expected[rows], atol=1e-5)


def test_labels_and_names_of_classes(dataset):
    y, names = labels_of(dataset.with_format("torch"))
    np.testing.assert_array_equal(y, Y)
    assert names == [f"digit {i}" for i in range(10)]
    y, names = labels_of(dataset, "name")
    assert y.tolist() == IDS
    assert names is None


# The same picks as the array call, and back


def test_picks_are_those_of_the_array_call_and_select_leads_back(dataset, mini, expected):
    vocabulary = make_vocabulary(mini.encode_texts(["a", "one", "round", "line", "dark"]))
    strategy = clip_al.CBDSampling(vocabulary, m=2)
    picks = strategy.select(encode_column(dataset, mini), 9)
    np.testing.assert_array_equal(picks, strategy.select(expected, 9))
    subset = dataset.select(np.sort(picks))
    assert list(subset["name"]) == [IDS[i] for i in np.sort(picks)]
    np.testing.assert_array_equal(subset[4]["image"], IMAGES[np.sort(picks)[4]])


def test_a_selection_is_that_of_the_array_call(dataset, mini, expected):
    y, names = labels_of(dataset)

    def choose(Z, y):
        selector = clip_al.ClipSelector(0.4, class_names=names, encoder=mini, random_state=0)
        return selector.fit_select(Z, y)

    selection = choose(encode_column(dataset, mini), y)
    assert selection == choose(expected, Y)
    assert list(dataset.select(selection.indices)["name"]) == [IDS[i] for i in selection.indices]


# Bad input


def test_a_missing_column_is_refused_with_those_there_are(dataset):
    message = r"^`column` must be one of image, label, name; got 'img'\. Name one\.$"
    with pytest.raises(InvalidInputError, match=message):
        images_of(dataset, "img")
    with pytest.raises(InvalidInputError, match="got 'labels'"):
        labels_of(dataset, "labels")


def test_a_column_of_something_else_is_refused(dataset):
    with pytest.raises(InvalidTypeError, match=r"'label' holds ClassLabel.*cast_column\('label'"):
        images_of(dataset, "label")


def test_only_one_split_in_full_is_taken(dataset):
    message = r"^`dataset` must be a datasets\.Dataset, one split in full; got {}\. Take a split"
    for other in (
        datasets.DatasetDict(train=dataset),
        dataset.to_iterable_dataset(),
        {"image": IMAGES},
    ):
        with pytest.raises(InvalidTypeError, match=message.format(type(other).__name__)):
            images_of(other)


def test_without_the_host_the_extra_is_named(monkeypatch, dataset):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "clip_al\[huggingface\]"'):
        hugging_face.images_of(dataset)


# Trainer: no code of ours, but it must keep reading what the sampler says


@pytest.mark.filterwarnings("ignore")
def test_trainer_reads_the_selection_of_a_dataset_and_resumes(tmp_path, dataset):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    pytest.importorskip("accelerate", reason="needs accelerate")
    selection = clip_al.Selection.from_indices(np.arange(5, 45, 3), N)

    class SelectionTrainer(transformers.Trainer):
        def _get_train_sampler(self, train_dataset=None):
            return clip_al.SelectedSubsetSampler(selection, random_state=self.args.seed)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(64, 10)
            self.read = []

        def forward(self, pixels, labels, position):
            self.read.append(position.tolist())
            return {"loss": torch.nn.functional.cross_entropy(self.linear(pixels), labels)}

    def pixels_of(rows):
        pixels = [torch.tensor(np.asarray(im) / 255.0).flatten().float() for im in rows["image"]]
        return {"pixels": pixels, "labels": rows["label"], "position": rows["position"]}

    train = dataset.add_column("position", list(range(N))).with_transform(pixels_of)

    def fit(**resume):
        arguments = transformers.TrainingArguments(
            str(tmp_path), per_device_train_batch_size=4, num_train_epochs=3, save_steps=5,
            use_cpu=True, report_to=[], disable_tqdm=True, remove_unused_columns=False, seed=7,
        )  # fmt: skip
        model = Model()
        SelectionTrainer(model, arguments, train_dataset=train).train(**resume)
        return [i for batch in model.read for i in batch]

    sampler, expected = clip_al.SelectedSubsetSampler(selection, random_state=7), []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        expected += list(sampler)
    assert fit() == expected
    # An epoch is 14 images in 4 batches, so step 5 is after 14 + 4 of them.
    assert fit(resume_from_checkpoint=str(tmp_path / "checkpoint-5")) == expected[18:]
