"""The command line: ``clip-al embed | concepts | diversity | select | demo``.

Each command is a few lines over the library. Results go to standard output and to files;
progress and errors go to standard error. Exit status: 0 done, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from clip_al.errors import ClipAlError, InvalidInputError

if TYPE_CHECKING:
    from clip_al.concepts import ConceptProfiles
    from clip_al.embeddings import EmbeddingTable
    from clip_al.encoder import ClipEncoder
    from clip_al.vocabulary import ConceptVocabulary

out = Console()
err = Console(stderr=True)


class _Group(TyperGroup):
    """Reports bad input in one message and without a traceback, whatever the command."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (ClipAlError, OSError) as exc:
            err.print(f"[bold red]Error:[/] {escape(str(exc))}", highlight=False)
            raise typer.Exit(2) from exc
        except KeyboardInterrupt as exc:
            err.print("Interrupted. What was finished is kept; the same command continues.")
            raise typer.Exit(130) from exc


app = typer.Typer(
    cls=_Group,
    help="Choose which images to label next, by what CLIP sees in them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

TablePath = Annotated[
    Path, typer.Argument(metavar="TABLE", help="A table that `clip-al embed` wrote.")
]
Model = Annotated[
    Optional[str],  # noqa: UP045  typer evaluates this on Python 3.10 too
    typer.Option(help="mini, a name of open_clip, hf-hub:ORG/REPO or local-dir:PATH."),
]
Pretrained = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Weights of an open_clip model, such as laion2b_s34b_b79k."),
]
Vocabulary = Annotated[
    str,
    typer.Option(
        help="The concepts: general, a text file (one per line, synonyms after commas), "
        "or a folder with Visual Genome's lists."
    ),
]
PerImage = Annotated[int, typer.Option("-m", help="Concepts per image.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave unreadable images out of the table.")
]
BatchSize = Annotated[int, typer.Option(help="Images encoded at once.")]
Device = Annotated[Optional[str], typer.Option(help="cpu, cuda, cuda:1 …")]  # noqa: UP045


@app.command()
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
    dtype: Annotated[str, typer.Option(help="float32, or float16 for half the disk.")] = "float32",
    hash_content: Annotated[
        bool, typer.Option(help="Notice changed files by content, not by size and time.")
    ] = False,
    skip_unreadable: SkipUnreadable = False,
    force: Force = False,
) -> None:
    """Encode a folder of images into a table. Interrupted? The same command continues."""
    from clip_al.embeddings import EmbeddingTable

    encoder = _encoder(model or "mini", pretrained, device, batch_size, workers)
    table = EmbeddingTable.create(
        output,
        images,
        encoder,
        dtype=dtype,
        errors="skip" if skip_unreadable else "raise",
        overwrite=force,
        hash_content=hash_content,
    )
    rows, width = table.shape
    out.print(f"{output}: {rows:,} images × {width}, {table.model_id}", highlight=False)


@app.command()
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
) -> None:
    """Name the concepts of each image, and the most frequent ones of all."""
    import pandas as pd

    _check_output(output, force)
    table = _open(table_path)
    profiles = _profiles(table, vocabulary, m, model, pretrained)
    counts_v = np.bincount(profiles.ids.ravel(), minlength=profiles.n_concepts)
    frequent = Table("concept", "images", "share", title="Most frequent concepts")
    for concept in np.argsort(-counts_v, kind="stable")[:show]:
        share = f"{counts_v[concept] / len(profiles):.1%}"
        name = escape(profiles.vocabulary.names[concept])
        frequent.add_row(name, f"{counts_v[concept]:,}", share)
    out.print(frequent)
    first = Table("image", "concepts", title="First images")
    for index in range(min(show, len(table))):
        first.add_row(escape(str(table.ids[index])), escape(", ".join(profiles.names(index))))
    out.print(first)
    if output is not None:
        listed = ["; ".join(profiles.names(index)) for index in range(len(table))]
        pd.DataFrame({"id": list(table.ids), "concepts": listed}).to_csv(output, index=False)
        out.print(f"Wrote {len(table):,} rows to {output}", highlight=False)


@app.command()
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
) -> None:
    """Measure how diverse a set of images is."""
    from clip_al.diversity import ConceptCounts, geometric_diversity, spectral_diversity
    from clip_al.files import read_indices

    table = _open(table_path)
    profiles = _profiles(table, vocabulary, m, model, pretrained)
    rows = None if indices is None else read_indices(indices, table, "--indices")
    counts = ConceptCounts.from_profiles(profiles, rows, weighting="binary")
    Z = table.embeddings if rows is None else table[rows]
    measures = Table("measure", "value", title=f"Diversity of {counts.n:,} images")
    for name, value in {
        "concept-based diversity (CBD), in [0, 1]": f"{counts.diversity():.4f}",
        "entropy of concepts, nats": f"{counts.entropy():.3f}",
        "concepts seen": f"{counts.richness():,} of {profiles.n_concepts:,}",
        "spectral diversity, nats": f"{spectral_diversity(profiles, rows):.2f}",
        f"geometric diversity (GD), jitter {jitter:g}, nats": (
            f"{geometric_diversity(Z, jitter=jitter):.2f}"
        ),
    }.items():
        measures.add_row(name, value)
    out.print(measures)


