"""The command ``concepts``: what is in the images of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from clip_al.atomic import write_frame
from clip_al.cli.options import (
    Force,
    Json,
    Model,
    PerImage,
    Pretrained,
    TablePath,
    Vocabulary,
    check_output,
    encode_profiles,
    open_table,
    out,
    print_json,
    say,
)
from clip_al.concepts.vocabulary import NOTHING_FITS
from clip_al.file_names import text_column

CONCEPTS_EXAMPLES = """
Examples:
  clip-al concepts photos.table
  clip-al concepts photos.table --vocabulary words.txt -m 3 -o concepts.csv
  clip-al concepts photos.table --show 5 --json
"""


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
    """Name the concepts of each image, at most m, and the most frequent ones of all.

    A concept that fits no better than chance is not named; where none fits, that is said,
    and the image's cell in the file is empty.
    """
    import pandas as pd

    check_output(output, force)
    table = open_table(table_path)
    profiles = encode_profiles(table, vocabulary, m, model, pretrained)
    if output is not None:
        listed = ["; ".join(profiles.words(index)) for index in range(len(table))]
        frame = pd.DataFrame({"id": text_column(table.ids), "concepts": listed})
        write_frame(output, frame, overwrite=force)
    fits_nm = profiles.fits
    counts_v = np.bincount(profiles.ids[fits_nm], minlength=profiles.n_concepts)
    n_silent = int((~fits_nm[:, 0]).sum())
    names = profiles.vocabulary.names
    frequent = [
        {"concept": names[i], "images": counts_v[i], "share": counts_v[i] / len(profiles)}
        for i in np.argsort(-counts_v, kind="stable")[:show]
    ]
    first = [
        {"id": table.ids[i], "concepts": profiles.words(i)} for i in range(min(show, len(table)))
    ]
    if as_json:
        size = {"images": len(table), "m": m, "vocabulary": len(names), "nothing_fits": n_silent}
        print_json({**size, "frequent": frequent, "first": first, "output": output})
        return
    _print_concepts(frequent, first)
    if n_silent:
        say(f"{n_silent:,} of {len(table):,} images: {NOTHING_FITS}.")
    if output is not None:
        say(f"Wrote {len(table):,} rows to {output}")


def _print_concepts(frequent: list[dict[str, Any]], first: list[dict[str, Any]]) -> None:
    most = Table("concept", "images", "share", title="Most frequent concepts")
    for row in frequent:
        most.add_row(escape(row["concept"]), f"{row['images']:,}", f"{row['share']:.1%}")
    out.print(most)
    images = Table("image", "concepts", title="First images")
    for row in first:
        images.add_row(escape(str(row["id"])), escape(", ".join(row["concepts"]) or NOTHING_FITS))
    out.print(images)
