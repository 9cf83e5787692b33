"""The command ``check``: is a table on disk what was written."""

from __future__ import annotations

from typing import Any

import typer

from clip_al.cli.options import Json, TablePath, err, print_json, say
from clip_al.cli.wording import in_own_words

CHECK_EXAMPLES = """
Examples:
  clip-al check photos.table
  clip-al check photos.table --json
"""


def check(table: TablePath, as_json: Json = False) -> None:
    """Compare every byte of a table with its checksums. Exit status 2: it is damaged.

    `clip-al embed` with the same folder encodes what is damaged, and only that.
    """
    from clip_al.table.checksums import check_table

    found = check_table(table)
    fine = found["complete"] and not found["damaged"]
    if as_json:
        print_json({"table": table, **found})
    elif fine and found["checksums"]:
        say(f"{table}: {found['images']:,} images, all as they were written")
    elif fine:
        say(
            f"{table}: {found['images']:,} images; the table has no checksums, as those of "
            "clip_al 0.1.0, so only the sizes of its files were compared, and they are right"
        )
    for line in _complaints(found):
        err.print(f"{table} {line}", markup=False, highlight=False, soft_wrap=True)
    if not fine:
        raise typer.Exit(2)


def _complaints(found: dict[str, Any]) -> list[str]:
    if not found["complete"]:
        return [
            f"is not finished: {found['done']} of {found['images']} images are done. Run the same "
            "`clip-al embed` again."
        ]
    if not found["damaged"]:
        return []
    again = (
        "What to do: copy it again, or run the same `clip-al embed` again, which encodes only "
        "what is damaged."
    )
    named = [in_own_words(part).rstrip(".") for part in found["damaged"]]
    return [f"is damaged: {part}." for part in named] + [again]
