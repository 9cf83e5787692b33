"""One HTML file that shows a selection; it opens from disk, without a network.

    selection, profiles, embeddings ──▶ `data`, `map` ──▶ numbers ──┐
    images ──▶ `thumbnails` ──▶ small pictures ─────────────────────┴─▶ `html`

Jinja2 and plotly are imported when a report is written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_choice, check_indices, check_int, check_number
from clip_al.arrays.given import array_of, check_flag, check_kind, length_of
from clip_al.arrays.labels import Names
from clip_al.arrays.types import Embeddings, as_array
from clip_al.atomic import check_new, write_bytes
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.label.explain import PickExplanation
from clip_al.label.query_inputs import check_profiles
from clip_al.show.learning_curves import mean_curves, read_rounds
from clip_al.show.report.data import (
    Shown,
    choose_shown,
    describe_images,
    find_suspects,
    order_picks,
)
from clip_al.show.report.html import about_selection, render_page
from clip_al.show.report.map import METHODS, PoolMap, map_pool
from clip_al.show.report.map_points import describe_map
from clip_al.show.report.marking import check_marking, describe_marking
from clip_al.show.report.shares import (
    describe_balance,
    describe_coverage,
    describe_pool_balance,
    describe_pool_concepts,
)
from clip_al.show.report.stacks import STACK_FROM, stack_cards
from clip_al.show.report.thumbnails import make_thumbnails, shown_source
from clip_al.subset.selection import Selection

if TYPE_CHECKING:
    from clip_al.concepts.profiles import ConceptProfiles
MAX_IMAGES = 10_000
SMALLEST_MAP = 3


def write_report(
    selection: Selection,
    path: str | os.PathLike[str],
    *,
    images: Any = None,
    embeddings: Embeddings | None = None,
    profiles: ConceptProfiles | None = None,
    labelled: ArrayLike | None = None,
    labelled_names: Sequence[str] | None = None,
    class_names: Names | None = None,
    picks: Sequence[PickExplanation] | None = None,
    pick_scores: Mapping[str, ArrayLike] | None = None,
    against: Selection | None = None,
    rounds: Any = None,
    suspects: int | None = None,
    is_sample: bool = False,
    map_method: str = "pca",
    stack_copies: float | None = STACK_FROM,
    max_images: int = MAX_IMAGES,
    title: str | None = None,
    errors: str = "raise",
    overwrite: bool = False,
    random_state: int = 0,
) -> None:
    """Write a selection as one HTML file that needs no network and no other file.

    What is not passed is left out of the page: without `images` the cards have no pictures,
    without `profiles` there is no concept coverage, without `embeddings` no map.

    Parameters
    ----------
    selection : Selection
        Of n images. With labels, the page shows classes and suspects.
    path : path
        Of the file, for instance ``report.html``.
    images : folder, sequence, array or torch Dataset, optional
        All n images, as for `ClipEncoder.encode_images`; in a folder they are looked up by id
        where the selection has ids. Left out, the files of `embeddings` where that is a table
        made from files.
    embeddings : array-like or EmbeddingTable of shape (n, d), optional
        For the map, which needs three images.
    profiles : ConceptProfiles of n images, optional
        For concepts and their coverage.
    labelled : array-like of int, or mask of shape (n,), optional
        Positions that had labels before.
    labelled_names : sequence of str, optional
        The class of each of them; with the marks they make up the file that the page saves.
    class_names : sequence of str, or mapping, optional
        Classes that the page offers as labels, the first nine by key; for a selection without
        labels. One with labels offers its own.
    picks : sequence of PickExplanation, optional
        Of each chosen image, best first, as a strategy's `explain` returns them. Left out, the
        order is that of the score ``total``, or of positions.
    pick_scores : mapping of str to array-like of shape (b,), optional
        Further scores, in the order of `picks`, for instance ``{"margin": metrics}``.
    against : Selection, optional
        Another one of the same images; the page shows what this one adds and removes.
    rounds : path of a CSV file, DataFrame, list of dict or mapping, optional
        Learning curves, as `plots.learning_curves` takes them: ``labels``, ``accuracy`` in
        [0, 1] and, for several, ``name``. Of repetitions the mean is shown.
    suspects : int, optional
        How many of the labels most in doubt are shown; by default as many as look wrong, from 20
        to 500.
    is_sample : bool
        Nothing was chosen: the selection is a sample to look at, and the page is about all
        images, before any choice.
    map_method : {"pca", "tsne"}
        How embeddings are brought to two dimensions; t-SNE is slower.
    stack_copies : float, optional
        With `embeddings`: cosine in (0, 1] from which on cards are near-copies, which are shown as
        one stack, if they have one class and all or none are suspects; None stacks nothing. What
        a cosine means depends on the model, as for `near_duplicates`.
    max_images : int
        Chosen images that have a card, in [1, 10000]; the page says where there are more.
    title : str, optional
        Heading of the page.
    errors : {"raise", "skip"}
        What to do about images that cannot be read: raise, or warn and show a grey tile.
    overwrite : bool
        Replace a file that is there.
    random_state : int
        Of t-SNE.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where parts are not of the same n images, or the file is there.
    UnreadableImageError
        Where an image that is shown cannot be read.
    MissingDependencyError
        Where Jinja2 or plotly is not installed.

    Notes
    -----
    O(n) time and memory apart from the pictures, one of which is read for each card; the more
    there are, the smaller. The file has up to 5 MB of charts and 20 MB of pictures. Names of
    files, classes and concepts are shown as text whatever they hold; the page runs no script but
    its own, and loads nothing (Content-Security-Policy).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> selection = Selection.from_indices([0, 2], 3, y=["cat", "dog", "dog"])
    >>> path = Path(tempfile.mkdtemp(), "report.html")
    >>> write_report(selection, path)
    >>> "2 of 3 images" in path.read_text()
    True
    """
    check_new(path, overwrite=overwrite)
    n = _check_parts(selection, against, embeddings, profiles)
    check_choice(errors, ("raise", "skip"), "errors")
    check_choice(map_method, METHODS, "map_method")
    check_flag(is_sample, "is_sample")
    if stack_copies is not None:
        stack_copies = check_number(stack_copies, "stack_copies", above=0.0, high=1.0)
    if is_sample and against is not None:
        raise InvalidInputError(
            "`against` must be left out where `is_sample`, as nothing was chosen; got both. Leave "
            "one out."
        )
    check_int(random_state, "random_state", smallest=0)
    if title is not None:
        check_kind(title, str, "title", "Or leave it out.")
    max_images = check_int(max_images, "max_images", largest=MAX_IMAGES)
    if suspects is not None:
        suspects = check_int(suspects, "suspects", smallest=0, largest=n)
    curves = [] if rounds is None else mean_curves(read_rounds(rounds))
    known = check_indices([] if labelled is None else labelled, n, "labelled")
    _check_picks(selection, picks, pick_scores)
    classes, known_as = check_marking(selection, class_names, known, labelled_names)

    doubted = find_suspects(selection, suspects)
    ordered = order_picks(selection, picks, pick_scores, profiles, known, max_images)
    shown = choose_shown(selection, ordered, doubted, against, max_images)
    paths = _paths(images, embeddings, selection, shown)
    page = {
        **describe_images(selection, shown, ordered, profiles, paths),
        "is_sample": is_sample,
        "balance": describe_balance(selection, against),
        "coverage": profiles and describe_coverage(profiles, selection.indices, known),
        "curves": curves,
    }
    if is_sample:
        page["balance"] = describe_pool_balance(selection)
        page["coverage"] = profiles and describe_pool_concepts(profiles, known)
        nothing: dict[str, Any] = {"rank": None, "added": []}
        page["cards"] |= {name: [value] * len(shown.indices) for name, value in nothing.items()}
    if embeddings is not None and stack_copies is not None:
        stack_of = stack_cards(embeddings, shown, stack_copies)
        if stack_of is not None:
            page["cards"]["stack"] = stack_of
            page["stack_from"] = stack_copies
    found = _map(embeddings, shown, known, map_method, random_state)
    page["map"] = found and describe_map(
        found, shown, known, map_method, selection, profiles, page["concepts"]
    )
    offered = page["classes"] or classes
    page["marking"] = describe_marking(selection, offered, known, known_as)
    thumbnails = _thumbnails(images, embeddings, selection, shown, errors)
    about = about_selection(selection, shown, known, against, max_images, title, is_sample)
    text = render_page(page, thumbnails, about)
    write_bytes(path, text.encode("utf-8", "backslashreplace"), overwrite=overwrite)


def _check_parts(
    selection: Selection, against: Selection | None, embeddings: Embeddings | None, profiles: Any
) -> int:
    """Return how many images there are, once every part is of as many."""
    for name, value in (("selection", selection), ("against", against)):
        if not isinstance(value, Selection) and not (name == "against" and value is None):
            raise InvalidTypeError(
                f"`{name}` must be a Selection; got {type(value).__name__}. Make one with "
                "`Selection.from_indices`."
            )
    n = selection.n_images
    if against is not None:
        against.compare(selection)
    if profiles is not None:
        check_profiles(profiles, range(n))
    n_rows = n if embeddings is None else length_of(as_array(embeddings), "embeddings")
    if n_rows != n:
        raise InvalidInputError(
            f"`embeddings` must have one row for each of the {n} images of the selection; got "
            f"{n_rows}. Pass those of the same images, in the same order."
        )
    ids = getattr(embeddings, "ids", None)
    if ids is not None and selection.ids is not None and (ids != selection.ids).any():
        at = int(np.flatnonzero(ids != selection.ids)[0])
        raise InvalidInputError(
            f"The table and the selection must be of the same images; image {at} is {ids[at]!r} "
            f"in the table and {selection.ids[at]!r} in the selection. Pass the table that was "
            "selected from."
        )
    return n


def _check_picks(
    selection: Selection,
    picks: Sequence[PickExplanation] | None,
    scores: Mapping[str, ArrayLike] | None,
) -> None:
    if scores is not None:
        check_kind(scores, Mapping, "pick_scores", "Pass {'margin': metrics}, for instance.")
    if picks is not None:
        remedy = "Pass what `strategy.explain(indices, pool)` returns."
        check_kind(picks, Sequence, "picks", remedy)
        for pick in picks:
            check_kind(pick, PickExplanation, "picks", remedy)
        indices = check_indices([pick.index for pick in picks], selection.n_images, "picks")
        if not np.array_equal(np.sort(indices), selection.indices):
            raise InvalidInputError(
                f"`picks` must explain each of the {len(selection)} chosen images; got "
                f"{len(indices)} of which {np.isin(indices, selection.indices).sum()} are "
                "chosen. Pass `strategy.explain(indices, pool)`."
            )
    for name, values in (scores or {}).items():
        array = array_of(values, f"pick_scores[{name!r}]")
        if picks is None or array.shape != (len(picks),) or array.dtype.kind not in "fiu":
            raise InvalidInputError(
                f"`pick_scores[{name!r}]` must be one number for each entry of `picks`; got shape "
                f"{array.shape} and dtype {array.dtype}"
                f"{' without `picks`' if picks is None else ''}. Pass both, in one order."
            )


def _map(
    embeddings: Embeddings | None,
    shown: Shown,
    labelled: NDArray[np.int64],
    method: str,
    random_state: int,
) -> PoolMap | None:
    if embeddings is None or len(as_array(embeddings)) < SMALLEST_MAP:
        return None
    focus = np.concatenate([shown.indices, labelled])
    return map_pool(embeddings, focus, method=method, random_state=random_state)


def _paths(
    images: Any, embeddings: Embeddings | None, selection: Selection, shown: Shown
) -> list[str] | None:
    """Return where the shown images are, as far as that is known."""
    if isinstance(images, (str, os.PathLike)) and selection.ids is not None:
        folder = os.fspath(images)
        return [os.path.join(folder, selection.ids[i]) for i in shown.indices]  # noqa: PTH118
    paths = getattr(embeddings, "paths", None)
    return None if images is not None or paths is None else [str(p) for p in paths[shown.indices]]


def _thumbnails(
    images: Any, embeddings: Embeddings | None, selection: Selection, shown: Shown, errors: str
) -> list[str]:
    """Return a picture for each card, or none where there are no images."""
    paths = getattr(embeddings, "paths", None)
    if images is None and paths is not None and all(paths[shown.indices]):
        images = paths
    if images is None:
        return []
    source = shown_source(images, shown.indices, selection.n_images, selection.ids)
    return make_thumbnails(source, errors=errors)
