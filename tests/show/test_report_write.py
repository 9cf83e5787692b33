"""The report: what it holds, what it refuses, and that it is the same each time."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clip_al.concepts.profiles import ConceptProfiles
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.errors import (
    InvalidInputError,
    InvalidTypeError,
    MissingDependencyError,
    SkippedImagesWarning,
    UnreadableImageError,
)
from clip_al.images.sources import image_source
from clip_al.label.concept_sampling import CBDSampling
from clip_al.label.explain import explain_picks
from clip_al.show.report.data import (
    ADDED,
    CHOSEN,
    REMOVED,
    SUSPECT,
    find_suspects,
)
from clip_al.show.report.html import describe_settings, json_in_html
from clip_al.show.report.map import map_pool, spaced
from clip_al.show.report.map_points import name_clusters
from clip_al.show.report.shares import describe_coverage
from clip_al.show.report.thumbnails import SIZES, make_thumbnails
from clip_al.show.report.write import write_report
from clip_al.subset.selection import Selection
from clip_al.table.embedding_table import EmbeddingTable
from tests.command_line import flat, run
from tests.show.report_inputs import (
    CLASSES,
    HOSTILE_CLASS,
    N_IMAGES,
    digit_profiles,
    digit_selection,
    digits,
    hostile_ids,
    write_images,
)


@pytest.fixture(scope="module")
def parts():
    images, _, Z = digits()
    return {"images": images, "embeddings": Z, "profiles": digit_profiles()}


def read(path):
    """Return the page's text and the two blocks of JSON in it."""
    html = path.read_text(encoding="utf-8")
    blocks = re.findall(r'<script type="application/json" id="(\w+)">(.*?)</script>', html, re.S)
    data = {name: json.loads(text) for name, text in blocks}
    return html, data["data"], data["thumbnails"]


