"""The command ``report``: a page that shows what was chosen.

`clip_al.cli.main` puts it among its commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from clip_al.arrays.checks import check_choice, check_number
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
    out,
    print_json,
    refuse_options,
)
from clip_al.cli.report_inputs import explain, read_before, read_sample, read_selection

REPORT_EXAMPLES = """
What is in a table, before any choice; what was chosen:
  clip-al report photos.table -o photos.html
  clip-al report first.csv --table photos.table -o first.html
  clip-al report subset.json --table photos.table -o chosen.html --json

A page to label on, by keys; it saves labels.csv for --labelled:
  clip-al report first.csv --table photos.table --classes classes.txt -o label.html
"""
# Options that mean nothing without a table: parameter, and how it is typed.
FOR_TABLE = {
    "vocabulary": "--vocabulary",
    "m": "-m",
    "labelled": "--labelled",
    "map_method": "--map",
    "stack_copies": "--stack-copies",
    "no_concepts": "--no-concepts",
    "model": "--model",
    "pretrained": "--pretrained",
}
FOR_CSV = {"labels": "--labels", "classes": "--classes"}
FOR_CHOICE = {"table": "--table", "against": "--against", "suspects": "--suspects"}
N_SAMPLE = 500
"""Images of a table that are shown before any choice."""


def report(
    ctx: typer.Context,
    selection: Annotated[
        Path,
        typer.Argument(
            metavar="SELECTION|TABLE",
            help="What `select` wrote: .json (with --ratio), or .csv, which needs --table; or a "
            "table, to see what is in it before any choice.",
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
    stack_copies: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            metavar="COSINE",
            help="Near-copies, from this cosine on (0.99), are one card with a count, which opens.",
        ),
    ] = None,
    sample: Annotated[
        int,
        typer.Option(min=1, max=10_000, help="How many images of a table are shown, with TABLE."),
    ] = N_SAMPLE,
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
    """Show a selection, or a whole table, as one HTML page, which opens without a network.

    Images with concepts and scores, coverage of concepts and classes, a map, suspects.
    With --classes, keys and buttons on the page give labels, which it saves as
    labels.csv; with labels, they decide on them, which it saves as decisions.csv for
    `clip-al labels apply`.
    """
    from clip_al.handed_in.read import read_class_names
    from clip_al.show.learning_curves import read_rounds
    from clip_al.show.report.map import METHODS
    from clip_al.show.report.stacks import STACK_FROM
    from clip_al.show.report.write import write_report
    from clip_al.table.embedding_table import EmbeddingTable

    check_output(output, force)
    check_choice(map_method, METHODS, "--map")
    if stack_copies is not None:
        check_number(stack_copies, "--stack-copies", above=0.0, high=1.0)
    curves = None if rounds is None else read_rounds(rounds)
    is_table = selection.is_dir()
    if is_table:
        refuse_options(ctx, FOR_CHOICE, "a selection", "a table")
        table = selection
    else:
        refuse_options(ctx, {"sample": "--sample"}, "a table", "a selection, which is shown whole")
    if table is None:
        refuse_options(ctx, FOR_TABLE, "`--table`", "none")
    opened = None if table is None else EmbeddingTable.open(table, root=images)
    if is_table and opened is not None:
        read = read_sample(opened, sample, labels, classes)
    else:
        if selection.suffix.lower() != ".csv":
            given = "one in .json, which has its labels"
            refuse_options(ctx, FOR_CSV, "a selection in .csv", given)
        read = read_selection(selection, opened, labels, classes)
    made_of = read.selection.n_images
    if opened is not None and read.selection.ids is not None and made_of < len(opened):
        opened = opened.first_rows(made_of)  # the folder grew since
    other = None if against is None else read_selection(against, opened).selection
    known = profiles = names = before_names = None
    if classes is not None and labels is None:
        names = read_class_names(classes)
    if opened is not None and labelled is not None:
        known, before_names = read_before(labelled, opened, names, classes)
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
        picks=explain(read, profiles, known),
        pick_scores=read.pick_scores,
        against=other,
        rounds=curves,
        suspects=read.n_suspects if suspects is None else suspects,
        is_sample=read.is_sample,
        map_method=map_method,
        stack_copies=STACK_FROM if stack_copies is None else stack_copies,
        title=title or selection.stem,
        errors="skip" if skip_unreadable else "raise",
        overwrite=force,
    )
    size_bytes = output.stat().st_size
    if as_json:
        images_chosen = len(read.selection)
        shown = "shown" if read.is_sample else "selected"
        print_json({"output": output, "size_bytes": size_bytes, shown: images_chosen})
        return
    out.print(
        f"Wrote {output} ({size_bytes / 1e6:.1f} MB)",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
