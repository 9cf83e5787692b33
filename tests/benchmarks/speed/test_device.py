"""The benchmark of steps on a device, at a size of no meaning."""

import json

import pytest

from benchmarks.speed import device


def test_every_step_is_timed_beside_its_product(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    arguments = ["--device", "cpu", "--images", "400", "--per-class", "40", "--runs", "1"]
    rows = device.main([*arguments, "--dtype", "float16", "--cpu", "--json", str(path)])
    steps = [row["step"] for row in rows]
    assert steps == [
        "array to device", "profiles", "SAS (contrastive)", "SDS", "adapter, one epoch",
        "ClipSelector.fit",
    ]  # fmt: skip
    assert [row["product_s"] is not None for row in rows] == [False, True, True, True, False, False]
    assert all(row["cpu_s"] > 0 for row in rows[1:])
    assert len(path.read_text().splitlines()) == 6
    assert json.loads(path.read_text().splitlines()[0])["dtype"] == "float16"
    assert "of the bare product" in capsys.readouterr().out


def test_half_the_bytes_are_compared_with_all():
    rows = device.main(["--device", "cpu", "--ranking"])
    assert [row["kept as"] for row in rows] == ["float16", "bfloat16"]
    float16, bfloat16 = (row["concepts that stay"] for row in rows)
    assert 0.9 < bfloat16 < float16 <= 1
    assert rows[0]["SAS, rank correlation"] == pytest.approx(1, abs=1e-3)
