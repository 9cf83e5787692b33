"""The groups of commands ``export`` and ``import``, for `clip_al.cli.main`."""

from __future__ import annotations

import typer

from clip_al.cli.exchange.export_cvat import EXPORT_CVAT_EXAMPLES, export_cvat
from clip_al.cli.exchange.export_fiftyone import EXPORT_FIFTYONE_EXAMPLES, export_fiftyone
from clip_al.cli.exchange.export_label_studio import (
    EXPORT_LABEL_STUDIO_EXAMPLES,
    export_label_studio,
)
from clip_al.cli.exchange.import_cvat import IMPORT_CVAT_EXAMPLES, import_cvat
from clip_al.cli.exchange.import_fiftyone import IMPORT_FIFTYONE_EXAMPLES, import_fiftyone
from clip_al.cli.exchange.import_label_studio import (
    IMPORT_LABEL_STUDIO_EXAMPLES,
    import_label_studio,
)
from clip_al.cli.options import ExampleCommand, ExampleGroup

EXPORT_EXAMPLES = """
Examples:
  clip-al export label-studio first.csv --table photos.table --classes classes.txt \\
      -o tasks.json --config config.xml
  clip-al export cvat first.csv --table photos.table --classes classes.txt \\
      -o pre-labels.xml --images first.zip --task-labels task-labels.json
  clip-al export fiftyone first.csv --table photos.table --classes classes.txt \\
      -o first.json
"""
IMPORT_EXAMPLES = """
Examples:
  clip-al import label-studio export.json --table photos.table -o labels.csv
  clip-al import cvat task.zip --table photos.table -o labels.csv
  clip-al import fiftyone labelled.json --table photos.table -o labels.csv
"""
export_app = typer.Typer(
    cls=ExampleGroup,
    epilog=EXPORT_EXAMPLES,
    help="Write picks for another tool, with pre-labels: Label Studio, CVAT, FiftyOne.",
    no_args_is_help=True,
)
import_app = typer.Typer(
    cls=ExampleGroup,
    epilog=IMPORT_EXAMPLES,
    help="Read what was annotated in another tool into a file of labels.",
    no_args_is_help=True,
)
export_app.command("label-studio", cls=ExampleCommand, epilog=EXPORT_LABEL_STUDIO_EXAMPLES)(
    export_label_studio
)
export_app.command("cvat", cls=ExampleCommand, epilog=EXPORT_CVAT_EXAMPLES)(export_cvat)
export_app.command("fiftyone", cls=ExampleCommand, epilog=EXPORT_FIFTYONE_EXAMPLES)(export_fiftyone)
import_app.command("label-studio", cls=ExampleCommand, epilog=IMPORT_LABEL_STUDIO_EXAMPLES)(
    import_label_studio
)
import_app.command("cvat", cls=ExampleCommand, epilog=IMPORT_CVAT_EXAMPLES)(import_cvat)
import_app.command("fiftyone", cls=ExampleCommand, epilog=IMPORT_FIFTYONE_EXAMPLES)(import_fiftyone)
