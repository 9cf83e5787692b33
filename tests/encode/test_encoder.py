import contextlib
import gzip
import io
import json
import logging
import pickle
import re
import socket
import subprocess
import sys
import time

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image, ImageDraw
from torch.utils.data import Dataset

import clip_al.encode.clip_models as models_module
from clip_al import ClipEncoder
from clip_al.errors import (
    CutTextsWarning,
    InvalidInputError,
    InvalidTypeError,
    SkippedImagesWarning,
    UnreadableImageError,
)
from clip_al.images.sources import image_source
from tests.tiny_clip import MERGES, write_tiny_clip


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (21, 40, 50, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pixels):
    root = tmp_path_factory.mktemp("images")
    for i, image in enumerate(pixels):
        (root / str(i % 3)).mkdir(exist_ok=True)
        Image.fromarray(image).save(root / str(i % 3) / f"{i:02}.png")
    return root


class Pictures(Dataset):
    def __init__(self, pixels):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        if index == 5:
            raise KeyError("no label")
        return Image.fromarray(self.pixels[index]), 3


# --- images --------------------------------------------------------------------------------


def test_embeddings_are_those_of_open_clip(tiny, encoder, pixels):
    model, _, preprocess = open_clip.create_model_and_transforms(tiny)
    model.eval()
    with torch.inference_mode():
        batch = torch.stack([preprocess(Image.fromarray(image)) for image in pixels[:8]])
        expected = model.encode_image(batch, normalize=True).numpy()
    Z = encoder.encode_images(pixels[:8])
    assert Z.dtype == np.float32
    assert Z.flags.c_contiguous
    assert Z.flags.writeable
    np.testing.assert_allclose(Z, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1.0, atol=1e-6)


def test_every_kind_of_images_gives_the_same_bytes(encoder, pixels, folder):
    expected = encoder.encode_images(pixels)
    order = [int(name[-6:-4]) for name in image_source(folder).ids]
    paths = [str(folder / str(i % 3) / f"{i:02}.png") for i in range(len(pixels))]
    np.testing.assert_array_equal(encoder.encode_images(list(pixels)), expected)
    np.testing.assert_array_equal(
        encoder.encode_images([Image.fromarray(p) for p in pixels]), expected
    )
    np.testing.assert_array_equal(encoder.encode_images(paths), expected)
    shuffled = encoder.encode_images([pixels[i] for i in order])
    np.testing.assert_array_equal(encoder.encode_images(folder), shuffled)


def test_worker_processes_change_nothing(tiny, encoder, folder):
    two = ClipEncoder(tiny, batch_size=8, n_workers=2, device="cpu")
    np.testing.assert_array_equal(two.encode_images(folder), encoder.encode_images(folder))


def test_batches_begin_anywhere(encoder, pixels):
    whole = encoder.encode_images(pixels)
    batches = list(encoder.iter_embeddings(pixels, start=8))
    assert [batch.start for batch in batches] == [8, 16]
    np.testing.assert_array_equal(np.concatenate([b.embeddings for b in batches]), whole[8:])
    assert [b.start for b in encoder.iter_embeddings(pixels, batch_size=20)] == [0, 20]
    assert list(encoder.iter_embeddings(pixels, start=21)) == []


def test_greys_and_transparency_are_encoded(encoder):
    images = [
        Image.new(mode, (20, 30)) for mode in ("L", "LA", "1", "P", "RGBA", "CMYK", "I;16", "HSV")
    ]
    Z = encoder.encode_images(images)
    assert np.isfinite(Z).all()
    np.testing.assert_array_equal(Z[0], Z[4])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_is_close_and_float32(tiny, encoder, pixels, precision):
    lower = ClipEncoder(tiny, precision=precision, batch_size=8, device="cpu")
    Z, expected = lower.encode_images(pixels), encoder.encode_images(pixels)
    assert Z.dtype == np.float32
    assert 0 < np.abs(Z - expected).max() < 0.05
    np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1.0, atol=1e-6)
    assert lower.key() == {**encoder.key(), "precision": precision}