@pytest.fixture(scope="module")
def full(parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "full.html"
    rounds = {"labels": [20, 10], "accuracy": [0.7, 0.5]}
    other = Selection.from_indices(np.arange(30), N_IMAGES)
    digit_selection().report_html(path, **parts, labelled=[1, 2], against=other, rounds=rounds)
    return path


# What it shows


def test_the_cards_are_the_selection(full):
    selection = digit_selection()
    _, page, thumbnails = read(full)
    cards = page["cards"]
    chosen = [i for i, flags in zip(cards["index"], cards["flags"], strict=True) if flags & CHOSEN]
    assert sorted(chosen) == selection.indices.tolist()
    best = sorted(selection.indices, key=lambda i: -selection.scores["total"][i])
    assert cards["index"][:30] == best
    assert cards["rank"][:31] == [*range(1, 31), None]
    assert cards["class"] == selection.labels[cards["index"]].tolist()
    assert page["classes"] == CLASSES
    np.testing.assert_allclose(
        cards["scores"]["total"], selection.scores["total"][cards["index"]], rtol=1e-4
    )
    assert "likeliest" not in cards["scores"]
    assert len(thumbnails) == len(cards["index"])


def test_the_pictures_are_the_images(full, parts):
    _, page, thumbnails = read(full)
    for place in (0, 7, len(thumbnails) - 1):
        picture = Image.open(io.BytesIO(base64.b64decode(thumbnails[place])))
        original = parts["images"][page["cards"]["index"][place]]
        assert picture.size == (8, 8)
        assert np.abs(np.asarray(picture.convert("L")).astype(int) - original).mean() < 25


def test_concepts_and_those_added(full, parts):
    _, page, _ = read(full)
    profiles = parts["profiles"]
    order = page["cards"]["index"][:30]
    expected = explain_picks(order, profiles, labelled=profiles.take([1, 2]))
    name = page["concepts"].__getitem__
    for place, pick in enumerate(expected):
        assert tuple(map(name, page["cards"]["concepts"][place])) == pick.concepts
        assert tuple(map(name, page["cards"]["added"][place])) == pick.added
    assert page["cards"]["concepts"][-1]  # a card that was not picked shows concepts
    assert page["cards"]["added"][-1] == []


def test_suspects_are_the_wrong_labels(full):
    _, page, _ = read(full)
    cards = page["cards"]
    suspects = {i for i, f in zip(cards["index"], cards["flags"], strict=True) if f & SUSPECT}
    assert suspects == set(range(0, N_IMAGES, 12))
    at = cards["index"].index(12)
    assert cards["likelier"][at] == digits()[1][12]
    assert cards["class"][at] == (digits()[1][12] + 1) % 10


def test_what_is_added_and_removed(full):
    _, page, _ = read(full)
    cards, chosen = page["cards"], set(digit_selection().indices)
    flagged = {
        flag: {i for i, f in zip(cards["index"], cards["flags"], strict=True) if f & flag}
        for flag in (ADDED, REMOVED)
    }
    assert flagged[ADDED] == chosen - set(range(30))
    assert flagged[REMOVED] == set(range(30)) - chosen


def test_coverage_counts_images(parts):
    profiles, chosen, labelled = parts["profiles"], np.array([3, 4, 5]), np.array([8])
    found = describe_coverage(profiles, chosen, labelled)
    names = [profiles.vocabulary.names.index(name) for name in found["names"]]
    for what, rows in (("pool", np.arange(N_IMAGES)), ("chosen", chosen), ("labelled", labelled)):
        shown = np.array([(profiles.ids[rows] == i).any(axis=1).sum() for i in names])
        assert found["sets"][what]["count"] == shown.tolist()
        assert found["sets"][what]["n"] == len(rows)
    rows = np.array([3, 4, 5, 8])
    share = np.array([(profiles.ids[rows] == i).any(axis=1).mean() for i in names])
    pool = np.array(found["sets"]["pool"]["count"]) / N_IMAGES
    np.testing.assert_allclose(found["excess"], share - pool, atol=1e-4)
    assert (np.diff(found["excess"]) <= 0).all()
    assert found["n_unseen"] == np.count_nonzero(share == 0)


def test_balance_is_that_of_the_selection(full):
    selection = digit_selection()
    _, page, _ = read(full)
    report = selection.report()
    assert [part["what"] for part in page["balance"]] == ["class", "group"]
    assert page["balance"][0]["after"] == report.classes["after"].tolist()
    assert page["balance"][0]["other"] == np.bincount(selection.labels[:30], minlength=10).tolist()
    assert page["balance"][1]["before"] == [60, 60]


def test_the_map_has_every_image_once(full):
    _, page, _ = read(full)
    found = page["map"]
    cards = set(page["cards"]["index"])
    assert len(found["cards"]["card"]) == len(cards)
    assert len(found["pool"]["x"]) == N_IMAGES - len(cards | {1, 2})
    assert 0 < found["explained"] <= 1


def test_curves_and_what_was_asked(full):
    html, page, _ = read(full)
    assert page["curves"] == [{"name": "", "labels": [10, 20], "accuracy": [0.5, 0.7]}]
    assert digit_selection().fingerprint in html
    assert "toy@1" in html
    assert "<th>alpha.inner</th><td>&lt;i&gt;</td>" in html


def test_parts_without_input_are_left_out(tmp_path):
    write_report(Selection.from_indices([0, 2], 4), tmp_path / "bare.html")
    html, page, thumbnails = read(tmp_path / "bare.html")
    assert thumbnails == []
    assert [page[part] for part in ("balance", "coverage", "map", "curves")] == [[], None, None, []]
    for section in ("concepts", "class", "map", "curves"):
        assert f'<section id="{section}"' not in html
    assert len(html) < 100_000  # no charts, so no plotly


def test_picks_give_order_and_concepts(parts, tmp_path):
    strategy = CBDSampling()
    indices = strategy.select(profiles=parts["profiles"], n_instances=6)
    selection = Selection.from_indices(indices, N_IMAGES)
    picks, margin = strategy.explain(indices, profiles=parts["profiles"]), np.linspace(0, 1, 6)
    margin[2] = np.nan
    selection.report_html(tmp_path / "r.html", picks=picks, pick_scores={"margin": margin})
    _, page, _ = read(tmp_path / "r.html")
    assert page["cards"]["index"] == indices.tolist()
    assert page["cards"]["scores"]["margin"] == [0, 0.2, None, 0.6, 0.8, 1]
    assert [page["concepts"][i] for i in page["cards"]["concepts"][5]] == list(picks[5].concepts)


def test_more_than_fits_is_said(parts, tmp_path):
    digit_selection().report_html(tmp_path / "r.html", max_images=7, suspects=0)
    html, page, _ = read(tmp_path / "r.html")
    assert len(page["cards"]["index"]) == 7
    assert "The first 7 of\n    30 chosen images are shown." in html


def test_the_same_page_each_time_and_inputs_untouched(full, parts, tmp_path):
    before = {name: np.array(parts[name]) for name in ("images", "embeddings")}
    for name in ("a", "b"):
        digit_selection().report_html(tmp_path / f"{name}.html", **parts)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    for name, array in before.items():
        np.testing.assert_array_equal(parts[name], array)


# Hostile names


def test_names_are_never_markup(parts, tmp_path):
    digit_selection(hostile_ids()).report_html(tmp_path / "r.html", **parts)
    html, page, _ = read(tmp_path / "r.html")
    for text in (HOSTILE_CLASS, "<img src=x", "<b>one", "<u>day", "<i>", "\u2028"):
        assert text not in html
    assert HOSTILE_CLASS in page["classes"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html  # the table of classes


def test_json_cannot_end_its_element():
    text = json_in_html(["</script>", "<!--", "\u2028", "\ud800", "&"])
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == ["</script>", "<!--", "\u2028", "\ud800", "&"]


def test_each_script_is_in_the_policy(full):
    html, _, _ = read(full)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html).group(1)
    policy = policy.replace("&#39;", "'")
    scripts = re.findall(r"<script>(.*?)</script>", html, re.S)
    assert len(scripts) == 6
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy


# Bad input


def test_nothing_is_overwritten(tmp_path):
    path = tmp_path / "r.html"
    path.write_text("mine")
    with pytest.raises(InvalidInputError, match=r"^`path` must be new; .* pass overwrite=True"):
        write_report(digit_selection(), path)
    assert path.read_text() == "mine"
    write_report(digit_selection(), path, overwrite=True)
    assert path.read_text() != "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embeddings": np.eye(3)}, r"^`embeddings` must have one row for each of the 120"),
        ({"images": np.zeros((3, 8, 8), np.uint8)}, r"^`images` must hold each of the 120 .*got 3"),
        ({"labelled": [200]}, r"^`labelled` must be in \[0, 119\]"),
        ({"picks": []}, r"^`picks` must explain each of the 30 chosen images; got 0"),
        ({"pick_scores": {"margin": [1.0]}}, r"^`pick_scores\['margin'\]` must .*without `picks`"),
        ({"against": Selection.from_indices([0], 3)}, r"^Both selections must be of one dataset"),
        ({"map_method": "umap"}, r"^`map_method` must be one of 'pca', 'tsne'; got 'umap'"),
        ({"max_images": 10_001}, r"^`max_images` must be in \[1, 10000\]; got 10001"),
        ({"suspects": 121}, r"^`suspects` must be in \[0, 120\]; got 121"),
        ({"errors": "ignore"}, r"^`errors` must be one of"),
        ({"rounds": {"labels": [1]}}, r"^`rounds` must have the columns .* got the columns labels"),
        ({"rounds": 7}, r"^`rounds` must be a table"),
    ],
)
def test_bad_input(options, message, tmp_path):
    with pytest.raises(InvalidInputError, match=message):
        write_report(digit_selection(), tmp_path / "r.html", **options)
    assert not list(tmp_path.iterdir())


