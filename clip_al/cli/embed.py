"""The command ``embed``: a folder of images becomes a table of embeddings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

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
    say,
)

if TYPE_CHECKING:
    from clip_al.encode.table_update import TableChanges

EMBED_EXAMPLES = """
Examples:
  clip-al embed photos -o photos.table
  clip-al embed photos -o vit.table --model ViT-B-32 --pretrained laion2b_s34b_b79k
  torchrun --nproc-per-node 2 --no-python clip-al embed photos -o photos.table
"""


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

    Run again later, it encodes what is new or changed in the folder and marks
    what is gone; ids and rows stay. What is damaged it encodes again.

    Under torchrun each process encodes its share, and the last to finish
    makes the table.
    """
    from clip_al.encode.table import EmbeddingTable
    from clip_al.encode.table_shards import Rank, encode_shard
    from clip_al.encode.table_update import TableChanges

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
        changes = table.changes or TableChanges()
        result |= changes._asdict()
    if as_json:
        print_json(result)
    elif table is None:
        say(f"{output}: this share is done, others are not yet")
    else:
        say(f"{output}: {rows:,} images × {width}, {table.model_id}")
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
