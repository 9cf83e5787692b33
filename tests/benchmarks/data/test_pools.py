"""Pools hold the images that were asked for, whatever they come from."""

import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.data import pool_sources, pools
from benchmarks.data.cifar import ARCHIVE, CACHE, CLASSES, cifar_root, data_folder, load_cifar
from benchmarks.data.pools import (
    Pool,
    embed_classes,
    embed_images,
    load_pool,
    long_tailed,
    with_near_duplicates,
)
from clip_al import ClipEncoder
from clip_al.errors import InvalidInputError, UnreadableImageError


@pytest.fixture(scope="module")
def digits():
    return load_pool("digits", seed=1)


@pytest.fixture(scope="module")
def cifar():
    """The folder of the archive, and the unpacked images."""
    folder = data_folder(None)
    try:
        return folder, cifar_root(folder, CACHE)
    except FileNotFoundError:
        pytest.skip(f"no CIFAR-10 in CLIP_AL_DATA or beside the checkout ({folder})")


def write_images(folder, n, colour, size=(90, 70)):
    folder.mkdir(parents=True)
    for i in range(n):
        Image.new("RGB", size, (colour, i, 0)).save(folder / f"{i:02d}.png")


def rows(images):
    return [image.tobytes() for image in images]


# Pools


def test_digits_are_split_by_class_and_seed(digits):
    assert digits.images.shape == (1078, 32, 32, 3)
    assert digits.test_images.shape == (719, 32, 32, 3)
    assert (digits.images.dtype, digits.y.dtype, digits.y_test.dtype) == ("u1", "i8", "i8")
    assert digits.classes[:2] == ("the digit zero", "the digit one")
    whole = np.bincount(load_digits().target)
    assert np.all(abs(np.bincount(digits.y) - 0.6 * whole) <= 1)
    assert np.array_equal(load_pool("digits", seed=1).images, digits.images)
    assert not np.array_equal(load_pool("digits", seed=2).y, digits.y)


def test_digits_are_all_there_once_with_their_labels(digits):
    given = load_digits()
    expected = []
    for grey, label in zip(np.round(given.images * (255 / 16)), given.target, strict=True):
        enlarged = Image.fromarray(grey.astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
        expected.append((np.stack(3 * [enlarged], axis=2).tobytes(), int(label)))
    found = rows(digits.images) + rows(digits.test_images)
    labels = [*digits.y.tolist(), *digits.y_test.tolist()]
    assert sorted(zip(found, labels, strict=True)) == sorted(expected)


def test_draws_are_balanced_nested_and_of_the_pool(digits):
    small = load_pool("digits", per_class=5, test_per_class=3, seed=1)
    large = load_pool("digits", per_class=20, seed=1)
    assert np.bincount(small.y).tolist() == [5] * 10
    assert np.bincount(small.y_test).tolist() == [3] * 10
    assert set(rows(small.images)) < set(rows(large.images)) < set(rows(digits.images))
    assert set(rows(small.test_images)) < set(rows(digits.test_images))
    of = dict(zip(rows(digits.images), digits.y, strict=True))
    assert [of[image] for image in rows(small.images)] == small.y.tolist()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"per_class": 500}, r"`per_class` must be at most \d+, the images of 'the digit eight'"),
        ({"test_per_class": 90}, r"`test_per_class` must be at most \d+, .* got 90. Lower it"),
        ({"per_class": 0}, "`per_class` must be at least 1; got 0"),
        ({"seed": -1}, "`seed` must be at least 0; got -1"),
    ],
)
def test_draws_that_cannot_be_are_named(keywords, message):
    with pytest.raises(InvalidInputError, match=message):
        load_pool("digits", **keywords)


def test_an_unknown_pool_is_named():
    with pytest.raises(InvalidInputError, match=r"'cifar10', 'cifar10-seen', 'digits'.*'svhn'"):
        load_pool("svhn")


def test_take_keeps_the_order_and_the_test(digits):
    taken = digits.take([7, 3])
    assert np.array_equal(taken.images, digits.images[[7, 3]])
    assert np.array_equal(taken.y, digits.y[[7, 3]])
    assert taken.test_images is digits.test_images
    assert (taken.name, taken.classes) == (digits.name, digits.classes)
    with pytest.raises(InvalidInputError, match="indices"):
        digits.take([5000])


