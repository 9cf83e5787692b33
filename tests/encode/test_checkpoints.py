"""Genuine checkpoints in all but their numbers: an OpenCLIP ViT and a SigLIP, through every step.

The weights are random, so that what is compared is the way of an image and a text through
preprocessing, tokenizer and towers to embeddings and probabilities, with open_clip's own.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from scipy.special import expit, softmax
from typer.testing import CliRunner

from clip_al import ClipEncoder
from clip_al.arrays.blocks import unit_block
from clip_al.cli.main import app
from clip_al.concepts.profiles import ConceptProfiles
from clip_al.concepts.vocabulary import DEFAULT_TEMPLATES, ConceptVocabulary
from clip_al.errors import ModelMismatchError
from clip_al.label.coverage_sampling import UncertaintyCoverageSampling, zero_shot
from clip_al.label.head.classifier import ClipClassifier
from clip_al.table.embedding_table import EmbeddingTable
from tests.encode.checkpoints import (
    CLIP_SCALE,
    SIGLIP_BIAS,
    SIGLIP_SCALE,
    write_clip,
    write_siglip,
    write_tokenizer,
)

REAL_CLIP = Path(os.environ.get("CLIP_AL_DATA", "../shared/data")) / "real_clip"
NAMES = ["cat", "dog", "ship", "tree"]
SIZES = [(64, 64), (200, 90), (50, 300), (33, 31), (640, 480)]  # width, height
CONTEXT = {"clip": 77, "siglip": 16}


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (h // 8 + 1, w // 8 + 1, 3), dtype=np.uint8)).resize(
            (w, h), Image.Resampling.BICUBIC
        )
        for w, h in SIZES
    ]


@pytest.fixture(scope="module", params=["clip", "siglip"])
def checkpoint(request, tmp_path_factory):
    """Kind of model, its name, an encoder of ours, open_clip's model, transform and tokenizer."""
    folder = tmp_path_factory.mktemp("checkpoints") / request.param
    name = {"clip": write_clip, "siglip": write_siglip}[request.param](folder)
    model, _, transform = open_clip.create_model_and_transforms(name)
    encoder = ClipEncoder(name, device="cpu", progress=False)
    return request.param, name, encoder, model.eval(), transform, open_clip.get_tokenizer(name)


@torch.no_grad()
def unit(features):
    return torch.nn.functional.normalize(features, dim=-1).numpy()


def test_images_go_through_the_models_own_transform(checkpoint, pictures):
    kind, _, encoder, model, transform, _ = checkpoint
    pixels = torch.stack([transform(picture) for picture in pictures])
    side = {"clip": 64, "siglip": 160}[kind]
    assert pixels.shape[1:] == (3, side, side)
    with torch.no_grad():
        expected = unit(model.encode_image(pixels))
    Z = encoder.encode_images(pictures)
    np.testing.assert_allclose(Z, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1, atol=1e-6)
    # Not that of the other kind: squashed is not cropped, and the mean is another.
    shown = encoder.preprocessing
    assert ("squash" in shown) == (kind == "siglip")
    assert ("mean=0.5,0.5,0.5" in shown) == (kind == "siglip")


def test_texts_go_through_the_models_own_tokenizer(checkpoint):
    kind, _, encoder, model, _, tokenizer = checkpoint
    texts = ["a photo of a cat", "A Dog!", "ship " * 100]
    tokens = tokenizer(texts)
    assert tokens.shape == (3, CONTEXT[kind])
    with torch.no_grad():
        expected = unit(model.encode_text(tokens))
    np.testing.assert_allclose(encoder.encode_texts(texts), expected, atol=1e-5)


