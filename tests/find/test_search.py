"""Tests of `clip_al.search`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clip_al
from clip_al import EmbeddingTable, search
from clip_al.errors import InvalidInputError, InvalidTypeError, ModelMismatchError
from tests.helpers import exactly
from tests.reference import contents, random_unit

N, D = 500, 24
UNEVEN = [3, 4, 4]  # nearer to one of the two: else rounding says which comes first


@pytest.fixture
def rows():
    return random_unit(np.random.default_rng(0), N, D)


class Toy:
    """An encoder whose texts are numbers, the seeds of their directions."""

    model_id = "toy"

    def encode_texts(self, texts):
        return np.concatenate([random_unit(np.random.default_rng(int(t)), 1, D) for t in texts])


def by_loop(rows, wanted, unwanted=(), weight=0.5, within=None):
    """Return positions and cosines, written from the formula."""
    query = np.mean(np.asarray(wanted, float), axis=0)
    if len(unwanted):
        query = query - weight * np.mean(np.asarray(unwanted, float), axis=0)
    query = query / np.linalg.norm(query)
    pool = range(len(rows)) if within is None else sorted(within)
    scored = sorted((-(rows[i].astype(float) @ query), i) for i in pool)
    return [i for _, i in scored], [-score for score, _ in scored]


def test_the_mean_of_what_is_wanted_less_what_is_not(rows):
    before = contents(rows)
    text = Toy().encode_texts(["7"])[0]
    extra = random_unit(np.random.default_rng(9), 1, D)[0]
    found = search(rows, ["7", 3, 3, extra], minus=[5, "8"], encoder=Toy(), n=30)
    expected = by_loop(
        rows, [text, rows[3], rows[3], extra], [rows[5], Toy().encode_texts(["8"])[0]]
    )
    assert found.indices.tolist() == expected[0][:30]
    np.testing.assert_allclose(found.similarity, expected[1][:30], atol=1e-6)
    assert found.n_images == N
    assert contents(rows) == before


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0, 2.0])
def test_how_much_minus_counts(rows, weight):
    found = search(rows, 1, minus=2, minus_weight=weight, n=N)
    assert found.indices.tolist() == by_loop(rows, [rows[1]], [rows[2]], weight)[0]


@pytest.mark.parametrize("within", [[4, 9, 1], list(range(0, N, 2)), list(range(N - 1))])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_within_some_images(rows, within, dtype):
    rows = rows.astype(dtype)
    found = search(rows, 4, within=within, n=10)
    expected = by_loop(rows, [rows[4]], within=within)[0][:10]
    assert found.indices.tolist() == expected
    assert found.n_images == len(within)


def test_a_mask_is_a_set_of_positions(rows):
    mask = np.zeros(N, bool)
    mask[[2, 8, 90]] = True
    assert sorted(search(rows, 2, within=mask).indices.tolist()) == [2, 8, 90]


def test_ties_go_to_the_lowest_position(rows):
    rows[[5, 300, 77]] = rows[120]
    assert search(rows, 300, n=3).indices.tolist() == [5, 77, 120]
    assert search(rows, 300, n=6).indices.tolist()[:4] == [5, 77, 120, 300]


def test_more_than_there_are_gives_all(rows):
    assert sorted(search(rows, 0, n=10 * N).indices.tolist()) == list(range(N))


def test_lengths_do_not_matter(rows):
    longer = rows * np.random.default_rng(1).uniform(0.1, 50, (N, 1))
    np.testing.assert_array_equal(search(longer, 3).indices, search(rows, 3).indices)
    several = np.stack([3 * rows[3], rows[4], 2 * rows[4]])
    np.testing.assert_array_equal(search(rows, several).indices, search(rows, UNEVEN).indices)


def test_embeddings_as_lists_and_tensors(rows):
    torch = pytest.importorskip("torch")
    expected = search(rows, [*rows[UNEVEN]], n=5).indices
    wide = rows.astype(np.float64)
    for query in (
        [rows[3].tolist(), rows[4], 4], torch.tensor(wide[UNEVEN]), [torch.tensor(rows[3]), 4, 4]
    ):  # fmt: skip
        np.testing.assert_array_equal(search(rows, query, n=5).indices, expected)


def test_tables_and_devices(rows, tmp_path):
    table = EmbeddingTable.from_array(tmp_path / "t", rows, model_id="toy", dtype="float16")
    on_device = clip_al.DeviceEmbeddings(rows, "cpu")
    expected = search(rows, UNEVEN, n=5).indices
    assert expected[0] == 4
    for given in (table, on_device):
        np.testing.assert_array_equal(search(given, UNEVEN, n=5).indices, expected)


def test_texts_and_images_of_the_small_model(mini, tmp_path):
    pictures = [
        Image.fromarray(np.full((32, 32, 3), colour, np.uint8))
        for colour in ((200, 20, 20), (20, 20, 200), (250, 250, 250))
    ]
    pictures[0].save(tmp_path / "red.png")
    Z = mini.encode_images(pictures)
    by_path = search(Z, tmp_path / "red.png", encoder=mini)
    by_image = search(Z, pictures[0], encoder=mini)
    by_array = search(Z, np.asarray(pictures[0]), encoder=mini)
    for found in (by_path, by_image, by_array):
        assert found.indices[0] == 0
        assert found.similarity[0] > 0.999
    text = mini.encode_texts(["blue"])[0]
    both = search(Z, ["blue", 1], encoder=mini, n=3)
    assert both.indices.tolist() == by_loop(Z, [text, Z[1]])[0]


def test_what_it_says(rows):
    found = search(rows, 3, n=2)
    second = found.similarity[1]
    assert repr(found) == f"Found(2 of 500 images, similarity 1.000 to {second:.3f})"
    frame = found.to_frame([f"i{i}" for i in range(N)])
    assert frame.columns.tolist() == ["rank", "index", "id", "similarity"]
    assert frame["id"].tolist() == [f"i{i}" for i in found.indices]
    assert frame["rank"].tolist() == [1, 2]
    with pytest.raises(InvalidInputError, match="`ids` must have one entry for each image; got 1"):
        search(rows, 3).to_frame(["a"])


# What is refused


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        ((), InvalidInputError, "`query` must hold at least one text or image; got none"),
        (N, InvalidInputError, r"`query` must be in \[0, 499\]"),
        (None, InvalidTypeError, "`query` must be a text, a position"),
        ([None], InvalidTypeError, "`query` must hold texts, positions, paths"),
        ([b"red"], InvalidTypeError, "got a bytes"),
        (True, InvalidTypeError, "got a bool"),
        (np.ones(D - 1), InvalidInputError, f"`query` must have {D} columns; got {D - 1}"),
        ("red", InvalidInputError, "`encoder` must be given where `query` holds texts"),
        (Path("red.png"), InvalidInputError, "`encoder` must be given where `query` holds texts"),
    ],
)
def test_queries_that_are_none(rows, query, error, message):
    with pytest.raises(error, match=message):
        search(rows, query)


def test_what_minus_takes_away_is_not_all(rows):
    message = (
        "`query` must differ from `minus`; what one adds the other takes away. Leave what stands "
        "in both out."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        search(rows, 3, minus=3, minus_weight=1.0)


def test_no_image_within(rows):
    with pytest.raises(InvalidInputError, match="`within` must name at least one image; got none"):
        search(rows, 3, within=[])


def test_an_encoder_of_another_model(rows, mini, tmp_path):
    table = EmbeddingTable.from_array(tmp_path / "t", rows, model_id="other")
    with pytest.raises(ModelMismatchError, match="made by other, got mini@"):
        search(table, "7", encoder=mini)


def test_an_encoder_of_another_width(rows, mini):
    with pytest.raises(InvalidInputError, match=f"`encoder` must have {D} columns; got 256"):
        search(rows, "red", encoder=mini)
