"""What several commands share: their options, how they print and write, the table, the model.

Results go to `out`, standard output; progress and errors to `err`, standard error.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import numpy as np
import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from clip_al.arrays.checks import check_int
from clip_al.cli.wording import in_own_words, of_the_system
from clip_al.errors import ClipAlError, InvalidInputError, LeftOutWarning
from clip_al.mini import REAL_MODEL, TOY, is_mini
from clip_al.progress import progress_bar

if TYPE_CHECKING:
    from clip_al.concepts.profiles import ConceptProfiles
    from clip_al.concepts.vocabulary import ConceptVocabulary
    from clip_al.encode.encoder import ClipEncoder
    from clip_al.table.embedding_table import EmbeddingTable
    from clip_al.table.kept_texts import KeptTexts

out = Console()
err = Console(stderr=True)

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
        "or a folder with Visual Genome's lists.",
        autocompletion=lambda: ["general"],
    ),
]
PerImage = Annotated[int, typer.Option("-m", help="Concepts per image.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave unreadable images out of the table.")
]
MultiLabel = Annotated[
    bool,
    typer.Option(
        "--multi-label",
        help="An image may have several labels, or none: lists such as `cat;dog` in the column "
        "`label`, with `-` where none applies; several rows an image; or a column of zeros and "
        "ones for each label.",
    ),
]
BatchSize = Annotated[int, typer.Option(help="Images encoded at once.")]
Device = Annotated[Optional[str], typer.Option(help="cpu, cuda, cuda:1 …")]  # noqa: UP045
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON object to standard output, and nothing else there."
    ),
]


def _typed(ctx: Any) -> str:
    """Return the name of a command with that of its group, as in "labels apply"."""
    grouped = ctx.parent is not None and ctx.parent.parent is not None
    return f"{ctx.parent.info_name} {ctx.info_name}" if grouped else str(ctx.info_name)


class ExampleCommand(TyperCommand):
    """A command whose epilog is examples, and whose messages are in its own words."""

    def invoke(self, ctx: Any) -> Any:
        """Say that it has begun, then run; what is raised speaks of options and files."""
        err.print(f"clip-al {_typed(ctx)}: starting", markup=False, highlight=False)
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever read the output has read enough
            raise
        except ClipAlError as exc:
            raise InvalidInputError(in_own_words(str(exc), ctx.info_name)) from exc
        except OSError as exc:
            typed = {param.opts[-1]: ctx.params.get(param.name) for param in self.params}
            raise InvalidInputError(of_the_system(exc, typed)) from exc

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, then the examples."""
        _format_help(self, super().format_help, ctx, formatter)


class ExampleGroup(TyperGroup):
    """A group of commands whose epilog is examples, as those of a command."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, then the examples."""
        _format_help(self, super().format_help, ctx, formatter)


def _format_help(
    command: TyperCommand | TyperGroup,
    write: Callable[[Any, Any], None],
    ctx: Any,
    formatter: Any,
) -> None:
    examples, command.epilog = command.epilog, None
    try:
        write(ctx, formatter)
    finally:
        command.epilog = examples
    if examples:
        formatter.write(f"{examples.strip(chr(10))}\n")


def print_json(result: Mapping[str, Any]) -> None:
    """Print a result for machines, on one line; a number that is not finite is null."""
    typer.echo(json.dumps(_plain(result), allow_nan=False))


