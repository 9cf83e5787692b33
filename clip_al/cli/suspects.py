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
    print_noise,
)
from clip_al.cli.options import (
    Device,
    Force,
    Json,
    Model,
    Pretrained,
    check_output,
    open_table,
    out,
    print_json,
    refuse_options,
    say,
)
from clip_al.errors import InvalidInputError

if TYPE_CHECKING:
    from clip_al.subset.selection_summaries import Suspect


SUSPECTS_EXAMPLES = """
Examples:
  clip-al suspects photos.table --labels labels.csv
  clip-al suspects subset.json -n 20 -o suspects.csv
  clip-al suspects photos.table --labels folders --json
"""


FOR_TABLE = {
    **FOR_LABELS,
    "model": "--model",
    "pretrained": "--pretrained",
    "device": "--device",
}


def suspect_table(found: list[Suspect]) -> Table:
    """Return suspects as a table to print."""
    table = Table("index", "id", "given", "likelier", "score", title="Likeliest mislabelled")
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
        Optional[int],  # noqa: UP045
        typer.Option("-n", help="How many; 20, or all where there are fewer."),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Write them to this CSV file."),
    ] = None,
    labels: Labels = None,
    classes: Classes = None,
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

    From a selection, or from a table and --labels.
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
        selector = make_selector(preset, adapter, cross_fit, random_state, ratio=1.0, device=device)
        table = open_table(selection_or_table)
        selection = fit_selection(selector, table, labels, classes, None, model, pretrained)
    else:
        refuse_options(ctx, FOR_TABLE, "a table", "a selection, which has its labels and scores")
        selection = Selection.load(selection_or_table)
    wanted = min(20, selection.n_images) if n is None else n
    found = selection.suspects(check_int(wanted, "-n", largest=selection.n_images))
    if output is not None:
        write_suspects(output, found, overwrite=force)
    if as_json:
        print_json(
            {
                "images": selection.n_images,
                "wrong_fraction": selection.settings.get("wrong_fraction"),
                "suspects": suspect_records(found),
                "output": output,
            }
        )
        return
    out.print(suspect_table(found))
    print_noise(selection)
    if output is not None:
        say(f"Wrote {len(found):,} rows to {output}")