def test_not_a_selection(tmp_path):
    with pytest.raises(InvalidTypeError, match=r"^`selection` must be a Selection; got list"):
        write_report([1, 2], tmp_path / "r.html")


def test_no_such_folder(tmp_path):
    with pytest.raises(InvalidInputError, match=r"^`path` must be a file in a folder that exists"):
        write_report(digit_selection(), tmp_path / "none" / "r.html")


def test_a_missing_package_is_named(parts, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(
        MissingDependencyError, match=r'needs plotly.*pip install "clip_al\[report\]"'
    ):
        write_report(digit_selection(), tmp_path / "r.html", **parts)


# Thumbnails


def test_many_pictures_are_smaller():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 160, 160, 3), dtype=np.uint8)
    source = image_source(images)
    large = make_thumbnails(source)
    small = make_thumbnails(source, max_bytes=60_000)
    size = [Image.open(io.BytesIO(base64.b64decode(p[0]))).size[0] for p in (large, small)]
    assert size[0] == 160  # never enlarged
    assert size[1] < 100
    assert sum(len(base64.b64decode(picture)) for picture in small) <= 60_000
    assert {side for side, _ in SIZES} >= {size[1]}


def test_a_picture_is_upright_and_whole(tmp_path):
    tall = Image.new("RGB", (400, 200))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90°
    tall.save(tmp_path / "a.jpg", exif=exif)
    (picture,) = make_thumbnails(image_source([str(tmp_path / "a.jpg")]))
    size = Image.open(io.BytesIO(base64.b64decode(picture))).size
    assert size == (112, 224)


