"""What the tests of all experiments look at: that cells stand in groups, and the pages."""

from __future__ import annotations

import json
from itertools import groupby

from benchmarks.harness.cells import key
from benchmarks.harness.pages import Page


def check_distinct(experiment, cells):
    """No two cells have one key."""
    assert len({key(experiment.name, "mini", cell) for cell in cells}) == len(cells)


def check_cells(experiment, cells):
    """Cells differ, and those that share what one process keeps stand together."""
    check_distinct(experiment, cells)
    groups = [json.dumps(name) for name, _ in groupby(cells, lambda c: shared(experiment, c))]
    assert len(set(groups)) == len(groups)


def shared(experiment, cell):
    return [cell[field] for field in experiment.share]


def rendered(experiment, records, folder):
    """Return the text of the page of a table of records, and its plots, bytes by file name."""
    page = Page(folder, experiment.name.replace("_", "-"), experiment.title)
    experiment.render(records, page)
    text = page.write().read_text(encoding="utf-8")
    return text, {file.name: file.read_bytes() for file in sorted(folder.glob("*.svg"))}


def rendered_twice(experiment, records, folder, again=None):
    """Return what `rendered` does, the same byte for byte when it is made `again`."""
    first = rendered(experiment, records, folder / "one")
    second = rendered(experiment, records if again is None else again, folder / "two")
    assert first == second
    return first
