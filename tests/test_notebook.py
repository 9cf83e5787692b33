"""The notebook of the documentation runs from top to bottom, and becomes a page."""

from __future__ import annotations

import json
import os
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DAY = ROOT / "docs" / "day.ipynb"
KERNEL_S = 280  # within the limit of a test

as_markdown = runpy.run_path(str(ROOT / "docs" / "notebooks.py"))["as_markdown"]


def execute(notebook: Any, folder: Path) -> Any:
    """Run a notebook; a command that fails is an error too, which IPython does not say."""
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install nbclient")
    pytest.importorskip("ipykernel", reason="needs ipykernel: pip install ipykernel")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            check = r"\1\nassert _exit_code == 0, f'exit status {_exit_code}'"
            cell.source = re.sub(r"^(!(?:.*\\\n)*.*)$", check, cell.source, flags=re.MULTILINE)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # whatever is set outside
        "IPYTHONDIR": str(folder / "ipython"),
    }
    client = nbclient.NotebookClient(
        notebook, timeout=KERNEL_S, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    return client.execute(env=environment)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_day_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat: pip install nbformat")
    done = execute(nbformat.read(DAY, 4), tmp_path)
    code = [cell for cell in done.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = [[out.output_type for out in cell.outputs] for cell in nbformat.read(DAY, 4).cells
             if cell.cell_type == "code"]  # fmt: skip
    # What is kept is what such a run shows: no cell is without its outputs.
    assert [bool(kept) for kept in kinds] == [bool(cell.outputs) for cell in code]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("!clip-al embed nowhere -o t\n1 + 1", "exit status 2"),
        ("!clip-al embed \\\n  nowhere -o t", "exit status 2"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_cell_that_fails_is_noticed(source: str, message: str, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat: pip install nbformat")
    exceptions = pytest.importorskip("nbclient.exceptions", reason="needs nbclient")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    with pytest.raises(exceptions.CellExecutionError, match=message):
        execute(notebook, tmp_path)


def test_outputs_are_kept_and_hold_no_path_of_a_machine() -> None:
    cells = [cell for cell in json.loads(DAY.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    shown = json.dumps([cell["outputs"] for cell in cells])
    assert "Wrote 500 rows to labelled.csv" in shown
    assert "image/png" in shown
    assert not re.findall(r"/(?:home|root|tmp|work|Users)/", shown)


def cell(kind: str, source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": kind, "source": source.splitlines(True), "outputs": list(outputs)}


def test_a_notebook_as_a_page() -> None:
    printed = {"output_type": "stream", "text": ["one\r\n", "\x1b[0m\n\n\n```\n"]}
    table = {"output_type": "display_data", "data": {"text/html": "<b>\n\n  2</b>"}}
    value = {"output_type": "execute_result", "data": {"text/plain": ["3"]}}
    picture = {"output_type": "display_data", "data": {"image/png": "AA=\n", "text/plain": "F"}}
    cells = [
        cell("markdown", "# Title"),
        cell("code", "!clip-al x", printed),
        cell("code", "f()", table, value, picture),
    ]
    assert as_markdown({"cells": cells}, "day.ipynb") == (
        '# Title\n\n<a href="day.ipynb" download>The notebook as a file</a>\n\n'
        "````sh\nclip-al x\n````\n\n````text\none\n\n```\n````\n\n"
        "````python\nf()\n````\n\n<b>\n2</b>\n\n````text\n3\n````\n\n"
        "![](data:image/png;base64,AA=)\n"
    )


def test_a_notebook_with_an_error_is_no_page() -> None:
    failed = {"output_type": "error", "ename": "ZeroDivisionError", "evalue": "division by zero"}
    cells = [cell("markdown", "# Title"), cell("code", "1 / 0", failed)]
    with pytest.raises(ValueError, match="A cell failed: ZeroDivisionError"):
        as_markdown({"cells": cells}, "day.ipynb")
