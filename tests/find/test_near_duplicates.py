"""Tests of `clip_al.near_duplicates` and of what it returns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import clip_al
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.find import lists, unions
from clip_al.find import near_duplicates as module
from clip_al.find.bounds import SLACK, bounding_coordinates
from clip_al.find.near_duplicates import near_duplicates
from tests.find.pools import first_of_groups, pool_with_copies
from tests.helpers import exactly
from tests.reference import contents, random_unit


@pytest.fixture(scope="module")
def pool():
    return pool_with_copies(3_000, 100).astype(np.float32)


# Exact


@pytest.mark.parametrize("threshold", [0.8, 0.9, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_groups_are_those_of_a_loop_over_all_pairs(pool, threshold, dtype):
    rows = pool[:1500].astype(dtype)
    before = contents(rows)
    found = near_duplicates(rows, threshold)
    expected = first_of_groups(rows, threshold)
    np.testing.assert_array_equal(found.representative, expected)
    assert threshold == 1.0 or len(np.unique(expected)) < len(rows)
    assert found.is_exact
    assert found.recall is None
    assert contents(rows) == before


@given(st.integers(0, 10_000), st.integers(1, 90), st.sampled_from([3, 40, 70, 150]))
def test_small_pools_of_any_width(seed, n, d):
    rng = np.random.default_rng(seed)
    rows = random_unit(rng, n, d)[rng.integers(n, size=n)]
    rows += rng.choice([0, 0.02], (n, 1)) * rng.standard_normal((n, d))
    rows *= rng.uniform(0.1, 9, (n, 1))
    found = near_duplicates(rows, 0.95)
    np.testing.assert_array_equal(found.representative, first_of_groups(rows, 0.95))


def test_the_order_of_images_changes_their_numbers_alone(pool):
    order = np.random.default_rng(0).permutation(1000)
    plain, moved = near_duplicates(pool[:1000]), near_duplicates(pool[:1000][order])
    back = np.argsort(order)
    same = plain.representative[:, None] == plain.representative
    again = moved.representative[back][:, None] == moved.representative[back]
    np.testing.assert_array_equal(same, again)


def test_groups_do_not_depend_on_the_number_of_cores(pool, monkeypatch):
    one = near_duplicates(pool, 0.9).representative
    monkeypatch.setattr("clip_al.arrays.blocks._n_threads", lambda: 5)
    np.testing.assert_array_equal(near_duplicates(pool, 0.9).representative, one)


def test_many_alike_pairs_are_joined_on_the_way(monkeypatch):
    """Of 1,200 images that are all alike, few of the 720,000 pairs are computed."""
    rng = np.random.default_rng(0)
    rows = np.ones((1_200, 80)) + 0.01 * rng.standard_normal((1_200, 80))
    computed = []
    real = unions.pair_cosines
    monkeypatch.setattr(
        unions, "pair_cosines", lambda Z, a, b: computed.append(len(a)) or real(Z, a, b)
    )
    found = near_duplicates(rows)
    assert found.n_groups == 1
    assert len(found.copies) == 1_199
    assert sum(computed) < 200_000


def test_bounds_are_never_below_the_cosine(pool):
    for width in (100, 65, 64, 20):
        part = np.ascontiguousarray(pool[:400, :width])
        bound = bounding_coordinates(part, np.arange(400), np.random.default_rng(0))
        assert bound.shape == (400, min(64, width))
        unit = part / np.linalg.norm(part, axis=1, keepdims=True)
        gap = bound @ bound.T - unit.astype(np.float64) @ unit.T
        assert gap.min() > -SLACK / 2
        np.testing.assert_allclose(np.linalg.norm(bound, axis=1), 1.0, atol=1e-5)


def test_similarity_is_that_to_the_first_image(pool):
    found = near_duplicates(pool, 0.9)
    unit = pool / np.linalg.norm(pool, axis=1, keepdims=True)
    expected = np.einsum("nd,nd->n", unit, unit[found.representative])
    np.testing.assert_allclose(found.similarity, expected, atol=1e-6)
    assert found.similarity.min() < 0.9  # a group is what pairs link


def test_rows_on_a_device_and_in_a_table(pool, tmp_path):
    rows = pool[:500]
    table = clip_al.EmbeddingTable.from_array(tmp_path / "t", rows, model_id="toy")
    on_device = clip_al.DeviceEmbeddings(rows, "cpu")
    expected = near_duplicates(rows).representative
    for given_rows in (table, on_device):
        np.testing.assert_array_equal(near_duplicates(given_rows).representative, expected)


# Approximate


@pytest.fixture(scope="module")
def large():
    return pool_with_copies(6_000, 100, seed=1, n_centres=40).astype(np.float16)


def pairs_found(rows, threshold, representative):
    """Return the share of all alike pairs whose images are in one group."""
    unit = rows.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    left, right = np.nonzero(np.triu(unit @ unit.T >= threshold, 1))
    assert len(left) > 300
    return (representative[left] == representative[right]).mean()


def test_lists_find_nearly_all_pairs_and_none_that_is_not_there(large, monkeypatch):
    monkeypatch.setattr(lists, "MOST_DRAWN", 600)  # else all pairs are compared
    found = near_duplicates(large, 0.95, exact_up_to=1_024)
    assert not found.is_exact
    assert found.recall > 0.98
    assert found.n_checked > 100
    assert pairs_found(large, 0.95, found.representative) > 0.99
    exact = first_of_groups(large, 0.95)
    # Each group is part of a true one.
    assert (exact[found.representative] == exact).all()
    again = near_duplicates(large, 0.95, exact_up_to=1_024)
    np.testing.assert_array_equal(again.representative, found.representative)


def test_half_the_distance_finds_every_pair(large):
    """Looking as far beyond a border as half the distance of alike images is exact."""
    rng = np.random.default_rng(0)
    rows = np.arange(len(large))
    image_emb = bounding_coordinates(large, rows, rng)
    borders = lists.Borders(image_emb, lists.make_lists(image_emb, rng))
    groups = unions.Unions(large, 0.95, rows.copy())
    lists.join_near(borders, groups, rows, lists.Reach(np.sqrt(2 - 2 * 0.95) / 2, None, 0, 9.0))
    np.testing.assert_array_equal(groups.roots(), first_of_groups(large, 0.95))


def test_no_distance_finds_fewer(large):
    rng = np.random.default_rng(0)
    rows = np.arange(len(large))
    image_emb = bounding_coordinates(large, rows, rng)
    borders = lists.Borders(image_emb, lists.make_lists(image_emb, rng))
    groups = unions.Unions(large, 0.95, rows.copy())
    lists.join_near(borders, groups, rows, lists.Reach(0.0, None, 0, 1.0))
    assert pairs_found(large, 0.95, groups.roots()) < 0.97


def test_borders_are_halfway_between_centres():
    centres = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], np.float32)
    images = np.array([[0.2, 0.5], [0.9, 0.0]], np.float32)
    borders = lists.Borders(images, lists.Lists(centres, np.array([0, 1], np.int32)))
    found = borders.distances(slice(0, 2), 0, 3)
    # The border of the second image with the third list: |x - 1/2 + ... | along (-1, 2) / √5.
    third = abs(np.dot([0.9 - 0.5, 0.0 - 1.0], np.array([-1.0, 2.0]) / np.sqrt(5)))
    np.testing.assert_allclose(found, [[0, 0.3, 0.5], [0.4, 0, third]], atol=1e-6)


def test_recall_is_none_where_no_image_drawn_has_a_copy(monkeypatch):
    rows = random_unit(np.random.default_rng(0), 2_000, 90)
    monkeypatch.setattr(lists, "MOST_DRAWN", 100)
    found = near_duplicates(rows, exact_up_to=0)
    assert (found.recall, found.n_checked, found.n_groups) == (None, 0, 0)
    assert "no pair among the images that were compared with all" in repr(found)


def test_small_pools_are_exact_whatever_is_asked(pool):
    found = near_duplicates(pool[:1000], 0.9, exact_up_to=0)
    assert found.is_exact
    assert module.SMALLEST_LISTS >= 1000


# What is returned


@pytest.fixture
def found():
    """Groups 0-2-5 and 1-4 of seven images."""
    angle = np.array([0.0, 1.0, 0.1, 2.0, 1.05, 0.2, 3.0])
    rows = np.column_stack([np.cos(angle), np.sin(angle)])
    splits = ["train", "train", "test", "train", "train", "val", "test"]
    return near_duplicates(rows, np.cos(0.11), splits=splits)


def test_groups_and_what_is_left(found):
    assert [group.tolist() for group in found.groups] == [[0, 2, 5], [1, 4]]
    assert found.distinct.tolist() == [0, 1, 3, 6]
    assert found.copies.tolist() == [2, 4, 5]
    assert found.n_groups == 2
    assert found.n_images == 7


def test_one_of_each_beside_what_is_known(found):
    assert found.without_copies_of().tolist() == [0, 1, 3, 6]
    assert found.without_copies_of([5]).tolist() == [1, 3, 6]
    assert found.without_copies_of([4, 3]).tolist() == [0, 6]
    with pytest.raises(InvalidInputError, match="`known` must be in"):
        found.without_copies_of([7])


def test_splits_that_share_copies_are_named(found):
    assert [tuple(leak) for leak in found.leaks] == [
        ("test", "train", 1, 1, 1), ("test", "val", 1, 1, 1), ("train", "val", 1, 1, 1),
    ]  # fmt: skip
    assert str(found.leaks[0]) == "1 group has images of test and train: 1 of test, 1 of train"


def test_without_splits_or_copies_there_are_no_leaks():
    assert near_duplicates(np.eye(3)).leaks == []
    assert near_duplicates(np.eye(3), splits=["a", "b", "b"]).leaks == []
    assert near_duplicates(np.ones((3, 2)), splits=["a", "a", "a"]).leaks == []


def test_the_table(found):
    frame = found.to_frame(list("abcdefg"))
    assert frame.columns.tolist() == [
        "index", "id", "split", "group", "size", "representative", "similarity",
    ]  # fmt: skip
    assert frame["id"].tolist() == ["a", "c", "f", "b", "e"]
    assert frame["group"].tolist() == [1, 1, 1, 2, 2]
    assert frame["size"].tolist() == [3, 3, 3, 2, 2]
    assert frame["representative"].tolist() == ["a", "a", "a", "b", "b"]
    np.testing.assert_allclose(frame["similarity"], np.cos([0, 0.1, 0.2, 0, 0.05]), atol=1e-6)
    assert found.to_frame()["representative"].tolist() == [0, 0, 0, 1, 1]
    with pytest.raises(InvalidInputError, match="`ids` must have one entry for each of the 7"):
        found.to_frame(["a"])


def test_it_says_what_it_is(found):
    said = "2 groups of 5 among 7 images, cosine at least 0.993956, exact"
    assert repr(found) == f"NearDuplicates({said})"
    page = found._repr_html_()
    assert said in page
    assert "1 group has images of test and train" in page
    assert "<script" not in near_duplicates(np.ones((2, 2)), splits=["<script>", "b"])._repr_html_()


# What is refused


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.5, np.nan])
def test_a_threshold_is_a_cosine_above_0(threshold):
    with pytest.raises(InvalidInputError, match="`threshold` must be finite, above 0, at most 1"):
        near_duplicates(np.eye(3), threshold)


def test_splits_are_one_an_image():
    message = (
        "`splits` must have one entry for each of the 3 images; got shape (2,). Pass the name of a "
        "split, as 'train', for each."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        near_duplicates(np.eye(3), splits=["a", "b"])


def test_rows_are_finite_and_have_a_direction():
    with pytest.raises(InvalidInputError, match="row 1 holds NaN or infinity"):
        near_duplicates([[1.0, 0.0], [np.nan, 0.0]])
    with pytest.raises(InvalidInputError, match="must have a direction; row 1 is all zeros"):
        near_duplicates([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(InvalidTypeError, match="`exact_up_to` must be a whole number"):
        near_duplicates(np.eye(3), exact_up_to="all")


# One of a group for strategies and selector


def test_a_strategy_picks_one_of_each_group(pool):
    rows = pool[:600]
    found = near_duplicates(rows, 0.9)
    left = found.without_copies_of([0])
    picks = left[clip_al.UncertaintyCoverageSampling().select(rows[left], 50)]
    groups = found.representative[picks]
    assert len(np.unique(groups)) == 50
    assert found.representative[0] not in groups
