"""`stability` compares sets as Python's sets do, and chance is what drawing at random gives."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from benchmarks.data.label_flips import flip_labels
from benchmarks.experiments import stability, stability_picks, stability_views
from benchmarks.harness.cells import Options, UnavailableError, frame
from benchmarks.training import subsets
from clip_al import ClipSelector
from tests.benchmarks.experiment_checks import check_cells, rendered_twice

OPTIONS = Options()
CONDITION = subsets.Condition("digits", 15, 5, 0.2, "symmetric", 0.0, 1)
SETTING = stability_views.Setting(CONDITION, "default", (0.2, 0.6), "resnet", 3)
VIEW = stability_views.View(1, 1)
TINY = {**asdict(CONDITION), "first": 20, "budget": 5, "ratios": [0.2, 0.6], "steps": 3}


def cell_of(part, varied, **changes):
    cell = next(
        c for c in stability.cells("standard")
        if (c["part"], c["varied"], c["seed"]) == (part, varied, 1)
        and changes.items() <= c.items()
    )  # fmt: skip
    return {**cell, **TINY}


@pytest.mark.parametrize("size", ["quick", "standard", "full"])
def test_cells_are_distinct_and_say_everything(size):
    cells = stability.cells(size)
    check_cells(stability.EXPERIMENT, cells)
    assert {cell["part"] for cell in cells} == {"subsets", "picks"}
    assert all({"seed", "varied", "a", "b", "noise"} <= set(cell) for cell in cells)
    assert all(cell["a"] != cell["b"] for cell in cells)
    if size == "standard":
        assert {cell["seed"] for cell in cells} == {0, 1, 2}
        assert sum(map(stability.cost_s, cells)) < 300


def test_the_overlap_is_that_of_sets():
    rng = np.random.default_rng(0)
    a, b = rng.choice(50, 20, replace=False), rng.choice(50, 30, replace=False)
    assert stability_views.jaccard(a, b) == len({*a} & {*b}) / len({*a} | {*b})
    assert stability_views.jaccard(a, a[::-1]) == 1.0
    assert stability_views.jaccard(np.array([1]), np.array([2])) == 0.0


def test_chance_is_close_to_the_mean_over_random_sets():
    rng = np.random.default_rng(0)
    drawn = [
        stability_views.jaccard(
            rng.choice(400, 100, replace=False), rng.choice(400, 240, replace=False)
        )
        for _ in range(300)
    ]
    assert stability_views.chance(100, 240, 100 * 240 / 400) == pytest.approx(
        np.mean(drawn), abs=0.005
    )


def test_the_same_view_chooses_the_same_again():
    setting = replace(SETTING, method="text alone")
    found = stability_views.overlaps(VIEW, replace(VIEW, selector_seed=2), setting, OPTIONS)
    assert found["overlap"] == [1.0, 1.0]  # nothing is drawn where texts alone decide
    assert found["chance"] == pytest.approx([0.2**2 / (0.4 - 0.2**2), 0.6**2 / (1.2 - 0.6**2)])


def test_other_wrong_labels_are_compared_where_both_are_right():
    cell = cell_of("subsets", "which labels are wrong", method="default")
    values = stability.run(cell, OPTIONS)
    material = subsets.load_condition(CONDITION, OPTIONS)
    y, kept, right = material.pool.y, [], np.ones(150, dtype=bool)
    for seed in (1, 101):
        given = flip_labels(y, 0.2, seed)
        right &= given == y
        selector = ClipSelector(
            class_embeddings=material.class_emb_kd, adapter=False, random_state=1
        )
        kept.append(
            [{*s.indices} for s in map(selector.fit(material.emb_nd, given).select, (0.2, 0.6))]
        )
    common = {*np.flatnonzero(right)}
    for place, (a, b) in enumerate(zip(*kept, strict=True)):
        a, b = a & common, b & common
        assert values["overlap"][place] == pytest.approx(len(a & b) / len(a | b))
        both = len(a) * len(b) / len(common)
        assert values["chance"][place] == pytest.approx(both / (len(a) + len(b) - both))


@pytest.mark.parametrize("images", ["mirrored", "half", "network"])
def test_a_view_has_unit_rows_of_its_own(images):
    view = replace(VIEW, images=images)
    emb_nd, class_emb_kd = stability_views.embeddings_of(view, SETTING, OPTIONS)
    plain_nd, _ = stability_views.embeddings_of(VIEW, SETTING, OPTIONS)
    np.testing.assert_allclose(np.linalg.norm(emb_nd, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(class_emb_kd, axis=1), 1, atol=1e-5)
    assert emb_nd.shape[1] == class_emb_kd.shape[1]
    assert emb_nd.shape != plain_nd.shape or not np.allclose(emb_nd, plain_nd)
    again_nd, _ = stability_views.embeddings_of(view, SETTING, OPTIONS)
    np.testing.assert_array_equal(emb_nd, again_nd)


def test_mirroring_exchanges_left_and_right():
    pool = subsets.load_condition(CONDITION, OPTIONS).pool
    flipped = stability_views.mirrored(pool)
    for i, row, column in [(0, 0, 0), (7, 3, 30)]:
        np.testing.assert_array_equal(flipped[i, row, column], pool.images[i, row, 31 - column])


def test_prompts_and_names_change_the_texts_alone():
    plain_nd, plain_kd = stability_views.embeddings_of(VIEW, SETTING, OPTIONS)
    for changes in ({"prompt": "a drawing of a {}"}, {"names": tuple("bcdefghijk")}):
        emb_nd, class_emb_kd = stability_views.embeddings_of(
            replace(VIEW, **changes), SETTING, OPTIONS
        )
        np.testing.assert_array_equal(emb_nd, plain_nd)
        assert not np.allclose(class_emb_kd, plain_kd)


def test_names_may_come_as_a_list():
    fields = {**asdict(VIEW), "names": ["a", "b"]}
    assert stability.view_of(fields) == replace(VIEW, names=("a", "b"))
    assert stability.view_of(asdict(VIEW)) == VIEW


def test_picks_are_compared_as_sets():
    cell = cell_of("picks", "first labels")
    values = stability.run(cell, OPTIONS)
    batches = stability_picks.Batches(CONDITION, 20, 5)
    sets, pools = [], []
    for name in ("a", "b"):
        strategy = stability_picks.Strategy(**cell[name])
        sets.append({*stability_picks.pick(strategy, batches, OPTIONS)})
        order = np.random.default_rng((1, strategy.first_seed)).permutation(150)
        pools.append({*order[20:]})
        assert sets[-1] <= pools[-1]
    assert values["overlap"] == pytest.approx(len(sets[0] & sets[1]) / len(sets[0] | sets[1]))
    both = len(pools[0] & pools[1]) * (5 / 130) ** 2
    assert values["chance"] == pytest.approx(both / (10 - both))
    assert values["chance_in_shortlist"] >= 0


def test_a_shortlist_holds_the_least_certain():
    batches = stability_picks.Batches(CONDITION, 20, 5)
    rest, shortlist = stability_picks.uncertain(1, batches, OPTIONS)
    labelled, _, prob_nk = stability_picks.first_round(1, batches, OPTIONS)
    assert {*rest} | {*labelled} == {*range(150)}
    margins = {}
    for i, row in zip(rest, prob_nk, strict=True):
        top = sorted(row)[-2:]
        margins[i] = top[1] - top[0]
    assert len(shortlist) == 5 * stability_picks.FACTOR
    assert max(margins[i] for i in shortlist) <= min(margins[i] for i in {*rest} - {*shortlist})
    strategy = stability_picks.Strategy("general", 10, stability_picks.FACTOR, 1)
    assert {*stability_picks.pick(strategy, batches, OPTIONS)} <= {*shortlist}


def test_without_word_lists_nothing_is_said(tmp_path):
    cell = cell_of("picks", "general or Visual Genome")
    with pytest.raises(UnavailableError, match="no word lists of Visual Genome"):
        stability.run(cell, Options(data=tmp_path))


def made_up(cells):
    rng = np.random.default_rng(0)
    for cell in cells:
        if cell["part"] == "subsets":
            values = {"overlap": rng.random(4).tolist(), "chance": [0.125] * 4}
        else:
            facts = ("overlap", "chance", "chance_in_shortlist")
            values = dict.fromkeys(facts, float(rng.random()))
        yield {"cell": cell, "values": values, "seconds": 1.0}


@pytest.mark.parametrize("size", ["quick", "standard"])
def test_the_page_is_made_of_the_records(tmp_path, size):
    records = list(made_up(stability.cells(size)))
    text, plots = rendered_twice(stability.EXPERIMENT, frame(records), tmp_path)
    assert len(plots) == len({c["cell"].get("method") for c in records} - {None})
    mirrored = [
        r["values"]["overlap"][0] for r in records
        if r["cell"]["varied"] == "mirrored images" and r["cell"]["method"] == "default"
    ]  # fmt: skip
    assert f"| mirrored images | {100 * np.mean(mirrored):.1f}" in text
    assert "(12.5) |" in text
    assert "| general or Visual Genome |" in text
    assert "nan" not in text
