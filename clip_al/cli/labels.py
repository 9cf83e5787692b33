"""What ``select --ratio`` and ``suspects`` share: options of labels, and a selector."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.markup import escape

from clip_al.arrays.checks import check_choice
from clip_al.cli.options import (
    encoder_of,
    note,
    out,
    warn_of_gone,
)
from clip_al.errors import InvalidInputError
from clip_al.progress import progress_bar

if TYPE_CHECKING:
    from clip_al.subset.selection import Selection
    from clip_al.subset.selector import ClipSelector
    from clip_al.table.embedding_table import EmbeddingTable

TRAIN = "With labels"
MAX_PAIRS = 5
FOR_LABELS = {
    "labels": "--labels",
    "classes": "--classes",
    "preset": "--preset",
    "adapter": "--adapter/--no-adapter",
    "cross_fit": "--cross-fit",
    "random_state": "--random-state",
}


Labels = Annotated[
    Optional[str],  # noqa: UP045  typer evaluates this on Python 3.10 too
    typer.Option(
        help="CSV or Parquet with a column `label` and one of ids, paths or file names; one label "
        "a line in the table's order; .npy; or `folders`: the name of the folder that each image "
        "is in.",
        rich_help_panel=TRAIN,
    ),
]
Classes = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        help="Names of the classes, one a line, class 0 first, or numbered (`0,cat`), or JSON; "
        "needed where labels are numbers.",
        rich_help_panel=TRAIN,
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        help="default; short: what looks most like its class, for a training that is cut short; "
        "or paper: the method as printed.",
        rich_help_panel=TRAIN,
        autocompletion=lambda: ["default", "short", "paper"],
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

    read = read_labels(labels, table, classes)
    note(labels, read.how)
    attribute = None
    if groups is not None:
        grouped = read_groups(groups, table)
        note(groups, grouped.how)
        attribute = grouped.groups
    encoder = encoder_of(table, model, pretrained, selector.device)
    table.check_model(encoder)
    warn_of_gone(table, "may be chosen")
    encoder.progress = False  # a few names: one display at a time
    selector.set_params(class_names=read.class_names, encoder=encoder)
    shown: AbstractContextManager[Any] = nullcontext()
    if not selector.adapter and selector.preset == "default":  # else its training shows itself
        shown = progress_bar(True, f"Scoring {len(table):,} images", None)
    with shown:
        return selector.fit_select(table, read.labels, groups=attribute)


def print_noise(selection: Selection, *, warned: bool) -> None:
    """Print how many labels look wrong, which classes are worth a look, and what does not agree.

    Of what does not agree a fit has `warned` already.
    """
    from clip_al.score.agreement import share_of_wrong
    from clip_al.subset.selection_summaries import label_noise_in_words

    share, pairs = label_noise_in_words(selection.settings)
    _, message = share_of_wrong(selection.settings)
    if share:
        doubt = ", but see the warning" if message and warned else ""
        said = f"\n{share[0].upper()}{share[1:]}{doubt}."
        out.print(said, highlight=False, markup=False)
        if pairs:
            listed = "; ".join(pairs[:MAX_PAIRS])
            out.print(f"Worth a look: {listed}.", highlight=False, markup=False)
    elif message:
        see = ": see the warning" if warned else ""
        out.print(f"\nHow many labels are wrong cannot be told{see}.", highlight=False)
    if message and not warned:
        out.print(f"[bold yellow]Check first:[/] {escape(message)}", highlight=False)


def noise_record(selection: Selection) -> dict[str, Any]:
    """Return the same for JSON; null where the selection does not say or it cannot be told."""
    from clip_al.score.agreement import share_of_wrong

    _, message = share_of_wrong(selection.settings)
    names = ("wrong_fraction", "wrong_interval", "confused_pairs")
    known = {name: selection.settings.get(name) for name in names}
    return {**known, "disagreement": message or None}
