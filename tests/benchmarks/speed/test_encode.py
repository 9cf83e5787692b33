"""The benchmark of encoding runs on the mini model and says where the limit is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.harness.environment import Timing
from benchmarks.speed import encode
from clip_al.encode.encoder import ClipEncoder

TINY = ["--model", "mini", "--device", "cpu", "--images", "12", "--batch-size", "5", "--runs", "1"]


def timing(seconds):
    return Timing(seconds, seconds, 1, None)


def test_every_stage_is_measured_and_printed(tmp_path, capsys):
    records = encode.main([*TINY, "--workers", "0", "1", "--json", str(tmp_path / "r.jsonl")])
    names = [record["name"] for record in records if record["kind"] == "rate"]
    assert names == [
        encode.BARE, encode.STEP,
        "decoding, --workers 0", "encoder, --workers 0",
        "decoding, --workers 1", "encoder, --workers 1",
    ]  # fmt: skip
    assert all(record["images_per_s"] > 0 for record in records[1:])
    printed = capsys.readouterr().out
    assert "seed 0" in printed
    assert "12 JPEG files of 500 × 375" in printed
    assert "mini at fp32 in batches of 5 on cpu, 1 threads" in printed
    assert printed.count("% of its limit") == 2
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == len(records)


def test_a_device_can_be_stood_in_for(capsys):
    records = encode.main([*TINY, "--workers", "0", "--device-rate", "20"])
    rates = {record["name"]: record["images_per_s"] for record in records[1:]}
    assert rates[encode.BARE] == pytest.approx(20, rel=0.2)
    assert rates["encoder, --workers 0"] < 21
    assert "waits at 20 images/s instead" in capsys.readouterr().out


def test_the_limit_is_the_slower_of_model_and_decoding(capsys):
    timings = {
        encode.BARE: timing(2.0),
        "decoding, --workers 1": timing(4.0), "encoder, --workers 1": timing(5.0),
        "decoding, --workers 8": timing(0.5), "encoder, --workers 8": timing(2.5),
    }  # fmt: skip
    records = encode.show(timings, 1000)
    assert [record["images_per_s"] for record in records] == [500, 250, 200, 2000, 400]
    lines = capsys.readouterr().out.splitlines()
    assert "encoder, --workers 1: 80% of its limit, decoding, 250.0 images/s" in lines
    assert "encoder, --workers 8: 80% of its limit, the model, 500.0 images/s" in lines
    row = next(line for line in lines if line.startswith("| encoder, --workers 8"))
    assert row.split("|")[-2].strip() == "0.80"


def test_the_files_are_photographs_of_the_seed(tmp_path):
    sizes = [encode.write_photos(tmp_path / name, 2, seed) for name, seed in
             (("a", 0), ("b", 0), ("c", 1))]  # fmt: skip
    content = [(tmp_path / name / "000001.jpg").read_bytes() for name in "abc"]
    assert content[0] == content[1] != content[2]
    assert sizes[0] == sizes[1] == pytest.approx(60, rel=0.5)
    assert Image.open(tmp_path / "a" / "000000.jpg").size == (500, 375)


def test_random_weights_are_loaded_as_a_model(tmp_path):
    model = encode.write_random_model(tmp_path / "model", "ViT-S-32-alt", seed=0)
    encoder = ClipEncoder(model, device="cpu")
    pixels = np.zeros((1, 250, 224, 3), np.uint8)
    assert encoder.encode_images(pixels).shape == (1, encoder.embedding_dim)
    config = json.loads((tmp_path / "model" / "open_clip_config.json").read_text())
    assert config["preprocess_cfg"]["size"] == [224, 224]
