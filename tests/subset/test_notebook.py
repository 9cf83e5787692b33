"""What notebooks show: escaped, small, cheap, and there before a fit."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from clip_al.concepts.notebook import profiles_html
from clip_al.concepts.profiles import ConceptProfiles
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.subset.notebook import selection_html, selector_html
from clip_al.subset.selection import Selection
from clip_al.subset.selector import ClipSelector
from tests.helpers import NAMES, images_near
from tests.reference import random_unit
from tests.subset.selections import make

HOSTILE = '<script>alert("1")</script>'
VOID = {"br", "hr", "img", "meta"}
TAGS = {
    "b", "bdi", "code", "details", "div", "p", "summary", "table", "tbody",
    "td", "th", "thead", "tr",
}  # fmt: skip


class Page(HTMLParser):
    """The elements, attributes and text of a page; an element left open is an error."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open, self.text = set(), set(), [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def words(text):
    return " ".join(Page(text).text.split())


def profiles_of(names, n=40, m=2):
    rng = np.random.default_rng(0)
    vocabulary = ConceptVocabulary.from_names(names)
    vocabulary = vocabulary.with_embeddings(random_unit(rng, len(names), 6), "toy@1")
    return ConceptProfiles.from_embeddings(random_unit(rng, n, 6), vocabulary, m)


def fitted(**settings):
    rng = np.random.default_rng(0)
    T = np.eye(6)[:4]
    y = np.arange(80) % 4
    selector = ClipSelector(0.5, class_names=NAMES, class_embeddings=T, **settings)
    return selector.fit(images_near(T, y, rng), y)


def test_profiles_show_frequent_concepts_and_first_images():
    profiles = profiles_of(["red", "green", "blue", "dark", "bright"])
    shown = words(profiles._repr_html_())
    assert "ConceptProfiles : 40 images, 2 of 5 concepts each; 5 concepts are seen, toy@1" in shown
    counts = np.bincount(profiles.ids[profiles.fits], minlength=5)
    top = int(counts.argmax())
    name = profiles.vocabulary.names[top]
    assert f"{name} {counts[top]} {counts[top] / 40:.1%}" in shown
    for index in range(3):
        assert f"{index} {', '.join(profiles.words(index))}" in shown
    assert f"3 {', '.join(profiles.words(3))}" not in shown


def test_counts_of_blocks_are_counts_of_all(monkeypatch):
    profiles = profiles_of(list("abcdefgh"))
    whole = profiles_html(profiles)
    monkeypatch.setattr("clip_al.concepts.notebook.BLOCK", 7)
    assert profiles_html(profiles) == whole


def test_a_selection_shows_balance_suspects_and_settings():
    shown = words(make()._repr_html_())
    assert "Selection : 3 of 6 images (50.0%), fingerprint" in shown
    assert make().fingerprint[:12] in shown
    assert "class before after kept cat 3 2 66.7% dog 2 1 50.0% ox 1 0 0.0%" in shown
    assert "group before after kept day 4 2 50.0% night 2 1 50.0%" in shown
    assert "likeliest mislabelled id given likelier score 4 e.jpg dog ox -5.00" in shown
    assert "Settings model toy ratio 0.5 seed 0" in shown


def test_labels_that_are_likeliest_are_no_suspects():
    shown = words(made_of(likeliest=list(make().labels))._repr_html_())
    assert "No label is less likely than another class of its image." in shown
    assert "mislabelled" not in shown


def made_of(**scores):
    made = make()
    return replace(made, scores={**made.scores, **{k: np.array(v) for k, v in scores.items()}})


def test_a_bare_selection_shows_itself():
    shown = words(selection_html(Selection.from_indices([0], 1)))
    assert shown.startswith("Selection : 1 of 1 images (100.0%), fingerprint")
    assert "mislabelled" not in shown
    assert "Settings" not in shown