def test_an_unreadable_image_is_named_or_skipped(tmp_path):
    write_images(tmp_path)
    (tmp_path / "folder" / "003.png").write_bytes(b"no image")
    ids = [f"folder/{i:03d}.png" for i in range(N_IMAGES)]
    selection = Selection.from_indices([2, 3], N_IMAGES, ids=ids)
    with pytest.raises(UnreadableImageError, match=r"1 is not: .*003\.png .*--skip-unreadable"):
        selection.report_html(tmp_path / "r.html", images=tmp_path)
    assert not (tmp_path / "r.html").exists()
    with pytest.warns(SkippedImagesWarning, match="grey tiles"):
        selection.report_html(tmp_path / "r.html", images=tmp_path, errors="skip")
    _, _, thumbnails = read(tmp_path / "r.html")
    assert thumbnails[0]
    assert thumbnails[1] == ""


def test_images_from_the_table(parts, tmp_path):
    write_images(tmp_path)
    paths = [str(tmp_path / f"folder/{i:03d}.png") for i in range(N_IMAGES)]
    table = EmbeddingTable.from_array(
        tmp_path / "table", parts["embeddings"], paths=paths, model_id="toy"
    )
    selection = Selection.from_indices([5], N_IMAGES, ids=table.ids.tolist())
    selection.report_html(tmp_path / "r.html", embeddings=table)
    _, _, thumbnails = read(tmp_path / "r.html")
    assert Image.open(io.BytesIO(base64.b64decode(thumbnails[0]))).size == (32, 32)
    others = Selection.from_indices([5], N_IMAGES, ids=[f"x{i}" for i in range(N_IMAGES)])
    with pytest.raises(
        InvalidInputError, match=r"^The table and the selection must be of the same"
    ):
        others.report_html(tmp_path / "s.html", embeddings=table)


# Maps, suspects, rounds, settings


@pytest.mark.parametrize("method", ["pca", pytest.param("tsne", marks=pytest.mark.slow)])
def test_near_images_are_near_on_the_map(method):
    rng = np.random.default_rng(0)
    Z = np.repeat(np.eye(8)[:2], 30, axis=0) + rng.normal(size=(60, 8)) * 0.05
    found = map_pool(Z, np.array([3]), method=method)
    again = map_pool(Z, np.array([3]), method=method)
    np.testing.assert_array_equal(found.xy, again.xy)
    middle = found.xy[:30].mean(axis=0), found.xy[30:].mean(axis=0)
    spread = found.xy[:30].std(axis=0).max()
    assert np.linalg.norm(middle[0] - middle[1]) > 3 * spread


def test_a_large_pool_is_sampled_and_the_focus_kept(monkeypatch):
    monkeypatch.setitem(sys.modules["clip_al.show.report.map"].MAX_POINTS, "pca", 50)
    Z = np.random.default_rng(0).normal(size=(1000, 4))
    found = map_pool(Z, np.array([7, 13]))
    assert {7, 13} <= set(found.indices.tolist())
    assert found.in_sample.sum() == 50


def test_images_that_are_all_alike_have_a_map():
    found = map_pool(np.ones((5, 3)), np.array([0]))
    assert found.explained is None
    assert np.isfinite(found.xy).all()


def test_rows_that_are_not_finite_are_named():
    Z = np.ones((5, 3))
    Z[2, 1] = np.nan
    with pytest.raises(InvalidInputError, match="`embeddings` must be finite; row 2"):
        map_pool(Z, np.array([0]))


