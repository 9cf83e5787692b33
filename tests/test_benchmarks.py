"""The benchmark scripts run, and what they print and write has the promised form."""

import json

import numpy as np
import pytest

from benchmarks import diversity_correlation, environment, query_speed

TINY_QUERY = ["--pool", "300", "--width", "16", "--picks", "5", "--concepts", "40"]
TINY_QUERY += ["--labelled", "60", "--runs", "1", "--ranked-picks", "1"]
TINY_SETS = ["--features", "synthetic", "--pool", "400", "--n", "20", "--sets", "20"]
TINY_SETS += ["--repeats", "1", "--timed", "50"]


@pytest.fixture(scope="module")
def query_records():
    pytest.importorskip("skactiveml", reason="scikit-activeml comes with the extra `bench`")
    return query_speed.main(TINY_QUERY)


@pytest.fixture(scope="module")
def sets_records(tmp_path_factory):
    path = tmp_path_factory.mktemp("sets") / "records.jsonl"
    returned = diversity_correlation.main([*TINY_SETS, "--json", str(path)])
    read = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(read) == len(returned)
    return read


def test_query_speed_times_every_method(query_records):
    names = [record["name"] for record in query_records if record["kind"] == "query"]
    for word in ("CBD + margin", "ranked batch", "CoreSet", "BADGE", "TypiClust", "greedy GD"):
        assert any(word in name for name in names), word
    assert all(r["timing"].median_s > 0 for r in query_records if "timing" in r)


def test_query_speed_takes_margin_as_its_unit(query_records):
    ratio = {r["name"]: r["ratio"] for r in query_records if r["kind"] == "query"}
    assert ratio[query_speed.BASELINE] == 1.0


def test_query_speed_prints_where_and_with_what(query_records):
    facts = query_records[0]
    assert facts["seed"] == 0
    assert facts["cores"] >= 1
    assert {"python", "numpy", "modAL", "scikit-learn"} <= facts["versions"].keys()


def test_skip_slow_leaves_out_what_takes_a_minute(capsys):
    pytest.importorskip("skactiveml", reason="scikit-activeml comes with the extra `bench`")
    records = query_speed.main([*TINY_QUERY, "--skip-slow"])
    names = " ".join(record.get("name", "") for record in records)
    assert "CoreSet" in names
    assert "BADGE" not in names
    assert "BADGE" not in capsys.readouterr().out


def test_pools_of_one_seed_are_one_pool():
    first, second = (query_speed.make_pool(50, 8, 20, 30, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.Z, second.Z)
    assert np.allclose(np.linalg.norm(first.Z, axis=1), 1, atol=1e-6)


def test_more_memory_than_allowed_is_refused():
    with environment.memory_limit(64 * environment.MIB):
        np.ones(1 * environment.MIB)
        with pytest.raises(MemoryError):
            np.ones(64 * environment.MIB)
    assert np.ones(64 * environment.MIB).size == 64 * environment.MIB


def test_peak_memory_sees_what_is_freed_again():
    result, n_bytes = environment.peak_memory(lambda: float(np.ones(8 * environment.MIB).sum()))
    assert result == 8 * environment.MIB
    if n_bytes is None:
        pytest.skip("this system does not reset its memory mark")
    assert 0.9 <= n_bytes / (64 * environment.MIB) <= 1.5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.345, "12.3 s"), (789.0, "789 s"), (0.0123, "12.3 ms"), (4.5e-5, "45.0 µs")],
)
def test_seconds_have_three_digits(seconds, text):
    assert environment.format_seconds(seconds) == text


def test_table_is_markdown(capsys):
    environment.print_table(["what", "s"], [["a", 1.5], ["longer", 22]])
    assert capsys.readouterr().out.splitlines()[:4] == [
        "| what   |   s |",
        "| ------ | --: |",
        "| a      | 1.5 |",
        "| longer |  22 |",
    ]


def test_every_coefficient_is_one(sets_records):
    found = [r["spearman"] for r in sets_records if r["kind"] == "spearman"]
    assert len(found) > 100
    assert np.all(np.abs(found) <= 1)


def test_graded_sets_order_measures_as_they_order_gd(sets_records):
    found = {
        r["draw"]: r["spearman"]
        for r in sets_records
        if r["kind"] == "spearman"
        and (r["standardize"], r["m"], r["measure"]) == (True, 10, "CBD binary")
    }
    assert found.keys() == set(diversity_correlation.DRAWS)
    assert found["classes"] > 0.5


def test_gd_is_timed_in_both_forms(sets_records):
    names = [r["name"] for r in sets_records if r["kind"] == "time"]
    assert sum(name.startswith("GD") for name in names) == 2


@pytest.fixture(scope="module")
def features():
    return diversity_correlation.synthetic_features(400, 16, seed=0)


@pytest.mark.parametrize("draw", diversity_correlation.DRAWS)
@pytest.mark.parametrize("grade", [1, 4, 10])
def test_a_set_holds_n_different_rows(features, draw, grade):
    rows = diversity_correlation.DRAW[draw](features, 30, grade, np.random.default_rng(1))
    assert len(rows) == len(set(rows)) == 30


@pytest.mark.parametrize("grade", [1, 4, 10])
def test_grades_are_what_they_say(features, grade):
    rng = np.random.default_rng(2)
    by_class = features.class_n[diversity_correlation.draw_classes(features, 30, grade, rng)]
    assert len(set(by_class)) == grade
    dominated = features.class_n[diversity_correlation.draw_dominance(features, 30, grade, rng)]
    assert np.bincount(dominated).max() == 33 - 3 * grade
    rows = diversity_correlation.draw_copies(features, 30, grade, rng)
    assert np.count_nonzero(rows < features.n_images) == 3 * grade


def test_copies_are_near_their_originals(features):
    position = 7
    copies = features.emb_nd[features.copies_of(position)]
    original = features.emb_nd[features.copied[position]]
    others = np.delete(features.emb_nd[: features.n_images], features.copied[position], axis=0)
    assert (copies @ original).min() > (others @ original).mean()


def test_distorted_images_stay_alike():
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(0, 160, 5, dtype=np.uint8)[:, None, None], 32, axis=1)
    image = np.repeat(image, 3, axis=2)
    copy = diversity_correlation.distorted(image, rng)
    assert copy.shape == image.shape
    assert not np.array_equal(copy, image)
    assert np.corrcoef(copy.ravel(), image.ravel())[0, 1] > 0.95


def test_gd_follows_the_grade(sets_records):
    found = {r["draw"]: r["spearman"] for r in sets_records if r.get("measure") == "grade"}
    assert found["random"] == 0.0
    assert min(found[draw] for draw in diversity_correlation.GRADED) > 0.5
