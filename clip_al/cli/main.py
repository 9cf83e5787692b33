"""The command line: ``clip-al embed | concepts | diversity | select | suspects | report | demo``.

Each command is a few lines over the library. Results go to standard output and to files, with
``--json`` as one object; progress, warnings and errors go to standard error. Exit status: 0
done, 1 a mistake in clip_al itself, 2 bad input, 130 interrupted. ``suspects``
is in `labels`; other commands are in modules of their name.
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

from clip_al import __version__
from clip_al.atomic import write_frame
from clip_al.cli.demo import DEMO_EXAMPLES, TRAIN_DEMO_EXAMPLES, demo, train_demo
from clip_al.cli.labels import SUSPECTS_EXAMPLES, suspects
from clip_al.cli.options import (
    BatchSize,
    Device,
    ExampleCommand,
    Force,
    Json,
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
    print_json,
    say,
)
from clip_al.cli.report import REPORT_EXAMPLES, report
from clip_al.cli.select import SELECT_EXAMPLES, select
from clip_al.errors import ClipAlError

START = """
From a folder of images to a first batch to label, and to a report on it:
  clip-al embed photos -o photos.table
  clip-al select photos.table --budget 12 -o first.csv
  clip-al report first.csv --table photos.table -o first.html

What to train on, once there are labels:
  clip-al select photos.table --ratio 0.3 --labels labels.csv -o subset.json

`clip-al COMMAND --help` has more examples. Results go to standard output, with
--json as one object; progress and errors go to standard error. Exit status:
0 done, 1 a mistake in clip_al itself, 2 bad input, 130 interrupted.
"""
EMBED_EXAMPLES = """
Examples:
  clip-al embed photos -o photos.table
  clip-al embed photos -o vit.table --model ViT-B-32 --pretrained laion2b_s34b_b79k
  torchrun --nproc-per-node 2 --no-python clip-al embed photos -o photos.table
"""
CONCEPTS_EXAMPLES = """
Examples:
  clip-al concepts photos.table
  clip-al concepts photos.table --vocabulary words.txt -m 3 -o concepts.csv
  clip-al concepts photos.table --show 5 --json
"""
DIVERSITY_EXAMPLES = """
Examples:
  clip-al diversity photos.table
  clip-al diversity photos.table --indices first.csv --json
"""


class _Group(TyperGroup):
    """Reports bad input in one message and without a traceback, whatever the command."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        formatter.write(START.lstrip())

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever read the output has read enough
            raise
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


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clip-al {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None: ...


@app.command(cls=ExampleCommand, epilog=EMBED_EXAMPLES)
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
    dtype: Annotated[
        str,
        typer.Option(
            help="float32, or float16 for half the disk.",
            autocompletion=lambda: ["float32", "float16"],
        ),
    ] = "float32",
    hash_content: Annotated[
        bool, typer.Option(help="Notice changed files by content, not by size and time.")
    ] = False,
    skip_unreadable: SkipUnreadable = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Encode a folder of images into a table. Interrupted? The same command continues.

    Under torchrun each process encodes its share, and the last to finish
    makes the table.
    """
    from clip_al.encode.table import EmbeddingTable
    from clip_al.encode.table_shards import Rank, encode_shard

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
    result: dict[str, Any] = {"table": output, "complete": table is not None}
    if table is not None:
        rows, width = table.shape
        result |= {"images": rows, "width": width, "model": table.model_id}
    if as_json:
        print_json(result)
    elif table is None:
        say(f"{output}: this share is done, others are not yet")
    else:
        say(f"{output}: {rows:,} images × {width}, {table.model_id}")


@app.command(cls=ExampleCommand, epilog=CONCEPTS_EXAMPLES)
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
    as_json: Json = False,
) -> None:
    """Name the concepts of each image, and the most frequent ones of all."""
    import pandas as pd

    check_output(output, force)
    table = open_table(table_path)
    profiles = encode_profiles(table, vocabulary, m, model, pretrained)
    if output is not None:
        listed = ["; ".join(profiles.names(index)) for index in range(len(table))]
        frame = pd.DataFrame({"id": list(table.ids), "concepts": listed})
        write_frame(output, frame, overwrite=force)
    counts_v = np.bincount(profiles.ids.ravel(), minlength=profiles.n_concepts)
    names = profiles.vocabulary.names
    frequent = [
        {"concept": names[i], "images": counts_v[i], "share": counts_v[i] / len(profiles)}
        for i in np.argsort(-counts_v, kind="stable")[:show]
    ]
    first = [
        {"id": table.ids[i], "concepts": profiles.names(i)} for i in range(min(show, len(table)))
    ]
    if as_json:
        size = {"images": len(table), "m": m, "vocabulary": len(names)}
        print_json({**size, "frequent": frequent, "first": first, "output": output})
        return
    _print_concepts(frequent, first)
    if output is not None:
        say(f"Wrote {len(table):,} rows to {output}")


def _print_concepts(frequent: list[dict[str, Any]], first: list[dict[str, Any]]) -> None:
    most = Table("concept", "images", "share", title="Most frequent concepts")
    for row in frequent:
        most.add_row(escape(row["concept"]), f"{row['images']:,}", f"{row['share']:.1%}")
    out.print(most)
    images = Table("image", "concepts", title="First images")
    for row in first:
        images.add_row(escape(str(row["id"])), escape(", ".join(row["concepts"])))
    out.print(images)


@app.command(cls=ExampleCommand, epilog=DIVERSITY_EXAMPLES)
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
    as_json: Json = False,
) -> None:
    """Measure how diverse a set of images is."""
    from clip_al.concepts.diversity import ConceptCounts, geometric_diversity, spectral_diversity
    from clip_al.handed_in.read import read_indices

    table = open_table(table_path)
    profiles = encode_profiles(table, vocabulary, m, model, pretrained)
    rows = None if indices is None else read_indices(indices, table, "--indices")
    counts = ConceptCounts.from_profiles(profiles, rows)
    Z = table.embeddings if rows is None else table[rows]
    result = {
        "images": counts.n,
        "cbd": counts.diversity(),
        "entropy": counts.entropy(),
        "concepts_seen": counts.richness(),
        "vocabulary": profiles.n_concepts,
        "spectral_diversity": spectral_diversity(profiles, rows),
        "geometric_diversity": geometric_diversity(Z, jitter=jitter),
        "jitter": jitter,
    }
    if as_json:
        print_json(result)
        return
    measures = Table("measure", "value", title=f"Diversity of {counts.n:,} images")
    for name, value in {
        "concept-based diversity (CBD), in [0, 1]": f"{result['cbd']:.4f}",
        "entropy of concepts, nats": f"{result['entropy']:.3f}",
        "concepts seen": f"{result['concepts_seen']:,} of {profiles.n_concepts:,}",
        "spectral diversity, nats": f"{result['spectral_diversity']:.2f}",
        f"geometric diversity (GD), jitter {jitter:g}, nats": (
            f"{result['geometric_diversity']:.2f}"
        ),
    }.items():
        measures.add_row(name, value)
    out.print(measures)


app.command(cls=ExampleCommand, epilog=SELECT_EXAMPLES)(select)
app.command(cls=ExampleCommand, epilog=SUSPECTS_EXAMPLES)(suspects)
app.command(cls=ExampleCommand, epilog=REPORT_EXAMPLES)(report)
app.command(cls=ExampleCommand, epilog=DEMO_EXAMPLES)(demo)
app.command(cls=ExampleCommand, epilog=TRAIN_DEMO_EXAMPLES)(train_demo)


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
