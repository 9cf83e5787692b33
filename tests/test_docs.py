"""The documentation runs: every block of every page, in order, in a folder of real images.

Python blocks of a page share one namespace; the commands of its `sh` and `text` blocks go through
the command line in the same folder. What a block printed is compared with a `text` block that
follows it, digits apart. A block that cannot run here is preceded by ``<!-- not run: why -->``:
it is still compiled, and the options of its commands are still checked.
"""

from __future__ import annotations

import ast
import doctest
import io
import re
import runpy
import shlex
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer.main
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from typer.testing import CliRunner

import clip_al
from clip_al.cli import options as cli_options
from clip_al.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
CARD = ROOT / "clip_al" / "mini" / "CARD.md"
PAGES = [ROOT / "README.md", CARD, *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- not run: (\w+[^>]+) -->\n+$")
PYTHON, SHELL = ("python", "py"), ("sh", "bash", "console", "shell")
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
N_IMAGES = 500

# Blocks that are not run, by page; a page that is not here runs as a whole.
NOT_RUN = {
    "annotation": 2,
    "encoding": 4,
    "fine-tuning": 1,
    "million": 1,
    "offline": 4,
    "ray": 1,
    "report": 2,
}
# Pages that find the photos embedded.
BEGIN_WITH_TABLE = {"find", "report"}
# Pages that begin in an empty folder.
BEGIN_EMPTY = {"index"}


class Block(NamedTuple):
    """A fenced block of a page: what it is, where it stands, why it is not run."""

    kind: str  # "python", "commands" or "output"
    text: str
    line: int
    why_not: str


def read_blocks(page: str) -> list[Block]:
    """Return the blocks of a page that run, and the output that is shown below them."""
    blocks: list[Block] = []
    end = 0  # of the last block
    for found in BLOCK.finditer(page):
        language, text = found.groups()
        mark = MARK.search(page, 0, found.start())
        why_not = mark.group(1) if mark else ""
        line = page.count("\n", 0, found.start(2))
        between = page[end : found.start()]
        end = found.end()
        if language in PYTHON:
            blocks.append(Block("python", text, line, why_not))
        elif language in SHELL or (language == "text" and text.startswith("clip-al ")):
            blocks.append(Block("commands", text, line, why_not))
        elif language == "text" and blocks and not between.strip():
            blocks.append(Block("output", text, line, blocks[-1].why_not))
        elif re.search(r"^\$? ?clip-al ", text, re.MULTILINE):
            raise AssertionError(f"line {line}: commands must be in a block of `sh`, to be run.")
    if len(re.findall("^ *```", page, re.MULTILINE)) != 2 * len(BLOCK.findall(page)):
        raise AssertionError("Every ``` must stand alone at the start of its line, to be found.")
    return blocks


def commands_of(text: str) -> list[list[str]]:
    """Split a shell block into commands; those behind an installation go with it."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def arguments_of(words: list[str]) -> list[str]:
    """Return what follows `clip-al` in a command, up to what is chained to it."""
    rest = words[words.index("clip-al") + 1 :]
    return rest[: rest.index("&&")] if "&&" in rest else rest


def check_options(words: list[str]) -> None:
    """Raise where a command of ours has options that do not exist."""
    if "clip-al" not in words:
        return
    name, *arguments = arguments_of(words)
    try:
        command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
        command.make_context(name, [part for part in arguments if part != "..."])
    except Exception as exc:  # typer's errors have no public class in common
        raise AssertionError(f"`{shlex.join(words)}` cannot be typed: {exc!r}") from exc


def run_command(words: list[str]) -> str:
    """Run a command of ours and return what it printed; anything else must be marked."""
    if words[:2] == ["pip", "install"]:  # and what is chained to it: .ci/run does both
        check_options(words)
        return ""
    if words[0] != "clip-al":
        raise AssertionError(f"`{shlex.join(words)}` cannot be run here: mark its block.")
    result = CliRunner().invoke(app, arguments_of(words))
    if result.exit_code != 0:
        raise AssertionError(f"`{shlex.join(words)}` failed:\n{result.output}") from (
            result.exception if isinstance(result.exception, Exception) else None
        )
    return result.stdout


def run_python(block: Block, name: str, namespace: dict[str, Any]) -> str:
    """Run a block; return what it printed."""
    # Blank lines in front, so that a traceback shows the page's own line numbers.
    tree = compile("\n" * block.line + block.text, name, "exec", ast.PyCF_ONLY_AST)
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(tree, name, "exec"), namespace)
    return printed.getvalue()


def same_output(shown: str, printed: str) -> bool:
    """Compare but for digits, the width of tables, and where "..." stands for anything."""
    masked = [re.sub(r"[─━┄ ]+", " ", re.sub(r"-?\d+", "0", text)) for text in (shown, printed)]
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(*masked, flags)


def run_page(text: str, name: str) -> tuple[int, int]:
    """Run a page from top to bottom; return how many blocks were run, and how many marked."""
    namespace: dict[str, Any] = {"__name__": "page"}
    n_run = n_marked = 0
    printed = ""
    for block in read_blocks(text):
        if block.kind == "output":
            if not block.why_not and not same_output(block.text, printed):
                shown = f"{name}:{block.line} shows\n{block.text}"
                raise AssertionError(f"{shown}but this was printed:\n{printed}")
        elif block.why_not:
            n_marked += 1
            if block.kind == "python":
                compile(block.text, name, "exec")
            for words in commands_of(block.text) if block.kind == "commands" else ():
                check_options(words)
        elif block.kind == "python":
            n_run += 1
            printed = run_python(block, name, namespace)
        else:
            n_run += 1
            printed = "".join(map(run_command, commands_of(block.text)))
    return n_run, n_marked


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the files that pages speak of: photos by class, labels and a model's predictions."""
    folder = tmp_path_factory.mktemp("docs")
    digits = load_digits()
    x, y = digits.images[:N_IMAGES], digits.target[:N_IMAGES]
    ids = [f"{NAMES[label]}/{i:04d}.png" for i, label in enumerate(y)]
    for image, name in zip(x, ids, strict=True):
        file = folder / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(file)
    rng = np.random.default_rng(0)
    given = np.where(rng.random(N_IMAGES) < 0.1, rng.integers(0, 10, N_IMAGES), y)
    rows = [f"{name},{NAMES[label]}" for name, label in zip(ids, given, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["id,label", *rows, ""]), encoding="utf-8")
    model = LogisticRegression(max_iter=1000)
    probabilities = cross_val_predict(model, x.reshape(-1, 64) / 16, y, method="predict_proba")
    # A table has its images in the order of their names.
    np.save(folder / "predictions.npy", probabilities[np.argsort(ids)])
    return folder


@pytest.fixture(scope="session")
def embedded(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embed the photos, for pages that begin with a table."""
    folder = tmp_path_factory.mktemp("docs") / "photos.table"
    encoder = clip_al.ClipEncoder("mini", progress=False)
    clip_al.EmbeddingTable.create(folder, prepared / "photos", encoder)
    return folder


ENCODE_TEXTS = clip_al.ClipEncoder.encode_texts
encoded: dict[tuple[Any, ...], Any] = {}


def encode_once(encoder: clip_al.ClipEncoder, texts: Any, *, templates: Any = None) -> Any:
    """Encode as `ClipEncoder.encode_texts`; a whole vocabulary takes seconds on every page."""
    key = (encoder.model_id, tuple(texts), tuple(templates or ()))
    if key not in encoded:
        encoded[key] = ENCODE_TEXTS(encoder, texts, templates=templates)
    return encoded[key].copy()


@pytest.fixture
def here(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a copy of that folder, without a network and in a terminal of 80 columns."""
    folder = tmp_path / "page"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(cli_options.out, "width", 80)
    monkeypatch.setattr(clip_al.ClipEncoder, "encode_texts", encode_once)
    return folder


QUICK = {"own-embeddings"}


@pytest.mark.parametrize(
    "page",
    [page if page.stem in QUICK else pytest.param(page, marks=pytest.mark.slow) for page in PAGES],
    ids=lambda page: page.stem,
)
def test_page_runs(page: Path, here: Path, embedded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text(encoding="utf-8")
    if page.stem in BEGIN_WITH_TABLE:
        shutil.copytree(embedded, here / "photos.table")
    if page.stem in BEGIN_EMPTY:
        (here / "empty").mkdir()
        monkeypatch.chdir(here / "empty")
    n_run, n_marked = run_page(text, str(page))
    assert n_run + n_marked == sum(block.kind != "output" for block in read_blocks(text))
    assert n_marked == NOT_RUN.get(page.stem, 0)


@pytest.mark.parametrize(
    ("block", "error", "message"),
    [
        ("```python\nundefined_name\n```\n", NameError, "undefined_name"),
        ("```python\nprint('one')\n```\n\n```text\ntwo\n```\n", AssertionError, "shows\ntwo"),
        ("```sh\ntorchrun train.py\n```\n", AssertionError, "mark its block"),
        ("```sh\nclip-al embed nowhere -o t\n```\n", AssertionError, r"Check\s+the\s+path"),
        ("```text\nclip-al concepts no.table\n```\n", AssertionError, "must be a table"),
        ("```\nclip-al concepts no.table\n```\n", AssertionError, "in a block of `sh`"),
        ('```python title="x"\n1 / 0\n```\n', AssertionError, "must stand alone"),
        ("<!-- not run: a GPU -->\n```python\nx = = 1\n```\n", SyntaxError, "invalid syntax"),
        (
            "<!-- not run: a GPU -->\n```sh\nclip-al embed photos -o t --devise cuda\n```\n",
            AssertionError,
            "--devise",
        ),
    ],
)
def test_a_broken_page_is_noticed(
    block: str, error: type[Exception], message: str, here: Path
) -> None:
    with pytest.raises(error, match=message):
        run_page(f"text\n\n{block}", "page")


def test_what_counts_as_run_and_as_marked(here: Path) -> None:
    marked = "<!-- not run: there is no GPU here -->\n\n```sh\nnvidia-smi\n```\n"
    page = f"```py\nx = 1\nprint(x, 0.25)\n```\n\n```text\n2 ...\n```\n\n{marked}"
    assert run_page(page, "page") == (1, 1)
    # A mark without a reason marks nothing.
    with pytest.raises(AssertionError, match="mark its block"):
        run_page("<!-- not run: -->\n```sh\nnvidia-smi\n```\n", "page")


@pytest.mark.slow
def test_pictures_are_drawn_and_used(tmp_path: Path) -> None:
    folder = ROOT / "docs" / "images"
    script = runpy.run_path(str(folder / "make.py"))
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in script["PICTURES"]:
        assert (folder / name).is_file()
        assert f"images/{name}" in shown
    script["draw_descent"](tmp_path / "descent.png")
    with Image.open(tmp_path / "descent.png") as drawn:
        assert drawn.width > 2 * drawn.height


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def anchors_of(page: Path) -> set[str]:
    """Return what mkdocs calls the headings of a page."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", words).strip()))
    return found


def test_links_lead_to_headings() -> None:
    seen = 0
    for page in PAGES:
        links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
        for target, anchor in links:
            to = page.parent / target if target else page
            assert anchor in anchors_of(to), f"{page.name} links to {target}#{anchor}"
            seen += 1
    assert seen > 10


def test_anchors_of_headings(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two`, [three](x.md) - 4.\n\n```sh\n# no heading\n```\n")
    assert anchors_of(page) == {"one-two-three-4"}


def test_architecture_names_every_module_and_only_files_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "clip_al"
    table, changes = re.findall(r"^\|.*?(?=\n\n)", page, re.MULTILINE | re.DOTALL)[:2]
    rows = [re.findall(r"`([\w/]+)`", row) for row in table.splitlines()[2:]]
    named = {f"{row[0].removeprefix('clip_al/')}{name}" for row in rows for name in row[1:]}
    for file in package.rglob("*.py"):
        place = file.relative_to(package)
        if len(place.parts) > 2:  # a package in a package: its folder is on the page
            assert f"{place.parent}/" in named, f"{place.parent} is not on the page"
        elif file.name != "__init__.py":
            assert str(place.with_suffix("")) in named, f"{place} is not on the page"
    for name in re.findall(r"`([\w/]+\.(?:py|js|html|css|txt))`", changes):
        assert (package / name).is_file(), f"the page names {name}"
    for name in re.findall(r"`([A-Z_]{4,})` (?:in|of) `([\w/]+\.py)`", changes):
        assert re.search(rf"^{name[0]}\b", (package / name[1]).read_text(), re.MULTILINE), name
