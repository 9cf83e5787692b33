"""The command ``search``: images by text, by example, and by what they are to be unlike."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import numpy as np
import typer
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from clip_al.cli.options import (
    Device,
    Force,
    Json,
    Model,
    Pretrained,
    TablePath,
    check_output,
    encoder_of,
    note,
    open_table,
    out,
    print_json,
    say,
    warn_of_gone,
)
from clip_al.errors import InvalidInputError

if TYPE_CHECKING:
    from clip_al.find.search import Found
    from clip_al.table.embedding_table import EmbeddingTable

SEARCH_EXAMPLES = """
Examples:
  clip-al search photos.table "a red truck at night"
  clip-al search photos.table "a truck" --not "a toy" -n 50 -o found.csv
  clip-al search photos.table --like photos/3.jpg --like photos/8.jpg --json
  clip-al search photos.table "a dog" --within subset.json -o found.csv
  clip-al report found.csv --table photos.table -o found.html
"""
FOR_IMAGES = " an id, path or unique file name of the table, or another image file."


def search(
    table: TablePath,
    texts: Annotated[
        Optional[list[str]],  # noqa: UP045  typer evaluates this on Python 3.10 too
        typer.Argument(metavar="[QUERY]...", help="What is sought, in words; near to all."),
    ] = None,
    like: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="IMAGE", help=f"Images like this one:{FOR_IMAGES}"),
    ] = None,
    without: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--not", metavar="TEXT", help="What images are to be unlike, in words."),
    ] = None,
    unlike: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="IMAGE", help="Images unlike this one; as --like."),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many.")] = 20,
    within: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Search among these alone: a selection (.json), or a file of ids."),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Write them to this CSV file, which `report` reads."),
    ] = None,
    model: Model = None,
    pretrained: Pretrained = None,
    device: Device = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Find images by words and by images, most similar first.

    Of several words and images, what is near to all is found. Texts are encoded
    as they are typed, by the model of the table; images of the table need no model.
    The options --like, --not and --unlike may be given several times.
    """
    from clip_al.find.search import search as find
    from clip_al.handed_in.write import write_found

    check_output(output, force)
    if not texts and not like:
        raise InvalidInputError(
            "QUERY or `--like` must say what is sought; got neither. Pass some words, or an image "
            "of the table."
        )
    opened = open_table(table)
    warn_of_gone(opened, "may be found")
    searched = None if within is None else _read_within(within, opened)
    query = [*(texts or []), *(_example(name, opened, "--like") for name in like or [])]
    minus = [*(without or []), *(_example(name, opened, "--unlike") for name in unlike or [])]
    needs_model = any(not isinstance(entry, int) for entry in (*query, *minus))
    encoder = None
    if needs_model:
        encoder = encoder_of(opened, model, pretrained, device)
        encoder.progress = False
    found = find(opened, query, minus=minus, encoder=encoder, n=n, within=searched)
    if output is not None:
        write_found(output, found, ids=opened.ids, paths=opened.paths, overwrite=force)
    if as_json:
        asked = {"query": texts or [], "like": like or []}
        unwanted = {"not": without or [], "unlike": unlike or []}
        print_json({**asked, **unwanted, **_record(found, opened), "output": output})
        return
    out.print(_as_table(found, opened.ids))
    if output is not None:
        say(f"Wrote {len(found):,} rows to {output}")


def _read_within(path: Path, table: EmbeddingTable) -> NDArray[np.int64]:
    """Return the images of a selection, by position, or of a file that names them."""
    from clip_al.handed_in.read import read_indices
    from clip_al.subset.selection import Selection

    if path.suffix.lower() != ".json":
        read = read_indices(path, table, "--within")
        note(path, read.how)
        return read.indices
    selection = Selection.load(path)
    n = selection.n_images  # the folder may have grown since
    ids = selection.ids
    if n > len(table) or (ids is not None and (np.asarray(ids) != table.ids[:n]).any()):
        raise InvalidInputError(
            f"`--within` must be a selection of images of the table; {path} is of {n:,} images, "
            "which are others. Pass the table that was selected from."
        )
    return selection.indices


def _example(name: str, table: EmbeddingTable, option: str) -> int | Path:
    """Return the position of an image of the table, or an image file that is not in it."""
    from clip_al.handed_in.match import ImageNames

    images = ImageNames(table.ids, table.paths)
    cell = np.array([name], dtype=object)
    full = np.array([os.path.abspath(name)], dtype=object)  # noqa: PTH100
    is_file = Path(name).is_file()
    for rule, find in images.rules():
        if rule == "path" and is_file:
            known = np.flatnonzero(table.paths == full[0])
            return int(known[0]) if known.size else Path(name)
        if rule in ("", "path") and (row := int(find(cell)[0])) >= 0:
            return row
    close = images.closest(name)
    hint = f" The closest are {', '.join(map(repr, close))}." if close else ""
    raise InvalidInputError(
        f"`{option}` must be an image of the table (its id, path or unique file name), or an image "
        f"file; {name} is neither.{hint} Check the name."
    )


def _as_table(found: Found, ids: NDArray[Any]) -> Table:
    shown = Table("rank", "similarity", "id", title=f"{len(found):,} of {found.n_images:,} images")
    for rank, (index, sim) in enumerate(zip(found.indices, found.similarity, strict=True), 1):
        shown.add_row(str(rank), f"{sim:.3f}", escape(str(ids[index])))
    return shown


def _record(found: Found, table: EmbeddingTable) -> dict[str, Any]:
    frame = found.to_frame(table.ids, table.paths).astype(object)
    return {"images": found.n_images, "found": frame.to_dict("records")}
