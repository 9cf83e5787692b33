"""Pictures of a selection: what it covers, how it was scored, what it shows, what it is worth.

Each function draws on the matplotlib axes that it is given, or on a new figure, and returns
the axes. Names of files, classes and concepts are drawn as they are, never as formulas.
matplotlib is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_choice, check_int
from clip_al.arrays.given import check_kind
from clip_al.concepts.profiles import ConceptProfiles
from clip_al.errors import InvalidInputError, UnreadableImageError, missing_extra
from clip_al.images.sources import ImageSource, image_source
from clip_al.show.learning_curves import read_rounds
from clip_al.show.plot_inputs import one_line, positions_of, titles_of
from clip_al.subset.selection import Selection

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ORDERS = ("frequent", "difference")
MAX_POINTS = 20_000
MAX_IMAGES = 400
PROFILE = "Make some with `ConceptProfiles.from_embeddings`."
GREY, SUSPECT = "0.7", "tab:red"


def concept_coverage(
    profiles: ConceptProfiles,
    sets: Any = None,
    *,
    n_concepts: int = 20,
    order: str = "frequent",
    ax: Axes | None = None,
) -> Axes:
    """Draw how often the pool shows each concept, and how often sets of its images do.

    Parameters
    ----------
    profiles : ConceptProfiles
        Of the whole pool.
    sets : Selection, array-like of int or bool, or mapping of str to these, optional
        Which images to compare with the pool: positions, a mask or a selection; several
        under their names, for instance ``{"labelled": first, "chosen": picks}``.
    n_concepts : int
        How many concepts to draw, at least 1; fewer where the vocabulary is smaller.
    order : {"frequent", "difference"}
        The most frequent concepts of the pool; or those whose share differs most between
        the pool and the last of the sets: the most over-covered at the top, the most
        under-covered at the bottom.
    ax : matplotlib Axes, optional
        Where to draw; a new figure's by default.

    Returns
    -------
    matplotlib Axes
        A grey bar is the share of the pool's images that show a concept, in per cent, and
        each set's is a dot.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where a set is empty or not of the pool, or "difference" has nothing to compare.

    Notes
    -----
    O(n m) time.
    """
    check_kind(profiles, ConceptProfiles, "profiles", PROFILE)
    check_choice(order, ORDERS, "order")
    n_drawn = min(check_int(n_concepts, "n_concepts"), profiles.n_concepts)
    chosen = {} if sets is None else sets if isinstance(sets, Mapping) else {"chosen": sets}
    pool_v = _concept_shares(profiles, slice(None))
    shares = {
        str(name): _concept_shares(profiles, positions_of(rows, len(profiles), f"sets[{name!r}]"))
        for name, rows in chosen.items()
    }
    if order == "frequent":
        concepts = np.argsort(-pool_v, kind="stable")[:n_drawn]
    elif not shares:
        raise InvalidInputError(
            "With `order='difference'`, `sets` must hold images to compare with the pool; got "
            "none. Pass the picks."
        )
    else:
        more_v = list(shares.values())[-1] - pool_v
        concepts = np.argsort(-np.abs(more_v), kind="stable")[:n_drawn]
        concepts = concepts[np.argsort(-more_v[concepts], kind="stable")]
    ax = _axes(ax, (6, 1 + 0.25 * n_drawn))
    rows = np.arange(n_drawn)
    drawn: list[Any] = [ax.barh(rows, 100 * pool_v[concepts], color=GREY)]
    for number, share_v in enumerate(shares.values()):
        drawn += ax.plot(100 * share_v[concepts], rows, "o", color=f"C{number}", clip_on=False)
    names = [one_line(profiles.vocabulary.names[concept]) for concept in concepts]
    ax.set_yticks(rows, labels=names, parse_math=False)
    ax.invert_yaxis()
    ax.set_xlabel("images that show it (%)")
    _legend(ax, drawn, ["pool", *shares])
    return ax


def learning_curves(rounds: Any, *, ax: Axes | None = None) -> Axes:
    """Draw accuracy against the number of labels, one curve a name.

    Parameters
    ----------
    rounds : path of a CSV file, DataFrame, list of dict, or mapping of str to pairs
        Columns ``labels`` (how many) and ``accuracy`` (in [0, 1]), and optionally ``name``;
        several rows of one name and number of labels are repetitions, drawn as their mean
        and a band of one standard deviation. Or each curve's labels and accuracies under its
        name: ``{"CBD": ([20, 40], [0.6, 0.7])}``. Not modified. `write_report` takes the same.
    ax : matplotlib Axes, optional
        Where to draw; a new figure's by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    InvalidInputError
        Where a column is missing, there is no row, or a number is not finite or an accuracy
        outside [0, 1].
    """
    frame = read_rounds(rounds)
    ax = _axes(ax, (6, 4))
    drawn: list[Any] = []
    names = list(dict.fromkeys(frame["name"]))
    for number, name in enumerate(names):
        groups = frame[frame["name"] == name].groupby("labels")["accuracy"]
        mean, std = 100 * groups.mean(), 100 * groups.std().fillna(0)
        drawn += ax.plot(mean.index, mean, marker="o", color=f"C{number}")
        if std.any():
            ax.fill_between(
                mean.index, mean - std, mean + std, color=f"C{number}", alpha=0.15, linewidth=0
            )
    ax.set(xlabel="labelled images", ylabel="accuracy (%)")
    ax.grid(alpha=0.3)
    if len(names) > 1 or names[0]:
        _legend(ax, drawn, names)
    return ax


def score_scatter(
    selection: Selection,
    *,
    x: str | None = None,
    y: str = "sas",
    n_suspects: int = 20,
    max_points: int = MAX_POINTS,
    ax: Axes | None = None,
) -> Axes:
    """Draw two scores of all images against each other, and which were chosen.

    Parameters
    ----------
    selection : Selection
        With both scores.
    x, y : str
        Names of scores. By default y is the alignment SAS, and x the diversity SDS, where it was
        measured (see `n_neighbors` of `ClipSelector`), or else the total.
    n_suspects : int
        How many of the likeliest mislabelled images to circle; 0 for none.
    max_points : int
        Of a larger dataset no points are drawn but hexagons: the colour is the share of the
        images there that was chosen, and the denser, the more opaque.
    ax : matplotlib Axes, optional
        Where to draw; a new figure's by default.

    Returns
    -------
    matplotlib Axes
        Its points or hexagons are rasterised, so that a vector file stays small.

    Raises
    ------
    InvalidInputError
        Where the selection lacks a score.

    Notes
    -----
    O(n log n) time, to rank the suspects.
    """
    check_kind(selection, Selection, "selection", "Make one with `Selection.from_indices`.")
    if x is None:
        x = "sds" if "sds" in selection.scores else "total"
    for name in (x, y):
        if not isinstance(name, str) or name not in selection.scores:
            raise InvalidInputError(
                f"`selection` must hold the score {name!r}; got "
                f"{', '.join(map(repr, selection.scores)) or 'none'}. Name one of these, or make "
                "the selection with `ClipSelector`."
            )
    n_suspects = min(check_int(n_suspects, "n_suspects", smallest=0), selection.n_images)
    check_int(max_points, "max_points", smallest=0)
    x_n, y_n = selection.scores[x], selection.scores[y]
    ax = _axes(ax, (6, 4.5))
    if selection.n_images > max_points:
        handles, names = _draw_density(ax, x_n, y_n, selection.mask)
    else:
        handles, names = _draw_points(ax, x_n, y_n, selection.mask)
    if n_suspects:
        rows = [suspect.index for suspect in selection.suspects(n_suspects)]
        circles = ax.scatter(x_n[rows], y_n[rows], s=40, facecolors="none", edgecolors=SUSPECT)
        handles, names = [*handles, circles], [*names, "likeliest mislabelled"]
    ax.set_xlabel(_score_name(x), parse_math=False)
    ax.set_ylabel(_score_name(y), parse_math=False)
    if handles:
        _legend(ax, handles, names)
    return ax


def image_grid(
    images: Any,
    indices: Selection | ArrayLike | None = None,
    *,
    titles: Sequence[str] | None = None,
    profiles: ConceptProfiles | None = None,
    labels: ArrayLike | None = None,
    n_columns: int = 6,
    size: int = 128,
    ax: Axes | None = None,
) -> Axes:
    """Draw images side by side, each above its title.

    Parameters
    ----------
    images : folder, sequence, array or torch Dataset
        Whatever `ClipEncoder.encode_images` takes; only those drawn are read.
    indices : Selection or array-like of int or bool, optional
        Which to draw, in this order; all by default. At most 400.
    titles : sequence of str, optional
        One for each image drawn; in place of the two below.
    profiles : ConceptProfiles, optional
        Of all images: a title names the first two concepts.
    labels : array-like of shape (n,), optional
        Of all images, names or numbers: a title begins with the label.
    n_columns : int
        Images in a row.
    size : int
        Pixels of the longer side that is drawn; larger images are shrunk.
    ax : matplotlib Axes, optional
        Where to draw; a new figure's, of the right size, by default.

    Returns
    -------
    matplotlib Axes
        One, with an image for each.

    Raises
    ------
    InvalidInputError
        Where there is no image to draw or more than 400, or titles, profiles or labels are
        not as many as they should be.
    UnreadableImageError
        Where an image cannot be read.
    """
    source = image_source(images)
    rows = np.arange(len(source)) if indices is None else indices
    drawn = positions_of(rows, len(source), "indices")
    if len(drawn) > MAX_IMAGES:
        raise InvalidInputError(
            f"At most {MAX_IMAGES} images can be drawn; got {len(drawn)}. Pass fewer `indices`, "
            "or write a report."
        )
    texts = titles_of(drawn, len(source), titles, profiles, labels)
    n_columns = min(check_int(n_columns, "n_columns"), len(drawn))
    check_int(size, "size")
    pictures = [_read(source, int(index), size) for index in drawn]
    n_lines = max(text.count("\n") + 1 if text else 0 for text in texts)
    height = 1.0 + 0.14 * n_lines  # of a cell; the image takes a square of side 0.94
    n_rows = -(-len(drawn) // n_columns)
    ax = _axes(ax, (1.5 * n_columns, 1.5 * height * n_rows))
    font = _title_points(ax, n_columns, height * n_rows)
    for cell, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        row, column = divmod(cell, n_columns)
        half = 0.47 * np.array(picture.size) / max(picture.size)
        middle = np.array([column + 0.5, row * height + 0.5])
        (left, top), (right, bottom) = middle - half, middle + half
        ax.imshow(np.asarray(picture), extent=(left, right, bottom, top), aspect="equal")
        ax.text(
            column + 0.5, row * height + 1.0, text,
            ha="center", va="top", fontsize=font, parse_math=False, clip_on=True,
        )  # fmt: skip
    ax.set(xlim=(0, n_columns), ylim=(n_rows * height, 0))
    ax.set_axis_off()
    return ax


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the axes given, or those of a new figure of pyplot, which notebooks show."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as exc:
        raise missing_extra("A plot needs matplotlib", "plots") from exc
    return pyplot.subplots(figsize=size, layout="constrained")[1]


def _concept_shares(profiles: ConceptProfiles, rows: Any) -> NDArray[np.float64]:
    ids_nm = profiles.ids[rows]
    shares_v: NDArray[np.float64] = (
        np.bincount(ids_nm.ravel(), minlength=profiles.n_concepts) / ids_nm.shape[0]
    )
    return shares_v


def _draw_points(
    ax: Axes, x_n: NDArray[Any], y_n: NDArray[Any], mask_n: NDArray[np.bool_]
) -> tuple[list[Any], list[str]]:
    handles, names = [], []
    for name, part_n, colour in (("left out", ~mask_n, GREY), ("chosen", mask_n, "C0")):
        if part_n.any():
            points = ax.scatter(
                x_n[part_n], y_n[part_n], s=9, color=colour, linewidths=0, rasterized=True
            )
            handles.append(points)
            names.append(name)
    return handles, names


def _draw_density(
    ax: Axes, x_n: NDArray[Any], y_n: NDArray[Any], mask_n: NDArray[np.bool_]
) -> tuple[list[Any], list[str]]:
    """Draw hexagons: colour by the share chosen, opacity by the logarithm of the number."""
    extent = (*_bounds(x_n), *_bounds(y_n))
    # Two counts on one grid; with C=, hexbin would loop over the images.
    chosen = ax.hexbin(x_n[mask_n], y_n[mask_n], gridsize=60, extent=extent)
    every = ax.hexbin(x_n, y_n, gridsize=60, extent=extent, cmap="viridis", rasterized=True)
    n_chosen_h, n_h = (np.asarray(hexagons.get_array()) for hexagons in (chosen, every))
    chosen.remove()
    every.set_array(n_chosen_h / np.maximum(n_h, 1))
    every.set_clim(0, 1)
    alpha_h: Any = np.where(n_h > 0, 0.15 + 0.85 * np.log1p(n_h) / np.log1p(n_h.max()), 0.0)
    every.set_alpha(alpha_h)
    ax.figure.colorbar(_opaque(every), ax=ax, label="share chosen (opaque: many images)")
    return [], []


def _opaque(hexagons: Any) -> Any:
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(hexagons.norm, hexagons.cmap)


def _bounds(values_n: NDArray[Any]) -> tuple[float, float]:
    """Return the range of a score; a little more where all are alike, as hexagons need."""
    low, high = float(values_n.min()), float(values_n.max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _score_name(name: str) -> str:
    known = {
        "sas": "SAS: agrees with its label",
        "sds": "SDS: differs from others of its class",
        "total": "total: what it is chosen by",
    }
    return known.get(name, one_line(name))


def _read(source: ImageSource, index: int, size: int) -> Any:
    """Read one image, and keep no more of it than is drawn."""
    try:
        picture = source.load(index).copy()
        picture.thumbnail((size, size))
        return picture
    except Exception as exc:  # decoders and Datasets raise anything; it is reported
        failure = (source.name(index), source.describe_failure(index, exc))
        raise UnreadableImageError([failure], "Repair it, or leave it out of `indices`.") from exc


def _title_points(ax: Axes, width: float, height: float) -> float:
    """Return a font size that leaves room for each line, where a cell's width is 1."""
    box = ax.get_window_extent()
    cell = min(box.width / width, box.height / height) * 72 / ax.figure.dpi
    return float(np.clip(0.09 * cell, 3, 9))


def _legend(ax: Axes, handles: Iterable[Any], names: Iterable[str]) -> None:
    # A name that begins with an underscore would be left out.
    legend = ax.legend(list(handles), [f" {one_line(name)}" for name in names])
    for text in legend.get_texts():
        text.set_parse_math(False)
