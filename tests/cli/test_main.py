"""The commands, run in this process on a small folder of drawn images and the mini model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from clip_al.concepts.profiles import ConceptProfiles
from clip_al.concepts.vocabulary import DEFAULT_TEMPLATES, ConceptVocabulary
from clip_al.encode.encoder import ClipEncoder
from clip_al.label.concept_sampling import CBDMarginSampling, CBDSampling
from clip_al.label.coverage_sampling import UncertaintyCoverageSampling
from clip_al.subset.selection import Selection
from clip_al.subset.selector import ClipSelector
from clip_al.table.embedding_table import EmbeddingTable
from tests.command_line import flat, run

N_IMAGES = 24
WORDS = "red\ngreen\nblue\nbright\ndark\nsky\ngrass\ncar\ndog\nship\nbird\ncat\nhorse, pony\n"


def draw_images(folder: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(n):
        group = folder / f"group{i % 3}"
        group.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(group / f"{i:03d}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with images, a vocabulary and a table made by the command."""
    folder = tmp_path_factory.mktemp("cli")
    draw_images(folder / "images", N_IMAGES)
    (folder / "words.txt").write_text(WORDS)
    result = run("embed", folder / "images", "-o", folder / "table")
    assert result.exit_code == 0, result.output
    return folder


def vocabulary(place: Path) -> tuple[str, str, str, str]:
    return ("--vocabulary", str(place / "words.txt"), "-m", "4")


def test_embed_again_does_nothing_and_says_so(place: Path) -> None:
    before = (place / "table" / "embeddings.npy").stat().st_mtime_ns
    result = run("embed", place / "images", "-o", place / "table")
    assert result.exit_code == 0
    assert f"{N_IMAGES} images × 256, mini@" in flat(result)
    assert (place / "table" / "embeddings.npy").stat().st_mtime_ns == before


def test_concepts_lists_and_writes(place: Path, tmp_path: Path) -> None:
    result = run("concepts", place / "table", "-o", tmp_path / "all.csv", *vocabulary(place))
    assert result.exit_code == 0
    assert "Most frequent concepts" in result.stdout
    written = pd.read_csv(tmp_path / "all.csv", keep_default_na=False)
    table = EmbeddingTable.open(place / "table")
    assert written["id"].tolist() == table.ids.tolist()
    words = ConceptVocabulary.from_file(place / "words.txt").encode(ClipEncoder("mini"))
    profiles = ConceptProfiles.from_embeddings(table, words, 4)
    said = [profiles.words(i) for i in range(N_IMAGES)]
    assert written["concepts"].tolist() == ["; ".join(row) for row in said]
    assert max(map(len, said)) > min(map(len, said))


def test_an_image_of_nothing_in_the_vocabulary_is_said_to_be_one(tmp_path: Path) -> None:
    texts = ClipEncoder("mini").encode_texts(["cat", "dog", "ship"], templates=DEFAULT_TEMPLATES)
    away = texts.mean(axis=0)  # as near to one as to the others
    Z = np.vstack([texts, texts, away[None] / np.linalg.norm(away)])
    model = ClipEncoder("mini").model_id
    EmbeddingTable.from_array(tmp_path / "t", Z, list("abcdefg"), model_id=model)
    (tmp_path / "words.txt").write_text("cat\ndog\nship\n")
    command = ("concepts", tmp_path / "t", "--model", "mini", "-m", 3, "-o", tmp_path / "all.csv")
    result = run(*command, "--vocabulary", tmp_path / "words.txt")
    assert result.exit_code == 0, result.output
    assert "g nothing in the vocabulary fits" in " ".join(result.stdout.replace("│", " ").split())
    assert "1 of 7 images: nothing in the vocabulary fits." in flat(result)
    written = pd.read_csv(tmp_path / "all.csv", keep_default_na=False)
    assert written["concepts"].tolist() == ["cat", "dog", "ship"] * 2 + [""]


def test_diversity_of_all_and_of_some(place: Path, tmp_path: Path) -> None:
    everything = run("diversity", place / "table", *vocabulary(place))
    assert everything.exit_code == 0
    assert f"Diversity of {N_IMAGES} images" in everything.stdout
    (tmp_path / "two.txt").write_text("group0/000.png\ngroup1/001.png\n")
    two = run("diversity", place / "table", "--indices", tmp_path / "two.txt", *vocabulary(place))
    assert two.exit_code == 0, two.output
    assert "Diversity of 2 images" in two.stdout


