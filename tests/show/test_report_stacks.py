"""Near-copies on the page: stacked, opened, marked one by one or together."""

from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pytest

from clip_al.errors import InvalidInputError
from clip_al.show.report.data import Shown
from clip_al.show.report.stacks import stack_cards
from clip_al.show.report.write import write_report
from clip_al.subset.selection import Selection
from clip_al.table.embedding_table import EmbeddingTable
from tests.command_line import flat, run
from tests.show.report_inputs import digits

N = 10
COPIES = {0: (0, 3, 7), 1: (1, 4)}
"""Of ten images, one is there three times and another twice."""


def embeddings():
    Z = np.eye(N, 16)
    for first, places in COPIES.items():
        for k, place in enumerate(places):
            Z[place] = np.eye(N, 16)[first] + 0.05 * k * np.eye(16)[12]
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


def shown(indices):
    return Shown(np.array(indices), np.ones(len(indices), np.int64))


def page_of(path):
    """Return the numbers of a page."""
    html = path.read_text(encoding="utf-8")
    return json.loads(html.partition('id="data"')[2].partition(">")[2].partition("</script>")[0])


# Without a browser


def test_cards_of_copies_have_one_number():
    assert stack_cards(embeddings(), shown(range(N)), 0.99) == [
        0, 1, None, 0, 1, None, None, 0, None, None,
    ]  # fmt: skip
    assert stack_cards(embeddings(), shown([8, 7, 4, 3, 0]), 0.99) == [None, 0, None, 0, 0]
    assert stack_cards(embeddings(), shown([0, 1, 2]), 0.99) is None
    assert stack_cards(embeddings(), shown([0, 3, 7]), 0.999) is None


def test_rows_without_a_cosine_are_alone():
    Z = embeddings()
    Z[3], Z[7] = 0, np.nan
    assert stack_cards(Z, shown([3, 7, 1, 4]), 0.99) == [None, None, 0, 0]
    assert stack_cards(Z, shown([3, 7, 1]), 0.99) is None


def test_what_a_page_holds_of_stacks(tmp_path):
    selection = Selection.from_indices(range(N), N)
    selection.report_html(tmp_path / "r.html", embeddings=embeddings())
    found = page_of(tmp_path / "r.html")
    assert found["cards"]["stack"] == [0, 1, None, 0, 1, None, None, 0, None, None]
    assert found["stack_from"] == 0.99
    selection.report_html(tmp_path / "none.html", embeddings=embeddings(), stack_copies=None)
    selection.report_html(tmp_path / "no-rows.html")
    for name in ("none.html", "no-rows.html"):
        assert "stack" not in page_of(tmp_path / name)["cards"]
        assert 'id="stacked"' not in (tmp_path / name).read_text()
    with pytest.raises(InvalidInputError, match=r"^`stack_copies` must be"):
        write_report(selection, tmp_path / "bad.html", stack_copies=1.1)


def test_the_command_takes_a_cosine(tmp_path):
    ids = [f"{i}.png" for i in range(N)]
    EmbeddingTable.from_array(tmp_path / "t", embeddings(), ids, model_id="toy")
    report = ("report", tmp_path / "t", "-o", tmp_path / "r.html", "--no-concepts", "--force")
    assert run(*report).exit_code == 0
    assert page_of(tmp_path / "r.html")["cards"]["stack"].count(None) == 5
    assert run(*report, "--stack-copies", 0.999).exit_code == 0
    assert "stack" not in page_of(tmp_path / "r.html")["cards"]
    refused = run(*report, "--stack-copies", 0)
    assert refused.exit_code == 2
    assert "`--stack-copies` must be" in flat(refused)


# In a Chromium


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("stacks")
    images, _, _ = digits()
    names = [f"{i}.png" for i in range(N)]
    selection = Selection.from_indices(range(N), N, ids=names)
    selection.report_html(
        place / "labels.html", images=images[:N], embeddings=embeddings(), class_names=["a", "b"]
    )
    score = -np.arange(N, dtype=float)
    y, likeliest = np.zeros(N, int), np.zeros(N, int)
    y[4] = 1
    likeliest[[0, 3, 4, 8]] = 1
    doubted = Selection.from_indices(
        range(N), N, y=y, ids=names, class_names=["a", "b"],
        scores={"label_score": score, "likeliest": likeliest},
    )  # fmt: skip
    doubted.report_html(place / "doubted.html", images=images[:N], embeddings=embeddings())
    return place


def order(page):
    return page.evaluate("gallery.found.map((i) => cards.index[i])")


def counts(page):
    return page.locator(".stack-count").all_inner_texts()


def told(page, name):
    return page.locator(f"#{name}").inner_text()


