"""The command ``suspects``, and what it shares with ``select --ratio``: labels and a selector.

`clip_al.cli.main` puts it among its commands.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.markup import escape
from rich.table import Table

from clip_al.arrays.checks import check_choice, check_int
from clip_al.cli.options import (
    Device,
    Force,
    Json,
    Model,
    Pretrained,
    check_output,
    encoder_of,
    open_table,
    out,
    print_json,
    refuse_options,
    say,
)
from clip_al.errors import InvalidInputError
from clip_al.progress import progress_bar

if TYPE_CHECKING:
    from clip_al.encode.table import EmbeddingTable
    from clip_al.subset.selection import Selection
    from clip_al.subset.selection_summaries import Suspect
    from clip_al.subset.selector import ClipSelector

TRAIN = "With labels"
SUSPECTS_EXAMPLES = """
Examples:
  clip-al suspects photos.table --labels labels.csv
  clip-al suspects subset.json -n 20 -o suspects.csv
  clip-al suspects photos.table --labels folders --json
"""
FOR_LABELS = {
    "labels": "--labels",
    "classes": "--classes",
    "preset": "--preset",
    "adapter": "--adapter/--no-adapter",
    "cross_fit": "--cross-fit",
    "random_state": "--random-state",
}
FOR_TABLE = {
    **FOR_LABELS,
    "model": "--model",
    "pretrained": "--pretrained",
    "device": "--device",
}


Labels = Annotated[
    Optional[str],  # noqa: UP045  typer evaluates this on Python 3.10 too
    typer.Option(
        help="CSV with `id` and `label`, one label a line in the table's order, .npy, or "
        "`folders`: the name of the folder that each image is in.",
        rich_help_panel=TRAIN,
    ),
]
Classes = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        help="Names of the classes, one a line, class 0 first; needed where labels are numbers.",
        rich_help_panel=TRAIN,
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        help="default, or paper: the method as printed.",
        rich_help_panel=TRAIN,
        autocompletion=lambda: ["default", "paper"],
    ),
]
Adapter = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option(
        "--adapter/--no-adapter",
        help="Adapt the embeddings to the labels first, or leave CLIP as it is, the default.",
        rich_help_panel=TRAIN,
    ),
]
CrossFit = Annotated[
    bool,
    typer.Option(
        "--cross-fit",
        help="Score each image by an adapter that never saw its label.",
        rich_help_panel=TRAIN,
    ),
]
RandomState = Annotated[int, typer.Option(min=0, help="Seed.", rich_help_panel=TRAIN)]


def make_selector(
    preset: str, adapter: bool | None, cross_fit: bool, random_state: int, **settings: Any
) -> ClipSelector:
    """Return what the options ask for; `fit_selection` adds the classes."""
    from clip_al.subset.selector import PRESETS, ClipSelector

    check_choice(preset, tuple(PRESETS), "--preset")
    if cross_fit and adapter is False:
        raise InvalidInputError(
            "`--cross-fit` trains two adapters and `--no-adapter` none; got both. Pass one."
        )
    return ClipSelector(
        preset=preset,
        adapter="cross-fit" if cross_fit else adapter,
        random_state=random_state,
        progress=True,
        **settings,
    )


def fit_selection(
    selector: ClipSelector,
    table: EmbeddingTable,
    labels: str,
    classes: Path | None,
    groups: Path | None,
    model: str | None,
    pretrained: str | None,
) -> Selection:
    """Read the labels, encode the names of their classes, and choose."""
    from clip_al.handed_in.read import read_groups, read_labels

    codes, names = read_labels(labels, table, classes)
    attribute = None if groups is None else read_groups(groups, table)
    encoder = encoder_of(table, model, pretrained, selector.device)
    table.check_model(encoder)
    encoder.progress = False  # a few names: one display at a time
    selector.set_params(class_names=names, encoder=encoder)
    shown: AbstractContextManager[Any] = nullcontext()
    if not selector.adapter and selector.preset == "default":  # else its training shows itself
        shown = progress_bar(True, f"Scoring {len(table):,} images", None)
    with shown:
        return selector.fit_select(table, codes, groups=attribute)


def print_noise(selection: Selection) -> None:
    """Print how many labels look wrong."""
    share = selection.settings.get("wrong_fraction")
    if share is not None:
        n = round(share * selection.n_images)
        out.print(
            f"\nAbout {share:.1%} of the labels look wrong ({n:,} of {selection.n_images:,}).",
            highlight=False,
        )


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