def _plain(value: Any) -> Any:
    """Return a value as what JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def refuse_options(ctx: typer.Context, options: Mapping[str, str], owner: str, given: str) -> None:
    """Raise where an option was typed that has no effect beside what was given.

    `options` maps parameters to how they are typed.
    """
    for parameter, option in options.items():
        source = ctx.get_parameter_source(parameter)
        if source is not None and source.name == "COMMANDLINE":
            raise InvalidInputError(
                f"`{option}` must come with {owner}; got it with {given}. Leave it out."
            )


def make_encoder(
    model: str,
    pretrained: str | None,
    device: str | None = None,
    batch_size: int = 256,
    workers: int | None = None,
) -> ClipEncoder:
    """Return the encoder of a model as the options name it."""
    from clip_al.encode.encoder import ClipEncoder

    return ClipEncoder(model, pretrained, device=device, batch_size=batch_size, n_workers=workers)


def encoder_of(
    table: EmbeddingTable, model: str | None, pretrained: str | None, device: str | None = None
) -> KeptTexts:
    """Return the encoder that made a table, or the one named in its place.

    It encodes each text once, and loads the model only where one is new.
    """
    from clip_al.table.kept_texts import WITHOUT_WORDS, KeptTexts

    if not table.model_id:
        raise InvalidInputError(
            f"Words are encoded by the model that made the images' embeddings; the table "
            f"{str(table.directory)!r} names none. {WITHOUT_WORDS}"
        )
    if model is None:
        model, pretrained = _model_of(table)
    return KeptTexts(table, make_encoder(model, pretrained, device))


def _model_of(table: EmbeddingTable) -> tuple[str, str | None]:
    """Name the model that a table was encoded with, as `ClipEncoder` takes it."""
    # What `from_array` was given may be a `model_id`, which ends in digits of the weights.
    name = re.sub("@[0-9a-f]{8}$", "", str(table.key["model"]))
    if ":" in name or "/" not in name:
        return name, None
    model, _, pretrained = name.partition("/")
    return model, pretrained


def open_table(path: Path) -> EmbeddingTable:
    """Open a finished table."""
    from clip_al.table.embedding_table import EmbeddingTable

    return EmbeddingTable.open(path)


def open_or_embed(
    images_or_table: Path, output: Path, encoder: ClipEncoder, skip_unreadable: bool
) -> EmbeddingTable:
    """Open a table, or encode a folder of images into one beside the output.

    It stays there, so that an interrupted run loses nothing.
    """
    from clip_al.table.embedding_table import EmbeddingTable

    if (images_or_table / "meta.json").is_file():
        return open_table(images_or_table)
    directory = output.with_suffix(".embeddings")
    say_if_toy(encoder)
    table = EmbeddingTable.create(
        directory, images_or_table, encoder, errors="skip" if skip_unreadable else "raise"
    )
    err.print(f"Embeddings are kept in {directory}", highlight=False, markup=False)
    return table


def encode_profiles(
    table: EmbeddingTable, vocabulary: str, m: int, model: str | None, pretrained: str | None
) -> ConceptProfiles:
    """Return the concepts of a table's images."""
    from clip_al.concepts.profiles import ConceptProfiles

    words = _vocabulary(vocabulary)
    check_int(m, "-m", largest=len(words.names))  # before the texts are encoded
    encoded = words.encode(encoder_of(table, model, pretrained))
    with progress_bar(True, f"Naming the concepts of {len(table):,} images", None):
        return ConceptProfiles.from_embeddings(table, encoded, m)


def _vocabulary(source: str) -> ConceptVocabulary:
    from clip_al.concepts.vocabulary import ConceptVocabulary

    if Path(source).is_dir():
        return ConceptVocabulary.from_visual_genome(source)
    if Path(source).is_file():
        return ConceptVocabulary.from_file(source)
    if source != "general":
        raise InvalidInputError(
            "`--vocabulary` must be general, a text file with one concept a line, or a folder of "
            f"Visual Genome; got {source}, which is not there. Check the path."
        )
    return ConceptVocabulary.load(source)


def check_output(path: Path | None, force: bool) -> None:
    """Raise unless a file can be written: it is new, or may be replaced, in a folder."""
    if path is None:
        return
    if path.exists() and not force:
        raise InvalidInputError(
            f"{path} must not exist yet; it does. Choose another name, or pass --force."
        )
    if path.is_dir():
        raise InvalidInputError(f"{path} must be a file; it is a folder. Choose another name.")
    if not path.parent.is_dir():
        raise InvalidInputError(
            f"{path} must be in a folder that exists; {path.parent} does not. Make it first."
        )


def note(source: object, how: str) -> None:
    """Print what was taken from a file to standard error."""
    err.print(f"{source}: {how}", markup=False, highlight=False, soft_wrap=True)


def say_if_toy(encoder: ClipEncoder) -> None:
    """Say on standard error that the small model is one, and how to get a real one."""
    if is_mini(encoder.model):
        err.print(f"{TOY} {REAL_MODEL}", markup=False, highlight=False, soft_wrap=True)


def warn_of_gone(table: EmbeddingTable, what: str) -> None:
    """Warn that rows of a table are of images that are gone from their folder; say what may be."""
    if table.gone.size:
        warnings.warn(
            f"{table.gone.size:,} of the {len(table):,} images are gone from {table.root}, and "
            f"{what}. To leave them out, make the table again: `clip-al embed --force`.",
            LeftOutWarning,
            stacklevel=3,
        )


def say(text: str) -> None:
    """Print a line of results, with names of files as they are."""
    out.print(text, markup=False, highlight=False, soft_wrap=True)
