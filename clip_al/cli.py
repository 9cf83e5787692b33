"""The command line: ``clip-al embed | concepts | diversity | select | suspects | demo``.

Each command is a few lines over the library. Results go to standard output and to files;
progress and errors go to standard error. Exit status: 0 done, 2 bad input, 130 interrupted.
``select`` is in `cli_select`, ``suspects`` in `cli_labels`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from clip_al.cli_labels import suspects
from clip_al.cli_options import (
    BatchSize,
    Device,
    Force,
    Model,
    PerImage,
    Pretrained,
    SkipUnreadable,
    TablePath,
    Vocabulary,
    check_output,
    encode_profiles,
    err,
    make_encoder,
    open_table,
    out,
)
from clip_al.cli_select import select
from clip_al.errors import ClipAlError


class _Group(TyperGroup):
    """Reports bad input in one message and without a traceback, whatever the command."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (ClipAlError, OSError) as exc:
            err.print(f"[bold red]Error:[/] {escape(str(exc))}", highlight=False)
            raise typer.Exit(2) from exc
        except KeyboardInterrupt as exc:
            err.print("Interrupted. What was finished is kept; the same command continues.")
            raise typer.Exit(130) from exc


app = typer.Typer(
    cls=_Group,
    help="Choose which images to label next, and which to train on, by what CLIP sees in them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def embed(
    images: Annotated[Path, typer.Argument(help="A folder of images, searched recursively.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The table's folder.")],
    model: Model = "mini",
    pretrained: Pretrained = None,
    device: Device = None,
    batch_size: BatchSize = 256,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Processes that read images; chosen by the number of cores."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, or float16 for half the disk.")] = "float32",
    hash_content: Annotated[
        bool, typer.Option(help="Notice changed files by content, not by size and time.")
    ] = False,
    skip_unreadable: SkipUnreadable = False,
    force: Force = False,
) -> None:
    """Encode a folder of images into a table. Interrupted? The same command continues.

    Under torchrun each process encodes its share, and the last to finish makes the table.
    """
    from clip_al.embeddings import EmbeddingTable
    from clip_al.sharded_table import Rank, encode_shard

    rank = Rank.from_environment()
    device = device if rank is None else rank.device(device)
    encoder = make_encoder(model or "mini", pretrained, device, batch_size, workers)
    encoder.progress = rank is None or rank.local_rank == 0
    create: Callable[..., EmbeddingTable | None] = EmbeddingTable.create
    if rank is not None:
        create = partial(encode_shard, rank=rank.rank, world_size=rank.world_size)
    table = create(
        output,
        images,
        encoder,
        dtype=dtype,
        errors="skip" if skip_unreadable else "raise",
        overwrite=force,
        hash_content=hash_content,
    )
    if table is None:
        out.print(f"{output}: this share is done, others are not yet", highlight=False)
        return
    rows, width = table.shape
    out.print(f"{output}: {rows:,} images × {width}, {table.model_id}", highlight=False)


@app.command()
def concepts(
    table_path: TablePath,
    vocabulary: Vocabulary = "general",
    m: PerImage = 10,
    show: Annotated[int, typer.Option(help="How many images and concepts to print.")] = 10,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Write the concepts of all images to this CSV file."),
    ] = None,
    model: Model = None,
    pretrained: Pretrained = None,
    force: Force = False,
) -> None:
    """Name the concepts of each image, and the most frequent ones of all."""
    import pandas as pd

    check_output(output, force)
    table = open_table(table_path)
    profiles = encode_profiles(table, vocabulary, m, model, pretrained)
    counts_v = np.bincount(profiles.ids.ravel(), minlength=profiles.n_concepts)
    frequent = Table("concept", "images", "share", title="Most frequent concepts")
    for concept in np.argsort(-counts_v, kind="stable")[:show]:
        share = f"{counts_v[concept] / len(profiles):.1%}"
        name = escape(profiles.vocabulary.names[concept])
        frequent.add_row(name, f"{counts_v[concept]:,}", share)
    out.print(frequent)
    first = Table("image", "concepts", title="First images")
    for index in range(min(show, len(table))):
        first.add_row(escape(str(table.ids[index])), escape(", ".join(profiles.names(index))))
    out.print(first)
    if output is not None:
        listed = ["; ".join(profiles.names(index)) for index in range(len(table))]
        pd.DataFrame({"id": list(table.ids), "concepts": listed}).to_csv(output, index=False)
        out.print(f"Wrote {len(table):,} rows to {output}", highlight=False)


@app.command()
def diversity(
    table_path: TablePath,
    indices: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Measure these images alone: one id a line, CSV with `id`, or .npy."),
    ] = None,
    vocabulary: Vocabulary = "general",
    m: PerImage = 10,
    jitter: Annotated[float, typer.Option(help="On the diagonal of GD's Gram matrix.")] = 1e-3,
    model: Model = None,
    pretrained: Pretrained = None,
) -> None:
    """Measure how diverse a set of images is."""
    from clip_al.diversity import ConceptCounts, geometric_diversity, spectral_diversity
    from clip_al.files import read_indices

    table = open_table(table_path)
    profiles = encode_profiles(table, vocabulary, m, model, pretrained)
    rows = None if indices is None else read_indices(indices, table, "--indices")
    counts = ConceptCounts.from_profiles(profiles, rows, weighting="binary")
    Z = table.embeddings if rows is None else table[rows]
    measures = Table("measure", "value", title=f"Diversity of {counts.n:,} images")
    for name, value in {
        "concept-based diversity (CBD), in [0, 1]": f"{counts.diversity():.4f}",
        "entropy of concepts, nats": f"{counts.entropy():.3f}",
        "concepts seen": f"{counts.richness():,} of {profiles.n_concepts:,}",
        "spectral diversity, nats": f"{spectral_diversity(profiles, rows):.2f}",
        f"geometric diversity (GD), jitter {jitter:g}, nats": (
            f"{geometric_diversity(Z, jitter=jitter):.2f}"
        ),
    }.items():
        measures.add_row(name, value)
    out.print(measures)


app.command()(select)
app.command()(suspects)

DemoFolder = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for files; an earlier demo's are replaced.")
]
Seeds = Annotated[int, typer.Option(min=1, help="Repetitions, for the spread.")]


@app.command()
def demo(output: DemoFolder = Path("clip-al-demo"), seeds: Seeds = 5) -> None:
    """Run both paths on 1,797 real digits, offline, in about a minute: label, then train."""
    from clip_al.mini.demo import encode_digits, run_demo
    from clip_al.mini.train_demo import run_train_demo

    digits = encode_digits(out)
    run_demo(output, n_seeds=seeds, console=out, digits=digits)
    out.print()
    run_train_demo(output, n_seeds=seeds, console=out, digits=digits)


@app.command()
def train_demo(output: DemoFolder = Path("clip-al-demo"), seeds: Seeds = 5) -> None:
    """Flip a fifth of the digits' labels, find the wrong ones, train on what is chosen."""
    from clip_al.mini.train_demo import run_train_demo

    run_train_demo(output, n_seeds=seeds, console=out)


def main() -> None:
    """Run the command line."""
    warnings.showwarning = _show_warning
    # What libraries warn each other of is nothing that a user of the commands can act on.
    warnings.simplefilter("ignore", FutureWarning)
    app()


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    err.print(f"[bold yellow]Warning:[/] {escape(str(message))}", highlight=False)


if __name__ == "__main__":
    main()
