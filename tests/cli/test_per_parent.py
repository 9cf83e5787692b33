"""`select --per-parent`: a budget that counts photos and videos, not what they were cut into."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clip_al.encode.encoder import ClipEncoder
from clip_al.images.parents import parent_of
from clip_al.table.embedding_table import EmbeddingTable
from tests.command_line import flat, run

N_VIDEOS, N_FRAMES = 6, 10


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a table of videos of two scenes each."""
    rng = np.random.default_rng(0)
    scenes = rng.normal(size=(N_VIDEOS, 2, 1, 256))
    Z = scenes + 0.05 * rng.normal(size=(N_VIDEOS, 2, N_FRAMES // 2, 256))
    Z = Z.reshape(-1, 256)
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    ids = [f"v{i}.mp4#t={j}" for i in range(N_VIDEOS) for j in range(N_FRAMES)]
    folder = tmp_path_factory.mktemp("videos")
    EmbeddingTable.from_array(folder / "t", Z, ids, model_id=ClipEncoder("mini").model_id)
    (folder / "words.txt").write_text("one\ntwo\nthree\nfour\nfive\n")
    return folder / "t"


def parents(path: Path) -> Counter[str]:
    return Counter(map(parent_of, pd.read_csv(path)["id"]))


def test_each_video_gives_at_most_one(table: Path, tmp_path: Path) -> None:
    free, bound = tmp_path / "free.csv", tmp_path / "bound.csv"
    assert run("select", table, "--budget", 6, "-o", free).exit_code == 0
    assert max(parents(free).values()) > 1  # else the limit would show nothing
    result = run("select", table, "--budget", 6, "--per-parent", 1, "-o", bound)
    assert result.exit_code == 0, result.output
    assert sorted(parents(bound).values()) == [1] * 6
    assert pd.read_csv(bound)["id"][0] == pd.read_csv(free)["id"][0]


def test_what_has_labels_counts(table: Path, tmp_path: Path) -> None:
    (tmp_path / "known.csv").write_text("id\nv1.mp4#t=0\nv2.mp4#t=3\n")
    out = tmp_path / "next.csv"
    command = ("select", table, "--labelled", tmp_path / "known.csv", "-o", out)
    result = run(*command, "--budget", 4, "--per-parent", 1)
    assert result.exit_code == 0, result.output
    assert parents(out) == Counter({f"v{i}.mp4": 1 for i in (0, 3, 4, 5)})
    result = run(*command, "--budget", 5, "--per-parent", 1, "--force")
    assert result.exit_code == 2
    assert "`--budget` must be at most 4, as many as the 6 photos or videos" in flat(result)
    result = run(*command, "--budget", 10, "--per-parent", 2, "--force")
    assert result.exit_code == 0, result.output
    assert sum(parents(out).values()) == 10
    assert parents(out)["v1.mp4"] == parents(out)["v2.mp4"] == 1


def test_concepts_and_probabilities_count_too(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "picks.csv"
    words = ("--vocabulary", table.parent / "words.txt", "-m", 2, "--strategy", "cbd")
    result = run("select", table, "--budget", 6, "--per-parent", 1, "-o", out, *words)
    assert result.exit_code == 0, result.output
    assert sorted(parents(out).values()) == [1] * 6
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), N_VIDEOS * N_FRAMES)
    np.save(tmp_path / "p.npy", probabilities)
    result = run(
        "select", table, "--budget", 6, "--per-parent", 1, "-o", out, "--force",
        "--probabilities", tmp_path / "p.npy",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert sorted(parents(out).values()) == [1] * 6
    written = pd.read_csv(out)
    top2 = np.sort(probabilities[written["index"]], axis=1)[:, -2:]
    np.testing.assert_allclose(written["margin"], top2[:, 1] - top2[:, 0])


def test_the_limit_is_of_budgets(table: Path, tmp_path: Path) -> None:
    result = run("select", table, "--budget", 2, "--per-parent", 0, "-o", tmp_path / "x.csv")
    assert result.exit_code == 2
    assert "`--per-parent` must be" in flat(result)
    command = ("--ratio", 0.5, "--labels", "folders", "--per-parent", 1, "-o", tmp_path / "x.csv")
    result = run("select", table, *command)
    assert result.exit_code == 2
    assert "`--per-parent` must come with `--budget`" in flat(result)