# --- unreadable images ---------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path, pixels, monkeypatch):
    """Eight good images, and one of every way in which an image can be bad."""
    good = []
    for i in range(8):
        good.append(str(tmp_path / f"good{i}.jpg"))
        Image.fromarray(pixels[i]).save(good[-1], quality=95)
    whole = (tmp_path / "good0.jpg").read_bytes()
    (tmp_path / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not a picture")
    file = io.BytesIO()
    Image.fromarray(pixels[0]).save(file, "png")
    (tmp_path / "torn.png").write_bytes(file.getvalue()[:200])
    (tmp_path / "folder.png").mkdir()
    Image.new("1", (200, 200)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    names = ("truncated.jpg", "empty.png", "text.jpg", "torn.png", "folder.png", "bomb.png")
    bad = [str(tmp_path / name) for name in (*names, "missing.png")]
    mixed = [path for pair in zip(bad, good[:7], strict=True) for path in pair] + good[7:]
    return good, bad, mixed


REASONS = [
    "image file is truncated",
    "the file is empty",
    "not an image that Pillow can read",
    "unrecognized data stream|truncated|broken",
    "a folder, not a file",
    "Image size .40000 pixels. exceeds limit",
    "no such file",
]


def test_unreadable_images_are_named_after_all_others_were_encoded(encoder, broken):
    good, bad, mixed = broken
    with pytest.raises(UnreadableImageError) as caught:
        encoder.encode_images(mixed)
    assert [where for where, _ in caught.value.failures] == bad
    for (_, why), pattern in zip(caught.value.failures, REASONS, strict=True):
        assert re.search(pattern, why), why
    message = str(caught.value)
    assert message.startswith(f"Every image must be readable; 7 are not: {bad[0]} (image file")
    assert message.endswith(
        'Repair or leave them out, or pass errors="skip" for rows of NaN in their place; '
        "`.embeddings` of this error holds the rows of all others."
    )
    readable = [i for i, path in enumerate(mixed) if path in good]
    np.testing.assert_allclose(
        caught.value.embeddings[readable], encoder.encode_images(good), atol=1e-6
    )


@pytest.mark.parametrize("n_workers", [0, 2])
def test_skipped_images_are_rows_of_nan(tiny, encoder, broken, n_workers):
    good, bad, mixed = broken
    with pytest.warns(SkippedImagesWarning, match=r"7 are not.*Their rows are NaN\.$") as caught:
        Z = ClipEncoder(tiny, batch_size=8, n_workers=n_workers, device="cpu").encode_images(
            mixed, errors="skip"
        )
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(np.isnan(Z).any(axis=1), [path in bad for path in mixed])
    np.testing.assert_array_equal(np.isnan(Z).all(axis=1), [path in bad for path in mixed])
    readable = [i for i, path in enumerate(mixed) if path in good]
    np.testing.assert_allclose(Z[readable], encoder.encode_images(good), atol=1e-6)


def test_an_unreadable_image_does_not_change_the_bits_of_the_others(encoder, folder):
    paths = [str(folder / name) for name in image_source(folder).ids]
    whole = encoder.encode_images(paths)
    with pytest.warns(SkippedImagesWarning):
        Z = encoder.encode_images([*paths[:3], "missing.png", *paths[4:]], errors="skip")
    np.testing.assert_array_equal(np.delete(Z, 3, axis=0), np.delete(whole, 3, axis=0))


def test_items_that_are_no_images_are_named_by_position(encoder, pixels):
    with pytest.raises(UnreadableImageError) as caught:
        encoder.encode_images([pixels[0], np.zeros(3, np.uint8), {"no": "image"}])
    assert caught.value.failures == [
        ("image 1", "must have shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); got (3,)"),
        ("image 2", "must be a path, PIL image or array; got dict"),
    ]


def test_an_item_that_a_dataset_cannot_give_is_named(encoder, pixels):
    with pytest.raises(UnreadableImageError, match=r"image 5 \(KeyError: 'no label'\)") as caught:
        encoder.encode_images(Pictures(pixels))
    expected = encoder.encode_images(pixels)
    np.testing.assert_array_equal(
        np.delete(caught.value.embeddings, 5, axis=0), np.delete(expected, 5, axis=0)
    )


def test_no_readable_image_at_all_is_an_error_whatever_was_asked(encoder):
    with pytest.raises(UnreadableImageError, match=r"2 are not: a.png .no such file., b.png"):
        encoder.encode_images(["a.png", "b.png"], errors="skip")


def test_errors_must_be_known(encoder, pixels):
    with pytest.raises(InvalidInputError, match="`errors` must be one of 'raise', 'skip'"):
        encoder.encode_images(pixels, errors="ignore")


def test_nan_from_the_model_is_an_error(tiny, tmp_path, pixels):
    loaded = ClipEncoder(tiny, device="cpu")
    with torch.no_grad():
        loaded._load().model.visual.proj.fill_(torch.nan)
    with pytest.raises(InvalidInputError) as caught:
        loaded.encode_images(pixels)
    assert str(caught.value) == (
        "The model must give finite embeddings; local-dir:tiny gave NaN or infinity at precision "
        "fp32. Pass precision='fp32', or check the weights."
    )


# --- texts ---------------------------------------------------------------------------------


def test_texts_are_those_of_open_clip(tiny, encoder):
    model = open_clip.create_model(tiny).eval()
    tokenizer = open_clip.get_tokenizer(
        tiny, bpe_path=tiny.removeprefix("local-dir:") + "/bpe_merges.txt.gz"
    )
    assert tokenizer("dog")[0, 1] == 513  # the vocabulary beside the model is the one in use
    with torch.inference_mode():
        expected = model.encode_text(tokenizer(["dog", "a cat"]), normalize=True).numpy()
    T = encoder.encode_texts(["dog", "a cat"])
    assert T.dtype == np.float32
    np.testing.assert_allclose(T, expected, atol=1e-6)


def test_the_default_vocabulary_serves_a_folder_without_one(tmp_path):
    plain = ClipEncoder(write_tiny_clip(tmp_path / "plain", bpe=False), device="cpu")
    assert plain.encode_texts(["dog"]).shape == (1, 16)


def test_templates_are_averaged_across_batches(encoder):
    texts = ["dog", "cat", "{odd} text"]
    templates = ["{}", "a {}", "two {} here", "no {}"]
    filled = [encoder.encode_texts([t.replace("{}", x) for x in texts]) for t in templates]
    mean = np.mean(filled, axis=0)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    T = encoder.encode_texts(texts, templates=templates)
    np.testing.assert_allclose(T, expected, atol=1e-6)
    np.testing.assert_array_equal(
        encoder.encode_texts(texts, templates=["{}"]), encoder.encode_texts(texts)
    )


@pytest.mark.parametrize(
    ("texts", "templates", "error", "message"),
    [
        ([], None, InvalidInputError, "`texts` must hold at least one text .* got none"),
        (["a", " "], None, InvalidInputError, "`texts` .* got an empty one. Leave it out."),
        ("dog", None, InvalidTypeError, "`texts` must be a sequence of strings. Pass a list"),
        ([3], None, InvalidTypeError, "`texts` must be a sequence of strings"),
        (["a"], [], InvalidInputError, "`templates` must hold at least one"),
        (["a"], "a {}", InvalidTypeError, "`templates` must be a sequence"),
        (["a"], ["a photo"], InvalidInputError, "one {} for the text; got 'a photo'. Write it"),
        (["a"], ["{} and {}"], InvalidInputError, "got '{} and {}'"),
    ],
)
def test_texts_and_templates_are_checked(encoder, texts, templates, error, message):
    with pytest.raises(error, match=message):
        encoder.encode_texts(texts, templates=templates)


# --- what a model is called ----------------------------------------------------------------


def test_the_key_names_model_weights_and_preprocessing(encoder):
    key = encoder.key()
    assert key["model"] == "local-dir:tiny"
    assert len(key["weights"]) == 64
    assert encoder.model_id == f"local-dir:tiny@{key['weights'][:8]}"
    assert (
        key["preprocessing"]
        == encoder.preprocessing
        == (
            "RGB 32x32 shortest bicubic mean=0.5,0.4,0.3 std=0.26862954,0.26130258,0.27577711 "
            "reading=2"
        )
    )
    assert key["precision"] == "fp32"
    assert encoder.embedding_dim == 16


def test_the_hash_follows_weights_vocabulary_and_configuration(tmp_path, encoder):
    def weights(name, **kw):
        return ClipEncoder(write_tiny_clip(tmp_path / name, **kw), device="cpu").key()["weights"]

    def changed(name, file, content):
        model = write_tiny_clip(tmp_path / name)
        (tmp_path / name / file).write_bytes(content)
        return ClipEncoder(model, device="cpu").key()["weights"]

    same = encoder.key()["weights"]
    assert weights("renamed") == same
    assert weights("retrained", seed=1) != same
    other = gzip.compress(MERGES.replace("d o", "o d").encode())
    assert changed("vocabulary", "bpe_merges.txt.gz", other) != same
    config = (tmp_path / "renamed" / "open_clip_config.json").read_text()
    quick = config.replace('"embed_dim"', '"quick_gelu": true, "embed_dim"')
    assert changed("activation", "open_clip_config.json", quick.encode()) != same


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ViT-B-33",), "'local-dir:PATH'; got 'ViT-B-33'. The closest are ViT-B-32"),
        (("mimi",), "`model` must be 'mini', a model of open_clip"),
        (("ViT-B-32",), "weights of ViT-B-32, one of openai, laion400m_e31, .*; got None. Random"),
        (("ViT-B-32", "laion"), "got 'laion'. Random weights would give"),
        (("vit-b-32", "openai"), "got 'vit-b-32'. The closest are ViT-B-32"),
        (("mini", "openai"), "must be left out with 'mini', which brings its own weights; got"),
        (("local-dir:/none",), "and open_clip_model.safetensors; '/none' has not both. Check the"),
    ],
)
def test_models_that_cannot_be_had(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        ClipEncoder(*arguments).embedding_dim  # noqa: B018


def test_a_folder_without_weights_is_refused(tmp_path):
    model = write_tiny_clip(tmp_path / "bare")
    (tmp_path / "bare" / "open_clip_model.safetensors").unlink()
    with pytest.raises(InvalidInputError, match="has not both"):
        ClipEncoder(model).encode_texts(["dog"])


def test_weights_of_another_shape_are_refused(tmp_path):
    model = write_tiny_clip(tmp_path / "damaged")
    (tmp_path / "damaged" / "open_clip_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InvalidInputError, match=r"The weights of local-dir:.* could not be loaded"):
        ClipEncoder(model).encode_texts(["dog"])


def test_a_missing_mini_model_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(models_module, "MODEL_DIR", tmp_path)
    with pytest.raises(InvalidInputError, match=r"has not both. Install clip_al again\.$"):
        ClipEncoder().embedding_dim  # noqa: B018


def test_weights_that_cannot_be_downloaded_name_the_remedy(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no connection")

    monkeypatch.setattr("open_clip.factory.download_pretrained", unreachable)
    monkeypatch.setattr("open_clip.factory.download_pretrained_from_hf", unreachable)
    with pytest.raises(InvalidInputError) as caught:
        ClipEncoder("ViT-B-32", "laion2b_s34b_b79k").embedding_dim  # noqa: B018
    assert str(caught.value) == (
        "The weights of ViT-B-32/laion2b_s34b_b79k could not be loaded: no connection. "
        "Without a network: copy open_clip_config.json and open_clip_model.safetensors of "
        "huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K into a folder and pass "
        "model='local-dir:FOLDER', or use 'mini', which ships with clip_al."
    )
    with pytest.raises(
        InvalidInputError, match=r"of hf-hub:org/repo could .* huggingface.co/org/r"
    ):
        ClipEncoder("hf-hub:org/repo").embedding_dim  # noqa: B018


def slow_error(*args):
    time.sleep(0.1)
    return OSError(*args)


def test_a_download_that_fails_is_one_message(monkeypatch, caplog, capfd):
    """open_clip asks for several files, and huggingface_hub tries each of them five times."""

    def unreachable(*args, **kwargs):
        for attempt in range(5):
            log = logging.getLogger("huggingface_hub.utils._http")
            log.warning("'[Errno -3] ...' thrown while requesting HEAD https://huggingface.co")
            log.warning(f"Retrying in 1s [Retry {attempt}/5].")
        try:
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        except OSError as exc:
            raise ConnectionError("MaxRetryError(...)\n" * 40) from exc

    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", unreachable)
    with caplog.at_level(logging.DEBUG), pytest.raises(InvalidInputError) as caught:
        ClipEncoder("ViT-B-32", "laion2b_s34b_b79k").embedding_dim  # noqa: B018
    assert str(caught.value).startswith(
        "The weights of ViT-B-32/laion2b_s34b_b79k could not be loaded: Temporary failure in name "
        "resolution. Without a network: copy open_clip_config.json"
    )
    assert str(caught.value).count("\n") == 0
    assert [r for r in caplog.records if "Retrying" in r.message or "thrown" in r.message] == []
    assert capfd.readouterr().err == ""
    monkeypatch.setattr("clip_al.progress.EVERY_S", 0.01)
    monkeypatch.setattr(socket, "gaierror", slow_error)
    with pytest.raises(InvalidInputError):
        ClipEncoder("ViT-B-32", "laion2b_s34b_b79k").embedding_dim  # noqa: B018
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert all(re.match(r"No answer yet for the weights of ViT-B-32/.*: \d s$", x) for x in lines)
    logging.getLogger("huggingface_hub.utils._http").warning("later")
    assert "later" in caplog.text


def test_an_open_clip_name_takes_a_checkpoint_file(tmp_path, monkeypatch, pixels):
    folder = tmp_path / "named"
    write_tiny_clip(folder)
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-Tiny", config)
    named = ClipEncoder("ViT-Tiny", str(folder / "open_clip_model.safetensors"), device="cpu")
    assert named.model_id.startswith("ViT-Tiny/open_clip_model.safetensors@")
    assert named.encode_images(pixels[:2]).shape == (2, 16)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"device": "gpu"}, InvalidInputError, "`device` must be one .*; got 'gpu'. Pass 'cpu'"),
        ({"precision": "int8"}, InvalidInputError, "`precision` must be one of 'fp32', 'bf16'"),
        ({"batch_size": 0}, InvalidInputError, "`batch_size` must be at least 1; got 0"),
        ({"n_workers": -1}, InvalidInputError, "`n_workers` must be at least 1; got -1"),
    ],
)
def test_settings_are_checked_on_first_use(tiny, pixels, settings, error, message):
    encoder = ClipEncoder(tiny, **settings)
    with pytest.raises(error, match=message):
        encoder.encode_images(pixels)


