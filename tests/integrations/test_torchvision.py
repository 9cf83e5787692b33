"""Tests of `clip_al.integrations.torchvision`, on digits as files and as a CIFAR-like release."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import ConcatDataset, Subset
from torchvision.datasets import FakeData, ImageFolder, VisionDataset
from torchvision.transforms import ToTensor

import clip_al
from clip_al.errors import InvalidInputError
from clip_al.integrations.torchvision import images_of, labels_of
from tests.reference import make_vocabulary

N = 80
PIXELS, Y = load_digits().images[:N] * 15, load_digits().target[:N]


class Digits(VisionDataset):
    """Held in memory with `targets` and `classes`, as torchvision's CIFAR10 is."""

    classes = tuple(f"{i} - digit" for i in range(10))

    def __init__(self, **transforms):
        super().__init__("nowhere", **transforms)
        self.targets = Y.tolist()

    def __len__(self):
        return N

    def __getitem__(self, index):
        image, label = Image.fromarray(PIXELS[index].astype(np.uint8)), self.targets[index]
        return (image, label) if self.transforms is None else self.transforms(image, label)


@pytest.fixture
def folder(tmp_path):
    for i, (pixels, label) in enumerate(zip(PIXELS, Y, strict=True)):
        path = tmp_path / f"class {label}" / f"{i:03d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return tmp_path


@pytest.fixture(scope="module")
def expected(mini):
    return mini.encode_images([Image.fromarray(p.astype(np.uint8)) for p in PIXELS])


def black(image):
    return torch.zeros_like(ToTensor()(image))


def test_embeddings_are_those_of_the_stored_images_whatever_the_transform(mini, expected):
    dataset = Digits(transform=black, target_transform=lambda label: label + 100)
    np.testing.assert_array_equal(mini.encode_images(images_of(dataset)), expected)
    assert dataset[3][0].max() == 0
    assert dataset[3][1] == Y[3] + 100
    assert not np.allclose(mini.encode_images(dataset), expected)


def test_a_joint_transform_is_left_aside_too(mini, expected):
    dataset = Digits(transforms=lambda image, label: (black(image), label))
    np.testing.assert_array_equal(mini.encode_images(images_of(dataset)), expected)
    assert dataset[0][0].max() == 0


def test_an_image_folder_gives_its_paths_and_a_table_their_names(folder, tmp_path, mini):
    dataset = ImageFolder(folder, transform=black)
    paths = images_of(dataset)
    assert paths == [path for path, _ in dataset.imgs]
    table = clip_al.EmbeddingTable.create(tmp_path / "digits.table", paths, mini)
    assert table.ids.tolist() == paths
    by_hand = mini.encode_images([Image.open(path) for path in paths])
    np.testing.assert_array_equal(table[:], by_hand)


def test_with_a_loader_of_its_own_a_folder_is_read_by_it(folder):
    dataset = ImageFolder(folder, transform=black, loader=lambda path: Image.new("L", (3, 5)))
    assert images_of(dataset)[0][0].size == (3, 5)


def test_labels_and_names_of_classes(folder):
    for dataset in (Digits(), ImageFolder(folder)):
        y, names = labels_of(dataset)
        assert y.dtype == np.int64
        np.testing.assert_array_equal(y, dataset.targets)
        assert names == list(dataset.classes)
        assert [label for _, label in dataset] == y.tolist()


def test_labels_are_copied(monkeypatch):
    dataset = Digits()
    dataset.targets = torch.tensor(Y)  # as MNIST has them
    y, _ = labels_of(dataset)
    y[0] = 99
    assert dataset.targets[0] == Y[0]


def test_names_of_imagenet_are_joined():
    dataset = Digits()
    dataset.classes = [("tench", "Tinca tinca"), *["one"] * 9]
    assert labels_of(dataset)[1][:2] == ["tench, Tinca tinca", "one"]


def test_without_classes_there_are_no_names():
    dataset = Digits()
    dataset.classes = None
    assert labels_of(dataset)[1] is None


