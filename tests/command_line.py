"""The command line in this process: what a command gives, and its text without line breaks."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from clip_al.cli.main import app


def run(*arguments: object) -> Result:
    """Run ``clip-al ARGUMENTS``."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def flat(result: Result) -> str:
    """Return both outputs, the wrapping of lines undone."""
    return " ".join((result.stdout + result.stderr).split())
