"""The timing of a query runs, and what it prints and returns has the promised form."""

import numpy as np
import pytest

from benchmarks.speed import query

TINY_QUERY = ["--pool", "300", "--width", "16", "--picks", "5", "--concepts", "40"]
TINY_QUERY += ["--labelled", "60", "--runs", "1", "--ranked-picks", "1"]


@pytest.fixture(scope="module")
def query_records():
    pytest.importorskip("skactiveml", reason="scikit-activeml comes with the extra `bench`")
    return query.main(TINY_QUERY)


def test_it_times_every_method(query_records):
    names = [record["name"] for record in query_records if record["kind"] == "query"]
    for word in ("CBD + margin", "ranked batch", "CoreSet", "BADGE", "TypiClust", "greedy GD"):
        assert any(word in name for name in names), word
    assert all(r["timing"].median_s > 0 for r in query_records if "timing" in r)


def test_it_takes_margin_as_its_unit(query_records):
    ratio = {r["name"]: r["ratio"] for r in query_records if r["kind"] == "query"}
    assert ratio[query.BASELINE] == 1.0


def test_it_prints_where_and_with_what(query_records):
    facts = query_records[0]
    assert facts["seed"] == 0
    assert facts["cores"] >= 1
    assert {"python", "numpy", "modAL", "scikit-learn"} <= facts["versions"].keys()


def test_skip_slow_leaves_out_what_takes_a_minute(capsys):
    pytest.importorskip("skactiveml", reason="scikit-activeml comes with the extra `bench`")
    records = query.main([*TINY_QUERY, "--skip-slow"])
    names = " ".join(record.get("name", "") for record in records)
    assert "CoreSet" in names
    assert "BADGE" not in names
    assert "BADGE" not in capsys.readouterr().out


def test_pools_of_one_seed_are_one_pool():
    first, second = (query.make_pool(50, 8, 20, 30, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.Z, second.Z)
    assert np.allclose(np.linalg.norm(first.Z, axis=1), 1, atol=1e-6)
