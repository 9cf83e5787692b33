"""The plots: what is drawn is what was passed, on the axes that were passed."""

from __future__ import annotations

import subprocess
import sys
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits

from clip_al.concepts.profiles import ConceptProfiles
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.errors import InvalidInputError, UnreadableImageError
from clip_al.show import plots
from clip_al.subset.selection import Selection
from clip_al.subset.selector import ClipSelector
from tests.reference import random_unit
from tests.subset.selections import make

mpl.use("Agg")
NAMES = [f"digit {i}" for i in range(10)]


@pytest.fixture(scope="module")
def images():
    return np.round(load_digits().images[:300] * (255 / 16)).astype(np.uint8)


@pytest.fixture(scope="module")
def selection(images, mini):
    """Half of 300 digits, of which the first thirty have a wrong label."""
    given = load_digits().target[:300].copy()
    given[:30] = (given[:30] + 1) % 10
    selector = ClipSelector(0.5, class_names=NAMES, encoder=mini, n_neighbors=0.1, random_state=0)
    return selector.fit_select(mini.encode_images(images), given)


@pytest.fixture(scope="module")
def digit_profiles(images, mini):
    words = ["round", "loop", "line", "zero", "one", "two", "dark", "bright"]
    vocabulary = ConceptVocabulary.from_names(words).encode(mini)
    return ConceptProfiles.from_embeddings(mini.encode_images(images), vocabulary, 3)


def new_axes():
    return Figure(figsize=(6, 4)).subplots()


