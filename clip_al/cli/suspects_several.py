"""``suspects --multi-label``: which labels look wrong where an image may have several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from clip_al.cli.options import encoder_of, err, note, out, print_json, say, warn_of_gone
from clip_al.progress import progress_bar

if TYPE_CHECKING:
    from clip_al.score.several_labels.suspects import LabelSuspect, MultiLabelSuspects
    from clip_al.table.embedding_table import EmbeddingTable

N_SHOWN = 20
PROBABILITY = "probability: that the label is wrong as it stands, given or missing"


def find_several(
    table: EmbeddingTable,
    labels: str,
    classes: Path | None,
    model: str | None,
    pretrained: str | None,
    device: str | None,
) -> MultiLabelSuspects:
    """Read the labels, encode their names, and judge each by text and by the other images."""
    from clip_al.handed_in.read import read_several_labels
    from clip_al.score.several_labels.suspects import multi_label_suspects

    read = read_several_labels(labels, table, classes)
    note(labels, read.how)
    encoder = encoder_of(table, model, pretrained, device)
    table.check_model(encoder)
    warn_of_gone(table, "are judged all the same")
    encoder.progress = False  # a few names: one display at a time
    with progress_bar(True, f"Scoring {read.labels.size:,} labels", None):
        return multi_label_suspects(
            table, read.labels, class_names=read.class_names, encoder=encoder
        )


def show_several(
    found: MultiLabelSuspects,
    suspects: list[LabelSuspect],
    table: EmbeddingTable,
    output: Path | None,
    labels: str,
    classes: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write and print what was found."""
    from clip_al.handed_in.write import label_suspect_frame, write_label_suspects

    if output is not None:
        write_label_suspects(output, suspects, paths=table.paths, overwrite=force)
    if as_json:
        print_json(
            {
                **_record(found),
                "suspects": label_suspect_frame(suspects).astype(object).to_dict("records"),
                "output": output,
            }
        )
        return
    more = f", {min(N_SHOWN, len(suspects))} of {len(suspects):,}"
    title = f"Likeliest wrong labels{more if len(suspects) > N_SHOWN else ''}"
    printed = Table("index", "id", "label", "suspected", "probability", caption=PROBABILITY,
                    title=title)  # fmt: skip
    for suspect in suspects[:N_SHOWN]:
        suspected = "given" if suspect.is_given else "missing"
        cells = (suspect.index, suspect.id, suspect.label, suspected)
        printed.add_row(*(escape(str(cell)) for cell in cells), f"{suspect.probability:.2f}")
    out.print(printed)
    say(str(found))
    if output is None:
        if len(suspects) > N_SHOWN:
            err.print("`-o suspects.csv` writes them all.", highlight=False)
        return
    say(f"Wrote {len(suspects):,} rows to {output}")
    named = "" if classes is None else f" --classes {classes}"
    if suspects:
        say(
            "Next: write `wrong` into its column `decision` where a given label does not apply or "
            "a missing one does,\n`right` where it stands as it should, then\n"
            f"  clip-al labels apply {labels} {output} -o corrected.csv{named}"
        )


def _record(found: MultiLabelSuspects) -> dict[str, Any]:
    names = found.class_names or ()
    counts = zip(names, found.wrongly_given, found.wrongly_missing, strict=True)
    return {
        "images": len(found.given),
        "labels": found.given.sum(),
        "likely_wrong": found.n_wrong,
        "counts": [
            {"class": name, "given": added, "missing": missing} for name, added, missing in counts
        ],
    }
