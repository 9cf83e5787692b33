"""Tests of the progress bar: drawn on a terminal, in lines elsewhere."""

from __future__ import annotations

import io
import os
import time
from functools import partial

import pytest
import rich.console

from clip_al import progress
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


@pytest.mark.parametrize("total", [20, None])
def test_a_log_gets_a_line_a_second_also_within_one_step(monkeypatch, capsys, total):
    monkeypatch.setattr(progress, "EVERY_S", 0.05)
    with progress_bar(True, "Scoring", total, done=5) as advance:
        if total:
            advance(3, note="loss 0.5")
        time.sleep(0.4)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) >= 3
    start = "Scoring: 8 of 20, loss 0.5, " if total else "Scoring: "
    assert all(line.startswith(start) and line.endswith(" s") for line in lines)


def test_a_log_of_what_is_quick_stays_empty(capsys):
    with progress_bar(True, "Scoring", 20) as advance:
        advance()
    with progress_bar(False, "Scoring", 20) as advance:
        advance()
    assert capsys.readouterr() == ("", "")


def test_a_bar_moves_within_one_step(monkeypatch):
    shown = io.StringIO()
    console = partial(rich.console.Console, file=shown, force_terminal=True, width=120)
    monkeypatch.setattr("rich.console.Console", lambda stderr: console())
    monkeypatch.setattr(progress, "EVERY_S", 0.05)
    with progress_bar(True, "Encoding", 10):
        time.sleep(0.1)
        before = len(shown.getvalue())
        time.sleep(0.4)
        assert len(shown.getvalue()) > before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_forked_meanwhile_can_draw(monkeypatch):
    monkeypatch.setattr(progress, "EVERY_S", 0.001)
    with progress_bar(True, "Scoring", None):
        for _ in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0 if progress._drawing.acquire(timeout=5) else 1)
            assert os.waitpid(child, 0)[1] == 0
