"""The command ``diversity``: how diverse a set of images is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.table import Table

from clip_al.cli.options import (
    Json,
    Model,
    PerImage,
    Pretrained,
    TablePath,
    Vocabulary,
    encode_profiles,
    note,
    open_table,
    out,
    print_json,
)

DIVERSITY_EXAMPLES = """
Examples:
  clip-al diversity photos.table
  clip-al diversity photos.table --indices first.csv --json
"""


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
    rows = None
    if indices is not None:
        read = read_indices(indices, table, "--indices")
        note(indices, read.how)
        rows = read.indices
    profiles = encode_profiles(table, vocabulary, m, model, pretrained)
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
    title = f"Diversity of {counts.n:,} images: the higher, the more diverse"
    measures = Table("measure", "value", title=title)
    for name, value in {
        "CBD: 0 all show the same concepts, 1 no two share one": f"{result['cbd']:.4f}",
        "entropy of concepts, nats": f"{result['entropy']:.3f}",
        "concepts seen": f"{result['concepts_seen']:,} of {profiles.n_concepts:,}",
        "spectral diversity, nats": f"{result['spectral_diversity']:.2f}",
        f"geometric diversity (GD), jitter {jitter:g}, nats": (
            f"{result['geometric_diversity']:.2f}"
        ),
    }.items():
        measures.add_row(name, value)
    out.print(measures)
