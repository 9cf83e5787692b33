"""Labels that people gave to CIFAR-10's training images, with their errors (CIFAR-10N)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.cifar import CLASSES, data_folder
from benchmarks.data.pool_sources import CIFAR_SPLITS
from benchmarks.harness.cells import UnavailableError

PEOPLE = {
    "people's, aggregate": "aggre_label",
    "people's, random 1": "random_label1",
    "people's, random 2": "random_label2",
    "people's, random 3": "random_label3",
}
"""What we call a set of labels, and its name in the file."""


def people_labels(labels: str, pool: str, data: Path | None = None) -> NDArray[np.int64]:
    """Return the labels (n,) of a whole pool of CIFAR-10, in the order of `load_pool`.

    Matched by the names of the files.

    Parameters
    ----------
    labels : str
        A key of `PEOPLE`.
    pool : str
        "cifar10" or "cifar10-seen", all images of each class.
    data : Path, optional
        See `benchmarks.data.cifar.data_folder`.

    Raises
    ------
    UnavailableError
        Where the file is not on this machine.

    References
    ----------
    Wei et al., "Learning with Noisy Labels Revisited: A Study Using Real-World Human
    Annotations", ICLR 2022.
    """
    path = data_folder(data) / "real_clip" / "cifar10n_by_file.npz"
    if not path.is_file():
        raise UnavailableError(f"{path} is not there; it holds people's labels of CIFAR-10")
    first, last = CIFAR_SPLITS[pool]
    names = [f"train/{name}/{i:04d}.jpg" for name in CLASSES for i in range(first, last)]
    with np.load(path, allow_pickle=False) as file:
        row_of = {name: row for row, name in enumerate(file["ids"].tolist())}
        given_n = file[PEOPLE[labels]].astype(np.int64)
    found: NDArray[np.int64] = given_n[[row_of[name] for name in names]]
    return found
