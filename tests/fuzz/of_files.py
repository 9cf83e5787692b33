"""Files that people bring: labels, groups, positions, probabilities, class names."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from clip_al import files
from tests.fuzz import calls
from tests.fuzz.register import function, some
from tests.fuzz.world import NAMES, N

IDS = [f"i{i}" for i in range(N)]


def source(w, rng, **columns):
    """Return a table with a column of ids, or the path of such a file."""
    frame = pd.DataFrame({"id": IDS, **columns})
    if rng.random() < 0.5:
        return frame
    path = w.path(".csv")
    frame.to_csv(path, index=False)
    return path


def classes(w):
    path = w.folder / "classes.txt"
    path.write_text("\n".join(NAMES))
    return path


def array_file(w):
    path = w.path(".npy")
    np.save(path, np.eye(4))
    return path


function(
    "files.read_labels",
    lambda **a: files.read_labels(**a).labels,
    lambda w, rng: {
        "source": source(w, rng, label=[NAMES[i % 4] for i in range(N)]),
        "table": w.table,
        **some(rng, classes=classes(w)),
    },
    calls.array(low=0),
    weight=2,
    repeats=False,
)


def several(w, rng):
    """Return labels in one of the three forms."""
    if rng.random() < 0.5:
        return source(w, rng, label=[f"{NAMES[i % 4]};{NAMES[0]}" for i in range(N)])
    return source(w, rng, **{name: [i % 2 for i in range(N)] for name in NAMES})


function(
    "files.read_several_labels",
    lambda **a: files.read_several_labels(**a).labels,
    lambda w, rng: {
        "source": several(w, rng),
        "table": w.table,
        **some(rng, classes=classes(w), all_images=False),
    },
    calls.array(low=0, high=1),
    weight=2,
    repeats=False,
)
function(
    "files.read_groups",
    lambda **a: files.read_groups(**a).groups,
    lambda w, rng: {"source": source(w, rng, group=["a", "b"] * (N // 2)), "table": w.table},
    weight=2,
    repeats=False,
)
function(
    "files.read_splits",
    lambda **a: files.read_splits(**a).groups,
    lambda w, rng: {"source": source(w, rng, split=["a", "b"] * (N // 2)), "table": w.table},
    weight=2,
    repeats=False,
)
function(
    "files.read_class_names",
    files.read_class_names,
    lambda w, rng: {"path": classes(w), **some(rng, distinct=True)},
    weight=2,
)


def indices_read(called, **arguments):
    return getattr(files, called)(**arguments).indices


for name in ("read_indices", "read_labelled"):
    function(
        f"files.{name}",
        partial(indices_read, name),
        lambda w, rng: {
            "source": source(w, rng, label=["x"] * N),
            "table": w.table,
            **some(rng, name="labelled"),
        },
        calls.array(low=0, high=N - 1),
        weight=2,
        repeats=False,
    )
function(
    "files.read_probabilities",
    lambda **a: files.read_probabilities(**a).probabilities,
    lambda w, rng: {"source": source(w, rng, ant=[0.25] * N, bee=[0.75] * N), "table": w.table},
    calls.array(low=0, high=1),
    weight=2,
    repeats=False,
)
function(
    "files.read_picks",
    lambda **a: files.read_picks(**a)[0].indices,
    lambda w, rng: {"path": source(w, rng, rank=list(range(N))), "table": w.table},
    calls.array(low=0, high=N - 1),
    weight=2,
    repeats=False,
)
function("files.load_npy", files.load_npy, lambda w, rng: {"path": array_file(w)}, repeats=False)
RECORDS = {
    "LabelsRead": {"labels": np.arange(2), "class_names": ["a"], "how": "so"},
    "GroupsRead": {"groups": ["a"], "how": "so"},
    "IndicesRead": {"indices": np.arange(2), "how": "so"},
    "ProbabilitiesRead": {"probabilities": np.eye(2), "class_names": None, "how": "so"},
}
for name, parts in RECORDS.items():
    function(
        f"files.{name}", getattr(files, name), lambda w, rng, parts=parts: dict(parts), weight=1
    )