def render(ax):
    """Draw all of it: text that cannot be drawn, and missing letters, are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canvas = FigureCanvasAgg(ax.figure)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def legend(ax):
    return [text.get_text().strip() for text in ax.get_legend().get_texts()]


def shares(profiles, rows):
    counts = np.bincount(profiles.ids[rows].ravel(), minlength=profiles.n_concepts)
    return 100 * counts / len(profiles.ids[rows])


def test_coverage_of_the_pool_and_of_sets(digit_profiles):
    ax = new_axes()
    first, picks = np.arange(40), [5, 100, 250]
    got = plots.concept_coverage(
        digit_profiles, {"labelled": first, "chosen": picks}, n_concepts=5, ax=ax
    )
    assert got is ax
    pool = shares(digit_profiles, np.arange(300))
    order = np.argsort(-pool, kind="stable")[:5]
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], pool[order])
    for line, rows in zip(ax.lines, (first, picks), strict=True):
        np.testing.assert_allclose(line.get_xdata(), shares(digit_profiles, rows)[order])
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [digit_profiles.vocabulary.names[i] for i in order]
    assert legend(ax) == ["pool", "labelled", "chosen"]
    render(ax)


def test_coverage_by_difference(digit_profiles, selection):
    ax = plots.concept_coverage(
        digit_profiles, selection, order="difference", n_concepts=4, ax=new_axes()
    )
    more = shares(digit_profiles, selection.indices) - shares(digit_profiles, np.arange(300))
    drawn = ax.lines[0].get_xdata() - [bar.get_width() for bar in ax.patches]
    assert list(drawn) == sorted(drawn, reverse=True)
    expected = sorted(more, key=abs)[-4:]
    np.testing.assert_allclose(sorted(drawn), sorted(expected), atol=1e-9)


def test_more_concepts_than_there_are(digit_profiles):
    ax = plots.concept_coverage(digit_profiles, n_concepts=99, ax=new_axes())
    assert len(ax.patches) == 8
    assert len(ax.lines) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": "best"}, "`order` must be one of 'frequent', 'difference'; got 'best'"),
        ({"order": "difference"}, "With `order='difference'`, `sets` must hold images to compare"),
        ({"n_concepts": 0}, "`n_concepts` must be at least 1; got 0"),
        ({"sets": []}, r"`sets\['chosen'\]` must hold at least one image; got none"),
        ({"sets": {"mine": [300]}}, r"`sets\['mine'\]` must be in \[0, 299\]"),
        ({"sets": Selection.from_indices([0], 7)}, "a selection of the same 300 images; got one"),
    ],
)  # fmt: skip
def test_coverage_refuses(digit_profiles, arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        plots.concept_coverage(digit_profiles, ax=new_axes(), **arguments)


def test_curves_are_means_with_a_band():
    frame = pd.DataFrame(
        {
            "name": ["CBD"] * 4 + ["random"] * 2,
            "labels": [40, 20, 20, 40, 20, 40],
            "accuracy": [0.8, 0.6, 0.7, 0.9, 0.5, 0.6],
            "seed": [0, 0, 1, 1, 0, 0],
        }
    )
    before = frame.copy()
    ax = new_axes()
    assert plots.learning_curves(frame, ax=ax) is ax
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [20, 40])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [65, 85])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [50, 60])
    (band,) = ax.collections  # random has one seed
    low, high = band.get_datalim(ax.transData).intervaly
    std = 100 * np.std([0.6, 0.7], ddof=1)
    np.testing.assert_allclose([low, high], [65 - std, 85 + std])
    assert legend(ax) == ["CBD", "random"]
    pd.testing.assert_frame_equal(frame, before)
    render(ax)


def test_curves_from_pairs_and_without_names():
    ax = plots.learning_curves({"a": ([10, 20], [0.1, 0.2])}, ax=new_axes())
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [10, 20])
    frame = pd.DataFrame({"labels": [1, 2], "accuracy": [0.0, 1.0]})
    assert plots.learning_curves(frame, ax=new_axes()).get_legend() is None


def test_curves_are_read_as_the_report_reads_them():
    with pytest.raises(InvalidInputError, match="divide per cents by 100"):
        plots.learning_curves({"a": ([10], [65.0])}, ax=new_axes())


def offsets(collection):
    return {tuple(point) for point in np.asarray(collection.get_offsets()).round(5)}


def test_scatter_marks_chosen_and_suspects(selection):
    ax = new_axes()
    assert plots.score_scatter(selection, n_suspects=5, ax=ax) is ax
    left, chosen, circles = ax.collections
    points = np.stack([selection.scores[name] for name in ("sds", "sas")], axis=1)
    points = points.astype(float).round(5)
    assert offsets(chosen) == {tuple(p) for p in points[selection.mask]}
    assert offsets(left) == {tuple(p) for p in points[~selection.mask]}
    assert offsets(circles) == {tuple(points[s.index]) for s in selection.suspects(5)}
    assert legend(ax) == ["left out", "chosen", "likeliest mislabelled"]
    assert left.get_rasterized()
    assert chosen.get_rasterized()
    render(ax)


def test_scatter_of_many_images_is_hexagons(selection):
    ax = plots.score_scatter(selection, max_points=100, n_suspects=0, ax=new_axes())
    (hexagons,) = ax.collections
    colour, alpha = np.asarray(hexagons.get_array()), np.asarray(hexagons.get_alpha())
    assert len(colour) < 5_000  # whatever the number of images
    assert colour.min() == 0
    assert colour.max() == 1
    assert 0 < (alpha > 0).sum() <= 300  # nothing where there is no image
    assert set(colour[alpha == 0]) == {0}
    assert hexagons.get_rasterized()
    render(ax)


@pytest.mark.parametrize("max_points", [0, 100])
def test_scatter_where_all_scores_are_alike(max_points):
    flat = np.zeros(6)
    chosen = Selection.from_indices(range(6), 6, scores={"sas": flat, "sds": flat})
    render(plots.score_scatter(chosen, max_points=max_points, ax=new_axes()))


@pytest.mark.parametrize(
    ("scores", "x"), [(("sas", "sds", "total"), "SDS"), (("sas", "total"), "tot")]
)
def test_scatter_draws_diversity_where_it_was_measured(scores, x):
    chosen = Selection.from_indices(range(3), 6, scores=dict.fromkeys(scores, np.arange(6.0)))
    ax = plots.score_scatter(chosen, ax=new_axes())
    assert ax.get_xlabel().startswith(x)
    assert ax.get_ylabel().startswith("SAS")


def test_scatter_refuses():
    with pytest.raises(InvalidInputError, match="the score 'sds'; got 'sas', 'label_score', 'lik"):
        plots.score_scatter(make(), x="sds", ax=new_axes())
    bare = Selection.from_indices([0], 6, scores={"a": np.arange(6.0), "b": np.arange(6.0)})
    with pytest.raises(InvalidInputError, match="To rank suspects"):
        plots.score_scatter(bare, x="a", y="b", ax=new_axes())
    plots.score_scatter(bare, x="a", y="b", n_suspects=0, ax=new_axes())


def test_grid_shows_the_images_and_their_titles(images, digit_profiles):
    ax = new_axes()
    labels = [NAMES[i] for i in load_digits().target[:300]]
    picks = [7, 3, 250]
    got = plots.image_grid(
        images, picks, profiles=digit_profiles, labels=labels, n_columns=2, ax=ax
    )
    assert got is ax
    for picture, index in zip(ax.images, picks, strict=True):
        np.testing.assert_array_equal(picture.get_array()[..., 0], images[index])
    concepts = ["\n".join([labels[i], *digit_profiles.words(i)[:2]]) for i in picks]
    assert [text.get_text() for text in ax.texts] == concepts
    lefts = [picture.get_extent()[0] for picture in ax.images]
    assert lefts[0] == lefts[2] < lefts[1]  # the third is in the second row
    assert ax.images[2].get_extent()[3] > ax.images[0].get_extent()[2]
    render(ax)


def test_grid_takes_what_the_encoder_takes(tmp_path, images):
    for i in range(3):
        Image.fromarray(images[i]).resize((300, 150)).save(tmp_path / f"{i}.png")
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    dataset = [(Image.fromarray(image), 0) for image in images[:3]]
    for given in (tmp_path, paths, images[:3], images[:3] / 255, dataset):
        ax = plots.image_grid(given, titles=list("abc"), size=64, ax=new_axes())
        assert len(ax.images) == 3
    assert plots.image_grid(tmp_path, size=64, ax=new_axes()).images[0].get_array().shape == (
        32, 64, 3,
    )  # fmt: skip
    chosen = Selection.from_indices([2], 3)
    assert len(plots.image_grid(tmp_path, chosen, ax=new_axes()).images) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"indices": []}, "`indices` must hold at least one image; got none"),
        ({"indices": [300]}, r"`indices` must be in \[0, 299\]"),
        ({"indices": np.arange(300)[:3], "titles": ["a"]}, "for each image drawn, 3; got 1"),
        ({"indices": [0], "labels": [1, 2]}, "`labels` must hold one entry for each image, 300"),
        ({"n_columns": 0}, "`n_columns` must be at least 1"),
    ],
)
def test_grid_refuses(images, arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        plots.image_grid(images, ax=new_axes(), **arguments)


def test_grid_of_too_many_or_unreadable_images(tmp_path):
    with pytest.raises(InvalidInputError, match="At most 400 images can be drawn; got 401"):
        plots.image_grid(np.zeros((401, 2, 2), np.uint8), ax=new_axes())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableImageError, match=r"broken.png \(not an image .*`indices`"):
        plots.image_grid(tmp_path, ax=new_axes())


@pytest.mark.parametrize("name", ["$\\frac{$", "_hidden", "a\nb\x07\tc", "<b>" + "x" * 500])
def test_any_name_can_be_drawn(name, images):
    vocabulary = ConceptVocabulary.from_names([f"{name} {i}" for i in range(3)])
    vocabulary = vocabulary.with_embeddings(np.eye(3))
    profiles = ConceptProfiles.from_embeddings(random_unit(np.random.default_rng(0), 5, 3),
                                               vocabulary, 2)  # fmt: skip
    shown = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:30]
    ax = plots.concept_coverage(profiles, {name: [0]}, ax=new_axes())
    render(ax)
    assert shown in legend(ax)[1]
    curves = plots.learning_curves({name: ([1, 2], [0.1, 0.2])}, ax=new_axes())
    render(curves)
    assert shown in legend(curves)[0]
    grid = plots.image_grid(images[:5], titles=[name] * 5, profiles=profiles, ax=new_axes())
    render(grid)
    scores = {name: np.arange(6.0), "sas": np.arange(6.0)}
    chosen = Selection.from_indices([0], 6, scores=scores)
    render(plots.score_scatter(chosen, x=name, ax=new_axes()))


def test_the_guard_against_formulas_fires():
    ax = new_axes()
    ax.set_title("$\\frac{$")
    with pytest.raises(ValueError, match="frac"):
        render(ax)


def test_pyplot_is_left_alone_where_axes_are_given(digit_profiles, selection, images):
    from matplotlib import pyplot

    pyplot.close("all")
    mine = pyplot.figure().add_subplot()
    settings = dict(mpl.rcParams)
    for draw in (
        lambda ax: plots.concept_coverage(digit_profiles, selection, ax=ax),
        lambda ax: plots.learning_curves({"a": ([1], [0.5])}, ax=ax),
        lambda ax: plots.score_scatter(selection, ax=ax),
        lambda ax: plots.score_scatter(selection, max_points=9, ax=ax),
        lambda ax: plots.image_grid(images, [1, 2], ax=ax),
    ):
        draw(new_axes())
        assert len(pyplot.get_fignums()) == 1
        assert pyplot.gca() is mine
        assert dict(mpl.rcParams) == settings
    assert plots.score_scatter(selection) is pyplot.gca() is not mine  # a new figure to show
    pyplot.close("all")


def test_the_same_picture_twice(selection, digit_profiles, images):
    for draw in (
        lambda: plots.score_scatter(selection, max_points=9, ax=new_axes()),
        lambda: plots.concept_coverage(digit_profiles, selection, ax=new_axes()),
        lambda: plots.image_grid(images, [5, 6], ax=new_axes()),
    ):
        np.testing.assert_array_equal(render(draw()), render(draw()))


def test_importing_the_module_loads_no_matplotlib():
    code = (
        "import sys, clip_al.show.plots; sys.exit(bool({'matplotlib', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
