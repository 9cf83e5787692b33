"""What the commands ``import`` share: annotations become labels of a table's images."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from clip_al.cli.options import check_output, note, print_json, say
from clip_al.errors import InvalidInputError

if TYPE_CHECKING:
    from clip_al.integrations.annotations import Annotations
    from clip_al.table.embedding_table import EmbeddingTable

SEPARATORS = (";", "|")
"""Between the labels of one image in a cell: the first that no name holds."""
N_NAMED = 3
"""How many of what is left out the terminal names."""

OfTable = Annotated[
    Path, typer.Option("--table", help="The table that the images are of.", show_default=False)
]
Output = Annotated[Path, typer.Option("--output", "-o", help="The labels, a CSV file: id, label.")]
Classes = Annotated[
    Optional[Path],  # noqa: UP045  typer evaluates this on Python 3.10 too
    typer.Option(
        help="Names of the classes, one a line: any other label is an error. Without, the labels "
        "that occur."
    ),
]
Conflicts = Annotated[
    str,
    typer.Option(
        help="Where annotators differ: leave the image out, take the majority, or raise an error.",
        metavar="leave|majority|raise",
        autocompletion=lambda: ["leave", "majority", "raise"],
    ),
]
Before = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--labelled",
        help="Labels that there were before, written too; where both have one, the new one holds.",
    ),
]
MultiLabel = Annotated[
    bool,
    typer.Option("--multi-label", help="An image may have several labels, written `cat;dog`."),
]


@dataclass(frozen=True)
class Incoming:
    """Labels of a table's images, and what was left out.

    Parameters
    ----------
    labels : dict of int to str
        By position in the table, in the order of the file.
    unknown : list of str
        Names that are no images of the table.
    """

    found: Annotations
    labels: dict[int, str]
    unknown: list[str]


def read_classes(classes: Path | None) -> list[str] | None:
    """Return the names of the classes, where a file has them."""
    from clip_al.handed_in.read import read_class_names

    return None if classes is None else read_class_names(classes)


def write_labels(
    found: Annotations,
    source: object,
    table_path: Path,
    output: Path,
    *,
    labelled: Path | None,
    class_names: list[str] | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write the labels with the ids of a table, and say all that was left out.

    Raises
    ------
    InvalidInputError
        Where no image has a label, or none is of the table.
    """
    import pandas as pd

    from clip_al.atomic import write_frame
    from clip_al.file_names import text_column
    from clip_al.table.embedding_table import EmbeddingTable

    check_output(output, force)
    table = EmbeddingTable.open(table_path)
    new = match_images(found, source, table)
    before = _read_before(labelled, table, class_names)
    merged = before | new.labels
    if not new.labels:
        raise InvalidInputError(
            f"{source} must have a label of at least one image of the table; it has none: "
            f"{'; '.join(_left_out(new)) or 'no image'}. Label some, or name what has the labels."
        )
    frame = pd.DataFrame(
        {"id": text_column(table.ids[list(merged)]), "label": list(merged.values())}
    )
    write_frame(output, frame, overwrite=force)
    both = set(before) & set(new.labels)
    changed = sum(before[i] != new.labels[i] for i in both)
    if as_json:
        print_json(_record(new, merged, before, changed, output))
        return
    counts = Counter(new.labels.values())
    told = ", ".join(f"{name} {n:,}" for name, n in counts.most_common(8))
    rest = ", …" if len(counts) > 8 else ""
    say(f"{source}: {len(new.labels):,} labels ({told}{rest})")
    for line in _left_out(new):
        say(f"  left out: {line}")
    if labelled is not None:
        say(
            f"  of {labelled}: {len(before):,} labels, of which {changed:,} changed and "
            f"{len(both) - changed:,} were given again"
        )
    say(f"Wrote {len(merged):,} rows to {output}")