# CIFAR-10


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "first"), [("cifar10", 2500), ("cifar10-seen", 0)])
def test_cifar_takes_its_half_of_the_training_images(cifar, name, first):
    folder, root = cifar
    drawn = load_pool(name, data=folder, per_class=6, test_per_class=2)
    assert (drawn.name, drawn.classes) == (name, CLASSES)
    assert drawn.y.tolist() == np.repeat(range(10), 6).tolist()
    airplanes = [
        np.asarray(Image.open(root / "train" / "airplane" / f"{i:04d}.jpg").convert("RGB"))
        for i in range(first, first + 2500)
    ]
    assert set(rows(drawn.images[:6])) < set(rows(airplanes))


@pytest.mark.shared_data
def test_all_of_a_split_equals_load_cifar(cifar):
    _, root = cifar
    train, test = pool_sources.cifar_splits(root, 2500, 2503)
    for split, expected in (
        (train, load_cifar(root, "train", 2500, 2503)),
        (test, load_cifar(root, "test", 0, 1000)),
    ):
        assert np.array_equal(split.y, expected[1])
        assert np.array_equal(split.read(np.arange(30)), expected[0][:30])


@pytest.fixture
def release(monkeypatch, tmp_path):
    """Stand in for torchvision's CIFAR-10: pixel 0 is the class, pixel 1 the number in it."""
    import torchvision.datasets

    class Release:
        def __init__(self, root, train, download):
            n = 5000 if train else 1000
            self.targets = np.random.default_rng(0).permutation(np.repeat(range(10), n)).tolist()
            self.data = np.zeros((10 * n, 1, 2, 3), dtype=np.uint8)
            labels = np.array(self.targets)
            self.data[:, 0, 0, 0] = labels
            for k in range(10):
                number = np.arange(n)
                self.data[labels == k, 0, 1, :2] = np.stack([number // 256, number % 256], axis=1)

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Release)
    monkeypatch.setattr(pool_sources, "CACHE", tmp_path / "cache")
    return tmp_path


@pytest.mark.parametrize(("name", "first"), [("cifar10", 2500), ("cifar10-seen", 0)])
def test_the_download_is_split_like_the_files(release, name, first):
    with pytest.warns(UserWarning, match="pixels differ slightly") as caught:
        pool = load_pool(name, data=release)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert pool.y.tolist() == np.repeat(range(10), 2500).tolist()
    assert np.array_equal(pool.images[:, 0, 0, 0], pool.y)
    numbers = pool.images[:, 0, 1, :2].astype(int) @ [256, 1]
    assert numbers.tolist() == 10 * list(range(first, first + 2500))
    assert np.bincount(pool.y_test).tolist() == [1000] * 10


def test_a_download_that_fails_says_what_to_do(release, monkeypatch):
    import torchvision.datasets

    def fail(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)
    with pytest.raises(FileNotFoundError, match=r"no route to host. Point --data or CLIP_AL_DATA"):
        load_pool("cifar10", data=release)


def test_an_archive_without_images_is_no_reason_to_download(release):
    import tarfile

    (release / "empty").mkdir()
    with tarfile.open(release / ARCHIVE, "w:xz") as tar:
        tar.add(release / "empty", "empty")
    with pytest.raises(FileNotFoundError, match="holds no train/airplane"):
        load_pool("cifar10", data=release)


# Folders


def test_a_folder_with_train_and_test(tmp_path):
    for part, n in (("train", 4), ("val", 2)):
        write_images(tmp_path / "pets" / part / "grey_cat", n, 10)
        write_images(tmp_path / "pets" / part / "dog", n, 200)
    pool = load_pool(str(tmp_path / "pets"))
    assert (pool.name, pool.classes) == ("pets", ("dog", "grey cat"))
    assert pool.images.shape == (8, 64, 64, 3)
    assert pool.y.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert pool.y_test.tolist() == [0, 0, 1, 1]
    assert np.all(pool.images[pool.y == 0, ..., 0] == 200)
    assert np.all(pool.test_images[pool.y_test == 1, ..., 0] == 10)


def test_a_folder_of_classes_is_split(tmp_path):
    write_images(tmp_path / "a", 10, 10)
    write_images(tmp_path / "b", 5, 200)
    pool = load_pool(str(tmp_path), seed=3)
    assert np.bincount(pool.y).tolist() == [8, 4]
    assert np.bincount(pool.y_test).tolist() == [2, 1]
    assert not set(rows(pool.images)) & set(rows(pool.test_images))
    assert np.array_equal(load_pool(str(tmp_path), seed=3).images, pool.images)


def test_images_of_a_folder_are_cropped_to_the_middle(tmp_path):
    pixels = np.zeros((64, 128, 3), dtype=np.uint8)
    pixels[:, 32:96] = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    assert np.array_equal(load_pool(str(tmp_path)).images[0], pixels[:, 32:96])


def test_unreadable_images_are_named(tmp_path):
    for name in ("a", "b"):
        write_images(tmp_path / name, 5, 10)
    for i in range(2):
        (tmp_path / "a" / f"broken{i}.jpg").write_bytes(b"no image")
    # whole, so that both are read wherever the split puts them
    _, (train, test) = pool_sources.folder_splits(tmp_path, 0)
    failures = []
    for split in (train, test):
        try:
            split.read(np.arange(len(split.y)))
        except UnreadableImageError as error:
            failures += [where for where, _ in error.failures]
    assert sorted(failures) == [str(tmp_path / "a" / f"broken{i}.jpg") for i in range(2)]
    with pytest.raises(UnreadableImageError, match=r"broken\d.jpg .*Repair or delete"):
        load_pool(str(tmp_path))


def test_folders_that_cannot_be_a_pool_are_named(tmp_path):
    write_images(tmp_path / "one" / "a", 5, 1)
    with pytest.raises(InvalidInputError, match="at least two classes; got 1"):
        load_pool(str(tmp_path / "one"))
    write_images(tmp_path / "one" / "b", 4, 1)
    with pytest.raises(InvalidInputError, match=r"at least 5 images, .* the rarest has 4"):
        load_pool(str(tmp_path / "one"))
    (tmp_path / "one" / "c").mkdir()
    with pytest.raises(InvalidInputError, match="c must hold images; got none"):
        load_pool(str(tmp_path / "one"))
    for part, name in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "c")):
        write_images(tmp_path / "two" / part / name, 1, 1)
    with pytest.raises(InvalidInputError, match="same classes; only one holds b, c"):
        load_pool(str(tmp_path / "two"))