def test_spaced_keeps_order_and_ends():
    assert spaced(np.arange(10), 5).tolist() == [0, 2, 4, 6, 8]
    assert spaced(np.arange(3), 5).tolist() == [0, 1, 2]


def test_suspects_follow_the_estimate_of_wrong_labels():
    n = 4000
    y = np.zeros(n, dtype=int)
    scores = {"label_score": np.arange(n, dtype=float), "likeliest": np.ones(n, dtype=int)}
    for share, expected in ((0.01, 40), (0.5, 500), (0, 20), ("?", 20)):
        selection = Selection.from_indices(
            [0], n, y=y, class_names=["a", "b"], scores=scores, settings={"wrong_fraction": share}
        )
        assert find_suspects(selection, None).tolist() == list(range(expected))
    assert find_suspects(selection, 3).tolist() == [0, 1, 2]
    assert find_suspects(Selection.from_indices([0], 3), None).size == 0


def test_nested_settings_have_names_with_dots():
    found = describe_settings({"a": {"b": 1, "c": {}}, "d": "x", "e": None})
    assert found == [("a.b", "1"), ("a.c", "{}"), ("d", "x"), ("e", "null")]


# The command


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    write_images(folder / "images", 24)
    (folder / "words.txt").write_text("dark\nbright\nline\ncircle\nseven, 7\neight\n")
    for arguments in (
        ("embed", folder / "images", "-o", folder / "table"),
        ("select", folder / "table", "--budget", 6, "-o", folder / "first.csv", *words(folder)),
    ):
        result = run(*arguments)
        assert result.exit_code == 0, flat(result)
    (folder / "labels.csv").write_text(
        "id,label\n" + "".join(f"folder/{i:03d}.png,{'ab'[i % 2]}\n" for i in range(24))
    )
    return folder


def words(folder):
    return "--vocabulary", folder / "words.txt", "-m", 3


def test_report_of_picks(place, tmp_path):
    path = tmp_path / "r.html"
    arguments = ("report", place / "first.csv", "--table", place / "table", "-o", path)
    result = run(*arguments, *words(place), "--labels", place / "labels.csv")
    assert result.exit_code == 0, flat(result)
    assert f"Wrote {path}" in flat(result)
    html, page, thumbnails = read(path)
    picked = pd.read_csv(place / "first.csv", keep_default_na=False)
    assert page["cards"]["id"] == picked["id"].tolist()
    assert all(thumbnails)
    shown = ["; ".join(page["concepts"][i] for i in added) for added in page["cards"]["added"]]
    assert shown == picked["added_concepts"].tolist()
    assert any(shown)
    assert page["coverage"]["sets"]["pool"]["n"] == 24
    assert page["classes"] == ["a", "b"]
    assert "mini@" in html
    again = run(*arguments, *words(place))
    assert again.exit_code == 2
    assert "must not exist yet" in flat(again)
    assert run(*arguments, *words(place), "--force").exit_code == 0


def test_report_of_a_selection_against_another(place, tmp_path):
    table = EmbeddingTable.open(place / "table")
    ids = table.ids.tolist()
    for name, indices in (("one", [1, 2, 3]), ("two", [3, 4])):
        Selection.from_indices(indices, 24, ids=ids).save(tmp_path / f"{name}.json")
    result = run(
        "report", tmp_path / "one.json", "--against", tmp_path / "two.json",
        "--images", place / "images", "-o", tmp_path / "r.html",
    )  # fmt: skip
    assert result.exit_code == 0, flat(result)
    html, page, thumbnails = read(tmp_path / "r.html")
    assert page["cards"]["index"] == [1, 2, 3, 4]
    assert all(thumbnails)
    assert "Jaccard\n          0.250" in html


