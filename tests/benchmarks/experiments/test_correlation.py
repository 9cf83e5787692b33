"""Sets with a known diversity are what they say, and the experiment on them computes and shows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.data import diverse_features, diverse_sets, vocabularies
from benchmarks.data.diverse_sets import COPIES_EACH, DRAW, DRAWS, GRADED, Source
from benchmarks.data.rows import unit_rows
from benchmarks.experiments import correlation, correlation_page
from benchmarks.harness.cells import SIZES, Options, UnavailableError, frame
from clip_al import ConceptProfiles
from tests.benchmarks.experiment_checks import check_cells, rendered, rendered_twice
from tests.reference import make_vocabulary, random_unit

CELL = {
    "what": "correlation", "pool": "digits", "per_class": 30, "n_copied": 30, "copies_seed": 0,
    "network": "cnn", "network_pool": "digits", "network_per_class": 20, "steps": 3,
    "pixel_components": 8, "yardsticks": [["CLIP", 0.1], ["network", 0.1], ["pixels", 1e-6]],
    "seed": 1, "n": 20, "n_sets": 10, "m_values": [2, 3], "dense": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def source():
    rng = np.random.default_rng(0)
    return Source(rng.permutation(np.arange(400) % 10), rng.permutation(400)[:80])


@pytest.fixture
def toy(monkeypatch):
    """Embeddings that are pixels seen through a random matrix, and forty random concepts."""
    directions = np.random.default_rng(3).standard_normal((32 * 32 * 3, 12))
    words = make_vocabulary(random_unit(np.random.default_rng(2), 40, 12), "toy")

    def embed(images, encoder):
        flat = images.reshape(len(images), -1) - 100.0
        return unit_rows(flat @ directions).astype(np.float32)

    monkeypatch.setattr(diverse_features, "embed_images", embed)
    monkeypatch.setattr(correlation, "vocabulary_of", lambda name, options: words)
    cached = [getattr(diverse_features, f) for f in ("load_images", "network_features")]
    cached += [diverse_features.pixel_features, correlation.make_sets]
    for function in cached:
        function.cache_clear()
    yield words
    for function in cached:
        function.cache_clear()


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("grade", [1, 4, 10])
def test_a_set_holds_n_different_rows(source, draw, grade):
    rows = DRAW[draw](source, 30, grade, np.random.default_rng(1))
    assert len(rows) == len(set(rows)) == 30
    assert rows.max() < 400 + 80 * COPIES_EACH


@pytest.mark.parametrize("grade", [1, 4, 10])
def test_grades_are_what_they_say(source, grade):
    rng = np.random.default_rng(2)
    by_class = source.class_n[diverse_sets.draw_classes(source, 30, grade, rng)]
    assert len(set(by_class)) == grade
    dominated = source.class_n[diverse_sets.draw_dominance(source, 30, grade, rng)]
    assert np.bincount(dominated).max() == 33 - 3 * grade
    rows = diverse_sets.draw_copies(source, 30, grade, rng)
    originals = rows[rows < source.n_images]
    assert len(originals) == 3 * grade
    positions = (rows[rows >= source.n_images] - source.n_images) // COPIES_EACH
    assert set(source.copied[positions]) <= set(originals)


def test_sets_of_one_seed_are_the_same_and_of_another_differ(source):
    one, again, other = (diverse_sets.draw_sets(source, 20, 10, seed) for seed in (1, 1, 2))
    for draw in DRAWS:
        np.testing.assert_array_equal(one[draw], again[draw])
        assert not np.array_equal(one[draw], other[draw])


def test_a_set_larger_than_a_class_is_refused(source):
    with pytest.raises(ValueError, match="at most 40; got 41"):
        diverse_sets.draw_sets(source, 41, 10, 0)


def test_copies_stand_where_they_are_said_to_and_look_like_their_originals():
    rng = np.random.default_rng(0)
    images = np.repeat(rng.integers(0, 180, (6, 3, 3, 3)), 12, axis=1).repeat(12, axis=2)
    images, before = images.astype(np.uint8), images.copy()
    every, source = diverse_sets.with_copies(images, np.arange(6) % 2, 3, seed=1)
    assert len(every) == 6 + 3 * COPIES_EACH
    np.testing.assert_array_equal(every[:6], before)
    for position in range(3):
        original = every[source.copied[position]].ravel()
        mirrored = every[source.copied[position]][:, ::-1].ravel()
        for copy in every[source.copies_of(position)]:
            likeness = [np.corrcoef(copy.ravel(), x)[0, 1] for x in (original, mirrored)]
            assert max(likeness) > 0.5
            assert not np.array_equal(copy.ravel(), original)


def test_textbook_gd_is_the_log_of_the_determinant(rng):
    rows = random_unit(rng, 6, 4)
    expected = np.linalg.slogdet(rows @ rows.T + 0.1 * np.eye(6))[1]
    assert diverse_sets.textbook_geometric_diversity(rows, 0.1) == pytest.approx(expected)


def test_principal_components_span_what_svd_finds(rng):
    images = rng.integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    found = diverse_sets.principal_components(images, 15, 3)
    flat = np.array(
        [
            [image[i : i + 2, j : j + 2, c].mean() for i in (0, 2, 4, 6) for j in (0, 2, 4, 6)
             for c in range(3)]
            for image in images / 255
        ]
    )  # fmt: skip
    flat -= flat[:15].mean(axis=0)
    expected = unit_rows(flat @ np.linalg.svd(flat[:15])[2][:3].T)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-4)


def test_rank_correlation_of_a_constant_is_zero():
    assert diverse_sets.rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) == 0.0
    assert diverse_sets.rank_correlation([5.0, 1.0, 1.0], [3.0, 1.0, 2.0]) == pytest.approx(
        np.corrcoef([3, 1.5, 1.5], [3, 1, 2])[0, 1]
    )


@pytest.mark.parametrize("size", SIZES)
def test_cells_have_keys_of_their_own(size):
    cells = correlation.cells(size)
    check_cells(correlation.EXPERIMENT, cells)
    measured = [cell for cell in cells if cell["what"] == "correlation"]
    assert all(CELL.keys() <= cell.keys() for cell in measured)
    assert max(len(cell["m_values"]) for cell in measured) == 6
    assert all(correlation.cost_s(cell) > 0 for cell in cells)
    assert json.loads(json.dumps(cells)) == cells


def test_standard_has_all_sizes_and_enough_seeds():
    cells = correlation.cells("standard")
    assert {cell["n"] for cell in cells} == {50, 100, 200, 500, 1000}
    assert len({cell["seed"] for cell in cells}) >= 3


def test_coefficients_are_those_of_a_slow_loop(toy):
    found = correlation.run({**CELL, "vocabulary": "general"}, Options())["coefficients"]
    where = correlation.where_of(CELL)
    data = diverse_features.load_images(where, Options())
    sets = diverse_sets.draw_sets(data.source, 20, 10, 1)
    profiles = ConceptProfiles.from_embeddings(
        data.emb_nd, toy, 3, similarity="cosine"
    )  # raw: the same concepts whatever the statistics
    for draw in DRAWS:
        cbd, gd = [], []
        for rows in sets[draw]:
            vectors = np.zeros((20, 40))
            for i, row in enumerate(rows):
                vectors[i, profiles.ids[row][:2]] = 0.5**0.5
            pairs = [(i, j) for i in range(20) for j in range(i)]
            cbd.append(np.mean([1 - vectors[i] @ vectors[j] for i, j in pairs]).round(12))
            gram = data.emb_nd[rows].astype(float) @ data.emb_nd[rows].T + 0.1 * np.eye(20)
            gd.append(np.linalg.slogdet(gram)[1])
        (row,) = [r for r in found if r[:4] == [False, 2, "CBD binary", draw]]
        assert row[4][0] == pytest.approx(spearmanr(cbd, gd).statistic, abs=0.02)


def test_every_measure_is_there_and_gd_agrees_with_itself(toy):
    measured = correlation.run({**CELL, "vocabulary": "general"}, Options())["coefficients"]
    n_measures = len(diverse_sets.MEASURES)
    assert len(measured) == 2 * len(DRAWS) * (2 * n_measures + 1)
    assert np.abs([row[4] for row in measured]).max() <= 1
    none = {**CELL, "vocabulary": "none", "m_values": [], "dense": False}
    rows = correlation.run(none, Options())["coefficients"]
    for index, (name, jitter) in enumerate(CELL["yardsticks"]):
        own = [r[4][index] for r in rows if r[2] == correlation_page.yardstick_name(name, jitter)]
        assert own == [1.0] * len(DRAWS)
    grade = {row[3]: row[4] for row in rows if row[2] == "grade"}
    assert grade["random"] == [0.0] * 3
    assert all(any(grade[draw]) for draw in GRADED)
    assert correlation.run(none, Options())["coefficients"] == rows


def test_all_measures_are_timed(toy):
    where = {k: CELL[k] for k in ("pool", "per_class", "n_copied", "copies_seed", "seed", "n")}
    cell = {**where, "what": "time", "vocabulary": "general", "m": 3, "runs": 1}
    seconds = correlation.run(cell, Options())["seconds_by_measure"]
    assert min(seconds.values()) > 0
    assert sum(name.startswith("GD") for name in seconds) == 2


def test_word_lists_that_are_not_there_are_unavailable(tmp_path):
    with pytest.raises(UnavailableError, match="no word lists of Visual Genome"):
        vocabularies.vocabulary_of("Visual Genome", Options(tmp_path))


def made_up_records(with_genome=True):
    rng = np.random.default_rng(0)
    records = []
    for cell in correlation.cells("quick"):
        if cell["what"] == "time":
            names = ("CBD binary", correlation.GD_TEXTBOOK)
            values = {"seconds_by_measure": dict(zip(names, rng.random(2), strict=True))}
        elif cell["vocabulary"] == "none":
            names = ["grade", *(correlation_page.yardstick_name(*y) for y in cell["yardsticks"])]
            what = [[None, None, name, draw] for name in names for draw in DRAWS]
            values = {"coefficients": [[*w, rng.random(6).tolist()] for w in what]}
        else:
            what = [
                [standardize, m, name, draw]
                for standardize in (True, False)
                for m in cell["m_values"]
                for name in diverse_sets.MEASURES
                for draw in DRAWS
            ]
            what += [[True, None, "spectral dense", draw] for draw in DRAWS]
            values = {"coefficients": [[*w, rng.random(6).tolist()] for w in what]}
        if with_genome or cell["vocabulary"] != "Visual Genome":
            records.append({"cell": cell, "values": values, "seconds": 1.0})
    return records


def test_the_page_is_the_same_when_it_is_made_again(tmp_path):
    text, plots = rendered_twice(correlation.EXPERIMENT, frame(made_up_records()), tmp_path)
    assert "| CBD binary |" in text
    assert "were not at hand" not in text
    assert len(plots) == 5


def test_a_table_holds_the_mean_of_the_records(tmp_path):
    records = made_up_records(with_genome=False)
    parts = rendered(correlation.EXPERIMENT, frame(records), tmp_path)[0].split("\n\n")
    assert "The word lists of Visual Genome were not at hand." in parts
    by_seed = {}
    for record in records:
        cell = record["cell"]
        if (cell["what"], cell["n"], cell["vocabulary"]) != ("correlation", 50, "general"):
            continue
        by_seed[cell["seed"]] = np.mean(
            [
                row[4][0]
                for row in record["values"]["coefficients"]
                if row[:3] == [True, 10, "CBD binary"] and row[3] in GRADED
            ]
        )
    values = np.array(list(by_seed.values()))
    expected = f"| CBD binary | {values.mean():.2f} ± {values.std(ddof=1):.2f} |"
    table = parts[parts.index("GD of CLIP, graded sets, by images in a set:") + 1]
    assert expected in table
