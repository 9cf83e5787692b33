"""Each corruption equals a loop over images and pixels; shares are exact and nested."""

import numpy as np
import pytest

from benchmarks.data import corruptions
from benchmarks.data.corruptions import (
    CORRUPTION_SEED,
    CORRUPTIONS,
    FOG_COLOUR,
    FOG_DENSITY,
    FOG_GRIDS,
    corrupt,
    corrupt_share,
    grey,
)
from clip_al.errors import InvalidInputError


def some_images(n=12, h=32, w=32):
    return np.random.default_rng(0).integers(1, 256, (n, h, w, 3), dtype=np.uint8)


def draws(kind, seed):
    return np.random.default_rng((CORRUPTION_SEED, CORRUPTIONS.index(kind), seed))


def to_uint8(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def noise_reference(images, rng):
    return [
        to_uint8(image + 0.25 * 255 * rng.standard_normal(image.shape, dtype=np.float32))
        for image in images
    ]


def occlusion_reference(images, rng):
    result = images.copy()
    _, h, w, _ = images.shape
    side = round(20 / 32 * min(h, w))
    for image in result:
        top, left = rng.random(2)
        top, left = int(top * (h - side + 1)), int(left * (w - side + 1))
        image[top : top + side, left : left + side] = 0
    return result


def resolution_reference(images, rng):
    result = images.copy()
    _, h, w, _ = images.shape
    cell = min(h, w) / 8
    for image in result:
        clean = image.astype(float)
        for i in range(h):
            for j in range(w):
                rows = [a for a in range(h) if int(a / cell) == int(i / cell)]
                columns = [b for b in range(w) if int(b / cell) == int(j / cell)]
                image[i, j] = np.rint(clean[np.ix_(rows, columns)].mean(axis=(0, 1)))
    return result


def fog_reference(images, rng):
    result = []
    _, h, w, _ = images.shape
    for image in images:
        noise = rng.random(sum(g * g for g in FOG_GRIDS), dtype=np.float32)
        field, start = np.zeros((h, w)), 0
        for level, g in enumerate(FOG_GRIDS):
            grid = noise[start : start + g * g].reshape(g, g)
            start += g * g
            columns = np.linspace(0, g - 1, w)
            lines = np.array([np.interp(columns, range(g), line) for line in grid])
            rows = np.linspace(0, g - 1, h)
            smooth = np.array([np.interp(rows, range(g), lines[:, j]) for j in range(w)]).T
            field += smooth / 2**level
        field = (field - field.min()) / (field.max() - field.min())
        density = FOG_DENSITY[0] + (FOG_DENSITY[1] - FOG_DENSITY[0]) * field[..., None]
        result.append(to_uint8((1 - density) * image + density * FOG_COLOUR))
    return result


def motion_blur_reference(images, rng):
    result = images.copy()
    _, h, w, _ = images.shape
    length = max(3, round(9 / 32 * min(h, w)))
    for clean, blurred in zip(images.astype(float), result, strict=True):
        angle = np.pi * rng.random()
        for i in range(h):
            for j in range(w):
                path = []
                for step in np.arange(length) - (length - 1) / 2:
                    row = i + round(step * np.sin(angle))
                    column = j + round(step * np.cos(angle))
                    path.append(clean[min(max(row, 0), h - 1), min(max(column, 0), w - 1)])
                blurred[i, j] = np.rint(np.mean(path, axis=0))
    return result


REFERENCES = {
    "gaussian noise": noise_reference,
    "occlusion": occlusion_reference,
    "resolution": resolution_reference,
    "fog": fog_reference,
    "motion blur": motion_blur_reference,
}


@pytest.mark.parametrize(("h", "w"), [(32, 32), (19, 27), (8, 8)])
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_equals_its_reference(kind, h, w):
    images = some_images(3, h, w)
    expected = np.array(REFERENCES[kind](images, draws(kind, 5)), dtype=int)
    difference = np.abs(corrupt(images, kind, 5).astype(int) - expected)
    # float32 against float64: a value halfway between two may round to either
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_every_image_changes_and_the_input_does_not(kind):
    images = some_images()
    before = images.copy()
    corrupted = corrupt(images, kind, 0)
    assert np.all(np.any(corrupted != images, axis=(1, 2, 3)))
    assert corrupted.dtype == np.uint8
    assert corrupted.shape == images.shape
    assert np.array_equal(images, before)
    assert np.array_equal(corrupt(images, kind, 0), corrupted)


@pytest.mark.parametrize("kind", [kind for kind in CORRUPTIONS if kind != "resolution"])
def test_seed_and_place_decide(kind):
    images = np.repeat(some_images(1), 4, axis=0)
    corrupted = corrupt(images, kind, 0)
    assert not np.array_equal(corrupted, corrupt(images, kind, 1))
    assert not np.array_equal(corrupted[0], corrupted[1])


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_blocks_do_not_show(kind, monkeypatch):
    images = some_images()
    whole = corrupt(images, kind, 2)
    monkeypatch.setattr(corruptions, "_BLOCK", 5)
    assert np.array_equal(corrupt(images, kind, 2), whole)


@pytest.mark.parametrize(("size", "hidden"), [(32, 20), (64, 40)])
def test_occlusion_grows_with_the_image(size, hidden):
    black = (corrupt(some_images(6, size, size), "occlusion", 0) == 0).all(axis=3)
    assert black.sum(axis=(1, 2)).tolist() == [hidden**2] * 6


@pytest.mark.parametrize("size", [32, 64, 40])
def test_resolution_leaves_eight_cells_a_side(size):
    coarse = corrupt(some_images(2, size, size), "resolution", 0)
    for axis in (1, 2):
        steps = np.any(np.diff(coarse.astype(int), axis=axis), axis=(0, 3 - axis, 3))
        assert steps.sum() == 7


def test_uniform_images_stay_uniform_where_they_should():
    images = np.full((3, 32, 32, 3), 77, dtype=np.uint8)
    assert np.all(corrupt(images, "motion blur", 0) == 77)
    assert np.all(corrupt(images, "resolution", 0) == 77)
    foggy = corrupt(images, "fog", 0)
    assert foggy.min() == round(77 + 0.4 * (FOG_COLOUR - 77))
    assert foggy.max() == round(77 + 0.85 * (FOG_COLOUR - 77))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.2, 1.0])