def test_picks_without_concepts_get_them_from_the_table(place, tmp_path):
    (tmp_path / "ids.csv").write_text("id,sas\nfolder/007.png,0.5\nfolder/002.png,0.25\n")
    arguments = ("report", tmp_path / "ids.csv", "--table", place / "table", "-o")
    assert run(*arguments, tmp_path / "a.html", *words(place)).exit_code == 0
    _, page, _ = read(tmp_path / "a.html")
    assert page["cards"]["index"] == [7, 2]
    assert page["cards"]["scores"] == {"sas": [0.5, 0.25]}
    assert 1 <= len(page["cards"]["added"][0]) <= 3
    assert run(*arguments, tmp_path / "b.html", "--no-concepts").exit_code == 0
    _, page, _ = read(tmp_path / "b.html")
    assert page["concepts"] == []
    assert page["coverage"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("first.csv",), "SELECTION must be a .json that `select --ratio` wrote, or a .csv"),
        (("table/index.txt", "--table", "table"), "SELECTION must be a .json"),
        (("first.csv", "--labelled", "x"), "`--labelled` must come with `--table`; got it with"),
        (("one.json", "--labels", "folders"), "`--labels` must come with a selection in .csv"),
        (
            ("none.json",),
            "none.json must be a file that `clip-al select --ratio` wrote",
        ),
    ],
)
def test_bad_arguments(arguments, message, place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    result = run("report", *arguments, "-o", tmp_path / "r.html")
    assert result.exit_code == 2
    assert message in flat(result)
    assert not list(tmp_path.iterdir())


def test_a_missing_image_is_named_or_grey(place, tmp_path):
    (tmp_path / "empty").mkdir()
    arguments = (
        "report", place / "first.csv", "--table", place / "table", "--no-concepts",
        "--images", tmp_path / "empty", "-o", tmp_path / "r.html",
    )  # fmt: skip
    result = run(*arguments)
    assert result.exit_code == 2
    assert "no such file" in flat(result)
    with pytest.warns(SkippedImagesWarning):
        assert run(*arguments, "--skip-unreadable").exit_code == 0
    assert read(tmp_path / "r.html")[2] == [""] * 6


# A table before any choice


def test_a_sample_is_about_all_images(parts, tmp_path):
    known, selection = np.array([1, 2]), Selection.from_indices(np.arange(0, 120, 3), N_IMAGES)
    write_report(selection, tmp_path / "r.html", **parts, labelled=known, is_sample=True)
    html, page, _ = read(tmp_path / "r.html")
    profiles, concepts = parts["profiles"], page["coverage"]
    shows = [(profiles.ids == i).any(axis=1).sum() for i in range(profiles.n_concepts)]
    assert concepts["sets"]["pool"]["count"] == sorted((n for n in shows if n), reverse=True)
    assert concepts["sets"]["pool"]["n"] == N_IMAGES
    assert concepts["sets"]["labelled"]["n"] == 2
    assert page["cards"]["rank"] == [None] * 40
    assert not any(page["cards"]["added"])
    assert "120 images before any choice" in html
    assert "What was chosen" not in html
    other = Selection.from_indices([0], N_IMAGES)
    with pytest.raises(InvalidInputError, match=r"^`against` must be left out where `is_sample`"):
        write_report(selection, tmp_path / "s.html", against=other, is_sample=True)


def test_clusters_are_named_by_what_only_they_show():
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1, 2], [60, 40, 20])
    Z = np.eye(8, dtype=np.float32)[kinds] + rng.normal(size=(120, 8)).astype(np.float32) * 0.03
    Z[:, 7] = 2  # a concept that all show
    names = ["red", "blue", "green", "c", "d", "e", "f", "everywhere"]
    vocabulary = ConceptVocabulary.from_names(names).with_embeddings(np.eye(8))
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary, 2, similarity="cosine")
    found = map_pool(Z, np.array([3]))
    again = map_pool(Z, np.array([3]))
    np.testing.assert_array_equal(found.clusters, again.clusters)
    assert (np.diff(np.bincount(found.clusters)) <= 0).all()
    for name, cluster in zip(name_clusters(found, profiles), range(6), strict=True):
        (kind,) = set(kinds[found.indices[found.clusters == cluster]])
        assert name == names[kind]
    assert name_clusters(found, None) == [""] * 6


def test_few_images_are_one_cluster():
    assert set(map_pool(np.eye(30), np.array([0])).clusters.tolist()) == {0}
    assert set(map_pool(np.ones((60, 3)), np.array([0])).clusters.tolist()) == {0}


