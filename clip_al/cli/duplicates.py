"""The command ``duplicates``: near-copies, and those of one split in another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.markup import escape
from rich.table import Table

from clip_al.cli.options import (
    Force,
    Json,
    TablePath,
    check_output,
    err,
    note,
    open_table,
    out,
    print_json,
    say,
    warn_of_gone,
)
from clip_al.progress import progress_bar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clip_al.find.copy_groups import NearDuplicates

N_SHOWN = 10
FAR = 0.05
"""Below the threshold by so much, an image is hardly a copy of the first of its group."""
DUPLICATES_EXAMPLES = """
Examples:
  clip-al duplicates photos.table -o copies.csv
  clip-al duplicates photos.table --threshold 0.9 -o copies.csv --splits folders
  clip-al duplicates photos.table --splits splits.csv --json
"""


def duplicates(
    table: TablePath,
    output: Annotated[
        Optional[Path],  # noqa: UP045  typer evaluates this on Python 3.10 too
        typer.Option("--output", "-o", help="Write the groups to this CSV file, a line an image."),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(help="Cosine in (0, 1] from which on two images are near-copies."),
    ] = 0.95,
    splits: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Name near-copies across splits: `folders`, the first folder of each id, as train "
            "and test; or a CSV or Parquet file with a column `split`."
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """List groups of images that are near-copies of one another.

    The file has the columns index, id, path, group, size, representative and
    similarity (to that image), and split with --splits. What a threshold means
    depends on the model: look at the first groups.
    """
    from clip_al.find.near_duplicates import near_duplicates
    from clip_al.handed_in.read import read_splits
    from clip_al.handed_in.write import write_copies

    check_output(output, force)
    opened = open_table(table)
    warn_of_gone(opened, "may be among the near-copies")
    names = None
    if splits is not None:
        read = read_splits(splits, opened)
        note(splits, read.how)
        names = read.groups
    with progress_bar(True, f"Comparing {len(opened):,} images", None):
        found = near_duplicates(opened, threshold, splits=names)
    if output is not None:
        write_copies(output, found, ids=opened.ids, paths=opened.paths, overwrite=force)
    if as_json:
        print_json({**_record(found), "output": output})
        return
    if found.n_groups:
        out.print(_largest(found, opened.ids))
    say(_summary(found))
    if len(found.groups) and found.similarity.min() < found.threshold - FAR:
        err.print(
            f"Some images are much less similar to the first of their group than {threshold:g}: "
            "only images between link the two. Where they are no copies, raise --threshold.",
            highlight=False,
        )
    for leak in found.leaks:
        say(str(leak)[0].upper() + str(leak)[1:] + ".")
    if splits is not None and not found.leaks:
        say("No group has images of two splits.")
    if output is not None:
        say(f"Wrote {len(found.copies) + found.n_groups:,} rows to {output}")
    elif found.n_groups > N_SHOWN:
        err.print("`-o copies.csv` writes them all.", highlight=False)


def _largest(found: NearDuplicates, ids: NDArray[Any]) -> Table:
    """Return the largest groups as a table to print."""
    groups = sorted(found.groups, key=len, reverse=True)
    more = f", {N_SHOWN} of {len(groups):,}" if len(groups) > N_SHOWN else ""
    shown = Table("images", "least similar", "first image", "others", title=f"Near-copies{more}")
    for group in groups[:N_SHOWN]:
        others = ", ".join(str(ids[i]) for i in group[1:3])
        rest = f" and {len(group) - 3:,} more" if len(group) > 3 else ""
        cells = (f"{found.similarity[group].min():.3f}", str(ids[group[0]]), others + rest)
        shown.add_row(f"{len(group):,}", *map(escape, cells))
    return shown


def _summary(found: NearDuplicates) -> str:
    """Return how many there are, and how sure that is, in two sentences."""
    if not found.n_groups:
        said = f"None of the {found.n_images:,} images has a near-copy"
    else:
        groups = "1 group" if found.n_groups == 1 else f"{found.n_groups:,} groups"
        said = (
            f"{groups}: {len(found.copies) + found.n_groups:,} of {found.n_images:,} images have a "
            f"near-copy; one of each leaves {len(found.distinct):,}"
        )
    how = "" if found.is_exact else f" {found.how_sure()[0].upper()}{found.how_sure()[1:]}."
    return f"{said} (cosine at least {found.threshold:g}).{how}"


def _record(found: NearDuplicates) -> dict[str, Any]:
    return {
        "images": found.n_images,
        "threshold": found.threshold,
        "groups": found.n_groups,
        "images_in_groups": len(found.copies) + found.n_groups,
        "distinct": len(found.distinct),
        "exact": found.is_exact,
        "recall": found.recall,
        "pairs_checked": found.n_checked,
        "leaks": [leak._asdict() for leak in found.leaks],
    }
