"""The page in a real Chromium: it draws, filters, sorts, answers keys, and loads nothing."""

from __future__ import annotations

import time

import numpy as np
import pytest

from clip_al.concepts.profiles import ConceptProfiles
from clip_al.subset.selection import Selection
from tests.show.report_inputs import (
    CLASSES,
    HOSTILE_CLASS,
    HOSTILE_CONCEPT,
    HOSTILE_ID,
    N_IMAGES,
    digit_profiles,
    digit_selection,
    digits,
    hostile_ids,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    images, _, Z = digits()
    digit_selection(hostile_ids()).report_html(
        path,
        images=images,
        embeddings=Z,
        profiles=digit_profiles(),
        labelled=[1, 2],
        against=Selection.from_indices([0, *range(60, 90)], N_IMAGES),
        rounds={
            "labels": [10, 20, 20],
            "accuracy": [0.5, 0.7, 0.6],
            "name": ["<b>a</b>"] * 2 + ["b"],
        },
    )
    return path


def see_all(page, which=""):
    """Scroll through, so that every chart, or those of one kind, are drawn."""
    for place in page.locator(f".chart{which}").all():
        place.scroll_into_view_if_needed()
        place.locator(".main-svg").first.wait_for()


def indices(page):
    """Return the positions of the cards that are in the page, in reading order."""
    return page.evaluate(
        "[...document.querySelectorAll('.card')]"
        ".sort((a, b) => a.dataset.place - b.dataset.place).map((c) => Number(c.dataset.index))"
    )


def found(page):
    return page.locator("#found").inner_text()


def active(page):
    return page.evaluate("document.activeElement.dataset.place")


def test_everything_is_drawn(open_page, report):
    page = open_page(report)
    see_all(page)
    assert page.locator(".chart .main-svg").count() >= 5
    assert page.locator('[data-chart="map"] .scatterlayer .point').count() == N_IMAGES
    assert page.locator('[data-chart="curves"] .scatterlayer .point').count() == 3
    assert page.locator(".card img").first.evaluate("image => image.naturalWidth") == 8
    n_shown = len({*digit_selection().indices, *range(0, N_IMAGES, 12), 0, *range(60, 90)})
    assert found(page) == f"30 of {n_shown} cards"


def test_hostile_names_stay_text(open_page, report):
    page = open_page(report)
    see_all(page)
    page.select_option("#show", "0")
    page.fill("#search", HOSTILE_ID[:6])
    page.locator(".card").first.click()
    assert page.locator("#detail-title").inner_text().startswith('a"b<b>bold</b>')
    assert HOSTILE_CLASS in page.locator("#class option").all_inner_texts()
    names = page.locator("#concept-names option").evaluate_all("all => all.map((o) => o.value)")
    assert HOSTILE_CONCEPT in names
    # Charts too: plotly would make <b> bold, and an entity its sign.
    ticks = page.locator('[data-chart="balance"] .ytick text').all_text_contents()
    assert "<b>one</b>" in ticks
    assert HOSTILE_CLASS in ticks
    concepts = page.locator("#concepts .ytick text").all_text_contents()
    assert any(name.startswith("</script><img") for name in concepts)
    assert not [name for name in concepts if "&" in name]
    curves = page.locator('[data-chart="curves"] .legendtext').all_text_contents()
    assert curves == ["<b>a</b>", "b"]
    assert page.locator(".chart b, .chart i, .card b, .card script, dialog b, table b").count() == 0
    assert page.locator("img[onerror], img[src='x']").count() == 0


def test_filters(open_page, report):
    page, selection, profiles = open_page(report), digit_selection(), digit_profiles()
    page.select_option("#class", "1")
    expected = [i for i in selection.indices if selection.labels[i] == 1]
    assert sorted(indices(page)) == expected
    page.select_option("#class", "")
    page.fill("#concept", "dark")
    assert sorted(indices(page)) == [i for i in selection.indices if "dark" in profiles.words(i)]
    page.check("#added")
    assert len(indices(page)) <= 1  # once added, a concept is there
    page.click("#start-over")
    assert found(page).startswith("30 of")
    page.select_option("#show", label="suspects")
    assert sorted(indices(page)) == list(range(0, N_IMAGES, 12))
    first = page.locator('.card[data-index="12"]')
    assert f"{CLASSES[selection.labels[12]]} → " in first.inner_text()
    page.select_option("#show", label="removed")
    assert not set(indices(page)) & set(selection.indices)
    page.select_option("#group", label="<u>day</u>")
    assert all(i % 2 == 0 for i in indices(page))


def test_search_by_id(open_page, report):
    page = open_page(report)
    page.select_option("#show", "0")
    wanted = int(digit_selection().indices[-1])
    page.keyboard.press("Tab")
    page.locator("body").press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type(f"ER/{wanted:03d}")
    assert indices(page) == [wanted]
    page.keyboard.press("Enter")
    assert active(page) == "0"
    page.fill("#search", "no such image")
    assert indices(page) == []
    assert found(page).startswith("0 of")


def test_the_first_cards_show_every_class(open_page, report):
    page, selection = open_page(report), digit_selection()
    by_total = sorted(selection.indices, key=lambda i: -selection.scores["total"][i])
    turns = {}
    for i in by_total:
        turns.setdefault(int(selection.labels[i]), []).append(int(i))
    first = [images[0] for images in turns.values()]
    assert indices(page)[: len(first)] == first
    assert len(first) == len({*selection.labels[selection.indices]})
    counts = [len(images) for images in turns.values()]
    assert len(indices(page)) == sum(counts)


def test_sorts_by_any_score(open_page, report):
    page, selection = open_page(report), digit_selection()
    by_total = sorted(selection.indices, key=lambda i: -selection.scores["total"][i])
    page.select_option("#sort", "rank")
    assert indices(page) == by_total
    page.select_option("#sort", "score label_score")
    by_score = sorted(selection.indices, key=lambda i: -selection.scores["label_score"][i])
    assert indices(page) == by_score
    page.select_option("#order", "up")
    assert indices(page) == by_score[::-1]
    assert page.locator('.card[data-place="0"]').inner_text().find("-2.") > 0
    page.select_option("#sort", "index")
    assert indices(page) == selection.indices.tolist()


def test_keys(open_page, report):
    page = open_page(report)
    page.locator("#start-over").focus()
    page.keyboard.press("Tab")
    assert active(page) in (None, "0")  # Chromium also stops at an area that scrolls
    page.locator('.card[data-place="0"]').focus()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("ArrowRight")
    assert active(page) == "1"
    page.keyboard.press("ArrowDown")
    columns = page.evaluate("gallery.columns")
    assert active(page) == str(1 + columns)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("End")
    assert active(page) == "29"
    page.keyboard.press("ArrowRight")
    assert active(page) == "29"
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    dialog = page.locator("#detail")
    assert dialog.is_visible()
    assert page.locator("#detail-place").inner_text() == "1 of 30"
    page.keyboard.press("ArrowRight")
    assert page.locator("#detail-place").inner_text() == "2 of 30"
    page.keyboard.press("Escape")
    page.locator('.card[data-place="1"]:focus').wait_for()
    assert not dialog.is_visible()
    assert page.locator('.card[tabindex="0"]').count() == 1


def test_a_concept_of_an_image_leads_to_others(open_page, report):
    page, profiles = open_page(report), digit_profiles()
    shown = next(i for i in indices(page) if profiles.words(i))
    page.locator(f'.card[data-index="{shown}"]').click()
    chip = page.locator("#detail .chips button").first
    name = chip.inner_text()
    chip.click()
    assert page.input_value("#concept") == name
    assert all(name in profiles.words(i) for i in indices(page))
    assert len(indices(page)) > 1


def test_an_image_that_shows_no_concept_says_so(open_page, report):
    page, profiles = open_page(report), digit_profiles()
    silent = next(i for i in indices(page) if not profiles.words(i))
    page.locator(f'.card[data-index="{silent}"]').click()
    assert "nothing in the vocabulary fits" in page.locator("#detail").inner_text()
    assert page.locator("#detail .chips button").count() == 0


def test_a_click_on_the_map_opens_the_image(open_page, report):
    page = open_page(report)
    see_all(page, "[data-chart=map]")
    page.evaluate(
        "document.querySelector('[data-chart=map]')"
        ".emit('plotly_click', { points: [{ customdata: 3 }] })"
    )
    assert page.locator("#detail").is_visible()
    assert page.evaluate("opened") == 3


def test_on_a_phone(open_page, report):
    page = open_page(report, viewport={"width": 360, "height": 740}, has_touch=True)
    see_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("gallery.columns") == 2
    page.locator(".card").first.tap()
    box = page.locator("#detail").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360


def darkness(page):
    """Return how dark the ground is, and the text on it."""
    return page.evaluate(
        "['backgroundColor', 'color'].map((part) => getComputedStyle(document.body)[part]"
        ".match(/\\d+/g).slice(0, 3).reduce((sum, x) => sum + Number(x), 0) / 3)"
    )


def test_dark_mode(open_page, report):
    ground, text = darkness(open_page(report, color_scheme="light"))
    assert ground > 200
    assert text < 80
    page = open_page(report, color_scheme="dark")
    see_all(page, '[data-part="0"]')
    ground, text = darkness(page)
    assert ground < 60
    assert text > 180
    tick = page.locator('[data-part="0"] .ytick text').first
    assert "236, 236, 234" in tick.evaluate("text => getComputedStyle(text).fill")
    page.click("#theme")
    assert page.locator("#theme").inner_text() == "colours: light"
    assert darkness(page)[0] > 200
    assert "29, 29, 27" in tick.evaluate("text => getComputedStyle(text).fill")


def test_without_pictures_and_parts(open_page, tmp_path):
    Selection.from_indices([0, 2], 4).report_html(tmp_path / "bare.html")
    page = open_page(tmp_path / "bare.html")
    assert page.locator(".card").count() == 2
    assert page.locator(".card img, .chart").count() == 0
    page.locator(".card").first.click()
    assert page.locator("#detail-picture").is_hidden()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Ten thousand noisy pictures, which compress worse than photos do."""
    path, n = tmp_path_factory.mktemp("large") / "large.html", 10_000
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (250, 48, 48, 3), dtype=np.uint8)[np.arange(n) % 250]
    Z = rng.normal(size=(n, 64)).astype(np.float32)
    vocabulary = digit_profiles().vocabulary
    Selection.from_indices(
        np.arange(n), n, scores={"total": rng.normal(size=n)}, y=rng.integers(0, 10, n)
    ).report_html(
        path,
        images=images,
        embeddings=Z,
        profiles=ConceptProfiles.from_embeddings(Z, vocabulary, 10),
    )
    return path


@pytest.mark.slow
def test_ten_thousand_cards(open_page, large):
    assert large.stat().st_size < 30_000_000
    start = time.perf_counter()
    page = open_page(large)
    print(f"{large.stat().st_size / 1e6:.1f} MB, cards after {time.perf_counter() - start:.2f} s")
    assert found(page) == "10,000 of 10,000 cards"
    assert page.locator(".card").count() < 100
    page.locator('.card[data-place="0"]').focus()
    page.keyboard.press("End")
    assert active(page) == "9999"
    page.locator("#scroller").evaluate("box => { box.scrollTop = box.scrollHeight / 2 }")
    middle = f'.card[data-place="{5000 - 5000 % page.evaluate("gallery.columns")}"]'
    page.locator(middle).wait_for()
    assert page.locator(".card").count() < 100
