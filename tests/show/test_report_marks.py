"""Images marked on the page in a real Chromium, saved, and read by the library's own readers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clip_al.errors import InvalidInputError
from clip_al.handed_in.decisions import apply_decisions
from clip_al.handed_in.read import read_labelled
from clip_al.show.report.marking import check_marking, describe_marking
from clip_al.show.report.write import write_report
from clip_al.subset.selection import Selection
from clip_al.table.embedding_table import EmbeddingTable
from tests.command_line import flat, run
from tests.show.report_inputs import N_IMAGES, digit_selection, digits, hostile_ids, write_images

NAMES = [
    "cat, small", 'a "dog"', "Käfer", "=1+1", "None", "wrong", " +tab\there", "sep=;", "b|c", "ten",
]  # fmt: skip
"""Classes that a CSV file may come to grief over."""
CLASSES = [name.strip() for name in NAMES]
ODD_IDS = [
    'a, "b".png', "ä ö/ü.png", "=cmd|' /C calc'!A0.png", "-1.png", "@x;y.png", "caf\udce9.png",
    "日本/語.png", "#.png", "'quoted'.png", "<b>.png",
]  # fmt: skip


def odd_ids(n):
    return [*ODD_IDS, *[f"folder/{i:03d}.png" for i in range(len(ODD_IDS), n)]]


def save(page, path):
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(path)
    return download.value.suggested_filename


def marked(page):
    return page.locator("#marked").inner_text()


def badge(page, place):
    found = page.locator(f'.card[data-place="{place}"] .mark')
    return found.inner_text() if found.count() else None


def shown_order(page):
    return page.evaluate("gallery.found.map((i) => cards.index[i])")


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Sixty images in a table, of which fifty are on a page without labels."""
    folder = tmp_path_factory.mktemp("pool")
    _, _, Z = digits()
    table = EmbeddingTable.from_array(folder / "table", Z[:60], odd_ids(60), model_id="toy")
    selection = Selection.from_indices(np.arange(50), 60, ids=table.ids.tolist())
    selection.report_html(folder / "labels.html", images=digits()[0][:60], class_names=CLASSES)
    return folder, table


@pytest.mark.browser
@pytest.mark.slow
def test_fifty_images_labelled_by_keys_are_read_back(open_page, pool, tmp_path):
    folder, table = pool
    rng = np.random.default_rng(0)
    given = [*range(9), *rng.integers(0, 9, 41).tolist()]
    page = open_page(folder / "labels.html")
    page.locator('.card[data-place="0"]').focus()
    for code in given[:25]:
        page.keyboard.press(str(code + 1))
    assert marked(page) == "25 of 50 images marked"
    page.reload()
    page.wait_for_selector(".card")
    assert marked(page) == "25 of 50 images marked"
    assert badge(page, 0) == CLASSES[given[0]]
    page.select_option("#mark", "none")
    page.locator('.card[data-place="0"]').focus()
    for code in given[25:]:
        page.keyboard.press(str(code + 1))
    assert marked(page) == "50 of 50 images marked"
    assert save(page, tmp_path / "labels.csv") == "labels.csv"
    assert "--labelled labels.csv" in page.locator("#what-next").inner_text()

    read = read_labelled(tmp_path / "labels.csv", table, classes=CLASSES)
    assert read.indices.tolist() == list(range(50))
    assert read.labels == [CLASSES[code] for code in given]