# Embeddings


def test_embeddings_are_those_of_the_encoder_and_kept(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(pools.embed_images, "__defaults__", (tmp_path,))
    encoder, images = ClipEncoder("mini"), digits.images[:3]
    emb_nd = embed_images(images, encoder)
    assert np.array_equal(emb_nd, encoder.encode_images(images))
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(ClipEncoder, "encode_images", None)
    assert np.array_equal(embed_images(images, encoder), emb_nd)


def test_classes_get_one_article():
    encoder = ClipEncoder("mini")
    found = embed_classes(["cat", "the digit one"], encoder)
    expected = encoder.encode_texts(["a photo of a cat", "a photo of the digit one"])
    assert np.allclose(found, expected, atol=1e-6)


# Long tail


def test_long_tail_shrinks_by_equal_factors():
    y = np.repeat(range(5), 400)
    indices = long_tailed(y, factor=16, seed=0)
    assert sorted(np.bincount(y[indices]).tolist()) == [25, 50, 100, 200, 400]
    assert np.all(np.diff(indices) > 0)
    assert indices.dtype == np.int64


def test_long_tail_of_uneven_classes_keeps_the_factor():
    y = np.repeat([3, 5, 9], [900, 410, 130])  # labels need not start at 0
    for seed in range(6):
        sizes = np.sort(np.unique(y[long_tailed(y, factor=9, seed=seed)], return_counts=True)[1])
        assert sizes[2] / sizes[0] == pytest.approx(9, rel=0.1)
        assert sizes[1] / sizes[0] == pytest.approx(3, rel=0.1)


def test_long_tail_draws_classes_and_images_by_seed():
    y = np.tile(range(5), 100)
    before = y.copy()
    smallest = {int(np.bincount(y[long_tailed(y, factor=10, seed=s)]).argmin()) for s in range(12)}
    assert len(smallest) > 1
    assert np.array_equal(long_tailed(y, factor=10, seed=1), long_tailed(y, factor=10, seed=1))
    assert np.array_equal(long_tailed(y, factor=1, seed=1), np.arange(500))
    assert np.array_equal(y, before)


def test_long_tails_that_cannot_be_are_named():
    with pytest.raises(InvalidInputError, match="`factor` must leave an image of every class"):
        long_tailed([0, 0, 1, 1], factor=10, seed=0)
    with pytest.raises(InvalidInputError, match="at least two classes; got 1"):
        long_tailed([0, 0], factor=1, seed=0)
    with pytest.raises(InvalidInputError, match="`factor` must be"):
        long_tailed([0, 1], factor=0.5, seed=0)


# Near-duplicates


def distortions(image):
    """Yield the image in every shift, mirrored or not, as floats."""
    h, w, _ = image.shape
    for down in range(-2, 3):
        for right in range(-2, 3):
            moved = np.empty((h, w, 3))
            for i in range(h):
                for j in range(w):
                    row, column = min(max(i + down, 0), h - 1), min(max(j + right, 0), w - 1)
                    moved[i, j] = image[row, column]
            yield moved
            yield np.asarray(moved)[:, ::-1]


def matches(copy, image):
    """Is there one brightness that makes `image` into `copy`?"""
    inside = (image > 0) & (copy < 255)
    low = ((copy - 0.5)[inside] / image[inside]).max()
    high = ((copy + 0.5)[inside] / image[inside]).min()
    return max(low, 0.9) <= min(high, 1.1) + 1e-9


@pytest.fixture
def small_pool():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 9, 8, 3), dtype=np.uint8)
    return Pool("toy", images, np.arange(30) % 3, ("a", "b", "c"), images[:2], np.array([0, 1]))


