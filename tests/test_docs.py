"""The documentation's Python code runs: each page from top to bottom, in a fresh folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_page(text: str, name: str) -> int:
    """Run the code blocks of a page in one namespace; return how many there were."""
    namespace: dict[str, object] = {}
    blocks = list(BLOCK.finditer(text))
    for block in blocks:
        # Blank lines in front, so that a traceback shows the page's own line numbers.
        code = "\n" * text.count("\n", 0, block.start(1)) + block.group(1)
        exec(compile(code, name, "exec"), namespace)
    return len(blocks)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    assert run_page(text, str(page)) == text.count("\n```python\n")


def test_a_broken_page_is_noticed() -> None:
    with pytest.raises(NameError, match="undefined_name"):
        run_page("text\n\n```python\nundefined_name\n```\n", "page")


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
