"""Fine-tuning in rounds: cells, a run against plain code, what is cached, and the page."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.baselines.to_label import TO_LABEL
from benchmarks.data import cifar
from benchmarks.data.pools import embed_images, load_pool
from benchmarks.experiments import fine_tuning, fine_tuning_page
from benchmarks.experiments.fine_tuning_page import GROUP, by_budget
from benchmarks.harness.cells import SIZES, Options
from benchmarks.harness.pages import lead_table
from benchmarks.training import labelling
from benchmarks.training.labelling import (
    BLIND,
    OURS,
    RANDOM_WORDS,
    Picker,
    Schooling,
    Setting,
    load_setting,
    make_task,
    our_methods,
    schooled,
    trained_once,
)
from benchmarks.training.networks import make_network
from benchmarks.training.training import accuracy, fine_tune, predict, train
from clip_al import CBDMarginSampling, ClipEncoder, ConceptProfiles
from tests.benchmarks.experiment_checks import check_cells, rendered, rendered_twice

TINY = {
    "source": "digits", "per_class": 20, "test_per_class": 10, "seen": "digits",
    "seen_per_class": 20, "base_steps": 6, "budgets": [0.05, 0.1], "epochs": 4, "replay": 0.5,
}  # fmt: skip
SETTING = Setting("digits", 20, None, None, 10, 0)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(cifar, "CACHE", tmp_path)
    labelling.schooled.cache_clear()
    fine_tuning._weak_start.cache_clear()


def tiny(method, regime="good", **changes):
    cell = fine_tuning.make_cell("quick", 0, "balanced", "resnet", regime, method)
    own = {k: v for k, v in TINY.items() if regime == "good" or k != "replay"}
    return {**cell, **own, **changes}


@pytest.mark.parametrize("size", SIZES)
def test_cells_differ_and_those_that_share_stand_together(size):
    cells = fine_tuning.cells(size)
    check_cells(fine_tuning.EXPERIMENT, cells)
    assert len({frozenset(cell) for cell in cells}) == 1
    assert {c["regime"] for c in cells} == {"good", "weak"}
    assert {c["network"] for c in cells} == {"resnet", "vit"}


def test_the_committed_size_has_all_methods_and_seeds_and_keeps_its_budget():
    cells = fine_tuning.cells("standard")
    seeds = pd.DataFrame(cells).groupby(["method", "regime"])["seed"].nunique()
    for method in [*TO_LABEL, *our_methods()]:
        assert seeds[method, "weak"] == (6 if method in fine_tuning.KEY_METHODS else 3)
    for method in fine_tuning.FEW_METHODS:
        assert seeds[method, "good"] == 3
    assert sum(map(fine_tuning.cost_s, cells)) < 1500


def test_our_methods_are_spelled_out_and_differ():
    ours = our_methods()
    settings = [json.dumps(found, sort_keys=True) for found in ours.values()]
    assert len(set(settings)) == len(settings)
    default = CBDMarginSampling().get_params()
    assert ours[OURS]["settings"].items() <= default.items()
    assert ours[RANDOM_WORDS]["settings"] == ours[OURS]["settings"]
    assert ours[RANDOM_WORDS]["vocabulary"] != ours[OURS]["vocabulary"]


def by_hand(pick):
    """Run `tiny` in plain code: two rounds, the picks before replayed with what was seen."""
    pool, seen = drawn(), load_pool("digits", per_class=20, test_per_class=1)
    network = make_network("resnet", 10, seed=0)
    train(network, seen.images, seen.y, n_steps=6, seed=0, augmented=True)
    labelled, scores = np.empty(0, np.int64), []
    for number in range(2):
        rest = np.array([i for i in range(200) if i not in labelled])
        prob, _ = predict(network, pool.images)
        labelled = np.concatenate([labelled, rest[pick(prob[rest], rest, labelled)]])
        network = fine_tune(
            network, pool.images[labelled], pool.y[labelled],
            n_steps=round(4 * 10 * (number + 1) / 32), seed=number,
            replay_images=seen.images, replay_labels=seen.y, replay=0.5,
        )  # fmt: skip
        scores.append(accuracy(network, pool.test_images, pool.y_test))
    return scores, len(set(pool.y[labelled]))


def drawn():
    whole = load_pool("digits", test_per_class=10)
    rng = np.random.default_rng((labelling.PICK_SEED, 0))
    each = [rng.permutation(np.flatnonzero(whole.y == k))[:20] for k in range(10)]
    return whole.take(np.sort(np.concatenate(each)))


def test_a_run_by_margin_is_what_plain_code_gives():
    def pick(prob, rest, labelled):
        best = np.sort(prob.astype(np.float64), axis=1)
        return np.argsort(best[:, -1] - best[:, -2], kind="stable")[:10]

    found = fine_tuning.run(tiny("margin"), Options())
    scores, n_classes = by_hand(pick)
    assert found["accuracies"] == scores
    assert found["n_classes"] == n_classes
    assert found["gain"] == pytest.approx(np.mean(scores) - found["before"])
    assert len(found["pick_s"]) == 2
    assert found == fine_tuning.run(tiny("margin"), Options()) | {"pick_s": found["pick_s"]}


def test_a_run_of_ours_knows_what_is_labelled():
    encoder = ClipEncoder("mini")
    words = labelling.vocabulary_of("general", Options())
    profiles = ConceptProfiles.from_embeddings(embed_images(drawn().images, encoder), words)

    def pick(prob, rest, labelled):
        return CBDMarginSampling().select(
            n_instances=10, probabilities=prob, profiles=profiles.take(rest),
            labelled=profiles.take(labelled) if len(labelled) else None,
        )  # fmt: skip

    assert fine_tuning.run(tiny(OURS), Options())["accuracies"] == by_hand(pick)[0]


def test_a_weak_network_knows_the_first_labels_alone():
    cell = tiny("random", "weak", first=0.1, base_steps=30)
    pool = load_setting(SETTING, Options()).pool
    first = fine_tuning.first_labels(cell, 200)
    assert len(first) == 20
    network = make_network("resnet", 10, seed=0)
    train(network, pool.images[first], pool.y[first], n_steps=30, seed=0, augmented=True)
    assert fine_tuning.run(cell, Options())["before"] == accuracy(
        network, pool.test_images, pool.y_test
    )


def test_an_ensemble_has_members_of_other_seeds(monkeypatch):
    seen = []

    def watch(task, n):
        seen.append(task.member_prob_enk)
        return np.arange(n)

    monkeypatch.setitem(TO_LABEL, "ensemble variance", watch)
    fine_tuning.run(tiny("ensemble variance", "weak"), Options())
    assert [members.shape for members in seen] == [(3, 190, 10), (3, 180, 10)]
    assert not np.array_equal(seen[0][0], seen[0][1])


@pytest.mark.parametrize("method", [m for m in BLIND if m != "facility location"])  # 4 s to load
def test_methods_that_are_not_shown_the_network_do_without(method):
    cell = tiny(method)
    material = load_setting(SETTING, Options())
    labelled, rest = np.arange(5), np.arange(5, 200)
    task = make_task(material, [], labelled, rest, cell)
    assert task.prob_nk.shape == (195, 0)
    picker = Picker(cell, SETTING, Options())
    picks = picker.pick(task, rest, 12, picker.known(labelled))
    assert len(set(picks.tolist())) == 12
    np.testing.assert_array_equal(picks, picker.pick(task, rest, 12, picker.known(labelled)))


def test_a_network_is_trained_once(monkeypatch, tmp_path):
    pool = load_pool("digits", per_class=5, test_per_class=1)
    options = {"n_steps": 3, "seed": 0, "device": "cpu"}
    first = trained_once("resnet", pool, **options)
    files = list(tmp_path.glob("network-*.pt"))
    assert len(files) == 1
    with monkeypatch.context() as patched:
        patched.setattr(labelling, "train", None)
        again = trained_once("resnet", pool, **options)
        with pytest.raises(TypeError, match="not callable"):
            trained_once("resnet", pool, **{**options, "n_steps": 4})
    assert not again.training
    for name, weights in first.state_dict().items():
        np.testing.assert_array_equal(weights, again.state_dict()[name])


def test_members_of_a_regime_are_those_of_its_seeds():
    one = schooled(Schooling("resnet", "digits", 20, 6, 1), Options())
    assert fine_tuning.start_of(tiny("margin"), 1, Options()) is one
    assert fine_tuning.start_of(tiny("margin", base_seed=2), 2, Options()) is one


def test_settings_draw_a_tail_or_a_few_classes():
    whole = load_setting(SETTING, Options())
    encoder = ClipEncoder("mini")
    np.testing.assert_array_equal(whole.pool.images, drawn().images)
    np.testing.assert_allclose(whole.emb_nd, embed_images(whole.pool.images, encoder), atol=1e-5)
    tail = load_setting(Setting("digits", 20, 10.0, None, 10, 0), Options()).pool
    assert sorted(np.bincount(tail.y))[::9] == [2, 20]
    few = load_setting(Setting("digits", 20, None, (2, 7), 10, 0), Options()).pool
    assert np.bincount(few.y).tolist() == [0, 0, 20, 0, 0, 0, 0, 20]


def made_up(n_seeds=2):
    rng = np.random.default_rng(0)
    rows = []
    for cell in fine_tuning.cells("quick"):
        for seed in range(n_seeds):
            scores = rng.random(2).tolist()
            rows.append(
                {
                    **cell, "seed": seed, "before": 0.5, "accuracies": scores,
                    "gain": np.mean(scores) - 0.5, "pick_s": rng.random(2).tolist(),
                    "n_classes": 9, "n_images": 100, "seconds": 1.0,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def test_the_page_is_the_same_twice_and_has_its_plots(tmp_path):
    records = made_up()
    text, plots = rendered_twice(fine_tuning.EXPERIMENT, records, tmp_path)
    assert len(plots) == 8
    assert all(f"({name})" in text for name in plots)
    assert "nan" not in text


def test_the_page_does_with_one_seed_and_one_regime(tmp_path):
    records = made_up(1)
    records = records[(records["regime"] == "weak") & (records["network"] == "resnet")]
    text, plots = rendered(fine_tuning.EXPERIMENT, records, tmp_path)
    assert len(plots) == 2
    assert "nan" not in text
    assert "A good network" not in text


def test_the_lead_at_each_budget_is_counted_from_the_records():
    records = made_up()
    table = lead_table(
        by_budget(records), OURS, against=("random",), group=GROUP, step="labels", value="gained"
    )
    part = records[(records["regime"] == "good") & (records["pool"] == "balanced")]
    by_method = {
        m: np.array(part[part["method"] == m]["accuracies"].tolist()) for m in ("random", OURS)
    }
    lead = 100 * (by_method[OURS] - by_method["random"])
    row = table.loc["good, balanced, resnet: vs. random"]
    assert row["above at"] == f"{(lead.mean(0) > 0).sum()} of 2"
    assert list(table.columns) == ["5%", "10%", "above at"]
    assert row["10%"] == f"{lead[:, 1].mean():+.1f} ± {lead[:, 1].std(ddof=1):.1f}"


def test_rows_of_budgets_keep_the_numbers_of_their_record():
    records = made_up(1)
    rows = by_budget(records)
    assert len(rows) == 2 * len(records)
    assert rows["accuracy"].tolist() == [a for found in records["accuracies"] for a in found]
    assert rows["gained"].tolist() == pytest.approx((rows["accuracy"] - 0.5).tolist())
    assert not fine_tuning_page.uneven(rows)
