"""The timing of search covers both types on disk, beside a product by NumPy."""

from benchmarks.speed import search


def test_every_row_is_timed(capsys):
    records = search.main(["--images", "500", "--width", "16", "--runs", "1"])
    names = [record["name"] for record in records[1:]]
    for dtype in ("float16", "float32"):
        for what in ("search", "search among half", "NumPy's product"):
            assert f"{what}, {dtype}" in names
    assert "One query, 500 × 16" in capsys.readouterr().out