# --- laziness, progress, workers -----------------------------------------------------------


def test_nothing_is_loaded_before_the_first_use():
    code = (
        "import sys, clip_al; clip_al.ClipEncoder('no such model', device='none');"
        "print([m for m in ('torch', 'torchvision', 'open_clip', 'rich') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_copies_and_pickles_leave_the_model_behind(encoder, pixels):
    expected = encoder.encode_images(pixels)
    data = pickle.dumps(encoder)
    assert len(data) < 1000
    copy = pickle.loads(data)
    assert copy._loaded is None
    assert encoder._loaded is not None
    np.testing.assert_array_equal(copy.encode_images(pixels), expected)


def test_workers_are_for_many_files(tiny, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)), raising=False)
    few, many = image_source(["a.png"] * 511), image_source(["a.png"] * 512)
    arrays = image_source(np.zeros((600, 4, 4)))
    encoder = ClipEncoder(tiny)
    assert [encoder._workers(s) for s in (few, many, arrays)] == [0, 3, 0]
    assert ClipEncoder(tiny, n_workers=0)._workers(many) == 0
    assert ClipEncoder(tiny, n_workers=2)._workers(arrays) == 2
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    assert encoder._workers(many) == 16
    monkeypatch.setattr(sys, "platform", "darwin")
    assert encoder._workers(many) == 0


