"""Notebooks as pages: a hook of mkdocs, which reads NAME.ipynb and adds NAME.md.

The cells and the outputs that are kept in the file, as Markdown; nothing is run. Links to
NAME.ipynb lead to that page, and the file itself can be loaded from there. To run a notebook anew:

    OMP_NUM_THREADS=1 jupyter execute --inplace docs/day.ipynb
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ANSI = re.compile(r"\x1b\[[\d;]*[A-Za-z]")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)\.ipynb")


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each notebook among the files of the documentation."""
    from mkdocs.structure.files import File

    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        path = Path(file.abs_src_path)
        page = f"{file.src_uri.removesuffix('.ipynb')}.md"
        content = as_markdown(json.loads(path.read_text(encoding="utf-8")), path.name)
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to a notebook lead to its page."""
    return LINK.sub(r"](\1.md", markdown)


def as_markdown(notebook: dict[str, Any], name: str) -> str:
    """Return cells and outputs as Markdown; the file is offered below the heading."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(fenced("sh" if source.startswith("!") else "python", source.lstrip("!")))
        parts += as_parts(cell["outputs"])
    link = f'<a href="{name}" download>The notebook as a file</a>'
    return "\n\n".join([parts[0], link, *parts[1:]]) + "\n"


def as_parts(outputs: list[dict[str, Any]]) -> list[str]:
    """Return what a cell printed, as one block, and what it showed."""
    parts, printed = [], ""
    for output in outputs:
        if output["output_type"] == "stream":
            printed += "".join(output["text"])
            continue
        if output["output_type"] == "error":
            raise ValueError(f"A cell failed: {output['ename']}: {output['evalue']}. Run it again.")
        data = {kind: "".join(value) for kind, value in output["data"].items()}
        if "image/png" in data:
            parts.append(f"![](data:image/png;base64,{data['image/png'].strip()})")
        elif "text/html" in data:
            parts.append(re.sub(r"\n\s*", "\n", data["text/html"]))  # no blank line ends it
        else:
            parts.append(fenced("text", data["text/plain"]))
    plain = ANSI.sub("", printed.replace("\r\n", "\n"))
    plain = re.sub(r"\n{3,}", "\n\n", plain).strip("\n")
    return [fenced("text", plain), *parts] if plain else parts


def fenced(language: str, text: str) -> str:
    """Return a block of code that holds blocks of its own, too."""
    return f"````{language}\n{text}\n````"
