"""The command line, ``clip-al COMMAND``.

Each command is a few lines over the library. Results go to standard output and to files, with
``--json`` as one object; progress, warnings and errors go to standard error. Exit status: 0
done, 1 a mistake in clip_al itself, 2 bad input, 130 interrupted. Each
command is in the module of its name.
"""

from __future__ import annotations

import io
import sys
import warnings
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from clip_al import __version__
from clip_al.cli.apply import APPLY_EXAMPLES, LABELS_EXAMPLES, apply
from clip_al.cli.check import CHECK_EXAMPLES, check
from clip_al.cli.concepts import CONCEPTS_EXAMPLES, concepts
from clip_al.cli.demo import DEMO_EXAMPLES, TRAIN_DEMO_EXAMPLES, demo, train_demo
from clip_al.cli.diversity import DIVERSITY_EXAMPLES, diversity
from clip_al.cli.duplicates import DUPLICATES_EXAMPLES, duplicates
from clip_al.cli.embed import EMBED_EXAMPLES, embed
from clip_al.cli.exchange.groups import export_app, import_app
from clip_al.cli.options import (
    ExampleCommand,
    ExampleGroup,
    err,
)
from clip_al.cli.predict import PREDICT_EXAMPLES, predict
from clip_al.cli.report import REPORT_EXAMPLES, report
from clip_al.cli.search import SEARCH_EXAMPLES, search
from clip_al.cli.select import SELECT_EXAMPLES, select
from clip_al.cli.suspects import SUSPECTS_EXAMPLES, suspects
from clip_al.cli.wording import in_own_words
from clip_al.errors import ClipAlError

START = """
A day with clip-al: from a folder of photos to labels to what to train on.
  clip-al embed photos -o photos.table --model ViT-B-32 --pretrained laion2b_s34b_b79k
  clip-al select photos.table --budget 12 --classes classes.txt -o first.csv
  clip-al report first.csv --table photos.table --classes classes.txt -o first.html
Label on the page by the keys 1 to 9, and save labels.csv there. The next batch, and what
accuracy to expect by now:
  clip-al select photos.table --budget 12 --classes classes.txt \\
      --labelled labels.csv -o next.csv
Label these too; again, until it says stop. Then all images get a label:
  clip-al predict photos.table --classes classes.txt --labelled labels.csv -o all.csv
  clip-al suspects photos.table --labels all.csv -n 20 -o suspects.csv
Write what is right into its column `decision`, and choose what to train on.
  clip-al labels apply all.csv suspects.csv -o corrected.csv
  clip-al select photos.table --ratio 0.5 --labels corrected.csv -o subset.json

classes.txt has the name of a class in each line. Without --model, embed takes mini, a
toy for digits and small pictures.
"""
END = """
`clip-al COMMAND --help` has more examples. Results go to standard output, with
--json as one object; progress and errors go to standard error. Exit status:
0 done, 1 a mistake in clip_al itself, 2 bad input, 130 interrupted.
"""


class _Group(TyperGroup):
    """Reports bad input in one message and without a traceback, whatever the command."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        typer.echo(START)  # first: what typer writes does not wait for the formatter
        super().format_help(ctx, formatter)
        formatter.write(END.lstrip())

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever read the output has read enough
            raise
        except (ClipAlError, OSError) as exc:
            # Wrapped by the terminal, if at all: a path that is broken cannot be pasted.
            err.print(f"[bold red]Error:[/] {escape(str(exc))}", highlight=False, soft_wrap=True)
            raise typer.Exit(2) from exc
        except KeyboardInterrupt as exc:
            err.print("Interrupted. What was finished is kept; the same command continues.")
            raise typer.Exit(130) from exc


app = typer.Typer(
    cls=_Group,
    help="Choose which images to label next, and which to train on, by what CLIP sees in them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clip-al {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # noqa: ARG001  its callback has printed it
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files that are no UTF-8 pass through
            stream.reconfigure(errors="surrogateescape")


app.command(cls=ExampleCommand, epilog=EMBED_EXAMPLES)(embed)
app.command(cls=ExampleCommand, epilog=CHECK_EXAMPLES)(check)
app.command(cls=ExampleCommand, epilog=DUPLICATES_EXAMPLES)(duplicates)
app.command(cls=ExampleCommand, epilog=SEARCH_EXAMPLES)(search)
app.command(cls=ExampleCommand, epilog=CONCEPTS_EXAMPLES)(concepts)
app.command(cls=ExampleCommand, epilog=DIVERSITY_EXAMPLES)(diversity)
app.command(cls=ExampleCommand, epilog=SELECT_EXAMPLES)(select)
app.command(cls=ExampleCommand, epilog=PREDICT_EXAMPLES)(predict)
app.command(cls=ExampleCommand, epilog=SUSPECTS_EXAMPLES)(suspects)
labels_app = typer.Typer(
    cls=ExampleGroup,
    epilog=LABELS_EXAMPLES,
    help="Change a file of labels: `labels apply`.",
    no_args_is_help=True,
)
labels_app.command(cls=ExampleCommand, epilog=APPLY_EXAMPLES)(apply)
app.add_typer(labels_app, name="labels")
app.command(cls=ExampleCommand, epilog=REPORT_EXAMPLES)(report)
app.add_typer(export_app, name="export")
app.add_typer(import_app, name="import")
app.command(cls=ExampleCommand, epilog=DEMO_EXAMPLES)(demo)
app.command(cls=ExampleCommand, epilog=TRAIN_DEMO_EXAMPLES)(train_demo)


def main() -> None:
    """Run the command line."""
    warnings.showwarning = _show_warning
    # What libraries warn each other of is nothing that a user of the commands can act on.
    warnings.simplefilter("ignore", FutureWarning)
    app()


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    err.print(f"[bold yellow]Warning:[/] {escape(in_own_words(str(message)))}", highlight=False)


if __name__ == "__main__":
    main()
