"""Tests of the package as a whole: what importing it loads, its names, its layering."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import clip_al

PACKAGE = Path(clip_al.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = (
    "torch", "open_clip", "modAL", "faiss", "matplotlib", "ray", "plotly", "jinja2",
    "lightning", "skactiveml", "datasets", "fiftyone", "cleanlab", "torchdata", "torchvision",
)  # fmt: skip


# What importing loads


def loaded_by(statement):
    """Which of the heavy packages a fresh interpreter has loaded after a statement."""
    code = f"import sys; {statement}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import clip_al; dir(clip_al)") == []


def test_nor_do_the_parts_that_need_none_of_it():
    names = "ConceptVocabulary, ConceptProfiles, CBDMarginSampling, CBDSampling, uncertainty"
    assert loaded_by(f"from clip_al import {names}; import clip_al.encode.encoder") == []


ARRAYS = "import numpy as np; T = np.eye(3, 8); y = np.arange(60) % 3; Z = T[y]; import clip_al"


def test_nor_does_a_selector_without_an_adapter_also_where_it_is_fitted():
    fit = "s = clip_al.ClipSelector(0.5, class_embeddings=T).fit_select(Z, y)"
    assert loaded_by(f"{ARRAYS}; {fit}; assert len(s.indices) == 30") == []


@pytest.mark.slow
def test_a_selector_with_an_adapter_loads_torch():
    fit = "clip_al.ClipSelector(0.5, class_embeddings=T, adapter=True).fit(Z, y)"
    assert "torch" in loaded_by(f"{ARRAYS}; {fit}")


def test_the_guard_fires():
    assert "torch" in loaded_by("import clip_al.samplers.sampler")


# Names


def type_checking_imports(tree):
    """Names that a module imports for type checkers only, and what of ours they are."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and is_type_checking(node.test):
            for part in node.body:
                for alias in part.names:
                    found[alias.asname or alias.name] = f"{part.module}.{alias.name}"
    return found


def is_type_checking(test):
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


@pytest.mark.parametrize("name", clip_al._PUBLIC)
def test_every_public_name_resolves_to_its_module(name):
    value = getattr(clip_al, name)
    assert value.__name__ == name
    assert value.__module__ == f"clip_al.{clip_al._PUBLIC[name]}"
    assert value.__doc__


@pytest.mark.parametrize("name", clip_al._MODULES)
def test_every_public_module_is_there(name):
    module = getattr(clip_al, name)
    assert module.__name__ == f"clip_al.{clip_al._MODULES[name]}"
    assert module.__doc__


@pytest.mark.parametrize("name", ["margin", "entropy", "standardize_scores", "InvalidInputError"])
def test_names_that_a_module_has_are_not_beside_it(name):
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
        getattr(clip_al, name)


def test_all_is_the_table_of_public_names_in_order():
    assert sorted([*clip_al._PUBLIC, *clip_al._MODULES]) == clip_al.__all__


def test_the_docstring_says_what_is_public():
    for name in clip_al._PUBLIC:
        assert f"`{name}`" in clip_al.__doc__
    for name in clip_al._MODULES:
        assert f"`clip_al.{name}`" in clip_al.__doc__


def test_the_reference_has_every_public_name():
    page = (PACKAGE.parent / "docs" / "reference.md").read_text()
    lines = {line.removeprefix("::: ") for line in page.splitlines() if line.startswith("::: ")}
    known = {f"clip_al.{module}.{name}" for name, module in clip_al._PUBLIC.items()}
    known |= {f"clip_al.{module}" for module in clip_al._MODULES.values()}
    assert known <= lines | {"clip_al.errors.ClipAlError"}  # stands in the page of its module
    assert {line for line in lines - known if ".integrations." not in line} == set()


def test_type_checkers_see_the_same_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    expected = {name: f"clip_al.{module}.{name}" for name, module in clip_al._PUBLIC.items()}
    expected |= {name: f"clip_al.{module}" for name, module in clip_al._MODULES.items()}
    assert type_checking_imports(tree) == expected


def test_dir_lists_the_public_names():
    assert dir(clip_al) == sorted([*clip_al.__all__, "__version__"])


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'clip_al' has no attribute 'Selektor'$"):
        clip_al.Selektor  # noqa: B018


def test_the_version_is_that_of_the_distribution():
    assert re.fullmatch(r"\d+\.\d+\.\d+", clip_al.__version__)
    assert importlib.metadata.version("clip_al") == clip_al.__version__


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").is_file()


# Habits


def bad_habits(source):
    """Asserts, which -O removes, and handlers that catch everything."""
    return [
        (node.lineno, type(node).__name__)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assert)
        or (isinstance(node, ast.ExceptHandler) and catches_everything(node.type))
    ]


def catches_everything(kind):
    return kind is None or (isinstance(kind, ast.Name) and kind.id == "BaseException")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_assert_and_no_bare_except(path):
    assert bad_habits(path.read_text()) == []


def test_the_guard_of_habits_fires():
    source = "assert x\ntry:\n    y\nexcept:\n    pass\ntry:\n    y\nexcept ValueError:\n    pass\n"
    assert bad_habits(source) == [(1, "Assert"), (4, "ExceptHandler")]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))
