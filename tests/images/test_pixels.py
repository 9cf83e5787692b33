"""One image of any kind becomes RGB: upright, deep values by what they hold, bounded memory."""

import io
import os
import socket
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from clip_al.errors import InvalidInputError, InvalidTypeError, MissingDependencyError
from clip_al.images import pixels
from clip_al.images.pixels import crop_extreme, full_scale, open_image, to_rgb
from clip_al.images.sources import image_source


def grey_of(item):
    return np.asarray(to_rgb(item))[..., 0].tolist()


def test_arrays_of_every_accepted_form():
    grey = np.array([[0, 51], [102, 255]], np.uint8)
    expected = grey.tolist()
    assert grey_of(grey) == expected
    assert grey_of(grey[..., None]) == expected
    assert grey_of(np.stack([grey] * 3, -1)) == expected
    assert grey_of(np.stack([grey] * 4, -1)) == expected
    assert grey_of(grey / 255) == expected
    assert grey_of((grey / 255).astype(np.float16)) == expected
    assert grey_of(grey > 60) == [[0, 0], [255, 255]]
    assert grey_of((grey, 7)) == expected


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (np.zeros(3, np.uint8), r"must have shape .* got \(3,\)"),
        (np.zeros((3, 8, 8), np.uint8), r"got \(3, 8, 8\)"),
        (np.zeros((0, 4), np.uint8), r"got \(0, 4\)"),
        (np.full((2, 2), 2.0), "must be in .0, 1.; got values from 2 to 2"),
        (np.zeros((2, 2), np.int32), "must be uint8"),
    ],
)
def test_other_arrays_are_refused(item, message):
    with pytest.raises(InvalidInputError, match=message):
        to_rgb(item)


def test_other_items_are_refused():
    with pytest.raises(InvalidTypeError, match="must be a path, PIL image or array; got dict"):
        to_rgb({"image": 3})


def test_every_mode_becomes_rgb(tmp_path):
    red = Image.new("RGB", (3, 3), (200, 30, 40))
    for mode, ending in (("RGB", "png"), ("P", "png"), ("RGBA", "png"), ("CMYK", "tif")):
        file = tmp_path / f"{mode}.{ending}"
        red.convert(mode).save(file)
        with Image.open(file) as image:
            assert image.mode == mode
        rgb = to_rgb(file)
        assert rgb.mode == "RGB"
        assert np.abs(np.asarray(rgb)[0, 0].astype(int) - (200, 30, 40)).max() <= 25, mode
    for mode, value in (("L", 90), ("LA", 90), ("1", 255)):
        assert grey_of(Image.new("L", (1, 1), value).convert(mode)) == [[value]]


