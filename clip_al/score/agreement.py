"""Whether labels, names and images belong together at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from clip_al.arrays.checks import check_embeddings, check_seed
from clip_al.arrays.given import check_kind, listed
from clip_al.arrays.labels import encode_labels, ordered_names
from clip_al.arrays.types import Embeddings
from clip_al.score.agreement_evidence import Hits, look_at
from clip_al.score.agreement_reasons import Case, Finding, near_names, wrong_names, wrong_rows
from clip_al.score.neighbors import unit_rows

MAX_IMAGES, MAX_COSINES, MIN_IMAGES = 20_000, 2**24, 1_000
ROWS = ("moved", "reordered", "shuffled", "unrelated")
"""Findings that say that labels stand at the wrong images: no share of wrong ones means a thing."""


@dataclass(frozen=True)
class Agreement:
    """What `check_agreement` found.

    Parameters
    ----------
    by_text, by_means : Hits
        How many labels the nearest class text names, and the nearest class mean of other images.
    findings : tuple of Finding
        The likeliest reason first; empty where all agrees, or too few images are there to say.
    """

    by_text: Hits
    by_means: Hits
    findings: tuple[Finding, ...]

    def __post_init__(self) -> None:
        for finding in listed(self.findings, "findings"):
            check_kind(finding, Finding, "findings", "Pass what `check_agreement` found.")

    @property
    def message(self) -> str:
        """All findings in one text; empty without any."""
        return " ".join(finding.message for finding in self.findings)

    @property
    def rows_fit(self) -> bool:
        """Whether nothing says that labels stand at the wrong images."""
        return not any(finding.kind in ROWS for finding in self.findings)


def disagreement(agreement: Agreement) -> dict[str, Any]:
    """Return what does not agree, as settings of a selection hold it; empty where all does.

    Where labels seem to stand at the wrong images, an estimate of how many are wrong means
    nothing: share, interval and pairs are None.
    """
    if not agreement.findings:
        return {}
    kinds = [finding.kind for finding in agreement.findings]
    found = {"kinds": kinds, "message": agreement.message}
    unknown = ("wrong_fraction", "wrong_interval", "confused_pairs")
    return {"disagreement": found, **({} if agreement.rows_fit else dict.fromkeys(unknown))}


def share_of_wrong(settings: Mapping[str, Any]) -> tuple[float | None, str]:
    """Return the estimated share of wrong labels that settings hold, and what does not agree.

    The share is None where it cannot be told, and where there is none. The text is empty where
    labels, names and images agree.

    Examples
    --------
    >>> share_of_wrong({"wrong_fraction": 0.1})
    (0.1, '')
    """
    share, found = settings.get("wrong_fraction"), settings.get("disagreement")
    message = str(found.get("message", "")) if isinstance(found, Mapping) else ""
    if isinstance(share, bool) or not isinstance(share, (int, float)):
        return None, message
    return float(share), message


def check_agreement(
    Z: Embeddings,
    y: ArrayLike,
    T: Embeddings,
    *,
    class_names: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    random_state: int | None = 0,
) -> Agreement:
    """Check that labels, names and images belong together.

    Parameters
    ----------
    Z : array-like, EmbeddingTable or DeviceEmbeddings of shape (n, d)
        Image embeddings, in the order of the labels; not modified.
    y : array-like of shape (n,)
        Class numbers, or names with `class_names`.
    T : array-like of shape (k, d)
        Text embeddings of the names, in the order of the class numbers.
    class_names : sequence of str, optional
        What the classes are called.
    ids : sequence of str, optional
        What the images are called; where rows do not fit, orders by id are tried.
    random_state : int, optional
        Of the images that are looked at, and of their halves.

    Returns
    -------
    Agreement

    Raises
    ------
    InvalidInputError
        Where lengths do not fit, a label is no class, or a row has no direction.

    Notes
    -----
    For each image the nearest class text, and the nearest mean of the images that the other half
    has of each class, are guesses at its label. The hits of both are compared with what the same
    labels give in random order, whose mean and variance are known exactly. If neither is better
    than chance, the labels are tried moved by up to 3 rows with new means, and by up to 100 rows
    with the texts, in reverse, and in the orders of the ids. Otherwise: labels moved by up to 3
    rows, over the images whose label changes; names, by the assignment of texts to class means
    of the largest sum, which must then name more single images; pairs of classes whose images
    are taken for one another as often as for themselves.

    Labels sorted by class and moved by one row differ at the borders of the classes alone: with
    fewer than ten borders that is no more than chance gives, and nothing is reported.

    What cannot be told from noise is silent: up to 70 % of labels drawn at random, fewer than 30
    images, or too few for the spread of chance. Labels that the model cannot see are reported as
    hardly agreeing, as they look the same to it as labels of other images.

    O(s k d) time, once for the texts and once for the means, for s = min(n, 20,000) images, fewer
    with more than 800 classes; no model is fitted. Ten times that where rows do not fit. O(s d)
    memory, and one block for each core.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> T, y = np.eye(4), rng.integers(4, size=200)
    >>> Z = T[y] + 0.1 * rng.standard_normal((200, 4))
    >>> check_agreement(Z, y, T).findings
    ()
    >>> check_agreement(Z, np.roll(y, 1), T).findings[0].kind
    'moved'
    >>> names = ["ant", "bee", "cat", "dog"]
    >>> found = check_agreement(Z, y, T[[0, 2, 1, 3]], class_names=["ant", "cat", "bee", "dog"])
    >>> print(found.message[:67])
    The names fit if classes 1 ('cat') and 2 ('bee') change places: now
    """
    image_emb_nd = check_embeddings(Z, "Z", finite=False)
    text_emb_kd = check_embeddings(T, "T", width=image_emb_nd.shape[1])
    k, n = len(text_emb_kd), len(image_emb_nd)
    codes_n = encode_labels(y, n_images=n, n_classes=k, class_names=class_names)
    text_emb_kd = unit_rows(text_emb_kd, np.arange(k))
    names = None if class_names is None else list(ordered_names(class_names))
    rng = np.random.default_rng(check_seed(random_state))
    n_looked = min(n, MAX_IMAGES, max(MIN_IMAGES, MAX_COSINES // k))
    looked = look_at(image_emb_nd, n_looked, rng)
    case = Case(looked, codes_n, text_emb_kd, names, ids)
    rows = list(wrong_rows(case))
    found = rows or list(wrong_names(case))
    return Agreement(case.by_text, case.by_means, (*found, *near_names(names)))
