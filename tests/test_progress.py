"""Tests of the progress bar: on a terminal alone."""

from __future__ import annotations

import io
from functools import partial

import pytest
import rich.console

from clip_al.progress import progress_bar


@pytest.mark.parametrize("total", [None, 3])
@pytest.mark.parametrize(
    ("wanted", "terminal"), [(True, True), (True, False), (False, True)], ids=str
)
def test_a_bar_is_shown_where_it_is_wanted_and_on_a_terminal(monkeypatch, total, wanted, terminal):
    shown = io.StringIO()
    console = partial(rich.console.Console, file=shown, force_terminal=terminal)
    monkeypatch.setattr("rich.console.Console", lambda stderr: console())
    with progress_bar(wanted, "Scoring", total) as advance:
        advance(2, note="loss 0.5")
    assert ("Scoring" in shown.getvalue()) is (wanted and terminal)


def test_it_counts_on_from_an_earlier_run(monkeypatch):
    shown = io.StringIO()
    console = partial(rich.console.Console, file=shown, force_terminal=True, width=120)
    monkeypatch.setattr("rich.console.Console", lambda stderr: console())
    with progress_bar(True, "Encoding", 10, done=4) as advance:
        advance(3, note="loss 0.25")
    assert "7/10" in shown.getvalue()
    assert "loss 0.25" in shown.getvalue()