@pytest.mark.browser
@pytest.mark.slow
def test_undo_remove_filter_and_dialog(open_page, pool):
    page = open_page(pool[0] / "labels.html")
    assert page.locator("#undo").is_disabled()
    assert page.locator("#save").is_disabled()
    page.keyboard.press("1")  # without a click: on the card that Tab would reach
    page.keyboard.press("2")
    page.keyboard.press("u")
    assert [badge(page, k) for k in range(4)] == [CLASSES[0], CLASSES[1], "? unclear", None]
    page.keyboard.press("z")
    assert badge(page, 2) is None
    assert page.evaluate("document.activeElement.dataset.place") == "2"
    page.locator('.card[data-place="0"]').focus()
    page.keyboard.press("3")
    assert badge(page, 0) == CLASSES[2]
    page.keyboard.press("Control+z")
    assert badge(page, 0) == CLASSES[0]
    page.keyboard.press("Delete")
    assert badge(page, 0) is None
    assert marked(page) == "1 of 50 images marked"
    page.select_option("#mark", f"class:{CLASSES[1]}")
    assert shown_order(page) == [1]
    page.select_option("#mark", "any")
    assert page.locator(".card").count() == 1
    page.select_option("#mark", "")
    # In the dialog a mark leads to the next image, and so does a button.
    page.locator('.card[data-place="5"]').click()
    page.keyboard.press("1")
    assert page.locator("#detail-place").inner_text() == "7 of 50"
    page.locator("#choices-detail button", has_text=CLASSES[2]).click()
    assert page.locator("#detail-place").inner_text() == "8 of 50"
    page.keyboard.press("ArrowLeft")
    assert CLASSES[2] in page.locator("#detail .badges").inner_text()
    page.keyboard.press("Escape")
    assert [badge(page, k) for k in (5, 6)] == [CLASSES[0], CLASSES[2]]
    # Typing is no marking.
    page.fill("#search", "")
    page.locator("#search").press("1")
    assert marked(page) == "3 of 50 images marked"


@pytest.mark.browser
@pytest.mark.slow
def test_a_class_without_a_key(open_page, pool):
    page = open_page(pool[0] / "labels.html")
    page.keyboard.press("c")
    page.keyboard.type("TEN")
    page.keyboard.press("Enter")
    assert badge(page, 0) == "ten"
    assert page.evaluate("document.activeElement.dataset.place") == "1"
    page.keyboard.press("c")
    page.keyboard.type("eleven")
    page.keyboard.press("Enter")
    assert page.locator("#other-class").evaluate("field => field.validationMessage")
    assert marked(page) == "1 of 50 images marked"