@app.command()
def select(
    images_or_table: Annotated[
        Path, typer.Argument(help="A table, or a folder of images to encode on the way.")
    ],
    budget: Annotated[int, typer.Option(help="How many images to pick.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV file of the picks.")],
    probabilities: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A model's class probabilities, .npy or CSV, a row for each image."),
    ] = None,
    labelled: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Images that have labels: not picked again, and counted as seen."),
    ] = None,
    vocabulary: Vocabulary = "general",
    m: PerImage = 10,
    candidate_factor: Annotated[
        int, typer.Option(help="Uncertain candidates looked at for each pick.")
    ] = 8,
    model: Model = None,
    pretrained: Pretrained = None,
    device: Device = None,
    batch_size: BatchSize = 256,
    skip_unreadable: SkipUnreadable = False,
    force: Force = False,
) -> None:
    """Pick the images to label next: by concepts alone, or with a model's uncertainty too.

    Without --probabilities the picks show what the pool shows (a first batch). With it they
    are the images that the model is unsure of and whose concepts differ.
    """
    from clip_al.files import write_selection

    _check_output(output, force)
    if (images_or_table / "meta.json").is_file():
        table = _open(images_or_table)
    else:
        table = _embed_beside(
            images_or_table,
            output,
            _encoder(model or "mini", pretrained, device, batch_size, None),
            skip_unreadable,
        )
    profiles = _profiles(table, vocabulary, m, model, pretrained)
    picks, metric, explanations = _pick(
        table, profiles, budget, probabilities, labelled, candidate_factor
    )
    write_selection(
        output,
        explanations,
        ids=table.ids,
        paths=table.paths,
        metric=None if probabilities is None else metric,
    )
    added = sum(len(pick.added) for pick in explanations)
    out.print(
        f"Wrote {len(picks):,} of {len(table):,} images to {output}; "
        f"they add {added:,} of {profiles.n_concepts:,} concepts.",
        highlight=False,
    )


def _pick(
    table: EmbeddingTable,
    profiles: ConceptProfiles,
    budget: int,
    probabilities: Path | None,
    labelled: Path | None,
    candidate_factor: int,
) -> tuple[Any, Any, Any]:
    from clip_al.files import read_indices, read_probabilities
    from clip_al.query import CBDMarginSampling, CBDSampling

    empty = np.empty(0, dtype=np.int64)
    known = empty if labelled is None else read_indices(labelled, table, "--labelled")
    pool = np.delete(np.arange(len(table)), known)
    seen = profiles.take(known) if known.size else None
    part = profiles.take(pool) if known.size else profiles
    strategy: CBDSampling | CBDMarginSampling
    if probabilities is None:
        strategy = CBDSampling()
        picks, metric = strategy(None, pool, budget, profiles=part, labelled=seen)
    else:
        strategy = CBDMarginSampling(candidate_factor=candidate_factor)
        picks, metric = strategy(
            None,
            pool,
            budget,
            profiles=part,
            labelled=seen,
            probabilities=read_probabilities(probabilities, table)[pool],
        )
    picks = pool[picks]
    return picks, metric, strategy.explain(picks, profiles, labelled=seen)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for files.")] = Path(
        "clip-al-demo"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions of each loop.")] = 5,
) -> None:
    """Run the whole path on 1,797 real digits, offline, in about a minute."""
    from clip_al.mini.demo import run_demo

    run_demo(output, n_seeds=seeds, console=out)


def _encoder(
    model: str,
    pretrained: str | None,
    device: str | None = None,
    batch_size: int = 256,
    workers: int | None = None,
) -> ClipEncoder:
    from clip_al.encoder import ClipEncoder

    return ClipEncoder(model, pretrained, device=device, batch_size=batch_size, n_workers=workers)


def _open(path: Path) -> EmbeddingTable:
    from clip_al.embeddings import EmbeddingTable

    return EmbeddingTable.open(path)


def _embed_beside(
    images: Path, output: Path, encoder: ClipEncoder, skip_unreadable: bool
) -> EmbeddingTable:
    """Encode into a table beside the output, so that an interrupted run loses nothing."""
    from clip_al.embeddings import EmbeddingTable

    directory = output.with_suffix(".embeddings")
    table = EmbeddingTable.create(
        directory, images, encoder, errors="skip" if skip_unreadable else "raise"
    )
    out.print(f"Embeddings are kept in {directory}", highlight=False)
    return table


def _profiles(
    table: EmbeddingTable, vocabulary: str, m: int, model: str | None, pretrained: str | None
) -> ConceptProfiles:
    from clip_al.concepts import ConceptProfiles

    if model is None:
        model, pretrained = _model_of(table)
    encoded = _vocabulary(vocabulary).encode(_encoder(model, pretrained))
    return ConceptProfiles.from_embeddings(table, encoded, m)


def _model_of(table: EmbeddingTable) -> tuple[str, str | None]:
    """Name the model that a table was encoded with, as `ClipEncoder` takes it."""
    name = str(table.key["model"])
    if ":" in name or "/" not in name:
        return name, None
    model, _, pretrained = name.partition("/")
    return model, pretrained


def _vocabulary(source: str) -> ConceptVocabulary:
    from clip_al.vocabulary import ConceptVocabulary

    if Path(source).is_dir():
        return ConceptVocabulary.from_visual_genome(source)
    if Path(source).is_file():
        return ConceptVocabulary.from_file(source)
    return ConceptVocabulary.load(source)


def _check_output(path: Path | None, force: bool) -> None:
    if path is None:
        return
    if path.exists() and not force:
        raise InvalidInputError(
            f"{path} must not exist yet; it does. Choose another name, or pass --force."
        )
    if not path.parent.is_dir():
        raise InvalidInputError(
            f"{path} must be in a folder that exists; {path.parent} does not. Make it first."
        )


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
