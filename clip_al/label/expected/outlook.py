"""What `expected_accuracy` returns, and how it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FEW_LABELS = 5
LOW_RECALL = 0.5
MOST_NAMED = 5
NONE_LEFT = 0.5
"""Fewer expected images than this are none."""


@dataclass(frozen=True)
class ClassOutlook:
    """A class: its labels, and what is expected among the images without one.

    Parameters
    ----------
    label : object
        Of the class, as the head has it.
    n_labels : int
        How many images are labelled as this class.
    n_expected : float
        How many images of it are expected among those without a label.
    recall : float
        Share of these that the head finds, expected; nan where none is expected.
    """

    label: Any
    n_labels: int
    n_expected: float
    recall: float

    @property
    def lacks_labels(self) -> bool:
        """Fewer than 5 labels, or less than half of its images are found."""
        return self.n_labels < FEW_LABELS or self._is_missed

    @property
    def _is_missed(self) -> bool:
        return self.n_expected >= NONE_LEFT and self.recall < LOW_RECALL

    def __str__(self) -> str:
        left = f"about {self.n_expected:,.0f} more among the images without a label"
        if self.n_expected < NONE_LEFT:
            left = "no more seen in the pool"
        found = f", of which {self.recall:.0%} are found" if self._is_missed else ""
        labels = "1 label" if self.n_labels == 1 else f"{self.n_labels:,} labels"
        return f"{self.label}: {labels}, {left}{found}"


@dataclass(frozen=True)
class Promise:
    """What some more labels would bring.

    Parameters
    ----------
    n_more : int
        How many labels.
    gain : float
        By how much the share of right labels of all images would rise.
    interval : tuple of float
        95 %.
    by_hand : float
        The part of the gain that comes from the labelled images themselves; the rest comes from
        a better head.
    """

    n_more: int
    gain: float
    interval: tuple[float, float]
    by_hand: float


@dataclass(frozen=True)
class ExpectedAccuracy:
    """What accuracy to expect, what more labels promise, and whether to go on.

    Parameters
    ----------
    n_labelled, n_unlabelled : int
        Images with a label, and those that the head labels.
    accuracy : float
        Share of right labels of all images: those given count as right, the others are the
        head's. It is what `clip-al predict` writes.
    interval : tuple of float
        95 %, of the share that is really right.
    unlabelled_accuracy : float
        Share of the images without a label that the head names rightly.
    unlabelled_interval : tuple of float
        95 %.
    held_out : float
        Share of the labelled images that heads named rightly which did not see them: plain
        cross-validation. Images picked by doubt are hard, so it is far below the others.
    classes : tuple of ClassOutlook
        In the order of the head's columns.
    promise : Promise
    stop : bool
        Whether to stop labelling.
    reason : str
        Why to stop, or to go on.
    """

    n_labelled: int
    n_unlabelled: int
    accuracy: float
    interval: tuple[float, float]
    unlabelled_accuracy: float
    unlabelled_interval: tuple[float, float]
    held_out: float
    classes: tuple[ClassOutlook, ...]
    promise: Promise
    stop: bool
    reason: str

    @property
    def lacking(self) -> tuple[ClassOutlook, ...]:
        """Classes that lack labels, the fewest labels first."""
        found = [outlook for outlook in self.classes if outlook.lacks_labels]
        return tuple(sorted(found, key=lambda outlook: outlook.n_labels))

    def lines(self) -> list[str]:
        """Return all of it in plain words, at most five of the classes that lack labels."""
        promise = self.promise
        said = [
            f"Expected accuracy: {percent(self.accuracy, self.interval)} of all "
            f"{self.n_labelled + self.n_unlabelled:,} labels, the {self.n_labelled:,} given ones "
            f"taken as right; {percent(self.unlabelled_accuracy, self.unlabelled_interval)} of the "
            f"{self.n_unlabelled:,} others."
        ]
        lacking = self.lacking
        if lacking:
            rest = len(lacking) - MOST_NAMED
            more = f"; and {rest:,} more classes" if rest > 0 else ""
            said.append(f"Lacking labels: {'; '.join(map(str, lacking[:MOST_NAMED]))}{more}.")
        low, high = promise.interval
        said.append(
            f"{promise.n_more:,} more labels promise {100 * promise.gain:.1f} points "
            f"({100 * low:.1f} to {100 * high:.1f})."
        )
        said.append(f"{'Stop' if self.stop else 'Go on'}: {self.reason}")
        return said

    def __str__(self) -> str:
        return "\n".join(self.lines())


def percent(share: float, interval: tuple[float, float]) -> str:
    """Return a share with its interval.

    Examples
    --------
    >>> percent(0.9137, (0.8721, 0.95))
    '91.4 % (87.2 to 95.0)'
    """
    low, high = interval
    return f"{100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
