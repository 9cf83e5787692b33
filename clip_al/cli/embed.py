"""The command ``embed``: images, or embeddings that there are, become a table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from clip_al.cli.embed_sources import named_encoder, resolve_images, take_embeddings
from clip_al.cli.options import (
    BatchSize,
    Device,
    Force,
    Json,
    Model,
    Pretrained,
    SkipUnreadable,
    make_encoder,
    print_json,
    refuse_options,
    say,
    say_if_toy,
)
from clip_al.errors import InvalidInputError

if TYPE_CHECKING:
    from clip_al.table.embedding_table import EmbeddingTable
    from clip_al.table.update import TableChanges

EMBED_EXAMPLES = """
Examples:
  clip-al embed photos -o photos.table
  clip-al embed files.txt -o listed.table
  clip-al embed photos -o vit.table --model ViT-B-32 --pretrained laion2b_s34b_b79k
  torchrun --nproc-per-node 2 --no-python clip-al embed photos -o photos.table

Embeddings that you have, of a CLIP model and of one without words:
  clip-al embed --from clip.npz -o photos.table --model ViT-B-32 \\
      --pretrained laion2b_s34b_b79k
  clip-al embed --from dino.npy --ids files.txt -o dino.table \\
      --model-name dinov2
"""
FILE = "With --from"
FOR_IMAGES = {
    "device": "--device",
    "batch_size": "--batch-size",
    "workers": "--workers",
    "hash_content": "--hash-content",
    "skip_unreadable": "--skip-unreadable",
    "every": "--every",
    "boxes": "--boxes",
}
FOR_FILE = {
    "column": "--column",
    "id_column": "--id-column",
    "ids": "--ids",
    "split": "--split",
    "model_name": "--model-name",
}


def embed(
    ctx: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="The table's folder.")],
    images: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            help="A folder of images, searched recursively; a CSV file of paths; tar shards, as "
            "'shards/*.tar'; a URL, as s3://bucket/photos; a video, with --every. With --from "
            "the folder that the ids are paths in, or nothing."
        ),
    ] = None,
    every: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            metavar="SECONDS",
            help="IMAGES is a video, or a folder of some: take a frame every so many seconds.",
        ),
    ] = None,
    boxes: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Cut these boxes out of the photos in IMAGES, each an image of its own: COCO's "
            "JSON, or a folder of YOLO's text files.",
        ),
    ] = None,
    source: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--from",
            help="Embeddings that there are: .npy, .npz, .parquet, .safetensors, or a folder of a "
            "Hugging Face dataset. --model says which CLIP made them.",
            rich_help_panel=FILE,
        ),
    ] = None,
    column: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What the file calls the embeddings.", rich_help_panel=FILE),
    ] = None,
    id_column: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What the file calls the ids.", rich_help_panel=FILE),
    ] = None,
    ids: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="A file of ids in the order of the rows: one a line, CSV with `id`, or .npy.",
            rich_help_panel=FILE,
        ),
    ] = None,
    split: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Of a dataset that has several.", rich_help_panel=FILE),
    ] = None,
    model_name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="A name for a model that reads no words, such as dinov2.", rich_help_panel=FILE
        ),
    ] = None,
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
    """Encode images into a table, or take embeddings that there are (--from).

    Interrupted? The same command continues.

    Run again later, it encodes what is new or changed in the folder and marks
    what is gone; ids and rows stay. What is damaged it encodes again.

    Under torchrun each process encodes its share, and the last to finish
    makes the table.
    """
    from clip_al.table.embedding_table import EmbeddingTable
    from clip_al.table.shards import Rank, encode_shard
    from clip_al.table.update import TableChanges

    rank = Rank.from_environment()
    if source is not None:
        refuse_options(ctx, FOR_IMAGES, "images that are encoded", "`--from`")
        if rank is not None:
            raise InvalidInputError(
                "`--from` is for one process; got it under torchrun. Run `clip-al embed` alone."
            )
        made_by = named_encoder(ctx, model, pretrained, model_name)
        taken = take_embeddings(
            made_by, output, source, column=column, id_column=id_column, ids=ids, split=split,
            images=images, model_id=model_name or "", dtype=dtype, overwrite=force,
        )  # fmt: skip
        _tell(output, taken, TableChanges(encoded=len(taken)), as_json)
        return
    refuse_options(ctx, FOR_FILE, "`--from`", "images")
    if images is None:
        raise InvalidInputError(
            "IMAGES, a folder, or `--from`, a file of embeddings, must be given; got neither. "
            "Name one."
        )
    device = device if rank is None else rank.device(device)
    encoder = make_encoder(model or "mini", pretrained, device, batch_size, workers)
    encoder.progress = rank is None or rank.local_rank == 0
    if encoder.progress:
        say_if_toy(encoder)
    create: Callable[..., EmbeddingTable | None] = EmbeddingTable.create
    if rank is not None:
        create = partial(encode_shard, rank=rank.rank, world_size=rank.world_size)
    found, names = resolve_images(images, every, boxes)
    table = create(
        output,
        found,
        encoder,
        ids=names,
        dtype=dtype,
        errors="skip" if skip_unreadable else "raise",
        overwrite=force,
        hash_content=hash_content,
    )
    changes = None if table is None else table.changes or TableChanges()
    _tell(output, table, changes, as_json)


def _tell(
    output: Path, table: EmbeddingTable | None, changes: TableChanges | None, as_json: bool
) -> None:
    """Say what there is now."""
    result: dict[str, Any] = {"table": output, "complete": table is not None}
    if table is None or changes is None:
        if as_json:
            print_json(result)
        else:
            say(f"{output}: this share is done, others are not yet")
        return
    rows, width = table.shape
    if as_json:
        print_json(
            {**result, "images": rows, "width": width, "model": table.model_id, **changes._asdict()}
        )
        return
    say(f"{output}: {rows:,} images × {width}, {table.model_id or 'of a model without a name'}")
    told = _describe(changes, rows)
    if told:
        say(told)


def _describe(changes: TableChanges, n_images: int) -> str:
    """Return what was done to a table that was there; empty where it is new or as it was."""
    done = {
        "new": changes.encoded if changes.encoded < n_images else 0,
        "changed and encoded again": changes.changed,
        "damaged and encoded again": changes.repaired,
        "gone from the folder (their rows stay; `select --budget` leaves them out)": changes.gone,
    }
    return ", ".join(f"{n:,} {what}" for what, n in done.items() if n)
