"""The timing of the first page runs its blocks as they stand, and counts what is left wrong."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from benchmarks.speed import start

HEAD = """
```sh
pip install "."
```

```python
from pathlib import Path
from sklearn.datasets import load_digits
names = {0: "zero"}
Path("photos").mkdir()
Path("photos", "IMG_0000.png").touch()
```
"""


@pytest.fixture
def cifar(tmp_path):
    rng = np.random.default_rng(0)
    for name in start.NAMES:
        for i in range(3):
            file = tmp_path / "data" / "test" / name / f"{i:04d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(file)
    (tmp_path / "data" / "train" / "airplane").mkdir(parents=True)
    return tmp_path / "data"


def test_a_page_is_run_with_photos_in_place_of_digits(cifar, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text(
        f"{HEAD}\n```sh\nclip-al embed photos -o t\n```\n\n```text\nnot run\n```\n\n```python\n"
        'print(len(list(Path("photos").iterdir())), Path("truth.csv").read_text().count("\\n"))\n'
        "print(sorted(names.values()))\n```\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(start, "PAGE", page)
    records = start.main(
        ["--photos", "12", "--data", str(cifar), "--json", str(tmp_path / "steps.jsonl")]
    )
    shown = capsys.readouterr().out
    assert f"12 13\n{sorted(start.NAMES)}\n" in shown
    assert re.search(r"`clip-al embed photos -o t` +\| +\d+\.\d \| +\d+\.\d \|", shown)
    command = next(record for record in records[1:] if "embed" in record["command"])
    assert "12 images" in command["printed"]
    assert command["cpu_seconds"] > 0.2
    lines = (tmp_path / "steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["command"] for line in lines[1:]] == [
        start.PYTHON, "clip-al embed photos -o t", start.PYTHON,
    ]  # fmt: skip


def test_a_command_that_fails_ends_it(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("```sh\nclip-al embed nowhere -o t\n```\n", encoding="utf-8")
    monkeypatch.setattr(start, "PAGE", page)
    with pytest.raises(RuntimeError, match=r"`clip-al embed nowhere -o t` failed"):
        start.main(["--digits"])


def test_the_page_itself_can_be_timed():
    page = start.PAGE.read_text(encoding="utf-8")
    blocks = start.BLOCK.findall(page)
    assert len(blocks) == page.count("```sh\n") + page.count("```python\n")
    assert sum("load_digits" in text for _, text in blocks) == 1