def match_images(found: Annotations, source: object, table: EmbeddingTable) -> Incoming:
    """Return which images of the table the names are."""
    import numpy as np

    from clip_al.handed_in.class_names import warn_of_similar
    from clip_al.handed_in.match import ImageNames, match_rows, told
    from clip_al.handed_in.tables import TextTable, short

    names = [*found.ids, *found.skipped, *found.conflicting]
    if not names:
        raise InvalidInputError(
            f"{source} must name at least one image; it names none. Export with all images."
        )
    cells = TextTable(str(source), ("id",), (np.array(names, dtype=object),))
    images = ImageNames(table.ids, table.paths)
    match = match_rows(cells, images)
    if match is None:
        close = images.closest(names[0])
        hint = f" The closest are {', '.join(map(repr, close))}." if close else ""
        raise InvalidInputError(
            f"{source} must name images of the table; none of its {len(names):,} does, the first "
            f"is {short(names[0])}, where the table has ids like {short(table.ids[0])}.{hint} Pass "
            "the table that the images were exported from."
        )
    if match.rule:
        note(source, f"images {told(match, cells)}")
    at = match.at.tolist()
    twice = [i for i, n in Counter(i for i in at if i >= 0).items() if n > 1]
    if twice:
        alike = [name for name, i in zip(names, at, strict=True) if i == twice[0]]
        raise InvalidInputError(
            f"{source} must name each image in one way; {' and '.join(map(repr, alike[:2]))} are "
            f"both {table.ids[twice[0]]!r}. Leave one out."
        )
    labels = found.names()
    separator = _separator(labels) if found.labels.ndim > 1 else ""
    texts = [separator.join(several) for several in labels]
    warn_of_similar(sorted({name for several in labels for name in several}), str(source), "class")
    known = {i: text for i, text in zip(at, texts, strict=False) if i >= 0}  # `at` is longer
    return Incoming(found, known, [name for name, i in zip(names, at, strict=True) if i < 0])


def _separator(labels: list[tuple[str, ...]]) -> str:
    """Return what no name holds."""
    names = {name for several in labels for name in several}
    free = [one for one in SEPARATORS if not any(one in name for name in names)]
    if not free:
        raise InvalidInputError(
            f"Names of classes must leave one of {' and '.join(map(repr, SEPARATORS))} free, to "
            "stand between the labels of an image; both occur. Rename a class."
        )
    return free[0]


def _read_before(
    labelled: Path | None, table: EmbeddingTable, class_names: list[str] | None
) -> dict[int, str]:
    """Return labels that there were before, by position in the table."""
    from clip_al.handed_in.read import read_labelled

    if labelled is None:
        return {}
    read = read_labelled(labelled, table, "--labelled", classes=class_names or ())
    note(labelled, read.how)
    if read.labels is None:
        raise InvalidInputError(
            f"{labelled} must have a column `label`; it names images alone. Pass the labels that "
            "there were before, or leave `--labelled` out."
        )
    return dict(zip(read.indices.tolist(), read.labels, strict=True))


def _left_out(new: Incoming) -> list[str]:
    """Return what has no label in the file, a line each."""
    found, lines = new.found, []
    for reason, n in Counter(found.reasons.values()).most_common():
        first = [name for name, why in found.reasons.items() if why == reason]
        lines.append(f"{n:,} {reason} ({_named(first)})")
    if found.conflicting:
        name, votes = next(iter(found.conflicting.items()))
        said = ", ".join(f"{label} {n}" for label, n in votes.items())
        n = len(found.conflicting)
        lines.append(f"{n:,} on which annotators differ ({name!r}: {said})")
    if new.unknown:
        lines.append(f"{len(new.unknown):,} that are not in the table ({_named(new.unknown)})")
    if found.aside:
        parts = ", ".join(f"{n:,} × {what}" for what, n in sorted(found.aside.items()))
        lines.append(f"{parts}, no label of a whole image")
    return lines


def _named(names: list[str]) -> str:
    more = ", …" if len(names) > N_NAMED else ""
    return ", ".join(map(repr, names[:N_NAMED])) + more


def _record(
    new: Incoming, merged: dict[int, str], before: dict[int, str], changed: int, output: Path
) -> dict[str, Any]:
    counts = Counter(new.labels.values())
    return {
        "labels": len(new.labels),
        "counts": [{"label": name, "images": n} for name, n in counts.most_common()],
        "skipped": dict(Counter(new.found.reasons.values())),
        "conflicting": [{"id": i, "votes": n} for i, n in new.found.conflicting.items()],
        "not_in_table": new.unknown,
        "aside": dict(new.found.aside),
        "before": len(before),
        "changed": changed,
        "rows": len(merged),
        "output": output,
    }
