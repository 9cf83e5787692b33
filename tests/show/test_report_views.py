"""What the page shows of itself: suspects, the map's colours, paper, a table before any choice."""

from __future__ import annotations

import numpy as np
import pytest

from clip_al.show.report.write import write_report
from clip_al.subset.selection import Selection
from tests.show.report_inputs import (
    N_IMAGES,
    digit_profiles,
    digit_selection,
    digits,
    hostile_ids,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    images, _, Z = digits()
    digit_selection(hostile_ids()).report_html(
        folder / "report.html", images=images, embeddings=Z, profiles=digit_profiles(),
        labelled=[1, 2],
    )  # fmt: skip
    return folder / "report.html"


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A page of all digits before any choice, a third of them with a card."""
    folder = tmp_path_factory.mktemp("sample")
    images, _, Z = digits()
    selection = Selection.from_indices(np.arange(0, N_IMAGES, 3), N_IMAGES, ids=hostile_ids())
    write_report(
        selection, folder / "sample.html", images=images, embeddings=Z, profiles=digit_profiles(),
        is_sample=True, class_names=["a", "b"],
    )  # fmt: skip
    return folder / "sample.html"


def draw_map(page):
    place = page.locator("[data-chart=map]")
    place.scroll_into_view_if_needed()
    place.locator(".main-svg").first.wait_for()


def traces(page):
    """Return the map's groups of points: name to how many."""
    found = page.evaluate(
        "document.querySelector('[data-chart=map]').data.map((one) => [one.name, one.x.length])"
    )
    return dict(found)


def test_a_number_leads_to_the_suspects(open_page, report):
    page, selection = open_page(report), digit_selection()
    assert page.locator(".tiles a").inner_text() == "10 shown"
    for link in page.locator("[data-show=suspects]").all():
        link.click()
        order = page.evaluate("gallery.found.map((i) => cards.index[i])")
        assert order == [suspect.index for suspect in selection.suspects(10)]
        assert page.evaluate("document.activeElement.dataset.place") == "0"
        page.click("#start-over")


def test_the_map_is_coloured_by(open_page, report):
    page, selection = open_page(report), digit_selection()
    draw_map(page)
    assert traces(page)["chosen"] + traces(page)["suspect"] == 37
    assert traces(page)["labelled before"] == 2
    page.select_option("#colour-by", "class")
    counts = np.bincount(selection.labels, minlength=10)
    assert sum(traces(page).values()) == N_IMAGES
    assert traces(page)["3"] == counts[3]
    assert "&lt;b&gt;one&lt;/b&gt;" in traces(page)
    assert page.locator("[data-chart=map] .legendtext b").count() == 0
    page.select_option("#colour-by", "group")
    assert sorted(traces(page).values()) == [60, 60]
    page.select_option("#colour-by", "score total")
    assert traces(page) == {"total": N_IMAGES}
    page.select_option("#colour-by", "concept")
    assert page.locator("#map-concept").is_visible()
    page.fill("#map-concept", "dark")
    shows = sum("dark" in digit_profiles().words(i) for i in range(N_IMAGES))
    assert traces(page)["shows it"] == shows
    page.select_option("#colour-by", "cluster")
    assert not page.locator("#map-concept").is_visible()
    assert sum(traces(page).values()) == N_IMAGES
    names = page.locator("[data-chart=map] .annotation-text").all_text_contents()
    assert len(names) == 6  # of 20 images or more
    assert not [name for name in names if "&lt;" in name]
    # A click opens the card, whatever the colours are.
    page.evaluate(
        "document.querySelector('[data-chart=map]')"
        ".emit('plotly_click', { points: [{ customdata: 0 }] })"
    )
    assert page.locator("#detail").is_visible()


def test_search_finds_concepts_and_classes(open_page, report):
    page, selection, profiles = open_page(report), digit_selection(), digit_profiles()
    page.fill("#search", "DARK")
    found = page.evaluate("gallery.found.map((i) => cards.index[i])")
    assert found
    assert sorted(found) == [i for i in selection.indices if "dark" in profiles.words(i)]
    page.fill("#search", "<b>one")
    found = page.evaluate("gallery.found.map((i) => cards.index[i])")
    assert sorted(found) == [i for i in selection.indices if selection.labels[i] == 1]


def test_where_nothing_fits_the_page_says_what_to_do(open_page, report):
    page = open_page(report)
    assert not page.locator("#nothing").is_visible()
    page.fill("#search", "no such image")
    assert "No image fits" in page.locator("#nothing").inner_text()
    page.click("#show-all")
    assert not page.locator("#nothing").is_visible()
    assert page.locator("#found").inner_text() == "37 of 37 cards"


def test_scores_are_explained_where_they_stand(open_page, report):
    page = open_page(report)
    page.locator(".card").first.click()
    meaning = page.locator("#detail dt", has_text="label_score").get_attribute("title")
    assert meaning.startswith("label_score: how credible the given label is")
    page.keyboard.press("Escape")
    page.locator("summary", has_text="What the scores say").click()
    assert "the lowest are the suspects" in page.locator("#images .pairs").inner_text()


def test_paper_has_every_chart_and_the_first_cards(open_page, report):
    page = open_page(report, color_scheme="dark")
    assert page.locator(".chart .main-svg").count() == 0
    page.select_option("#show", "0")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    for place in page.locator(".chart").all():
        assert place.locator(".main-svg").count() > 0
        assert place.locator(".main-svg").first.bounding_box()["width"] <= 680
    assert page.locator(".card").count() == 37
    assert page.locator("#filters:visible, nav:visible, #map-colours:visible").count() == 0
    fill = page.locator(".ytick text").first.evaluate("text => getComputedStyle(text).fill")
    assert "29, 29, 27" in fill  # dark on paper
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen", color_scheme="dark")
    fill = page.locator(".ytick text").first.evaluate("text => getComputedStyle(text).fill")
    assert "236, 236, 234" in fill


def test_a_table_before_any_choice(open_page, sample):
    page = open_page(sample)
    assert "120 images before any choice" in page.locator(".lead").inner_text()
    assert "40 of them are shown" in page.locator(".lead").inner_text()
    assert "chosen" not in page.locator("body").inner_text()
    # The first cards show every cluster.
    clusters = page.evaluate("gallery.found.slice(0, 6).map((i) => gallery.clusters[i])")
    assert sorted(clusters) == list(range(6))
    draw_map(page)
    assert page.input_value("#colour-by") == "cluster"
    page.locator("[data-chart=frequent]").scroll_into_view_if_needed()
    page.locator("[data-chart=frequent] .main-svg").first.wait_for()
    page.select_option("#colour-by", "choice")
    assert traces(page) == {"pool": 80, "shown": 40}
    page.locator(".card").first.click()
    assert "shown" in page.locator("#detail .badges").inner_text()
    page.keyboard.press("2")
    page.keyboard.press("Escape")
    assert page.locator("#marked").inner_text() == "1 of 40 images marked"
