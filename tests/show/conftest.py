"""A real Chromium, for the pages of reports."""

from __future__ import annotations

import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BUSY_MS = 120_000  # on a machine that has more to do, 5 MB of charts take long to read
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic",
    "--no-first-run",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install it")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Open a file; at the end nothing may have been complained of, asked for, or alerted."""
    contexts, troubles = [], []

    def open_file(path, *, before=None, **options):
        """Open a file in a window of its own; `before` is a script that runs first."""
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        if before is not None:
            context.add_init_script(before)
        page = context.new_page()
        page.set_default_timeout(BUSY_MS)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: note_request(request.url, path))
        page.goto(path.as_uri())
        page.wait_for_selector(".card")
        return page

    def note_request(url, path):
        if url != path.as_uri() and not url.startswith(("data:", "blob:")):
            troubles.append(f"request of {url}")

    yield open_file
    for context in contexts:
        context.close()
    assert troubles == []