def test_points_without_a_card_know_what_colours_them(full):
    _, page, _ = read(full)
    selection, profiles, points = digit_selection(), digit_profiles(), page["map"]["labelled"]
    assert points["class"] == selection.labels[[1, 2]].tolist()
    assert points["group"] == selection.groups.codes[[1, 2]].tolist()
    np.testing.assert_allclose(points["scores"]["total"], selection.scores["total"][[1, 2]], 1e-2)
    for row, shown in zip((1, 2), points["concepts"], strict=True):
        on_page = [name for name in profiles.words(row) if name in page["concepts"]]
        assert [page["concepts"][i] for i in shown] == on_page
    assert any(points["concepts"])


def test_how_many_look_wrong_beside_how_many_are_shown(tmp_path):
    n = 4000
    scores = {"label_score": np.arange(n, dtype=float), "likeliest": np.ones(n, dtype=int)}
    Selection.from_indices(
        [0], n, y=np.zeros(n, dtype=int), class_names=["a", "b"], scores=scores,
        settings={"wrong_fraction": 0.17},
    ).report_html(tmp_path / "r.html")  # fmt: skip
    html, page, _ = read(tmp_path / "r.html")
    assert re.search(r'data-show="suspects">680 look wrong,\s+500 shown</a>', html)
    assert "Suspects (500)" in html
    assert set(page["meanings"]) == {"label_score"}


def test_report_of_a_table(place, tmp_path):
    path = tmp_path / "r.html"
    arguments = ("report", place / "table", "-o", path, *words(place), "--sample", 10)
    result = run(*arguments, "--labels", place / "labels.csv")
    assert result.exit_code == 0, flat(result)
    html, page, thumbnails = read(path)
    assert page["is_sample"]
    assert len(page["cards"]["id"]) == len(thumbnails) == 10
    assert page["cards"]["path"][0] == str(place / "images" / page["cards"]["id"][0])
    assert page["balance"][0]["before"] == [12, 12]
    assert page["marking"]["kind"] == "decisions"
    assert "24 images before any choice" in html
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    (tmp_path / "some.csv").write_text("id,label\nfolder/003.png,2\nfolder/001.png,0\n")
    options = ("--classes", tmp_path / "names.txt", "--labelled", tmp_path / "some.csv")
    result = run(*arguments, *options, "--force", "--json")
    assert result.exit_code == 0, flat(result)
    assert json.loads(result.stdout)["shown"] == 10
    _, page, _ = read(path)
    assert page["marking"]["classes"] == ["a", "b", "c"]
    assert page["marking"]["before"]["class"] == [2, 0]
    assert page["marking"]["before"]["id"] == ["folder/003.png", "folder/001.png"]


def test_report_of_a_file_of_suspects(place, tmp_path):
    (tmp_path / "suspects.csv").write_text(
        "index,id,given,likelier,score,decision\n7,folder/007.png,b,a,-3.5,\n2,folder/002.png,a,b,-1,\n"
    )
    arguments = (
        "report", tmp_path / "suspects.csv", "--table", place / "table", "--no-concepts",
        "-o", tmp_path / "r.html", "--labels",
    )  # fmt: skip
    result = run(*arguments, place / "labels.csv")
    assert result.exit_code == 0, flat(result)
    _, page, _ = read(tmp_path / "r.html")
    cards = page["cards"]
    assert cards["id"] == ["folder/007.png", "folder/002.png"]
    assert cards["flags"] == [CHOSEN | SUSPECT] * 2
    assert [page["classes"][i] for i in cards["likelier"]] == ["a", "b"]
    assert cards["scores"] == {"label_score": [-3.5, -1]}
    assert page["marking"]["kind"] == "decisions"
    (tmp_path / "other.csv").write_text(
        "id,label\n" + "".join(f"folder/{i:03d}.png,{'bc'[i % 2]}\n" for i in range(24))
    )
    result = run(*arguments, tmp_path / "other.csv", "--force")
    assert result.exit_code == 2
    assert "must hold classes of the labels; 'a' is none" in flat(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("table", "--table", "table"), "`--table` must come with a selection; got it with a"),
        (("table", "--suspects", "3"), "`--suspects` must come with a selection"),
        (("first.csv", "--table", "table", "--sample", "3"), "`--sample` must come with a table"),
        (("images",), "images is a folder of other things"),
    ],
)
def test_bad_arguments_with_a_table(arguments, message, place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    result = run("report", *arguments, "-o", tmp_path / "r.html")
    assert result.exit_code == 2
    assert message in flat(result)
    assert not list(tmp_path.iterdir())