def test_select_from_a_table_then_go_on(place: Path, tmp_path: Path) -> None:
    first, following = tmp_path / "first.csv", tmp_path / "next.csv"
    assert (
        run("select", place / "table", "--budget", 6, "-o", first, *vocabulary(place)).exit_code
        == 0
    )
    picked = pd.read_csv(first)
    assert picked["rank"].tolist() == list(range(1, 7))
    assert picked["index"].nunique() == 6
    ids = EmbeddingTable.open(place / "table").ids
    assert picked["id"].tolist() == ids[picked["index"]].tolist()
    assert all(Path(path).is_file() for path in picked["path"])
    assert "margin" not in picked

    probabilities = np.random.default_rng(1).dirichlet(np.ones(3), N_IMAGES)
    np.save(tmp_path / "p.npy", probabilities)
    result = run(
        "select", place / "table", "--budget", 5, "-o", following, "--labelled", first,
        "--probabilities", tmp_path / "p.npy", *vocabulary(place),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    later = pd.read_csv(following)
    assert not set(later["index"]) & set(picked["index"])
    top2 = np.sort(probabilities[later["index"]], axis=1)[:, -2:]
    np.testing.assert_allclose(later["margin"], top2[:, 1] - top2[:, 0])
    table, known = EmbeddingTable.open(place / "table"), picked["index"].to_numpy()
    pool = np.setdiff1d(np.arange(N_IMAGES), known)
    ours = UncertaintyCoverageSampling().select(
        table[pool], 5, probabilities=probabilities[pool], labelled=table[known]
    )
    assert later["index"].tolist() == pool[ours].tolist()

    frame = pd.DataFrame(probabilities, columns=list("abc")).assign(id=ids)
    frame.sample(frac=1, random_state=0).to_csv(tmp_path / "p.csv", index=False)
    again = tmp_path / "again.csv"
    result = run(
        "select", place / "table", "--budget", 5, "-o", again, "--labelled", first,
        "--probabilities", tmp_path / "p.csv", *vocabulary(place),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert pd.read_csv(again)["index"].tolist() == later["index"].tolist()


def no_text(*_: object, **__: object) -> np.ndarray:
    raise AssertionError("a text was encoded")


def test_without_a_vocabulary_no_text_is_encoded(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClipEncoder, "encode_texts", no_text)
    table, out = EmbeddingTable.open(place / "table"), tmp_path / "picks.csv"
    result = run("select", place / "table", "--budget", 6, "-o", out)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Wrote 6 of {N_IMAGES} images to {out}\n"
    written = pd.read_csv(out)
    assert written.columns.tolist() == ["rank", "index", "id", "path"]
    expected = UncertaintyCoverageSampling().select(table, 6)
    assert written["index"].tolist() == expected.tolist()

    np.save(tmp_path / "p.npy", np.random.default_rng(1).dirichlet(np.ones(3), N_IMAGES))
    model = ("--probabilities", tmp_path / "p.npy")
    result = run("select", place / "table", "--budget", 3, "-o", out, "--force", *model)
    assert result.exit_code == 0, result.output
    assert pd.read_csv(out).columns.tolist() == ["rank", "index", "id", "path", "margin"]


def test_concepts_are_written_where_they_are_asked_for(place: Path, tmp_path: Path) -> None:
    plain, told = tmp_path / "plain.csv", tmp_path / "told.csv"
    assert run("select", place / "table", "--budget", 6, "-o", plain).exit_code == 0
    result = run("select", place / "table", "--budget", 6, "-o", told, *vocabulary(place))
    assert result.exit_code == 0, result.output
    without, written = (pd.read_csv(path, keep_default_na=False) for path in (plain, told))
    assert written["index"].tolist() == without["index"].tolist()
    assert written.columns.tolist()[-2:] == ["concepts", "added_concepts"]
    assert written["concepts"].str.count("; ").le(3).all()
    assert written["concepts"].ne("").any()
    assert "of 13 concepts." in flat(result)


def test_the_concept_strategies_stay_by_name(place: Path, tmp_path: Path) -> None:
    table, first = EmbeddingTable.open(place / "table"), tmp_path / "first.csv"
    words = ConceptVocabulary.from_file(place / "words.txt").encode(ClipEncoder("mini"))
    profiles = ConceptProfiles.from_embeddings(table, words, 4)
    command = ("select", place / "table", "--strategy", "cbd", *vocabulary(place))
    result = run(*command, "--budget", 6, "-o", first, "--target", "uniform")
    assert result.exit_code == 0, result.output
    known = pd.read_csv(first)["index"].to_numpy()
    expected = CBDSampling(target="uniform").select(profiles=profiles, n_instances=6)
    assert known.tolist() == expected.tolist()

    probabilities = np.random.default_rng(1).dirichlet(np.ones(3), N_IMAGES)
    np.save(tmp_path / "p.npy", probabilities)
    result = run(
        *command, "--budget", 5, "-o", tmp_path / "next.csv", "--labelled", first,
        "--probabilities", tmp_path / "p.npy", "--candidate-factor", 3,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    pool = np.setdiff1d(np.arange(N_IMAGES), known)
    ours = CBDMarginSampling(candidate_factor=3).select(
        profiles=profiles.take(pool), n_instances=5, probabilities=probabilities[pool],
        labelled=profiles.take(known),
    )  # fmt: skip
    written = pd.read_csv(tmp_path / "next.csv")
    assert written["index"].tolist() == pool[ours].tolist()
    assert {"margin", "concepts", "added_concepts"} <= set(written.columns)


def test_select_from_a_folder_keeps_its_embeddings(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "picks.csv"
    result = run("select", place / "images", "--budget", 3, "-o", out, *vocabulary(place))
    assert result.exit_code == 0, result.output
    assert len(pd.read_csv(out)) == 3
    assert len(EmbeddingTable.open(tmp_path / "picks.embeddings")) == N_IMAGES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", 25], "`--budget` must be in [1, 24], the size of the pool; got 25."),
        (["--budget", 0], "`--budget` must be in [1, 24], the size of the pool; got 0."),
        (["--budget", 2, "-m", 14], "`-m` must be in [1, 13]; got 14."),
        (
            ["--budget", 2, "--vocabulary", "nothing"],
            "`--vocabulary` must be general,",
        ),
        (
            ["--budget", 2, "--strategy", "entropy"],
            "`--strategy` must be one of 'coverage', 'cbd'; got 'entropy'.",
        ),
        (
            ["--budget", 2, "--strategy", "cbd", "--target", "even"],
            "`--target` must be one of 'uniform', 'pool', 'uncertain'; got 'even'.",
        ),
        (
            ["--budget", 2, "--candidate-factor", 3],
            "`--candidate-factor` must come with `--strategy cbd`; got it with `--strategy "
            "coverage`. Leave it out.",
        ),
        (["--budget", 2, "--target", "pool"], "`--target` must come with `--strategy cbd`;"),
        (
            ["--budget", 2, "--strategy", "cbd", "--random-state", 1],
            "`--random-state` must come with `--strategy coverage` or `--classes`; got it with "
            "neither. Leave it out.",
        ),
        (
            ["--budget", 2, "--classes", "x.txt", "--probabilities", "p.npy"],
            "`--classes` must come with labels to train a head on; got it with `--probabilities`, "
            "a model of your own. Leave it out.",
        ),
        (["--budget", 2, "--classes", "x.txt"], "x.txt must be a file; it is missing"),
    ],
)
def test_select_refuses(place: Path, tmp_path: Path, arguments: list[object], message: str) -> None:
    out = tmp_path / "picks.csv"
    result = run("select", place / "table", "-o", out, *vocabulary(place), *arguments)
    assert result.exit_code == 2
    assert message in flat(result)
    assert not out.exists()


def test_concepts_per_image_need_a_vocabulary(place: Path, tmp_path: Path) -> None:
    result = run("select", place / "table", "--budget", 2, "-m", 3, "-o", tmp_path / "picks.csv")
    assert result.exit_code == 2
    assert "`-m` must come with `--vocabulary` or `--strategy cbd`; got it with neither." in flat(
        result
    )


def test_existing_output_is_kept_without_force(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "picks.csv"
    out.write_text("mine")
    result = run("select", place / "table", "--budget", 2, "-o", out, *vocabulary(place))
    assert result.exit_code == 2
    assert "must not exist yet" in flat(result)
    assert out.read_text() == "mine"
    forced = run("select", place / "table", "--budget", 2, "-o", out, "--force", *vocabulary(place))
    assert forced.exit_code == 0
    assert len(pd.read_csv(out)) == 2


def test_a_folder_without_images(tmp_path: Path) -> None:
    result = run("embed", tmp_path, "-o", tmp_path / "table")
    assert result.exit_code == 2
    assert "at least one image" in flat(result)


def test_an_unreadable_image_is_named_and_can_be_skipped(tmp_path: Path) -> None:
    draw_images(tmp_path / "images", 3)
    (tmp_path / "images" / "broken.png").write_bytes(b"no picture")
    first = run("embed", tmp_path / "images", "-o", tmp_path / "table")
    assert first.exit_code == 2
    assert f"{tmp_path / 'images' / 'broken.png'} (not an image" in flat(first)  # not broken
    with pytest.warns(UserWarning, match="broken"):
        second = run("embed", tmp_path / "images", "-o", tmp_path / "table", "--skip-unreadable")
    assert second.exit_code == 0
    assert len(EmbeddingTable.open(tmp_path / "table")) == 3


def test_a_table_of_another_model_is_refused(place: Path, tmp_path: Path) -> None:
    Z = np.eye(5, 256)
    EmbeddingTable.from_array(tmp_path / "table", Z, list("abcde"), model_id="other@12345678")
    result = run("concepts", tmp_path / "table", "--model", "mini", *vocabulary(place))
    assert result.exit_code == 2
    assert "Both must come from one model;" in flat(result)
    assert "was made by other@12345678, got mini@" in flat(result)


@pytest.mark.slow
def test_an_interrupt_is_no_traceback(tmp_path: Path) -> None:
    draw_images(tmp_path / "images", 40)
    code = (
        "import signal, time\n"
        # A shell's background jobs, CI among them, are started with the signal ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from clip_al.encode.clip_models import LoadedClip as L\n"
        "encode = L.encode_pixels\n"
        "L.encode_pixels = lambda *a: (print('batch', flush=True), time.sleep(1), encode(*a))[2]\n"
        "from clip_al.cli.main import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, "embed", "images", "-o", "table", "--batch-size", "8"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "batch\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command continues" in errors
    assert "Traceback" not in errors
    done = (tmp_path / "table" / "embeddings.npy").stat().st_size
    for name in ("table", "whole"):
        command = ("embed", tmp_path / "images", "-o", tmp_path / name, "--batch-size", 8)
        assert run(*command).exit_code == 0
    continued, whole = (tmp_path / name / "embeddings.npy" for name in ("table", "whole"))
    assert continued.read_bytes() == whole.read_bytes()
    assert done < whole.stat().st_size


# What to train on

CLASSES = ["digit 0", "digit 3", "digit 6"]
N_DIGITS = 45
MISPLACED = ["digit 0/004.png", "digit 6/020.png", "digit 0/037.png"]  # in a wrong folder


@pytest.fixture(scope="module")
def digits_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of photographed digits, one class a folder, three in the wrong one."""
    folder = tmp_path_factory.mktemp("digits")
    digits = load_digits()
    rows = np.flatnonzero(np.isin(digits.target, [0, 3, 6]))[:N_DIGITS]
    wrong = {int(name[8:11]): name for name in MISPLACED}
    lines = []
    for i, row in enumerate(rows):
        right = f"digit {digits.target[row]}/{i:03d}.png"
        name = wrong.get(i, right)
        assert (name == right) is (i not in wrong)
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.round(digits.images[row] * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name)
        lines.append(f"{name},{name.split('/')[0]},{'left' if i % 3 else 'right'}")
    text = "\n".join(["id,label,group", *reversed(lines)])
    (folder / "labels.csv").write_text(text)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    result = run("embed", folder / "images", "-o", folder / "table")
    assert result.exit_code == 0, result.output
    return folder


def labels_of(table: EmbeddingTable) -> list[str]:
    return [name.split("/")[0] for name in table.ids]


def test_a_subset_from_a_folder_of_class_folders(digits_place: Path, tmp_path: Path) -> None:
    out = tmp_path / "subset.csv"
    result = run(
        "select", digits_place / "images", "--labels", "folders", "--ratio", 0.6, "-o", out
    )
    assert result.exit_code == 0, result.output
    chosen = pd.read_csv(out)
    assert chosen.columns.tolist() == [
        "index", "id", "path", "label", "sas", "sds", "total",
    ]  # fmt: skip
    assert len(chosen) == round(0.6 * N_DIGITS)
    assert not set(MISPLACED) & set(chosen["id"])
    assert all(Path(path).is_file() for path in chosen["path"])
    assert [name.split("/")[0] for name in chosen["id"]] == chosen["label"].tolist()
    ids = EmbeddingTable.open(tmp_path / "subset.embeddings").ids
    assert ids[chosen["index"]].tolist() == chosen["id"].tolist()
    # The report, the estimate and the three likeliest suspects.
    assert f"27 of {N_DIGITS} images selected (60.0%)" in flat(result)
    assert "least / most frequent class: " in flat(result)
    assert " % of the labels " in flat(result)
    assert all(name in flat(result) for name in set(MISPLACED))


def test_class_names_share_a_first_batch(digits_place: Path, tmp_path: Path) -> None:
    table, out = EmbeddingTable.open(digits_place / "table"), tmp_path / "first.csv"
    command = ("select", digits_place / "table", "--classes", digits_place / "classes.txt")
    result = run(*command, "--budget", 9, "-o", out)
    assert result.exit_code == 0, result.output
    encoder = ClipEncoder("mini")
    texts = encoder.encode_texts(CLASSES, templates=DEFAULT_TEMPLATES)
    picks = pd.read_csv(out)["index"].to_numpy()
    strategy = UncertaintyCoverageSampling(texts, logit_scale=encoder.logit_scale)
    expected = strategy.select(table, 9)
    assert picks.tolist() == expected.tolist()
    assert np.bincount((table[picks] @ texts.T).argmax(axis=1)).tolist() == [3, 3, 3]

    result = run(*command, "--budget", 3, "-o", tmp_path / "next.csv", "--labelled", out)
    assert result.exit_code == 0, result.output
    later = pd.read_csv(tmp_path / "next.csv")["index"].to_numpy()
    assert not set(later) & set(picks)
    assert np.bincount((table[later] @ texts.T).argmax(axis=1)).tolist() == [1, 1, 1]


def test_class_names_need_the_model_of_the_table(tmp_path: Path) -> None:
    EmbeddingTable.from_array(tmp_path / "table", np.eye(5, 256), list("abcde"), model_id="other@1")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    result = run(
        "select", tmp_path / "table", "--budget", 2, "-o", tmp_path / "picks.csv",
        "--classes", tmp_path / "classes.txt", "--model", "mini",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "was made by other@1, got mini@" in flat(result)


def test_a_subset_is_what_the_library_chooses(digits_place: Path, tmp_path: Path) -> None:
    table = EmbeddingTable.open(digits_place / "table")
    selector = ClipSelector(0.4, class_names=CLASSES, encoder=ClipEncoder("mini"), random_state=3)
    expected = selector.fit_select(table, labels_of(table))
    codes = [CLASSES.index(name) for name in labels_of(table)]
    np.save(tmp_path / "codes.npy", codes)
    for number, labels in enumerate(
        [
            ["folders"],
            [digits_place / "labels.csv"],
            [tmp_path / "codes.npy", "--classes", digits_place / "classes.txt"],
        ]
    ):
        out = tmp_path / f"subset{number}.json"
        result = run(
            "select", digits_place / "table", "--ratio", 0.4, "-o", out, "--random-state", 3,
            "--labels", *labels,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert Selection.load(out) == expected


def test_options_of_a_subset_arrive(digits_place: Path, tmp_path: Path) -> None:
    for name, options, expected in (
        ("a", ["--no-adapter", "--class-balance", "equal"], {"adapter": False}),
        ("b", ["--cross-fit"], {"adapter": "cross-fit", "preset": "default"}),
        ("c", ["--preset", "paper"], {"preset": "paper", "adapter": True, "solver": "sgd"}),
        ("d", ["--no-adapter", "--random-state", 5], {"random_state": 5}),
        ("e", ["--alpha", "ratio"], {"alpha": "ratio", "n_neighbors": 0.1}),
        ("f", ["--alpha", 0.5, "--n-neighbors", 3], {"alpha": 0.5, "n_neighbors": 3}),
        ("g", ["--n-neighbors", 0.2], {"alpha": "ratio", "n_neighbors": 0.2}),
        ("h", ["--alpha", 0, "--group-balance", "none"], {"alpha": 0.0, "n_neighbors": None}),
        ("i", ["--group-balance", "none"], {"group_balance": "none", "alpha": "ratio"}),
    ):
        out = tmp_path / f"{name}.json"
        result = run(
            "select", digits_place / "table", "--labels", "folders", "--ratio", 0.5, "-o", out,
            *options,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        settings = Selection.load(out).settings
        assert {key: settings[key] for key in expected} == expected
    report = Selection.load(tmp_path / "a.json").report().classes
    assert report is not None
    assert np.ptp(report["after"]) <= 1
    assert np.ptp(report["before"]) > 1


def test_groups_and_the_images_left_out(digits_place: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.csv"
    result = run(
        "select", digits_place / "table", "--labels", digits_place / "labels.csv", "--groups",
        digits_place / "labels.csv", "--ratio", 0.5, "-o", out, "--all", "--no-adapter",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "least / most frequent group: " in flat(result)
    written = pd.read_csv(out)
    assert len(written) == N_DIGITS
    assert {"selected", "group", "likeliest", "label_score"} <= set(written.columns)
    share = written.groupby("group")["selected"].mean()
    assert share.between(0.4, 0.6).all()
    suspects = written.nsmallest(3, "label_score")
    assert set(suspects["id"]) == set(MISPLACED)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            "One of `--budget` (images to label) and `--ratio` (share of the images to train on) "
            "must be given; got neither. Pass one.",
        ),
        (["--budget", 3, "--ratio", 0.3], "must be given; got both. Pass one."),
        (
            ["--ratio", 0.3],
            "`--labels` must come with `--ratio`: what to train on is chosen by image and label; "
            "got none. Pass a file, or `folders`.",
        ),
        (
            ["--ratio", 30, "--labels", "folders"],
            "`--ratio` must be in (0, 1], a share of the images; got 30.0. Pass 0.3 for 30 %.",
        ),
        (
            ["--ratio", 0.01, "--labels", "folders", "--no-adapter"],
            "must select at least one of the 45 images; 0.01 selects none.",
        ),
        (
            ["--budget", 3, "--labels", "folders"],
            "`--labels` must come with `--ratio`; got it with `--budget`. Leave it out.",
        ),
        (["--budget", 3, "--all"], "`--all` must come with `--ratio`; got it with `--budget`."),
        (
            ["--budget", 3, "--no-adapter"],
            "`--adapter/--no-adapter` must come with `--ratio`; got it with `--budget`.",
        ),
        (
            ["--ratio", 0.3, "--labels", "folders", "-m", 3],
            "`-m` must come with `--budget`; got it with `--ratio`. Leave it out.",
        ),
        (
            ["--ratio", 0.3, "--labels", "folders", "--no-adapter", "--cross-fit"],
            "`--cross-fit` trains two adapters and `--no-adapter` none; got both. Pass one.",
        ),
        (
            ["--ratio", 0.3, "--labels", "folders", "--preset", "best"],
            "`--preset` must be one of 'default', 'short', 'paper'; got 'best'. Choose one.",
        ),
        (
            ["--ratio", 0.3, "--labels", "folders", "--class-balance", "even"],
            "`--class-balance` must be one of 'none', 'proportional', 'equal'; got 'even'.",
        ),
        (
            ["--ratio", 0.3, "--labels", "folders", "--group-balance", "fair"],
            "`--group-balance` must be one of 'none', 'proportional', 'equal'; got 'fair'.",
        ),
        (
            ["--ratio", 0.3, "--labels", "folders", "--alpha", "none"],
            "`--alpha` must be a number or ratio, the share that is chosen; got 'none'.",
        ),
        (
            ["--ratio", 0.3, "--labels", "folders", "--n-neighbors", "few"],
            "`--n-neighbors` must be a whole number or a fraction; got 'few'. Pass 10, or 0.1",
        ),
        (
            ["--budget", 3, "--alpha", 0.3],
            "`--alpha` must come with `--ratio`; got it with `--budget`. Leave it out.",
        ),
        (["--ratio", 0.3, "--labels", "nothing.csv"], "nothing.csv must be a file; it is missing"),
    ],
)
def test_a_wrong_combination_is_refused(
    digits_place: Path, tmp_path: Path, arguments: list[object], message: str
) -> None:
    out = tmp_path / "subset.csv"
    result = run("select", digits_place / "table", "-o", out, *arguments)
    assert result.exit_code == 2
    assert message in flat(result)
    assert result.stdout == ""
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "subset.txt",
            [],
            "With `--ratio`, `--output` must end in .json (the whole selection) or .csv (the "
            "chosen images); got",
        ),
        ("subset.json", ["--all"], "`--all` must come with an output in .csv; got"),
        ("nowhere/subset.json", [], "must be in a folder that exists;"),
        (".", ["--force"], "must be a file; it is a folder. Choose another name."),
    ],
)
def test_an_output_of_another_kind_is_refused(
    digits_place: Path, tmp_path: Path, name: str, arguments: list[str], message: str
) -> None:
    result = run(
        "select", digits_place / "table", "--ratio", 0.3, "--labels", "folders",
        "-o", tmp_path / name, *arguments,
    )  # fmt: skip
    assert result.exit_code == 2
    assert message in flat(result)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["subset.json", "subset.npz"])
def test_a_selection_is_kept_without_force(digits_place: Path, tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    command = (
        "select", digits_place / "table", "--ratio", 0.3, "--labels", "folders", "--no-adapter",
        "-o", tmp_path / "subset.json",
    )  # fmt: skip
    refused = run(*command)
    assert refused.exit_code == 2
    # Without blanks, as a line may end within a long path.
    message = f"{there} must not exist yet; it does. Choose another name, or pass --force."
    assert message.replace(" ", "") in flat(refused).replace(" ", "")
    assert [file.name for file in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"
    assert run(*command, "--force").exit_code == 0
    assert len(Selection.load(tmp_path / "subset.json")) == round(0.3 * N_DIGITS)


def test_labels_need_the_model_of_the_table(tmp_path: Path) -> None:
    EmbeddingTable.from_array(tmp_path / "table", np.eye(5, 256), list("abcde"), model_id="other@1")
    (tmp_path / "y.csv").write_text("cat\ndog\ncat\ndog\ncat\n")
    result = run("suspects", tmp_path / "table", "--labels", tmp_path / "y.csv", "--model", "mini")
    assert result.exit_code == 2
    assert "was made by other@1, got mini@" in flat(result)


def test_suspects_measure_no_diversity(
    digits_place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr("clip_al.score.labelled_images.sample_diversity_scores", refuse)
    out = tmp_path / "suspects.csv"
    result = run("suspects", digits_place / "table", "--labels", "folders", "-o", out)
    assert result.exit_code == 0, result.output
    assert set(MISPLACED) <= set(pd.read_csv(out)["id"])


def test_a_report_of_no_suspects_says_that_there_is_nothing_to_look_at(
    digits_place: Path, tmp_path: Path
) -> None:
    none = tmp_path / "suspects.csv"
    none.write_text("index,id,given,likelier,score,decision\n")
    result = run("report", none, "--table", digits_place / "table", "-o", tmp_path / "page.html")
    assert result.exit_code == 2
    assert "must name at least one image to show; it has none." in flat(result)
    assert "no label looks wrong" in flat(result)
    assert not (tmp_path / "page.html").exists()


def test_suspects_of_a_selection_and_of_a_table(digits_place: Path, tmp_path: Path) -> None:
    made = run(
        "select", digits_place / "table", "--ratio", 0.3, "--labels", "folders",
        "-o", tmp_path / "subset.json",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    result = run("suspects", tmp_path / "subset.json", "-n", 3, "-o", first)
    assert result.exit_code == 0, result.output
    written = pd.read_csv(first)
    assert written.columns.tolist() == ["index", "id", "given", "likelier", "score", "decision"]
    assert "`--table TABLE` adds the paths of the images." in flat(result)
    assert "clip-al labels apply labels.csv" in flat(result)
    assert set(written["id"]) == set(MISPLACED)
    assert [name.split("/")[0] for name in written["id"]] == written["given"].tolist()
    assert written["score"].is_monotonic_increasing
    assert all(name in flat(result) for name in set(MISPLACED))
    assert " % of the labels " in flat(result)

    table = run("suspects", digits_place / "table", "--labels", "folders", "-n", 3, "-o", second)
    assert table.exit_code == 0, table.output
    assert all(Path(path).is_file() for path in pd.read_csv(second)["path"])
    assert "labels apply" not in flat(table)  # no file has these labels
    result = run(
        "suspects", tmp_path / "subset.json", "-n", 3, "-o", first, "--force",
        "--table", digits_place / "table",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert second.read_text() == first.read_text()
    refused = run("suspects", tmp_path / "subset.json", "-o", second)
    assert refused.exit_code == 2
    assert "must not exist yet" in flat(refused)


def test_as_many_suspects_as_look_wrong(tmp_path: Path) -> None:
    scores = {"sas": np.arange(100.0)}
    for share, expected in ((0.3, 30), (0.0, 0)):
        path = tmp_path / f"{expected}.json"
        settings = {"wrong_fraction": share}
        Selection.from_indices([0], 100, scores=scores, settings=settings).save(path)
        result = run("suspects", path, "-o", path.with_suffix(".csv"))
        assert result.exit_code == 0, result.output
        assert len(pd.read_csv(path.with_suffix(".csv"))) == expected
        assert result.stdout.count("│ –") == 3 * min(expected, 20)
        assert (f"Likeliest mislabelled, 20 of {expected}" in result.stdout) is (expected > 20)
    assert "`-o suspects.csv` writes them all." in flat(run("suspects", tmp_path / "30.json"))
    few = run("suspects", tmp_path / "30.json", "-n", 2, "-o", tmp_path / "two.csv")
    assert few.exit_code == 0, few.output
    assert len(pd.read_csv(tmp_path / "two.csv")) == 2


def test_twenty_suspects_or_all(digits_place: Path, tmp_path: Path) -> None:
    for n, expected in ((N_DIGITS, 20), (6, 6)):
        scores = {"sas": np.arange(n, dtype=float)}
        path = tmp_path / f"{n}.json"
        Selection.from_indices([0], n, scores=scores).save(path)
        result = run("suspects", path, "-o", path.with_suffix(".csv"))
        assert result.exit_code == 0, result.output
        assert pd.read_csv(path.with_suffix(".csv"))["index"].tolist() == list(range(expected))
        # Nothing is known of labels, ids or noise.
        assert "look wrong" not in flat(result)
        assert "–" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["subset.json", "-n", 7], "`-n` must be in [1, 6]; got 7. Change it."),
        (["subset.json", "-n", 0], "`-n` must be in [1, 6]; got 0. Change it."),
        (["subset.json", "-n", "some"], "`-n` must be all, or a whole number in [1, 6]; got 'so"),
        (
            ["subset.json", "--labels", "folders"],
            "`--labels` must come with a table; got it with a selection, which has its labels "
            "and scores. Leave it out.",
        ),
        (["subset.json", "--model", "mini"], "`--model` must come with a table;"),
        (
            ["nothing.json"],
            "nothing.json must be a file that `clip-al select --ratio` wrote as .json; it is m",
        ),
        (["."], "`--labels` must come with a table; got none. Pass a file, or `folders`; or a"),
        (
            [".", "--labels", "folders"],
            "TABLE must be a table of embeddings; . is a folder of other things. Make one: clip-al",
        ),
    ],
)
def test_suspects_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Selection.from_indices([0], 6, scores={"sas": np.arange(6.0)}).save("subset.json")
    result = run("suspects", *arguments)
    assert result.exit_code == 2
    assert message in flat(result)
    assert result.stdout == ""


def test_an_interrupt_while_choosing(
    digits_place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ClipSelector, "fit", interrupted)
    out = tmp_path / "subset.json"
    result = run("select", digits_place / "table", "--ratio", 0.3, "--labels", "folders", "-o", out)
    assert result.exit_code == 130
    assert "the same command continues" in flat(result)
    assert list(tmp_path.iterdir()) == []


def test_the_demo_is_both_halves_on_the_same_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clip_al.demo import label as demo
    from clip_al.demo import train as train_demo

    calls: list[tuple[object, ...]] = []

    def record(name: str) -> object:
        def half(folder: Path, *, n_seeds: int, digits: object = None, **_: object) -> None:
            calls.append((name, folder, n_seeds, digits))

        return half

    monkeypatch.setattr(demo, "encode_digits", lambda _: "digits")
    monkeypatch.setattr(demo, "run_demo", record("label"))
    monkeypatch.setattr(train_demo, "run_train_demo", record("train"))
    assert run("demo", "-o", tmp_path, "--seeds", 2).exit_code == 0
    assert run("train-demo", "-o", tmp_path, "--seeds", 3).exit_code == 0
    assert calls == [
        ("label", tmp_path, 2, "digits"),
        ("train", tmp_path, 2, "digits"),
        ("train", tmp_path, 3, None),
    ]
