"""The command ``report``: a page that shows what was chosen.

`clip_al.cli.main` puts it among its commands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import numpy as np
import typer
from numpy.typing import NDArray

from clip_al.arrays.checks import check_choice
from clip_al.cli.labels import Classes, Labels
from clip_al.cli.options import (
    Force,
    Json,
    Model,
    PerImage,
    Pretrained,
    Vocabulary,
    check_output,
    encode_profiles,
    note,
    out,
    print_json,
    refuse_options,
)
from clip_al.errors import InvalidInputError

if TYPE_CHECKING:
    from clip_al.concepts.profiles import ConceptProfiles
    from clip_al.encode.table import EmbeddingTable
    from clip_al.label.explain import PickExplanation
    from clip_al.subset.selection import Selection

REPORT_EXAMPLES = """
Examples:
  clip-al report first.csv --table photos.table -o first.html
  clip-al report subset.json --table photos.table -o chosen.html --json
"""
# Options that mean nothing without a table: parameter, and how it is typed.
FOR_TABLE = {
    "vocabulary": "--vocabulary",
    "m": "-m",
    "labelled": "--labelled",
    "map_method": "--map",
    "no_concepts": "--no-concepts",
    "model": "--model",
    "pretrained": "--pretrained",
}
FOR_CSV = {"labels": "--labels", "classes": "--classes"}


@dataclass
class Read:
    """A selection as it was read, and what a CSV file says: the order, and of each pick."""

    selection: Selection
    order: NDArray[np.int64] | None = None
    picks: list[PickExplanation] | None = None
    pick_scores: dict[str, NDArray[Any]] = field(default_factory=dict)


def report(
    ctx: typer.Context,
    selection: Annotated[
        Path,
        typer.Argument(
            metavar="SELECTION",
            help="What `select` wrote: .json (with --ratio), or .csv, which needs --table.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page, an HTML file.")] = Path(
        "report.html"
    ),
    table: Annotated[
        Optional[Path],  # noqa: UP045  typer evaluates this on Python 3.10 too
        typer.Option(help="The table that was selected from: concepts, map and images."),
    ] = None,
    images: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The folder of images, where the table does not know it or it moved."),
    ] = None,
    against: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Another selection of the same images: what is added and removed."),
    ] = None,
    labelled: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Images that had labels before: one id a line, CSV with `id`, or .npy."),
    ] = None,
    labels: Labels = None,
    classes: Classes = None,
    rounds: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Learning curves: CSV with `labels`, `accuracy`, and for several `name`."
        ),
    ] = None,
    vocabulary: Vocabulary = "general",
    m: PerImage = 10,
    suspects: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, help="How many suspects; by default as many labels as look wrong."),
    ] = None,
    map_method: Annotated[
        str, typer.Option("--map", help="pca, or tsne: slower, and keeps neighbours.")
    ] = "pca",
    title: Annotated[Optional[str], typer.Option(help="Heading of the page.")] = None,  # noqa: UP045
    model: Model = None,
    pretrained: Pretrained = None,
    no_concepts: Annotated[
        bool, typer.Option("--no-concepts", help="Leave concepts out; no model is loaded.")
    ] = False,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Show a grey tile for unreadable images.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Show a selection as one HTML page, which opens without a network.

    Images with concepts and scores, coverage of concepts and classes, a map, suspects.
    """
    from clip_al.encode.table import EmbeddingTable
    from clip_al.handed_in.read import read_class_names
    from clip_al.show.learning_curves import read_rounds
    from clip_al.show.report.map import METHODS
    from clip_al.show.report.write import write_report

    check_output(output, force)
    check_choice(map_method, METHODS, "--map")
    curves = None if rounds is None else read_rounds(rounds)
    if table is None:
        refuse_options(ctx, FOR_TABLE, "`--table`", "none")
    opened = None if table is None else EmbeddingTable.open(table, root=images)
    if selection.suffix.lower() != ".csv":
        refuse_options(ctx, FOR_CSV, "a selection in .csv", "one in .json, which has its labels")
    read = read_selection(selection, opened, labels, classes)
    made_of = read.selection.n_images
    if opened is not None and read.selection.ids is not None and made_of < len(opened):
        opened = opened.first_rows(made_of)  # the folder grew since
    other = None if against is None else read_selection(against, opened).selection
    known = profiles = names = before_names = None
    if classes is not None and labels is None:
        names = read_class_names(classes)
    if opened is not None and labelled is not None:
        known, before_names = _read_before(labelled, opened, names, classes)
        if read.selection.labels is not None:
            before_names = None  # it has its own
    if opened is not None and not no_concepts:
        profiles = encode_profiles(opened, vocabulary, m, model, pretrained)
    write_report(
        read.selection,
        output,
        images=images if opened is None else None,
        embeddings=opened,
        profiles=profiles,
        labelled=known,
        labelled_names=before_names,
        class_names=names,
        picks=_explain(read, profiles, known),
        pick_scores=read.pick_scores,
        against=other,
        rounds=curves,
        suspects=suspects,
        map_method=map_method,
        title=title or selection.stem,
        errors="skip" if skip_unreadable else "raise",
        overwrite=force,
    )
    size_bytes = output.stat().st_size
    if as_json:
        images_chosen = len(read.selection)
        print_json({"output": output, "size_bytes": size_bytes, "selected": images_chosen})
        return
    out.print(
        f"Wrote {output} ({size_bytes / 1e6:.1f} MB)",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _read_before(
    path: Path, table: EmbeddingTable, names: list[str] | None, classes: Path | None
) -> tuple[NDArray[np.int64], list[str] | None]:
    """Read which images had labels, and the names of their classes where the file has them."""
    from clip_al.handed_in.class_names import encode_given
    from clip_al.handed_in.read import read_labelled

    read = read_labelled(path, table, "--labelled", classes=names or ())
    note(path, read.how)
    if names is None or not read.labels:
        return read.indices, read.labels
    codes, _ = encode_given(read.labels, table.ids[read.indices], names, str(path), classes)
    return read.indices, [names[code] for code in codes]


def _explain(
    read: Read, profiles: ConceptProfiles | None, labelled: NDArray[np.int64] | None
) -> list[PickExplanation] | None:
    """Return the picks of a CSV file in its order, with concepts where those are known."""
    from clip_al.label.explain import PickExplanation, explain_picks

    if read.order is None or read.picks is not None:
        return read.picks
    if profiles is None:
        return [PickExplanation(int(index), (), ()) for index in read.order]
    seen = profiles.take(labelled) if labelled is not None and labelled.size else None
    return explain_picks(read.order, profiles, labelled=seen)


def read_selection(
    path: Path,
    table: EmbeddingTable | None,
    labels: str | None = None,
    classes: Path | None = None,
) -> Read:
    """Read a selection as `select` wrote it.

    Parameters
    ----------
    path : Path
        .json; or .csv with a column ``id`` or ``index``, best first. Its columns of numbers are
        scores of the picks, and ``concepts`` and ``added_concepts`` are what they show.
    table : EmbeddingTable, optional
        What the images of a .csv are looked up in.
    labels, classes : optional
        Of all images, as `read_labels` takes them; for a .csv.
    """
    from clip_al.handed_in.read import read_labels, read_picks
    from clip_al.subset.selection import Selection

    suffix = path.suffix.lower()
    if suffix == ".json":
        return Read(Selection.load(path))
    if suffix != ".csv" or table is None:
        raise InvalidInputError(
            "SELECTION must be a .json that `select --ratio` wrote, or a .csv together with "
            f"`--table`; got {path}{' without `--table`' if suffix == '.csv' else ''}. Pass "
            "`--table`, the table that was selected from."
        )
    read, picks, scores = read_picks(path, table)
    note(path, read.how)
    y = names = None
    if labels is not None:
        given = read_labels(labels, table, classes)
        note(labels, given.how)
        y, names = given.labels, given.class_names
    selection = Selection.from_indices(
        read.indices,
        len(table),
        settings={"model": table.model_id, "picks": path.name},
        y=y,
        class_names=names,
        ids=table.ids.tolist(),
    )
    return Read(selection, read.indices, picks, scores)
