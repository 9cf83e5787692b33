import os

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.images.folders import IMAGE_EXTENSIONS, list_images
from clip_al.images.pixels import to_rgb
from clip_al.images.sources import describe_failure, image_source


def grey_of(item):
    return np.asarray(to_rgb(item))[..., 0].tolist()


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a/z.JPG", "a/y.png", "a-b/x.png", ".hidden/h.png", "a/._y.png"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(file, "png")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_is_searched_recursively_and_sorted(folder):
    assert list_images(folder) == ["a-b/x.png", "a/y.png", "a/z.JPG", "b.png"]
    source = image_source(folder)
    assert source.ids == list_images(folder)
    assert source.root == str(folder)
    assert source.name(0) == str(folder / "a-b" / "x.png")
    assert source.load(3).size == (4, 4)


def test_relative_folders_and_paths_get_an_absolute_root(folder, monkeypatch):
    monkeypatch.chdir(folder)
    source = image_source("a")
    assert (source.root, source.ids) == (str(folder / "a"), ["y.png", "z.JPG"])
    assert source.fingerprint(0).path == "y.png"
    listed = image_source(["a/y.png", "b.png"])
    assert (listed.root, listed.ids) == (str(folder), ["a/y.png", "b.png"])
    assert listed.fingerprint(0).path == "a/y.png"


def test_a_folder_without_images_names_what_was_looked_for(monkeypatch, tmp_path):
    # Whether pillow-heif is installed or not.
    monkeypatch.setattr("clip_al.images.sources.image_extensions", lambda: IMAGE_EXTENSIONS)
    with pytest.raises(InvalidInputError) as caught:
        image_source(tmp_path)
    assert str(caught.value) == (
        f"`images` must hold at least one image; found none in {str(tmp_path)!r} or its "
        "subfolders. Looked for .avif, .bmp, .gif, .jfif, .jp2, .jpeg, .jpg, .pbm, .pgm, .png, "
        ".ppm, .tif, .tiff, .webp; pass a list of paths for other endings."
    )


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ("/no/such", InvalidInputError, "got '/no/such', no such folder. Check the path"),
        (__file__, InvalidInputError, "a file. Check the path, or pass single files in a list"),
        ([], InvalidInputError, "`images` must hold at least one image; got none. Pass some."),
        (np.zeros((0, 4, 4)), InvalidInputError, r"got shape \(0, 4, 4\)"),
        (np.zeros((8, 8, 3)), InvalidInputError, r"which is one image. Pass `images\[None\]`"),
        (np.zeros((2, 3, 8, 8)), InvalidInputError, "or move the channels to the end"),
        (np.zeros((2, 8, 8), int), InvalidInputError, r"must be uint8, or float .*got int64"),
        (np.full((2, 8, 8), 16.0), InvalidInputError, "got values from 16 to 16. Rescale it"),
        (np.full((2, 8, 8), np.nan), InvalidInputError, "got values from nan to nan"),
        (Image.new("L", (2, 2)), InvalidTypeError, r"a single PIL image. Pass \[image\]"),
        (3, InvalidTypeError, "got int. Pass one of these"),
        (DataLoader(TensorDataset(torch.zeros(2))), InvalidTypeError, "got DataLoader"),
    ],
)
def test_what_is_no_source_is_refused(images, error, message):
    with pytest.raises(error, match=message):
        image_source(images)


def test_every_kind_of_container():
    pixels = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
    pictures = [Image.fromarray(p) for p in pixels]
    tensors = torch.from_numpy(pixels)[:, None]
    for images in (
        pixels,
        pixels[..., None],
        list(pixels),
        tuple(pictures),
        iter(pictures),
        pd.Series(pictures, index=[7, 3]),
        tensors,
        TensorDataset(tensors, torch.zeros(2)),
        TensorDataset(tensors.float() / 255),
    ):
        source = image_source(images)
        assert [grey_of(source.load(i)) for i in range(2)] == pixels.tolist(), type(images)
        assert source.ids == ["0", "1"]


def test_arrays_and_series_of_paths_are_paths(folder):
    names = [str(folder / "b.png"), str(folder / "a" / "y.png")]
    for images in (np.array(names), pd.Series(names), (name for name in names)):
        source = image_source(images)
        assert (source.kind, source.ids) == ("paths", names)


def test_fingerprints_tell_images_apart(folder):
    source = image_source(folder)
    before, hashed = source.fingerprint(3), source.fingerprint(3, hash_content=True)
    assert before.path == hashed.path == "b.png"
    assert (before.sha256, hashed.mtime_ns, len(hashed.sha256)) == ("", "", 64)
    os.utime(folder / "b.png", ns=(1, 1))
    assert source.fingerprint(3) == before._replace(mtime_ns="1")
    assert source.fingerprint(3, hash_content=True) == hashed
    Image.new("RGB", (5, 4)).save(folder / "b.png")
    assert source.fingerprint(3, hash_content=True) != hashed
    (folder / "b.png").unlink()
    assert source.fingerprint(3) == ("b.png", "", "", "")


def test_fingerprints_of_images_in_memory_and_of_datasets():
    arrays = image_source(np.stack([np.zeros((4, 4)), np.ones((4, 4))]))
    assert len(arrays.fingerprint(0).sha256) == 64
    assert arrays.fingerprint(0) != arrays.fingerprint(1)
    dataset = image_source(TensorDataset(torch.zeros(2, 1, 4, 4)))
    assert dataset.fingerprint(0) == ("", "", "", "")
    assert dataset.fingerprint(0, hash_content=True) == arrays.fingerprint(0)
    assert image_source([np.zeros(3)]).fingerprint(0).sha256 == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"just text", "not an image that Pillow can read"),
        (None, "no such file"),
    ],
)
def test_reasons_are_short(tmp_path, content, reason):
    file = tmp_path / "it's.jpg"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(OSError) as caught:  # noqa: PT011 (the reason is what is tested)
        to_rgb(str(file))
    assert describe_failure(caught.value, str(file)) == reason


def test_a_long_reason_is_cut():
    reason = describe_failure(ValueError("x" * 200_000))
    assert len(reason) < 600
    assert reason.endswith("x …")


def test_reasons_of_other_errors():
    assert describe_failure(PermissionError(13, "Permission denied")) == "Permission denied"
    assert describe_failure(KeyError("image")) == "KeyError: 'image'"
    assert describe_failure(InvalidInputError("must be\n  so")) == "must be so"
    assert describe_failure(OSError("image file is truncated")) == "image file is truncated"
    assert describe_failure(MemoryError()) == "MemoryError"
