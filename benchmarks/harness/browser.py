"""A Chromium that is installed, and a person in front of it who labels the page of a report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness.cells import UnavailableError

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
BUSY_MS = 120_000
N_KEYS = 9
HERE = "cards.id[gallery.found[gallery.active]]"
"""The id of the image that the next key marks, as the page's own script knows it."""


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a browser; `UnavailableError` where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as exc:
        raise UnavailableError("it takes playwright: pip install it") from exc
    if found is None:
        raise UnavailableError("it takes Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        yield browser
        browser.close()


def label_by_keys(
    browser: Any, page_path: Path, truth: Mapping[str, str], classes: Sequence[str], saved: Path
) -> int:
    """Label every image of a page by its keys, save, and return how many were labelled.

    Parameters
    ----------
    browser : playwright's Browser
    page_path : Path
        The report, written with ``--classes``.
    truth : mapping of str to str
        The class of each image, by id.
    classes : sequence of str
        In the order of the page: the first nine have keys, the others are typed after ``c``.
    saved : Path
        Where the page's ``labels.csv`` is put.
    """
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    try:
        page = context.new_page()
        page.set_default_timeout(BUSY_MS)
        page.goto(page_path.resolve().as_uri())
        page.wait_for_selector(".card")
        n = page.evaluate("cards.index.length")
        while _unmarked(page):  # again, as long as stacks of near-copies hide some
            for _ in range(page.evaluate("gallery.found.length")):
                name = truth[page.evaluate(HERE)]
                if classes.index(name) < N_KEYS:
                    page.keyboard.press(str(classes.index(name) + 1))
                else:
                    page.keyboard.press("c")
                    page.keyboard.type(name)
                    page.keyboard.press("Enter")
        said = page.locator("#marked").inner_text()
        if said != f"{n} of {n} images marked":
            raise RuntimeError(f"{page_path} must have {n} marks after {n} labels; it says: {said}")
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(saved)
    finally:
        context.close()
    return int(n)


def _unmarked(page: Any) -> bool:
    """Show what has no mark; return whether there is any."""
    page.select_option("#mark", "none")
    if not page.evaluate("gallery.found.length"):
        return False
    page.locator('.card[data-place="0"]').focus()
    return True