def test_a_selector_shows_itself_before_and_after_a_fit():
    selector = ClipSelector(0.25, class_names=[f"class {i}" for i in range(1000)])
    before = words(selector._repr_html_())
    assert "ClipSelector , not fitted" in before
    assert "ratio 0.25" in before
    assert "'class 3', ...]" in before
    assert "class 4'" not in before
    assert "random_state" not in before  # has its default
    assert "All parameters have their defaults." in words(selector_html(ClipSelector()))

    selector = fitted(alpha=0.1)
    after = words(selector._repr_html_())
    assert "ClipSelector , fitted on 80 images" in after
    assert "alpha 0.1" in after
    assert f"labels {selector.label_noise_}" in after
    assert "adapter none" in after
    assert "Selection : 40 of 80 images" in after
    assert selector._repr_mimebundle_(include=None)["text/html"] == selector._repr_html_()


@pytest.mark.parametrize("hostile", [HOSTILE, "a & b <b>", "'\"><img src=x onerror=alert(1)>"])
def test_names_stay_text(hostile):
    selection = make(
        class_names=(hostile, "dog", "ox"),
        groups=np.array([hostile, *["day"] * 5]),
        ids=[f"{c}{hostile}" for c in "abcdef"],
        settings={hostile: hostile, "list": [hostile]},
    )
    selector = ClipSelector(class_names=[hostile])
    for text in (
        profiles_html(profiles_of([hostile, "red", "green"])),
        selection_html(selection),
        selector_html(selector),
    ):
        page = Page(text)
        assert page.tags <= TAGS
        assert page.attributes <= {"class", "style"}
        assert " ".join(hostile.split()).rstrip("'\"") in page.text.replace('\\"', '"').replace(
            "\\'", "'"
        )


def test_the_guard_against_tags_fires():
    assert "script" in Page(f"<p>{HOSTILE}</p>").tags


def test_no_formula_no_colour_and_no_half_characters():
    text = selection_html(make(ids=["\udcff$x$.jpg", *"bcdef"], class_names=("$a$", "b", "c")))
    assert text.startswith('<div class="tex2jax_ignore mathjax_ignore"')
    assert "#" not in text.replace("&#x27;", "")  # no colour but the theme's
    json.dumps(text, ensure_ascii=False).encode("utf-8")  # what a kernel sends


def test_long_names_and_many_classes_stay_small():
    names = tuple(f"{i} {'x' * 500}" for i in range(2000))
    labels = np.arange(4000) % 2000
    selection = Selection(
        np.arange(100), 4000, labels=labels, class_names=names,
        settings={"list": list(range(100_000)), "text": "y" * 10**6},
    )  # fmt: skip
    text = selection_html(selection)
    assert "and 1,990 more" in words(text)
    assert len(text) < 10_000
    assert len(selector_html(ClipSelector(class_embeddings=np.zeros((5000, 512))))) < 2_000


def test_a_million_images_are_shown_at_once():
    n = 1_000_000
    rng = np.random.default_rng(0)
    vocabulary = ConceptVocabulary.from_names([f"c{i}" for i in range(500)])
    first = rng.integers(0, 500, (n, 1), dtype=np.int32)
    ids = (first + 7 * np.arange(10, dtype=np.int32)) % 500
    profiles = ConceptProfiles(ids, np.zeros((n, 10), np.float32), vocabulary, None)
    selection = Selection(
        np.arange(0, n, 3), n, scores={"sas": rng.random(n, dtype=np.float32)},
        labels=rng.integers(0, 10, n),
    )  # fmt: skip
    for show, subject in ((profiles_html, profiles), (selection_html, selection)):
        show(subject)  # loads pandas
        began = time.process_time()
        assert len(show(subject)) < 8_000
        assert time.process_time() - began < 1.0  # a loop over images takes ten times as long


def test_the_same_object_shows_the_same_and_stays_as_it_is():
    selection, profiles = make(), profiles_of(["red", "green", "blue"])
    before = profiles.ids.copy()
    assert selection_html(selection) == selection_html(make())
    assert profiles_html(profiles) == profiles_html(profiles)
    np.testing.assert_array_equal(profiles.ids, before)