@pytest.mark.parametrize("shown", [True, False])
def test_progress_is_for_terminals(tiny, pixels, monkeypatch, shown):
    monkeypatch.setenv("FORCE_COLOR" if shown else "NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
        ClipEncoder(tiny, batch_size=8, device="cpu").encode_images(pixels)
        silent = len(stream.getvalue())
        ClipEncoder(tiny, batch_size=8, device="cpu", progress=False).encode_images(pixels)
    assert len(stream.getvalue()) == silent
    assert ("Encoding images" in stream.getvalue()) == shown
    assert ("16/21" in stream.getvalue() and "/s" in stream.getvalue()) == shown


def test_every_resize_mode_encodes_what_open_clip_would(tmp_path):
    picture = Image.new("RGB", (50, 20), "white")
    ImageDraw.Draw(picture).ellipse((5, 2, 30, 18), fill="red")
    for mode in ("shortest", "longest", "squash"):
        model_name = write_tiny_clip(tmp_path / mode)
        file = tmp_path / mode / "open_clip_config.json"
        config = json.loads(file.read_text())
        config["preprocess_cfg"].update(resize_mode=mode, interpolation="bilinear")
        file.write_text(json.dumps(config))
        model, _, preprocess = open_clip.create_model_and_transforms(model_name)
        with torch.inference_mode():
            expected = model.eval().encode_image(preprocess(picture)[None], normalize=True).numpy()
        encoder = ClipEncoder(model_name, device="cpu")
        np.testing.assert_allclose(encoder.encode_images([picture]), expected, atol=1e-6)
        assert f"{mode} bilinear" in encoder.preprocessing


def test_texts_that_differ_beyond_the_context_are_named(encoder, recwarn):
    long = "a photo of a dog " * 40
    encoder.encode_texts([long, "cat", "cat", "Cat"])  # one that is cut is no harm
    assert not recwarn.list
    with pytest.warns(
        CutTextsWarning, match="2 differ only in what it cuts off .* in snow'"
    ) as seen:
        Z = encoder.encode_texts([f"{long} in snow", "cat", f"{long} at night"])
    assert seen[0].filename == __file__
    np.testing.assert_array_equal(Z[0], Z[2])
    with pytest.warns(CutTextsWarning, match="2 differ"):
        encoder.encode_texts(["cat", "dog"], templates=[long + "{}"])