def test_deep_greys_are_scaled_and_not_clipped(tmp_path):
    deep = np.array([[0, 257 * 7], [257 * 100 + 3, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    expected = [[0, 7], [100, 255]]
    assert grey_of(tmp_path / "deep.png") == expected
    assert grey_of(Image.fromarray(deep.astype(np.int32))) == expected
    assert grey_of(Image.fromarray(np.array([[0.0, 1.0]], np.float32))) == [[0, 255]]
    assert grey_of(Image.fromarray(np.array([[0.0, 51.0]], np.float32))) == [[0, 51]]
    with pytest.raises(InvalidInputError, match="got values from 0 to 900"):
        to_rgb(Image.fromarray(np.array([[0.0, 900.0]], np.float32)))
    with pytest.raises(InvalidInputError, match=r"must be in \[0, 65535\]; got 0 to 70000"):
        to_rgb(Image.fromarray(np.array([[0, 70000]], np.int32)))


def test_images_in_memory_are_not_changed():
    picture, array = Image.new("RGB", (4, 4), "red"), np.full((4, 4, 3), 0.5)
    before = picture.tobytes(), array.copy()
    to_rgb(picture), to_rgb(array)
    assert picture.tobytes() == before[0]
    np.testing.assert_array_equal(array, before[1])


# --- upright -------------------------------------------------------------------------------


def sideways(path, orientation=6, **options):
    """Write a picture that lies as a camera's sensor does; return it upright."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 3, 3), dtype=np.uint8))
    upright = coarse.resize((48, 64), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = orientation
    back = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180}[orientation]
    upright.transpose(back).save(path, exif=exif, **options)
    return upright


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_what_pillow_makes_of_it(tmp_path, orientation):
    image = Image.fromarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as file:
        expected = ImageOps.exif_transpose(file)
    np.testing.assert_array_equal(to_rgb(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_photos_are_upright_on_every_path(tmp_path, ending):
    quality = {} if ending in ("png", "tif") else {"quality": 100}
    upright = sideways(tmp_path / f"a.{ending}", **quality)
    content = (tmp_path / f"a.{ending}").read_bytes()
    loaded = Image.open(tmp_path / f"a.{ending}")
    for item in (
        str(tmp_path / f"a.{ending}"),
        content,
        Image.open(io.BytesIO(content)),
        loaded.convert("RGB"),  # what torchvision's loader does
        (loaded, 7),
    ):
        found = to_rgb(item)
        assert found.size == (48, 64)
        assert np.abs(np.asarray(found, int) - np.asarray(upright, int)).mean() < 20
        assert to_rgb(found).size == (48, 64)  # never twice
    for images in (tmp_path, [tmp_path / f"a.{ending}"], [loaded]):
        assert image_source(images).load(0).size == (48, 64)
    loaded.close()


def test_a_photo_and_its_upright_copy_have_one_embedding(tmp_path, encoder):
    sideways(tmp_path / "a.png").save(tmp_path / "b.png")
    a, b = encoder.encode_images(tmp_path)
    np.testing.assert_array_equal(a, b)


def test_photos_are_upright_in_ray(tmp_path, encoder):
    from clip_al.integrations.ray.batches import ImageEncoder

    sideways(tmp_path / "a.png").save(tmp_path / "b.png")
    paths = [str(tmp_path / name) for name in ("a.png", "b.png")]
    contents = [(tmp_path / name).read_bytes() for name in ("a.png", "b.png")]
    settings = {"model": encoder.model, "device": "cpu"}
    for images in (paths, contents):
        batch = {"id": np.arange(2), "image": np.array(images, dtype=object)}
        a, b = ImageEncoder("image", "raise", settings)(batch)["embedding"]
        np.testing.assert_array_equal(a, b)


def test_photos_are_upright_in_torchvision_and_datasets(tmp_path):
    from torchvision.datasets import ImageFolder

    from clip_al.integrations import torchvision

    (tmp_path / "cat").mkdir()
    sideways(tmp_path / "cat" / "a.png")
    for options in ({}, {"loader": lambda path: Image.open(path).convert("RGB")}):
        images = torchvision.images_of(ImageFolder(tmp_path, **options))
        assert image_source(images).load(0).size == (48, 64)
    datasets = pytest.importorskip("datasets")
    from clip_al.integrations import hugging_face

    rows = {"image": [str(tmp_path / "cat" / "a.png")]}
    dataset = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    assert image_source(hugging_face.images_of(dataset)).load(0).size == (48, 64)


def test_a_damaged_exif_block_costs_no_image(tmp_path):
    Image.new("RGB", (6, 3)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert to_rgb(tmp_path / "a.jpg").size == (6, 3)


def test_the_callers_own_image_is_not_turned(tmp_path):
    sideways(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        to_rgb(image)
        assert (image.size, image.getexif()[0x0112]) == ((64, 48), 6)


# --- deep values ---------------------------------------------------------------------------


def png_16(values):
    """Return a PNG of 16 bits a colour, which Pillow does not write."""
    height, width, n_colours = values.shape

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    kind = {3: 2, 4: 6}[n_colours]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff_16(values, order):
    """Return an uncompressed TIFF of 16-bit RGB in either byte order."""
    height, width, n_colours = values.shape
    data = values.astype(f"{order}u2").tobytes()
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8 + 2 + 10 * 12 + 4), (259, 3, 1, 1),
        (262, 3, 1, 2), (273, 4, 1, 8 + 2 + 10 * 12 + 4 + 6), (277, 3, 1, n_colours),
        (278, 4, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1),
    ]  # fmt: skip
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}IH", 8, len(tags))
    for tag, kind, n, value in tags:
        packed = struct.pack(f"{order}HH", value, 0) if kind == 3 and n == 1 else None
        head += struct.pack(f"{order}HHI", tag, kind, n)
        head += packed or struct.pack(f"{order}I", value)
    return head + struct.pack(f"{order}I", 0) + struct.pack(f"{order}3H", 16, 16, 16) + data


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_greys_are_as_bright_as_their_bits_say(tmp_path, bits, ending):
    grey = np.random.default_rng(0).integers(0, 2**bits, (20, 30)).astype(np.uint16)
    grey[0, 0] = 2**bits - 1
    Image.fromarray(grey).save(tmp_path / f"a.{ending}")
    expected = grey / (2**bits - 1) * 255
    assert np.abs(np.array(grey_of(tmp_path / f"a.{ending}")) - expected).max() <= 0.5


@pytest.mark.parametrize("n_colours", [3, 4])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_colours_are_as_bright_as_their_bits_say(bits, n_colours):
    values = np.random.default_rng(0).integers(0, 2**bits, (20, 30, n_colours))
    values[0, 0] = 2**bits - 1
    values[..., 3:] = 65535
    expected = values[..., :3] / (2**bits - 1) * 255
    contents = [png_16(values)]
    if n_colours == 3:
        contents += [tiff_16(values, "<"), tiff_16(values, ">")]
    for content in contents:
        assert np.abs(np.asarray(to_rgb(content), float) - expected).max() <= 1.0
        lazy = Image.open(io.BytesIO(content))
        np.testing.assert_array_equal(to_rgb(lazy), to_rgb(content))


def test_twelve_bits_in_a_16_bit_file_embed_as_the_picture_they_are(tmp_path, mini):
    grey = np.add.outer(np.arange(64), 2 * np.arange(64)).astype(np.uint16) * 21 % 4096
    Image.fromarray(grey).save(tmp_path / "deep.png")
    Image.fromarray((grey / 16).astype(np.uint8)).save(tmp_path / "plain.png")
    deep, plain = mini.encode_images(tmp_path)
    assert deep @ plain > 0.999


def test_full_scale_is_the_fewest_bits_that_hold_all():
    tops = [0, 255, 256, 1023, 1024, 4095, 4096, 16383, 16384, 65535]
    scales = [full_scale(np.array([0, top])) for top in tops]
    assert scales == [255, 255, 1023, 1023, 4095, 4095, 16383, 16383, 65535, 65535]


# --- bounded, and no hang ------------------------------------------------------------------


def test_a_very_long_image_is_cut_to_its_middle():
    for size in [(65_000, 1), (1, 65_000), (330, 10)]:
        cropped = crop_extreme(Image.new("RGB", size))
        assert max(cropped.size) == 16 * min(cropped.size) == 16 * min(size)
    picture = Image.new("RGB", (160, 10))
    assert crop_extreme(picture) is picture
    marked = Image.new("L", (1001, 2))
    marked.putpixel((500, 0), 255)
    assert np.asarray(crop_extreme(marked))[0].argmax() == 16


def test_a_long_thin_image_needs_little_memory(tmp_path, mini):
    """The largest picture that is made of it on the way, in pixels."""
    Image.new("RGB", (65_000, 1), "red").save(tmp_path / "thin.png")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "square.png")
    sizes = []
    resize = Image.Image.resize

    def watched(self, size, *args, **kwargs):
        sizes.append(size[0] * size[1])
        return resize(self, size, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "resize", watched)
        square, thin = mini.encode_images(tmp_path)
    assert 0 < max(sizes) < 2_000_000
    assert square @ thin > 0.999


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(60)
def test_pipes_sockets_and_devices_are_named_and_not_waited_for(tmp_path, encoder):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "b.jpg")
    (tmp_path / "c.jpg").symlink_to("/dev/zero")
    held = socket.socket(socket.AF_UNIX)
    held.bind(str(tmp_path / "d.jpg"))
    source = image_source(tmp_path)
    reasons = {}
    for index, name in enumerate(source.ids):
        source.fingerprint(index, hash_content=True)  # must not wait either
        try:
            source.load(index)
        except InvalidInputError as exc:
            reasons[name] = source.describe_failure(index, exc)
    held.close()
    assert reasons == {
        "b.jpg": "a named pipe, not a file",
        "c.jpg": "a device, not a file",
        "d.jpg": "a socket, not a file",
    }


# --- HEIF ----------------------------------------------------------------------------------


def test_heic_without_its_reader_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    pixels.read_heif.cache_clear()
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(MissingDependencyError, match="HEIC needs pillow-heif, which is not inst"):
        open_image(tmp_path / "a.HEIC")
    pixels.read_heif.cache_clear()


def test_heic_is_read_where_its_reader_is_there(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    upright = Image.new("RGB", (32, 64), "red")
    upright.paste("blue", (0, 0, 32, 32))
    heif = pillow_heif.from_pillow(upright)
    heif.save(tmp_path / "a.heic", quality=100)
    source = image_source(tmp_path)
    assert source.ids == ["a.heic"]
    for image in (source.load(0), to_rgb((tmp_path / "a.heic").read_bytes())):
        assert image.size == (32, 64)
        assert np.abs(np.asarray(image, int) - np.asarray(upright, int)).mean() < 12