def test_share_is_exact_and_the_others_are_untouched(share):
    images = some_images(130)
    before = images.copy()
    result, corrupted_n = corrupt_share(images, share, 0)
    changed = np.any(result != images, axis=(1, 2, 3))
    assert corrupted_n.sum() == round(share * 130)
    assert np.array_equal(changed, corrupted_n)
    assert np.array_equal(images, before)


def test_kinds_are_shared_out_evenly(monkeypatch):
    counts = {}

    def count(images, kind, seed):
        counts[kind] = len(images)
        return images

    monkeypatch.setattr(corruptions, "corrupt", count)
    corrupt_share(some_images(130), 0.1, 0)
    assert [counts[kind] for kind in CORRUPTIONS] == [3, 3, 3, 2, 2]


def test_a_larger_share_corrupts_the_same_and_more():
    images = some_images(100)
    small, small_n = corrupt_share(images, 0.2, 4)
    large, large_n = corrupt_share(images, 0.5, 4)
    assert np.all(large_n[small_n])
    assert np.array_equal(small[small_n], large[small_n])
    assert not np.array_equal(corrupt_share(images, 0.2, 5)[1], small_n)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([1, 2], "`images` must be an array of uint8; got list"),
        (np.zeros((2, 32, 32, 3)), "must be an array of uint8; got float64. Scale them"),
        (np.zeros((2, 32, 32), dtype=np.uint8), r"shape \(n, h, w, 3\), .* got \(2, 32, 32\)"),
        (np.zeros((2, 32, 7, 3), dtype=np.uint8), "h and w at least 8; got"),
    ],
)
def test_bad_images_are_named(images, message):
    with pytest.raises(InvalidInputError, match=message):
        corrupt(images, "fog", 0)
    with pytest.raises(InvalidInputError, match=message):
        corrupt_share(images, 0.5, 0)


def test_bad_arguments_are_named():
    images = some_images(2)
    with pytest.raises(InvalidInputError, match=r"`kind` must be one of .*'fog', .*'rain'"):
        corrupt(images, "rain", 0)
    with pytest.raises(InvalidInputError, match="`share` must be"):
        corrupt_share(images, 1.5, 0)
    with pytest.raises(InvalidInputError, match="`seed` must be at least 0; got -1"):
        corrupt(images, "fog", -1)


def test_grey_is_the_luma_of_each_pixel():
    images = some_images(n=3, h=8, w=9)
    before = images.copy()
    found = grey(images)
    assert found.dtype == np.uint8
    for at in np.ndindex(3, 8, 9):
        red, green, blue = (int(value) for value in images[at])
        assert found[at].tolist() == [round(0.299 * red + 0.587 * green + 0.114 * blue)] * 3
    np.testing.assert_array_equal(images, before)