@pytest.mark.browser
@pytest.mark.slow
def test_stacks_open_and_close(open_page, folder):
    page = open_page(folder / "labels.html")
    assert order(page) == [0, 1, 2, 5, 6, 8, 9]
    assert counts(page) == ["3 alike", "2 alike"]
    assert told(page, "found") == "10 of 10 cards; near-copies in 2 stacks"
    page.locator('.card[data-index="0"]').focus()
    page.keyboard.press("o")
    assert order(page) == [0, 3, 7, 1, 2, 5, 6, 8, 9]
    assert page.evaluate("document.activeElement.dataset.index") == "0"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("o")  # from a card within
    assert order(page) == [0, 1, 2, 5, 6, 8, 9]
    assert page.evaluate("document.activeElement.dataset.index") == "0"
    page.locator('.card[data-index="1"] .stack-count').click()
    assert order(page) == [0, 1, 4, 2, 5, 6, 8, 9]
    assert not page.locator("#detail").is_visible()
    page.locator('.card[data-index="2"]').focus()
    page.keyboard.press("o")  # no stack: nothing
    assert len(order(page)) == 8
    page.uncheck("#stacked")
    assert order(page) == list(range(N))
    assert counts(page) == []
    assert told(page, "found") == "10 of 10 cards"


@pytest.mark.browser
@pytest.mark.slow
def test_a_mark_is_for_one_image_unless_the_stack_is_asked_for(open_page, folder, tmp_path):
    page = open_page(folder / "labels.html")
    assert told(page, "marked").endswith("; 3 without a mark are beneath others")
    page.locator('.card[data-index="0"]').focus()
    page.keyboard.press("1")
    assert counts(page)[0] == "3 alike, 1 marked"
    assert told(page, "marked") == "1 of 10 images marked; 3 without a mark are beneath others"
    page.keyboard.press("a")
    assert page.is_checked("#whole")
    assert page.evaluate("document.activeElement.dataset.index") == "1"
    page.keyboard.press("2")
    assert told(page, "marked") == "3 of 10 images marked; 2 without a mark are beneath others"
    page.keyboard.press("z")  # one step back for all of the stack
    assert told(page, "marked") == "1 of 10 images marked; 3 without a mark are beneath others"
    assert page.evaluate("document.activeElement.dataset.index") == "1"
    page.keyboard.press("2")
    page.keyboard.press("Home")
    page.keyboard.press("o")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("2")  # an open stack is marked one by one
    assert told(page, "marked") == "4 of 10 images marked"
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "labels.csv")
    saved = pd.read_csv(tmp_path / "labels.csv")
    assert dict(zip(saved["id"], saved["label"], strict=True)) == {
        "0.png": "a", "1.png": "b", "4.png": "b", "3.png": "b",
    }  # fmt: skip


@pytest.mark.browser
@pytest.mark.slow
def test_what_is_beneath_comes_up_where_marks_are_filtered(open_page, folder):
    page = open_page(folder / "labels.html")
    page.locator('.card[data-index="0"]').focus()
    for _ in range(7):
        page.keyboard.press("1")
    assert told(page, "marked").startswith("7 of 10")
    page.select_option("#mark", "none")
    assert order(page) == [3, 4]
    assert counts(page) == ["2 alike"]
    assert told(page, "found") == "3 of 10 cards; near-copies in 1 stack"


@pytest.mark.browser
@pytest.mark.slow
def test_another_label_or_a_suspect_is_never_beneath(open_page, folder):
    page = open_page(folder / "doubted.html")
    page.select_option("#show", "0")
    page.select_option("#sort", "index")
    # 0 and 3 are suspects, 7 is none; 1 is called a, 4 is called b.
    assert order(page) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    page.locator('.card[data-index="0"]').focus()
    page.keyboard.press("a")
    page.keyboard.press("l")
    assert told(page, "marked").startswith("2 of 3 suspects marked")


@pytest.mark.browser
@pytest.mark.slow
def test_ten_thousand_cards_in_stacks(open_page, tmp_path):
    """As fast as without stacks: `test_report_page.py` prints the same for as many lone cards."""
    n, n_distinct = 10_000, 2_500
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (250, 48, 48, 3), dtype=np.uint8)[np.arange(n) % 250]
    Z = rng.normal(size=(n_distinct, 64)).astype(np.float32)[np.arange(n) % n_distinct]
    Z += 0.01 * rng.normal(size=Z.shape)
    start = time.perf_counter()
    stack_cards(Z, shown(range(n)), 0.99)
    print(f"stacks found in {time.perf_counter() - start:.2f} s", end="; ")
    path = tmp_path / "large.html"
    Selection.from_indices(range(n), n).report_html(
        path, images=images, embeddings=Z, class_names=["a", "b"]
    )
    start = time.perf_counter()
    page = open_page(path)
    print(f"{path.stat().st_size / 1e6:.1f} MB, cards after {time.perf_counter() - start:.2f} s")
    assert told(page, "found") == "10,000 of 10,000 cards; near-copies in 2,500 stacks"
    assert page.locator(".card").count() < 100
    page.locator('.card[data-place="0"]').focus()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.place") == "2499"
    page.keyboard.press("o")
    assert page.evaluate("gallery.found.length") == 2_503
    start = time.perf_counter()
    for _ in range(20):
        page.keyboard.press("1")
    print(f"a mark in {(time.perf_counter() - start) / 20:.3f} s")
    assert told(page, "marked").startswith("4 of 10,000 images marked")
