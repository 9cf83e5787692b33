"""What people decide about suspects goes into their labels."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from clip_al.errors import InvalidInputError
from clip_al.handed_in.decisions import apply_decisions
from clip_al.handed_in.write import write_corrected

LABELS = "image,label,who\na.jpg,cat,x\nb.jpg,cat,y\nc.jpg,dog,z\nd.jpg,dog,z\ne.jpg,cat,x\n"
SUSPECTS = "index,id,path,given,likelier,score,decision\n"


def suspects(*decided: str) -> str:
    """Return a file of suspects: "c.jpg dog: cat" is an image, its label, the decision."""
    lines = []
    for text in decided:
        image, given, decision = re.fullmatch(r"(\S+) (\S+): ?(.*)", text).groups()  # type: ignore[union-attr]
        other = "dog" if given == "cat" else "cat"
        lines.append(f"{'abcde'.index(image[0])},{image},/x/{image},{given},{other},-1,{decision}")
    return SUSPECTS + "\n".join(lines) + "\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("labels.csv").write_text(LABELS)


def decide(*decided: str, labels: str = "labels.csv", **options: str) -> list[str]:
    Path("suspects.csv").write_text(suspects(*decided))
    done = apply_decisions(labels, "suspects.csv", **options)
    write_corrected("corrected.csv", done.table, overwrite=True)
    return pd.read_csv("corrected.csv", keep_default_na=False, dtype=str)["label"].tolist()


def test_each_decision_does_what_it_says() -> None:
    decided = (
        "c.jpg dog: cat",
        "a.jpg cat: ok",
        "b.jpg cat: likelier",
        "e.jpg cat: Wrong",
        "d.jpg dog:",
    )
    Path("suspects.csv").write_text(suspects(*decided))
    done = apply_decisions("labels.csv", "suspects.csv")
    assert (done.changed, done.kept, done.emptied, done.undecided) == (2, 1, 1, 1)
    assert done.how == (
        "2 labels changed, 1 kept as right, 1 emptied as wrong, 1 suspects undecided; matched by "
        "the column `image`"
    )
    write_corrected("corrected.csv", done.table)
    assert Path("corrected.csv").read_text() == (
        "image,label,who\na.jpg,cat,x\nb.jpg,dog,y\nc.jpg,cat,z\nd.jpg,dog,z\ne.jpg,,x\n"
    )


def test_what_is_unclear_stays_undecided() -> None:
    Path("suspects.csv").write_text(suspects("c.jpg dog: Unclear", "a.jpg cat:"))
    done = apply_decisions("labels.csv", "suspects.csv")
    assert done.table.columns[1].tolist() == ["cat", "cat", "dog", "dog", "cat"]
    assert (done.changed, done.kept, done.emptied, done.undecided) == (0, 0, 0, 2)
    with pytest.raises(InvalidInputError, match=r"The decision 'unclear' of .* must be clear"):
        decide("c.jpg dog: unclear", labels=_with_class("unclear"))


def _with_class(name: str) -> str:
    Path("more.csv").write_text(f"{LABELS}f.jpg,{name},x\n")
    return "more.csv"


def test_applied_twice_is_applied_once() -> None:
    first = decide("c.jpg dog: cat", "e.jpg cat: wrong")
    again = decide("c.jpg dog: cat", "e.jpg cat: wrong", labels="corrected.csv")
    assert first == again == ["cat", "cat", "cat", "dog", ""]


@pytest.mark.parametrize(
    "text",
    [
        "filename;label\n/data/a.jpg;cat\n/data/b.jpg;cat\n/data/c.jpg;dog\n/data/d.jpg;dog\n",
        "path,label\n/x/d.jpg,dog\n/x/c.jpg,dog\n/x/b.jpg,cat\n/x/a.jpg,cat\n",
        "label\ncat\ncat\ndog\ndog\n",
        "cat\ncat\ndog\ndog\n",
        "c.jpg,dog\nb.jpg,cat\na.jpg,cat\nd.jpg,dog\n",
    ],
)
def test_labels_in_every_form(text: str) -> None:
    Path("labels.csv").write_text(text)
    before = text.splitlines()
    assert sorted(decide("c.jpg dog: cat")) == ["cat", "cat", "cat", "dog"]
    after = Path("corrected.csv").read_text().splitlines()
    assert len(after) == 5
    if before[0].startswith("path"):
        assert after[2] == "/x/c.jpg,cat"
    elif before[0].startswith("c.jpg"):
        assert after[:2] == ["id,label", "c.jpg,cat"]
    else:
        assert after[3].endswith("cat")


def test_labels_that_are_numbers_stay_numbers() -> None:
    Path("labels.csv").write_text("id,label\na.jpg,0\nb.jpg,0\nc.jpg,1\n")
    Path("classes.txt").write_text("cat\ndog\nbird\n")
    options = {"classes": "classes.txt"}
    assert decide("c.jpg dog: cat", "a.jpg cat: bird", **options) == ["2", "0", "0"]
    with pytest.raises(InvalidInputError, match="must have names where labels are numbers"):
        decide("c.jpg dog: cat")


def test_a_class_that_is_called_ok() -> None:
    Path("labels.csv").write_text("id,label\na.jpg,cat\nb.jpg,ok\nc.jpg,dog\n")
    assert decide("c.jpg dog: class:ok", "a.jpg cat: right", "b.jpg ok: ok") == ["cat", "ok", "ok"]
    message = "must be clear; it is a class here too. Write `class:ok` for the class, or `right`"
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        decide("c.jpg dog: ok")


@pytest.mark.parametrize(
    ("decided", "message"),
    [
        ("c.jpg dog: cta", "that of 'c.jpg' is 'cta'. The closest are 'cat'."),
        ("c.jpg dog:", "must hold decisions; its column `decision` is empty in all 1 rows."),
        ("c.jpg bird: cat", "the suspects say 'bird', the labels 'dog'. Pass the file that"),
        ("d.png dog: cat", "A column of labels.csv must name the images"),
    ],
)
def test_what_does_not_fit_is_refused(decided: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        decide(decided)
    assert not Path("corrected.csv").exists()


def test_a_suspect_without_a_row() -> None:
    with pytest.raises(InvalidInputError, match=r"it has none of 'd\.png'"):
        decide("c.jpg dog: cat", "d.png dog: cat")
    Path("suspects.csv").write_text("id,given\nc.jpg,dog\n")
    with pytest.raises(InvalidInputError, match="must have a column `decision`, as `clip-al susp"):
        apply_decisions("labels.csv", "suspects.csv")


def test_a_file_in_latin_1_becomes_utf_8() -> None:
    Path("labels.csv").write_bytes("id,label,who\na.jpg,brûlé,José\nb.jpg,cat,x\n".encode("cp1252"))
    assert decide("b.jpg cat: brûlé") == ["brûlé", "brûlé"]
    assert Path("corrected.csv").read_text("utf-8") == (
        "id,label,who\na.jpg,brûlé,José\nb.jpg,brûlé,x\n"
    )