def test_a_split_is_that_part_of_the_whole(folder, mini, expected):
    rows = [70, 3, 41, 5]
    part = Subset(Digits(transform=black), rows)
    np.testing.assert_allclose(mini.encode_images(images_of(part)), expected[rows], atol=1e-5)
    np.testing.assert_array_equal(labels_of(part)[0], Y[rows])
    whole = ImageFolder(folder)
    of_files = Subset(Subset(whole, range(10, 60)), torch.tensor(rows[1:]))
    assert images_of(of_files) == [whole.imgs[10 + i][0] for i in rows[1:]]
    assert labels_of(of_files)[0].tolist() == [whole.targets[10 + i] for i in rows[1:]]


def test_picks_are_those_of_the_array_call_and_a_subset_keeps_their_order(mini, expected):
    dataset = Digits(transform=ToTensor())
    Z = mini.encode_images(images_of(dataset))
    vocabulary = make_vocabulary(mini.encode_texts(["a", "one", "round", "line", "dark"]))
    picks = clip_al.CBDSampling(vocabulary, m=2).select(Z, 9)
    np.testing.assert_array_equal(picks, clip_al.CBDSampling(vocabulary, m=2).select(expected, 9))
    subset = Subset(dataset, picks.tolist())
    assert [label for _, label in subset] == Y[picks].tolist()
    torch.testing.assert_close(subset[4][0], dataset[int(picks[4])][0])


def test_a_selection_is_that_of_the_array_call(mini, expected):
    dataset = Digits(transform=ToTensor())
    y, names = labels_of(dataset)

    def choose(Z, y, names):
        selector = clip_al.ClipSelector(0.4, class_names=names, encoder=mini, random_state=0)
        return selector.fit_select(Z, y)

    found = choose(mini.encode_images(images_of(dataset)), y, names)
    assert found == choose(expected, Y, list(Digits.classes))
    assert found.labels.tolist() == Y.tolist()


@pytest.mark.parametrize("targets", [None, [[0, 1]] * N, ["one"] * N, Y[:9].tolist(), [0.5] * N])
def test_labels_that_are_no_class_numbers_are_refused(targets):
    dataset = Digits()
    dataset.targets = [] if targets is None else targets
    with pytest.raises(InvalidInputError, match=r"^`dataset` must have `targets`, one class num"):
        labels_of(dataset)


def test_a_dataset_without_targets_is_refused():
    with pytest.raises(InvalidInputError, match="FakeData of 4 images has none such"):
        labels_of(FakeData(4))


class Wrapper(torch.utils.data.Dataset):
    def __init__(self, dataset, **more):
        self.base = dataset
        vars(self).update(more)

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        return self.base[index]


def test_augmentations_are_left_aside_on_every_level():
    from torchvision.transforms import RandomInvert

    plain = FakeData(4, (3, 8, 8))
    augmented = FakeData(4, (3, 8, 8), transform=RandomInvert(1.0))
    expected = [np.asarray(plain[i][0]) for i in range(4)]
    assert not np.array_equal(np.asarray(augmented[0][0]), expected[0])
    for dataset in (
        ConcatDataset([augmented]),
        ConcatDataset([ConcatDataset([augmented]), plain]),
        Subset(ConcatDataset([augmented]), [0, 1, 2, 3]),
        ConcatDataset([Subset(augmented, [0, 1, 2, 3])]),
        Wrapper(augmented),
        Wrapper(ConcatDataset([augmented])),
        ConcatDataset([Wrapper(Wrapper(augmented))]),
    ):
        images = images_of(dataset)
        for i in range(4):
            np.testing.assert_array_equal(np.asarray(images[i][0]), expected[i])
    assert augmented.transform is not None  # not modified


def test_a_transform_under_another_name_is_refused():
    from torchvision.transforms import RandomInvert

    dataset = ConcatDataset([Wrapper(FakeData(4), augment=RandomInvert(1.0))])
    with pytest.raises(InvalidInputError, match=r"Wrapper has one as `augment`. Pass a dataset"):
        images_of(dataset)


def test_labels_of_several_datasets(tmp_path):
    for part, names in (("a", "xy"), ("b", "xy"), ("c", "xz")):
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / part / name / "1.png")
    a, b, c = (ImageFolder(tmp_path / part) for part in "abc")
    labels, names = labels_of(ConcatDataset([a, b]))
    assert (labels.tolist(), names) == ([0, 1, 0, 1], ["x", "y"])
    assert len(images_of(ConcatDataset([a, b]))) == 4
    with pytest.raises(InvalidInputError, match="parts with the same classes"):
        labels_of(ConcatDataset([a, c]))
