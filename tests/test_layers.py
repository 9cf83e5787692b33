"""Tests of the map: packages in the order the data flows, and no circle of any kind."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

import clip_al

PACKAGE = Path(clip_al.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# A module imports from what stands before its package, and from its own package.
ORDER = [
    "errors",
    "atomic",
    "file_names",
    "saved_files",
    "progress",
    "html_tables",
    "arrays",
    "mini",
    "images",
    "encode",
    "table",
    "find",
    "concepts",
    "adapt",
    "score",
    "subset",
    "label",
    "samplers",
    "handed_in",
    "integrations",
    "show",
    "demo",
    "cli",
    "fiftyone_plugin",
]
# Arrows against the order, each with the reason why it is there.
ALLOWED = {
    ("subset.selection", "show.report.write"): "`Selection.report_html` calls it, late, by name",
}


def imported(source, module, modules, names):
    """Return the modules of ours that a source names: at the top, late, for types, in strings.

    Parameters
    ----------
    module : str
        The source's own, without ``clip_al.``; a package is its ``__init__``.
    modules : set of str
        All modules.
    names : mapping
        Public name -> its module.
    """
    tree = ast.parse(source)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{start_of(node, module)}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and node.value in {f"clip_al.{m}" for m in modules}:
            found.add(node.value)
    ours = {name.removeprefix("clip_al.") for name in found if name.startswith("clip_al.")}
    return {resolve(name, modules, names) for name in ours} - {None, module}


def start_of(node, module):
    """What the names of a ``from … import`` are in, written out."""
    if not node.level:
        return node.module
    parts = ["clip_al", *module.split(".")][: -node.level]
    return ".".join([*parts, *([node.module] if node.module else [])])


def resolve(name, modules, names):
    """Return the module that a dotted name is, or is in; None for data of the package."""
    if name in names:
        return names[name]
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def name_of(path, root=PACKAGE):
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


PUBLIC = {**clip_al._PUBLIC, **clip_al._MODULES}
MODULES = {name_of(path) for path in FILES} - {"__init__"}


def arrows():
    """Module -> the modules it imports."""
    return {
        name_of(path): imported(path.read_text(), name_of(path), MODULES, PUBLIC)
        for path in FILES
        if path != PACKAGE / "__init__.py"
    }


def against(order, graph):
    """Arrows that do not point to an earlier place of the order, or into the own package."""
    place = {name: i for i, name in enumerate(order)}
    return sorted(
        (one, other)
        for one, others in graph.items()
        for other in others
        if place[other.partition(".")[0]] > place[one.partition(".")[0]]
    )


def circle(graph):
    """One circle of imports; empty where there is none."""
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as exc:
        return exc.args[1]
    return []


def test_every_module_has_a_place():
    assert {name.partition(".")[0] for name in MODULES} == set(ORDER)


def test_imports_point_upward_but_for_those_that_are_allowed():
    assert against(ORDER, arrows()) == sorted(ALLOWED)


def test_no_circle_also_not_for_types():
    graph = {
        one: {other for other in others if (one, other) not in ALLOWED}
        for one, others in arrows().items()
    }
    assert circle(graph) == []


def test_the_package_itself_imports_nothing_but_for_types():
    code = (PACKAGE / "__init__.py").read_text().partition("if TYPE_CHECKING:")[0]
    assert imported(code, "__init__", MODULES, {}) == set()


TOY = {"errors", "arrays", "arrays.checks", "label", "label.query", "show", "show.page"}
TOY_ORDER = ["errors", "arrays", "label", "show"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from clip_al.show.page import draw", ["show.page"]),
        ("import clip_al.show.page", ["show.page"]),
        ("from clip_al import show", ["show"]),
        ("from clip_al import Sampling", ["show.page"]),
        ("from ..show import page", ["show.page"]),
        ("def late():\n    from clip_al.show.page import draw", ["show.page"]),
        ("if TYPE_CHECKING:\n    from clip_al.show.page import Page", ["show.page"]),
        ("importlib.import_module('clip_al.show.page')", ["show.page"]),
        ("from clip_al.arrays.checks import check", []),
        ("from clip_al.label.query import itself", []),
        ("from clip_al import __version__\nimport numpy.show.page", []),
    ],
)
def test_the_guard_of_the_order_fires(source, expected):
    found = imported(source, "label.query", TOY, {"Sampling": "show.page"})
    assert [other for _, other in against(TOY_ORDER, {"label.query": found})] == expected


def test_the_guard_of_circles_fires():
    sources = {
        "arrays.checks": "if TYPE_CHECKING:\n    from clip_al.label.query import Query",
        "label.query": "def late():\n    from clip_al.arrays import checks",
    }
    graph = {name: imported(source, name, TOY, {}) for name, source in sources.items()}
    assert set(circle(graph)) == set(sources)
    assert circle({"label.query": {"arrays.checks"}}) == []