def test_near_duplicates_are_distorted_copies_of_originals(small_pool):
    before = small_pool.images.copy(), small_pool.y.copy()
    pool, source_n = with_near_duplicates(small_pool, 0.4, seed=2)
    copied = source_n != np.arange(30)
    assert copied.sum() == 12
    assert source_n.dtype == np.int64
    assert not copied[source_n].any()  # originals are no copies themselves
    assert np.array_equal(pool.images[~copied], small_pool.images[~copied])
    assert np.array_equal(pool.y, small_pool.y[source_n])
    for place in np.flatnonzero(copied):
        copy = pool.images[place].astype(float)
        original = small_pool.images[source_n[place]]
        assert any(matches(copy, moved) for moved in distortions(original)), place
        other = small_pool.images[(source_n[place] + 1) % 30]
        assert not any(matches(copy, moved) for moved in distortions(other)), place
    assert np.array_equal(small_pool.images, before[0])
    assert np.array_equal(small_pool.y, before[1])


def test_near_duplicates_depend_on_the_seed(small_pool):
    first, again, other = (with_near_duplicates(small_pool, 0.4, seed) for seed in (0, 0, 1))
    assert np.array_equal(first[0].images, again[0].images)
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])
    untouched, source_n = with_near_duplicates(small_pool, 0.0, 0)
    assert np.array_equal(untouched.images, small_pool.images)
    assert np.array_equal(source_n, np.arange(30))


@pytest.mark.parametrize(
    ("share", "message"),
    [(0.99, "`share` must leave an original to copy; got 0.99 of 30"), (1.0, "`share` must be")],
)
def test_a_share_without_originals_is_named(small_pool, share, message):
    with pytest.raises(InvalidInputError, match=message):
        with_near_duplicates(small_pool, share, 0)


def test_processes_that_unpack_the_archive_together_all_see_it_whole(tmp_path, monkeypatch):
    data, cache = tmp_path / "data", tmp_path / "cache"
    for split in ("train", "test"):
        for i in range(3):
            file = tmp_path / "made" / split / "airplane" / f"{i:04d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bytes([i]))
    data.mkdir()
    with tarfile.open(data / ARCHIVE, "w:xz") as tar:
        tar.add(tmp_path / "made", arcname="cifar10")
    with ThreadPoolExecutor(4) as pool:
        roots = set(pool.map(lambda _: cifar_root(data, cache), range(4)))
    assert len(roots) == 1
    root = roots.pop()
    assert sorted(f.name for f in cache.iterdir()) == ["cifar10"]
    assert len(list(root.rglob("*.jpg"))) == 6
    assert cifar_root(data, cache) == root