@pytest.mark.browser
@pytest.mark.slow
def test_a_browser_that_keeps_nothing_says_so(open_page, pool, tmp_path):
    refuse = (
        "Object.defineProperty(window, 'localStorage',"
        "{ get() { throw new DOMException('no', 'SecurityError') } })"
    )
    page = open_page(pool[0] / "labels.html", before=refuse)
    said = page.locator("#not-kept")
    assert said.is_visible()
    assert "does not keep marks (SecurityError): save them" in said.inner_text()
    page.keyboard.press("4")
    save(page, tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text() == 'id,label\n"a, ""b"".png",=1+1\n'


@pytest.mark.browser
@pytest.mark.slow
def test_what_the_browser_keeps_is_checked(open_page, pool):
    """Kept text is of this origin: every page that is opened from the disk may write it."""
    kept = json.dumps([[0, "<img src=x onerror=alert(1)>"], [1, "class:<b>x</b>"], 7, [2]])
    key = Selection.from_indices(np.arange(50), 60, ids=odd_ids(60)).fingerprint
    page = open_page(
        pool[0] / "labels.html",
        before=f"localStorage.setItem({json.dumps('clip_al ' + key)}, {json.dumps(kept)})",
    )
    assert [badge(page, k) for k in range(3)] == [None, "<b>x</b>", None]
    assert page.locator(".card b").count() == 0


@pytest.mark.browser
@pytest.mark.slow
def test_labels_of_before_are_saved_too(open_page, pool, tmp_path):
    _, table = pool
    selection = Selection.from_indices([3, 4, 5], 60, ids=table.ids.tolist())
    write_report(
        selection, tmp_path / "next.html", class_names=CLASSES, labelled=[50, 4, 9],
        labelled_names=[CLASSES[0], CLASSES[1], CLASSES[2]],
    )  # fmt: skip
    page = open_page(tmp_path / "next.html")
    assert [badge(page, k) for k in range(3)] == [None, CLASSES[1], None]
    for key in "455":
        page.keyboard.press(key)
    save(page, tmp_path / "labels.csv")
    read = read_labelled(tmp_path / "labels.csv", table, classes=CLASSES)
    found = dict(zip(read.indices.tolist(), read.labels, strict=True))
    assert found == {50: CLASSES[0], 4: CLASSES[4], 9: CLASSES[2], 3: CLASSES[3], 5: CLASSES[4]}


@pytest.mark.browser
@pytest.mark.slow
def test_no_keys_are_spoken_of_where_there_are_none(open_page, pool):
    page = open_page(
        pool[0] / "labels.html", viewport={"width": 360, "height": 740}, has_touch=True,
        is_mobile=True,
    )  # fmt: skip
    assert page.locator("kbd:visible, #keys:visible").count() == 0
    page.locator("#choices button", has_text=CLASSES[0]).tap()
    assert badge(page, 0) == CLASSES[0]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.fixture(scope="module")
def doubted(tmp_path_factory):
    """A page of suspects whose classes are called like decisions; and the file of the labels."""
    folder = tmp_path_factory.mktemp("doubted")
    names = ["ok", "Wrong", "class:x", "unclear", 'a, "b"', "Käfer", "6", "7", "8", "9"]
    known = digit_selection(hostile_ids())
    selection = Selection.from_indices(
        known.indices, N_IMAGES, scores=known.scores, y=known.labels, class_names=names,
        ids=hostile_ids(),
    )  # fmt: skip
    selection.report_html(folder / "r.html", images=digits()[0])
    frame = pd.DataFrame({"id": hostile_ids(), "label": [names[i] for i in selection.labels]})
    frame.to_csv(folder / "labels.csv", index=False)
    return folder, selection, names


@pytest.mark.browser
@pytest.mark.slow
def test_decisions_go_into_the_labels(open_page, doubted, tmp_path):
    folder, selection, names = doubted
    page = open_page(folder / "r.html")
    page.select_option("#show", label="suspects")
    order = shown_order(page)
    page.locator('.card[data-place="0"]').focus()
    for key in "rwul1234":
        page.keyboard.press(key)
    assert badge(page, 1) == "✗ wrong"
    assert marked(page) == "8 of 10 suspects marked"
    assert save(page, tmp_path / "decisions.csv") == "decisions.csv"
    assert "labels apply" in page.locator("#what-next").inner_text()

    done = apply_decisions(folder / "labels.csv", tmp_path / "decisions.csv")
    expected = [names[i] for i in selection.labels]
    likelier = [names[int(i)] for i in selection.scores["likeliest"]]
    expected[order[1]] = ""
    expected[order[3]] = likelier[order[3]]
    for place, code in zip(order[4:8], range(4), strict=True):
        expected[place] = names[code]
    assert done.table.columns[1].tolist() == expected
    assert done.emptied == 1
    assert done.undecided == 3  # one unclear, two not looked at
    assert done.changed + done.kept == 6


@pytest.mark.browser
@pytest.mark.slow
def test_the_round_on_the_command_line(open_page, tmp_path):
    """The picks labelled by keys teach the head; all labelled, the labels are doubted."""
    write_images(tmp_path / "photos", 24)
    (tmp_path / "names.txt").write_text("zero\none\ntwo, too\n", encoding="utf-8")

    def clip_al(*arguments):
        names = {"photos", "t", "names.txt", "first.csv", "next.csv", "labels.csv", "all.html",
                 "first.html", "suspects.csv", "corrected.csv", "decisions.csv"}  # fmt: skip
        result = run(*(tmp_path / word if word in names else word for word in arguments))
        assert result.exit_code == 0, flat(result)
        return flat(result)

    def label_all(name, n):
        page = open_page(tmp_path / name)
        for k in range(n):
            page.keyboard.press("123"[k % 3])
        save(page, tmp_path / "labels.csv")

    clip_al("embed", "photos", "-o", "t")
    classes = ("--classes", "names.txt")
    clip_al("select", "t", "--budget", 6, *classes, "-o", "first.csv")
    clip_al("report", "first.csv", "--table", "t", *classes, "--no-concepts", "-o", "first.html")
    label_all("first.html", 6)
    said = clip_al(
        "select", "t", "--budget", 18, *classes, "--labelled", "labels.csv", "-o", "next.csv"
    )
    assert "6 labels of 3 classes: head trained" in said
    clip_al(
        "report", "next.csv", "--table", "t", *classes, "--labelled", "labels.csv",
        "--no-concepts", "-o", "all.html",
    )  # fmt: skip
    label_all("all.html", 18)
    assert len(pd.read_csv(tmp_path / "labels.csv")) == 24
    clip_al("suspects", "t", "--labels", "labels.csv", *classes, "-n", 5, "-o", "suspects.csv")
    marked = pd.read_csv(tmp_path / "suspects.csv").assign(decision="likelier")
    marked.to_csv(tmp_path / "decisions.csv", index=False)
    said = clip_al("labels", "apply", "labels.csv", "decisions.csv", "-o", "corrected.csv")
    assert "matched by the column `id`" in said


# Without a browser


def test_words_of_decisions_are_no_classes():
    def words(*names):
        selection = Selection.from_indices([0], len(names), y=range(len(names)), class_names=names)
        found = describe_marking(selection, names, np.empty(0, np.int64), ())
        return found["words"], found["as_decision"]

    assert words("cat", "dog") == (
        {"right": "right", "wrong": "wrong", "unclear": "unclear"}, ["cat", "dog"],
    )  # fmt: skip
    assert words("right", "Wrong") == (
        {"right": "ok", "wrong": "wrong", "unclear": "unclear"}, ["class:right", "class:Wrong"],
    )  # fmt: skip
    assert words("wrong", "class:a")[0]["wrong"] == "Wrong"
    with pytest.raises(InvalidInputError, match=r"^A class must not be called each of 'wrong'"):
        words("wrong", "Wrong", "WRONG")


def test_a_page_without_classes_cannot_be_marked(tmp_path: Path):
    write_report(Selection.from_indices([0, 2], 4), tmp_path / "bare.html")
    html = (tmp_path / "bare.html").read_text()
    assert 'id="marking"' not in html
    assert "--classes names.txt" in html


def test_classes_come_from_the_labels_of_before():
    selection, rows = Selection.from_indices([0], 4), np.array([1, 2])
    classes, known_as = check_marking(selection, None, rows, ["dog", "cat"])
    assert classes == ("cat", "dog")
    found = describe_marking(selection, classes, rows, known_as)
    assert found["before"] == {"index": [1, 2], "id": ["1", "2"], "class": [1, 0]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ["a", "a"]}, r"^`class_names` must name each class once"),
        ({"labelled": [1], "labelled_names": []}, r"^`labelled_names` must be one class for each"),
        (
            {"labelled": [1], "labelled_names": ["b"], "class_names": ["a", "c"]},
            r"^`labelled_names` must be of `class_names`; 'b' is not",
        ),
    ],
)
def test_bad_marking(options, message, tmp_path):
    with pytest.raises(InvalidInputError, match=message):
        write_report(Selection.from_indices([0], 4), tmp_path / "r.html", **options)
    assert not list(tmp_path.iterdir())


def test_a_selection_with_labels_has_its_own_classes(tmp_path):
    with pytest.raises(InvalidInputError, match=r"^`class_names` must be left out where"):
        digit_selection().report_html(tmp_path / "r.html", class_names=["a", "b"])