def test_what_exceeds_the_context_is_cut_off(checkpoint):
    kind, _, encoder, _, _, _ = checkpoint
    fits, longer = "cat " * (CONTEXT[kind] // 2), "cat " * (2 * CONTEXT[kind])
    rows = encoder.encode_texts([longer, longer + "dog", fits, fits + "dog"])
    assert rows[0].tolist() == rows[1].tolist()
    assert np.abs(rows[2] - rows[3]).max() > 1e-4


def test_scale_and_bias_are_the_models(checkpoint):
    kind, _, encoder, _, _, _ = checkpoint
    expected = (CLIP_SCALE, None) if kind == "clip" else (SIGLIP_SCALE, SIGLIP_BIAS)
    assert encoder.logit_scale == pytest.approx(expected[0], rel=1e-5)
    assert encoder.logit_bias == (None if expected[1] is None else pytest.approx(expected[1]))


def test_zero_shot_probabilities_are_those_of_the_models_logits(checkpoint, pictures):
    kind, _, encoder, model, transform, tokenizer = checkpoint
    pixels = torch.stack([transform(picture) for picture in pictures])
    with torch.no_grad():
        logits = model.get_logits(pixels, tokenizer(NAMES))[0].numpy()
    Z = encoder.encode_images(pictures)
    head = ClipClassifier(NAMES, encoder, templates=["{}"])
    np.testing.assert_allclose(head.predict_proba(Z), softmax(logits, axis=1), atol=1e-3)
    several = ClipClassifier(NAMES, encoder, templates=["{}"], multi_label=True)
    P = several.fit(Z[:0], []).predict_proba(Z)
    if kind == "siglip":  # trained with a sigmoid, so its logits say how likely each label is
        np.testing.assert_allclose(P, expit(logits), atol=1e-3)
    else:
        T = encoder.encode_texts(NAMES)
        np.testing.assert_allclose(P, expit(CLIP_SCALE * (Z @ T.T - 0.25)), atol=1e-3)


def test_the_first_batch_goes_by_the_models_scale(checkpoint, pictures):
    _, _, encoder, _, _, _ = checkpoint
    Z, T = encoder.encode_images(pictures), encoder.encode_texts(NAMES)
    class_n, prob_n = zero_shot(Z, T, encoder.logit_scale)
    P = ClipClassifier(class_embeddings=T, logit_scale=encoder.logit_scale).predict_proba(Z)
    assert class_n.tolist() == P.argmax(axis=1).tolist()
    np.testing.assert_allclose(prob_n, P.max(axis=1), atol=1e-4)
    picks = UncertaintyCoverageSampling(T, logit_scale=encoder.logit_scale).select(Z, 3)
    assert len(set(picks.tolist())) == 3


def test_a_table_knows_its_model_and_the_commands_go_on_with_it(checkpoint, pictures, tmp_path):
    kind, name, encoder, _, _, _ = checkpoint
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    table = EmbeddingTable.create(tmp_path / "t", tmp_path, encoder)
    assert table.key == {**encoder.key(), "dtype": "float32"}
    assert table.model_id.startswith(f"local-dir:{kind}@")
    # The key says all that embeddings depend on.
    assert {"model", "weights", "preprocessing", "precision"} == set(encoder.key())
    arguments = [
        "predict", tmp_path / "t", "--classes", tmp_path / "classes.txt", "--model", name,
        "-o", tmp_path / "all.csv",
    ]  # fmt: skip
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    T = encoder.encode_texts(NAMES, templates=DEFAULT_TEMPLATES)
    likeliest = [NAMES[k] for k in (table[:] @ T.T).argmax(axis=1)]
    rows = (tmp_path / "all.csv").read_text().splitlines()[1:]
    assert [row.split(",")[2] for row in rows] == likeliest


def test_another_checkpoint_is_refused(tmp_path, pictures):
    first = ClipEncoder(write_clip(tmp_path / "a"), device="cpu", progress=False)
    second = ClipEncoder(write_siglip(tmp_path / "b"), device="cpu", progress=False)
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    table = EmbeddingTable.create(tmp_path / "t", tmp_path, first)
    with pytest.raises(ModelMismatchError, match=r"was made by local-dir:a@.*, got local-dir:b@"):
        ClipClassifier(NAMES, second).fit(table, np.zeros(len(pictures), int))


def test_a_tokenizer_of_other_words_is_another_model(tmp_path):
    name = write_siglip(tmp_path / "a")
    first = ClipEncoder(name, device="cpu", progress=False)
    key, rows = first.key(), first.encode_texts(["cat", "dog"])
    write_tokenizer(tmp_path / "a", ["dog", "cat"])
    second = ClipEncoder(name, device="cpu", progress=False)
    assert np.abs(second.encode_texts(["cat", "dog"]) - rows).max() > 1e-3
    assert second.key()["weights"] != key["weights"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "width", "context"), [("ViT-B-32", 512, 77), ("ViT-B-16-SigLIP", 768, 64)]
)
def test_full_size(tmp_path, pictures, model, width, context):
    config = open_clip.get_model_config(model)
    write = write_siglip if "SigLIP" in model else write_clip
    name = write(tmp_path / "full", config)
    encoder = ClipEncoder(name, device="cpu", progress=False)
    loaded, _, transform = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    assert tokenizer(["cat"]).shape == (1, context)
    with torch.no_grad():
        loaded.eval()
        images = unit(loaded.encode_image(torch.stack([transform(p) for p in pictures])))
        texts = unit(loaded.encode_text(tokenizer(NAMES)))
    assert encoder.embedding_dim == width
    np.testing.assert_allclose(encoder.encode_images(pictures), images, atol=1e-4)
    np.testing.assert_allclose(encoder.encode_texts(NAMES), texts, atol=1e-4)


# Text embeddings that others shipped, of the same model as the images


@pytest.mark.shared_data
@pytest.mark.skipif(not REAL_CLIP.is_dir(), reason=f"there is no {REAL_CLIP}; set CLIP_AL_DATA")
def test_shipped_text_embeddings_name_genuine_images():
    folder = REAL_CLIP
    texts = np.load(folder / "class_texts_openai_vitb32.npz", allow_pickle=False)
    photos = np.load(folder / "cifar10_test500_openai_vitb32.npz", allow_pickle=False)
    names = texts["objects365_names"].tolist()
    vocabulary = ConceptVocabulary.from_names(names).with_embeddings(
        texts["objects365_embeddings"], model="openai/ViT-B-32"
    )
    assert vocabulary.embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vocabulary.embeddings, axis=1), 1, atol=1e-6)
    profiles = ConceptProfiles.from_embeddings(photos["embeddings"], vocabulary, 10)
    classes = photos["class_names"].tolist()
    for name in ("dog", "cat", "horse", "airplane"):
        rows = np.flatnonzero(photos["labels"] == classes.index(name))
        word = "horse" if name == "horse" else name
        said = [word in [w.lower() for w in profiles.words(i)] for i in rows]
        assert np.mean(said) > 0.8, name
    same = vocabulary.with_embeddings(unit_block(texts["objects365_embeddings"], slice(None)))
    assert ConceptProfiles.from_embeddings(photos["embeddings"], same, 10).ids.tolist() == (
        profiles.ids.tolist()
    )
