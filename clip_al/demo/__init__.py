"""The two demos: labelling digits, and training on a clean half of them."""

from __future__ import annotations

import importlib

from clip_al.errors import missing_extra

PACKAGES = {"modAL.models": "modAL", "matplotlib": "matplotlib", "plotly": "plotly"}


def check_packages() -> None:
    """Raise before anything is encoded where a package of the demos is not installed.

    Raises
    ------
    MissingDependencyError
    """
    for module, package in PACKAGES.items():
        try:
            importlib.import_module(module)
        except ImportError as exc:
            raise missing_extra(f"The demo needs {package}", "demo") from exc
