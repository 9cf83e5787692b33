"""Tests of `clip_al.score.agreement` and its evidence."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from clip_al.score.agreement import check_agreement, disagreement, share_of_wrong
from clip_al.score.agreement_evidence import hits_of
from tests.helpers import images_near
from tests.reference import random_unit

K, D, N = 8, 24, 480
NAMES = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"]


@pytest.fixture
def T(rng):
    return random_unit(rng, K, D)


@pytest.fixture
def y(rng):
    return rng.integers(K, size=N)


@pytest.fixture
def Z(T, y, rng):
    return images_near(T, y, rng)


def kinds(found):
    return [finding.kind for finding in found.findings]


def flip(y, share, rng, *, step=None):
    turned = rng.random(len(y)) < share
    by = rng.integers(1, K, len(y)) if step is None else step
    return np.where(turned, (y + by) % K, y)


def test_chance_is_that_of_all_orders_of_the_labels():
    guess, label = np.array([0, 0, 1, 2, 2, 1]), np.array([0, 1, 1, 2, 0, 0])
    counts = [(guess == np.array(order)).mean() for order in itertools.permutations(label.tolist())]
    found = hits_of(guess, label, 3)
    assert found.share == (guess == label).mean()
    assert found.chance == pytest.approx(np.mean(counts))
    assert found.error == pytest.approx(np.std(counts) / (1 - np.mean(counts)))


def test_one_class_alone_says_nothing():
    found = hits_of(np.zeros(50, int), np.zeros(50, int), 2)
    assert found.error == np.inf
    assert not found.is_above_chance


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4])
def test_right_and_noisy_labels_pass(Z, y, T, rng, share):
    found = check_agreement(Z, flip(y, share, rng), T, class_names=NAMES)
    assert found.findings == ()
    assert found.rows_fit
    assert found.by_text.is_above_chance
    assert found.by_means.is_above_chance


def test_pair_flips_pass(Z, y, T, rng):
    assert kinds(check_agreement(Z, flip(y, 0.2, rng, step=1), T)) == []


def test_shuffled_rows(Z, y, T, rng):
    found = check_agreement(Z, rng.permutation(y), T)
    assert kinds(found) == ["shuffled"]
    assert "the rows seem shuffled. Match labels to images by id" in found.message
    assert not found.rows_fit


def test_sorted_labels_of_images_that_are_not_sorted(Z, y, T):
    found = check_agreement(Z, np.sort(y), T)
    assert "the labels are sorted by class, the images are not" in found.message


def test_mostly_random_labels_hardly_agree(Z, y, T, rng):
    assert kinds(check_agreement(Z, flip(y, 0.8, rng), T)) == ["unrelated"]


@pytest.mark.parametrize(
    ("lag", "said"),
    [
        (1, "all move up by one row: image i has the label in row i + 1"),
        (-2, "all move down by 2 rows: image i has the label in row i − 2"),
        (41, "all move up by 41 rows"),
    ],
)
def test_moved_rows(Z, y, T, lag, said):
    found = check_agreement(Z, np.roll(y, lag), T)
    assert kinds(found) == ["moved"]
    assert said in found.message


def test_moved_rows_where_texts_say_nothing(Z, y, T, rng):
    found = check_agreement(Z, np.roll(y, 1), random_unit(rng, K, D))
    assert kinds(found) == ["moved"]


def test_rows_sorted_by_class_show_a_move_at_the_borders(Z, y, T):
    order = np.argsort(y, kind="stable")
    assert kinds(check_agreement(Z[order], y[order], T)) == []
    found = check_agreement(Z[order], np.roll(y[order], 3), T)
    assert kinds(found) == ["moved"]
    assert "up by 3 rows" in found.message
    # Seven borders and one row each: no more than chance gives.
    assert kinds(check_agreement(Z[order], np.roll(y[order], 1), T)) == []


def test_classes_that_take_turns_move_names_or_rows_by_one(T, rng):
    y = np.arange(N) % K
    Z = images_near(T, y, rng)
    # Labels fit the mean images whatever the names are: so it is the names.
    assert kinds(check_agreement(Z, y, np.roll(T, 1, axis=0))) == ["names"]


def test_rows_in_reverse(Z, y, T):
    found = check_agreement(Z, y[::-1], T)
    assert kinds(found) == ["reordered"]
    assert "from the last row to the first" in found.message


def test_ids_ordered_by_number_and_by_letter(Z, y, T):
    ids = [f"im{i}.png" for i in range(N)]
    table = sorted(range(N), key=ids.__getitem__)
    found = check_agreement(Z[table], y, T, ids=[ids[i] for i in table])
    assert kinds(found) == ["reordered"]
    assert "in the order of the ids by number, 2 before 10" in found.message


def test_two_names_swapped(Z, y, T):
    texts = T[[0, 1, 5, 3, 4, 2, 6, 7]]
    found = check_agreement(
        Z, y, texts, class_names=["ant", "bee", "fox", *NAMES[3:5], "cat", *NAMES[6:]]
    )
    assert kinds(found) == ["names"]
    assert "fit if classes 2 ('fox') and 5 ('cat') change places" in found.message
    assert found.rows_fit


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (np.arange(K)[::-1], "they are taken in reverse order"),
        (np.roll(np.arange(K), 1), "all move up by one class"),
        (np.roll(np.arange(K), -1), "all move down by one class"),
        (np.array([3, 0, 1, 2, 6, 4, 5, 7]), "they are sorted by letter"),
    ],
)
def test_names_in_another_order(Z, y, T, order, said):
    found = check_agreement(Z, y, T[order], class_names=[NAMES[i] for i in order])
    assert kinds(found) == ["names"]
    assert said in found.message


def test_three_names_change_places(Z, y, T):
    found = check_agreement(Z, y, T[[1, 2, 0, 3, 4, 5, 6, 7]])
    assert (
        "3 classes change places: class 0 gets 2, class 1 gets 0, class 2 gets 1" in found.message
    )


def test_names_that_say_nothing(Z, y):
    texts = np.ones((K, D)) + 1e-3 * random_unit(np.random.default_rng(3), K, D)
    texts[0] = Z.mean(axis=0)
    assert kinds(check_agreement(Z, y, texts)) == ["unknown names"]


def test_ids_in_place_of_names(Z, y, T):
    synsets = [f"n{2123045 + i:08d}" for i in range(K)]
    found = check_agreement(Z, y, T, class_names=synsets)
    assert kinds(found) == ["ids"]
    assert "such as 'n02123045', and CLIP reads words" in found.message


def test_numbers_that_the_model_reads_are_names(Z, y, T):
    assert kinds(check_agreement(Z, y, T, class_names=list("01234567"))) == []


def test_numbers_that_the_model_does_not_read_are_ids(Z, y):
    texts = np.ones((K, D)) + 1e-3 * random_unit(np.random.default_rng(3), K, D)
    texts[0] = Z.mean(axis=0)
    names = [f"class_{i}" for i in range(K)]
    assert kinds(check_agreement(Z, y, texts, class_names=names)) == ["ids"]


def test_one_class_with_two_names(T, rng):
    y = rng.integers(K, size=5 * N)
    Z = images_near(T, y, rng)
    two = np.where((y == 2) & (rng.random(5 * N) < 0.5), K, y)
    found = check_agreement(Z, two, np.vstack([T, T[2] + 1e-4]))
    assert kinds(found) == ["one class"]
    assert "Classes 2 and 8 have images that cannot be told apart" in found.message


def test_names_that_hardly_differ(Z, y, T):
    found = check_agreement(Z, y, T, class_names=["dog", " Dog ", *NAMES[4:], "ant", "bee"])
    assert "'dog' and ' Dog ' differ in case, blanks or Unicode form alone" in found.message


def test_few_images_say_nothing(Z, y, T, rng):
    assert kinds(check_agreement(Z[:29], rng.permutation(y[:29]), T)) == []


def test_images_are_drawn_from_many(T, rng, monkeypatch):
    monkeypatch.setattr("clip_al.score.agreement.MAX_IMAGES", 300)
    y = rng.integers(K, size=4 * N)
    Z = images_near(T, y, rng)
    assert kinds(check_agreement(Z, np.roll(y, 1), T)) == ["moved"]
    assert kinds(check_agreement(Z, y, T)) == []


def test_what_settings_hold(Z, y, T, rng):
    assert disagreement(check_agreement(Z, y, T)) == {}
    rows = disagreement(check_agreement(Z, rng.permutation(y), T))
    assert rows["wrong_fraction"] is None
    assert share_of_wrong({"wrong_fraction": 0.0, **rows}) == (
        None,
        rows["disagreement"]["message"],
    )
    names = disagreement(check_agreement(Z, y, T[::-1]))
    assert names["disagreement"]["kinds"] == ["names"]
    assert share_of_wrong({"wrong_fraction": 0.1, **names})[0] == 0.1


def test_inputs_stay_as_they_are(Z, y, T):
    before = Z.copy(), y.copy(), T.copy()
    check_agreement(Z, y, T)
    assert all(np.array_equal(*pair) for pair in zip(before, (Z, y, T), strict=True))
