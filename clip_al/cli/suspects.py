"""The command ``suspects``: which labels are likeliest wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.markup import escape
from rich.table import Table

from clip_al.arrays.checks import check_int
from clip_al.cli.labels import (
    FOR_LABELS,
    Adapter,
    Classes,
    CrossFit,
    Labels,
    Preset,
    RandomState,
    fit_selection,
    make_selector,
    noise_record,
    print_noise,
)
from clip_al.cli.options import (
    Device,
    Force,
    Json,
    Model,
    MultiLabel,
    Pretrained,
    check_output,
    err,
    open_table,
    out,
    print_json,
    refuse_options,
    say,
)
from clip_al.cli.suspects_several import find_several, show_several
from clip_al.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clip_al.subset.selection import Selection
    from clip_al.subset.selection_summaries import Suspect
    from clip_al.table.embedding_table import EmbeddingTable

FOLDERS = "folders"
SCORE = "score: how well the image fits the class it was given; the lowest first"


SUSPECTS_EXAMPLES = """
Examples:
  clip-al suspects photos.table --labels labels.csv -o suspects.csv
  clip-al suspects subset.json -n 20 --table photos.table -o worst.csv
  clip-al suspects photos.table --labels folders --json
  clip-al suspects photos.table --labels several.csv --multi-label -o suspects.csv

Write a class, `right` or `wrong` into the column `decision` of the file; then
`clip-al labels apply labels.csv suspects.csv -o corrected.csv`.
"""
N_SHOWN = 20
"""How many the terminal shows, and how many there are where no estimate says more."""


FOR_TABLE = {
    **FOR_LABELS,
    "multi_label": "--multi-label",
    "model": "--model",
    "pretrained": "--pretrained",
    "device": "--device",
}


FOR_ONE_LABEL = {
    name: FOR_LABELS[name] for name in ("preset", "adapter", "cross_fit", "random_state")
}


def suspect_table(found: list[Suspect], n: int | None = None) -> Table:
    """Return suspects as a table to print; `n`, where there are more, is said in the title."""
    more = f", {len(found)} of {n:,}" if n is not None and n > len(found) else ""
    title = f"Likeliest mislabelled{more}"
    table = Table("index", "id", "given", "likelier", "score", title=title, caption=SCORE)
    for suspect in found:
        cells = (suspect.index, suspect.id, suspect.given, suspect.likeliest)
        shown = ["–" if cell is None else escape(str(cell)) for cell in cells]
        table.add_row(*shown, f"{suspect.score:.2f}")
    return table


def suspect_records(found: list[Suspect]) -> list[dict[str, Any]]:
    """Return suspects for JSON, under the names that the CSV file has."""
    from clip_al.handed_in.write import suspect_frame

    records = suspect_frame(found).astype(object).to_dict("records")
    return [{str(name): value for name, value in record.items()} for record in records]


def suspects(
    ctx: typer.Context,
    selection_or_table: Annotated[
        Path, typer.Argument(help="What `select --ratio` wrote as .json, or a table.")
    ],
    n: Annotated[
        str,
        typer.Option(
            "-n",
            metavar="all|N",
            help="How many: all that look wrong, or a number. The terminal shows 20.",
            autocompletion=lambda: ["all"],
        ),
    ] = "all",
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--output",
            "-o",
            help="Write them to this CSV file, with paths and an empty column `decision`.",
        ),
    ] = None,
    table_path: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--table", help="The table of a selection, for the paths in the file."),
    ] = None,
    labels: Labels = None,
    classes: Classes = None,
    multi_label: MultiLabel = False,
    preset: Preset = "default",
    adapter: Adapter = None,
    cross_fit: CrossFit = False,
    random_state: RandomState = 0,
    model: Model = None,
    pretrained: Pretrained = None,
    device: Device = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """List the images whose labels are likeliest to be wrong, worst first.

    From a selection, or from a table and --labels. What you write into the
    column `decision` of the file goes into the labels by `clip-al labels apply`.

    With --multi-label each line is one label of one image: one that is given and should
    not be, or missing and should be there.
    """
    from clip_al.handed_in.write import write_suspects
    from clip_al.subset.selection import Selection

    check_output(output, force)
    if selection_or_table.is_dir():
        if labels is None:
            raise InvalidInputError(
                "`--labels` must come with a table; got none. Pass a file, or `folders`; or a "
                "selection (.json) in place of the table."
            )
        refuse_options(ctx, {"table_path": "--table"}, "a selection", "a table, which has paths")
        if multi_label:
            refuse_options(ctx, FOR_ONE_LABEL, "one label an image", "`--multi-label`")
            table = open_table(selection_or_table)
            among = find_several(table, labels, classes, model, pretrained, device)
            suspected = among.top(None if n == "all" else _number(n, among.given.size))
            show_several(among, suspected, table, output, labels, classes, force, as_json)
            return
        selector = make_selector(
            preset, adapter, cross_fit, random_state,
            ratio=1.0, alpha=0.0, device=device,  # suspects do not go by diversity
        )  # fmt: skip
        table = open_table(selection_or_table)
        selection = fit_selection(selector, table, labels, classes, None, model, pretrained)
        paths: Any = table.paths
    else:
        refuse_options(ctx, FOR_TABLE, "a table", "a selection, which has its labels and scores")
        selection = Selection.load(selection_or_table)
        paths = None if table_path is None else _paths(selection, open_table(table_path))
    n_wanted = _how_many(n, selection)
    found = selection.suspects(n_wanted) if n_wanted else []
    if output is not None:
        write_suspects(output, found, paths=paths, overwrite=force)
    if as_json:
        print_json(
            {
                "images": selection.n_images,
                **noise_record(selection),
                "suspects": suspect_records(found),
                "output": output,
            }
        )
        return
    out.print(suspect_table(found[:N_SHOWN], len(found)))
    print_noise(selection, warned=selection_or_table.is_dir())
    if output is None:
        if len(found) > N_SHOWN:
            err.print("`-o suspects.csv` writes them all.", highlight=False)
        return
    say(f"Wrote {len(found):,} rows to {output}")
    if paths is None:
        err.print("`--table TABLE` adds the paths of the images.", highlight=False)
    source = labels or "labels.csv"
    if found and source != FOLDERS:
        say(
            "Next: write a class, `right` or `wrong` into its column `decision`, then\n"
            f"  clip-al labels apply {source} {output} -o corrected.csv"
        )


def _how_many(n: str, selection: Selection) -> int:
    """Return how many suspects were asked for: as many as look wrong, or a number."""
    if n != "all":
        return _number(n, selection.n_images)
    share = selection.settings.get("wrong_fraction")
    if share is None:
        return min(N_SHOWN, selection.n_images)
    return round(float(share) * selection.n_images)


def _number(n: str, largest: int) -> int:
    wanted = int(n) if n.lstrip("-").isdecimal() else None
    if wanted is None:
        raise InvalidInputError(
            f"`-n` must be all, or a whole number in [1, {largest}]; got {n!r}. Change it."
        )
    return check_int(wanted, "-n", largest=largest)


def _paths(selection: Selection, table: EmbeddingTable) -> NDArray[Any]:
    """Return the path of each image of a selection from the table that it was made from."""
    same = selection.ids is not None and selection.ids.tolist() == table.ids.tolist()
    if not same:
        raise InvalidInputError(
            f"`--table` must be the table of the selection; {table.directory} has "
            f"{len(table):,} images, the selection {selection.n_images:,}, or others. Name the "
            "table that `select` was given."
        )
    return table.paths
