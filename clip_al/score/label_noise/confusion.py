"""Which classes are labelled as which, how many labels are wrong, and how sure each one is.

class evidence of a sample ──▶ `fit`: likeliest confusion, where wrong labels fall by chance,
and where they follow the looks of an image as people's do
──▶ share with its interval, matrix, pairs ──▶ P(label is right) of every image
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from clip_al.arrays.blocks import block_rows, map_blocks
from clip_al.arrays.checks import check_embeddings, check_int, check_number
from clip_al.arrays.device import host
from clip_al.arrays.given import array_of, listed
from clip_al.arrays.labels import encode_labels
from clip_al.arrays.types import Adapter, Embeddings
from clip_al.errors import InvalidInputError
from clip_al.score.label_noise.evidence import ClassEvidence, fit_evidence
from clip_al.score.label_noise.fit import LOOKS, Fit, Likelihood, logits
from clip_al.score.label_noise.symmetric import LabelNoise
from clip_al.score.neighbors import unit_rows

MAX_SAMPLE = 8_000
"""More images than this change the share by less than the error of the model."""
MIN_SAMPLE = 1_000
LOOKED_AT = 1_024  # at a time, of one core
MAX_ENTRIES = 2**20
"""Of sampled images and classes: fewer images where there are more than 130 classes."""
MAX_COUNTED = 2**24
"""Of images and classes, for share and matrix: 20,000 images, fewer from 840 classes on."""
MAX_FITTED = (20_000, 100_000)
PER_CLASS = 50
"""Images for class means and regression: 20,000, and up to 100,000 for 50 of each class."""
ROUNDS, STEPS = 2, 50
DOUBT = 5.0
"""Nats by which the likelihood must speak for chance before it is believed over people."""
CERTAIN = 0.02
MODEL_ERROR = {"chance": (0.005, 0.03), "people": (0.005, 0.12)}
"""Standard error of the share that more images do not lower: a part, and one of the share."""
Z95, RULE_OF_THREE = 1.96, 3.0
SMALL_SHARE = 0.005
LEAST_SAID = 2  # percent: fewer wrong labels cannot be told from hard images
SMALLEST_COUNT = 1e-3  # expected images
LEAST_MOVED = 2.0  # expected images of a pair worth a look
SMALLEST = 1e-30


class ConfusedPair(NamedTuple):
    """Images of one class that are labelled as another; `str` of it is readable."""

    true: str
    given: str
    share: float
    low: float
    high: float

    def __str__(self) -> str:
        low, high = 100 * self.low, 100 * self.high
        return f"{self.true} labelled {self.given}: {low:.0f}–{high:.0f} % of {self.true}"


class LabelScores(NamedTuple):
    """What is known of the label of each of n images.

    Attributes
    ----------
    right_n : ndarray of shape (n,), float32
        Probability in [0, 1] that the label is right, given image and label.
    odds_n : ndarray of shape (n,), float32
        The logarithm of its odds, which tells apart what is 0 or 1 to rounding.
    likeliest_n : ndarray of shape (n,), int64
        The likeliest true class, given image and label; ties by lowest number.
    """

    right_n: NDArray[np.float32]
    odds_n: NDArray[np.float32]
    likeliest_n: NDArray[np.int64]


@dataclass(frozen=True)
class LabelConfusion(LabelNoise):
    """Share of wrong labels with its interval, and which classes are labelled as which.

    Parameters
    ----------
    temperature, uniform_share, n_classes
        As for `LabelNoise`: those of labels drawn by chance alone, which scores of alignment
        go by.
    share : float
        Of wrong labels, in [0, 1].
    interval : tuple of two floats
        In which the share lies, 95 %, the error of the model included.
    looks : float
        In [0, 1]: how sure it is that wrong labels follow the looks of the images.
    confusion : csr_array of shape (k, k)
        Share of the images of each true class (row) that have each label (column).
    expected_k : ndarray of shape (k,), float64
        Expected images of each true class in the sample.
    """

    share: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)
    looks: float = 0.0
    confusion: Any = field(default=None, compare=False, repr=False)
    expected_k: Any = field(default=None, compare=False, repr=False)
    _scorer: Any = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.share, "share", low=0.0, high=1.0)
        check_number(self.looks, "looks", low=0.0, high=1.0)
        bounds = listed(self.interval, "interval", "two numbers", "Pass a pair.")
        if len(bounds) != 2:
            raise InvalidInputError(
                f"`interval` must be two numbers; got {len(bounds)}. Pass lower and upper end."
            )
        low = check_number(bounds[0], "interval", low=0.0, high=1.0)
        check_number(bounds[1], "interval", low=low, high=1.0)

    @property
    def wrong_fraction(self) -> float:
        """Estimated share of wrong labels."""
        return float(self.share)

    def __str__(self) -> str:
        return share_in_words(self.share, self.interval)

    def confused_pairs(
        self, n: int = 10, class_names: Sequence[str] | None = None
    ) -> list[ConfusedPair]:
        """Return the pairs of classes with the largest share of wrong labels.

        Parameters
        ----------
        n : int
            How many at most.
        class_names : sequence of str, optional
            One a class; numbers by default.

        Returns
        -------
        list of ConfusedPair
            Largest share first, ties by class. The bounds are those of the share of the true
            class, 95 %. Pairs that may well be as rare as by chance, or below 0.5 %, are left out.

        Raises
        ------
        InvalidInputError
            Where names are not one a class.
        """
        n = check_int(n, "n")
        if self.confusion is None or self.expected_k is None:
            raise InvalidInputError(
                "Pairs need `confusion` and `expected_k`; this estimate has none. Take what "
                "`estimate_label_noise` returns."
            )
        names = [str(i) for i in range(self.n_classes)]
        if class_names is not None:
            names = [str(name) for name in listed(class_names, "class_names")]
        if len(names) != self.n_classes:
            raise InvalidInputError(
                f"`class_names` must name each of the {self.n_classes} classes; got "
                f"{len(names)} names. Pass one a class."
            )
        table = self.confusion.tocoo()
        true_p, given_p = table.row, table.col  # `coords` came with SciPy 1.13
        share_p, count_p = table.data, self.expected_k[true_p]
        # Wilson's interval, which holds for few images too, and the error of the model.
        few_p = Z95**2 / np.maximum(count_p, 1.0)
        centre_p = (share_p + few_p / 2) / (1 + few_p)
        drawn_p = np.sqrt(np.clip(few_p * share_p * (1 - share_p), 0, 1) + few_p**2 / 4)
        error_p = np.hypot(drawn_p / (1 + few_p), Z95 * MODEL_ERROR["people"][1] * share_p)
        low_p, high_p = np.maximum(centre_p - error_p, 0.0), np.minimum(centre_p + error_p, 1.0)
        # Labels drawn by chance are each other class alike, which is no pair worth a look.
        by_chance = self.share / (self.n_classes - 1) if self.n_classes > 2 else 0.0
        sure_p = (true_p != given_p) & (share_p * count_p >= LEAST_MOVED)
        sure_p &= low_p > max(SMALL_SHARE, by_chance)
        kept = np.flatnonzero(sure_p)
        kept = kept[np.argsort(-share_p[kept], kind="stable")][:n]
        return [
            ConfusedPair(
                names[true_p[i]], names[given_p[i]], float(share_p[i]),
                float(low_p[i]), float(high_p[i]),
            )
            for i in kept
        ]  # fmt: skip

    def score(
        self, Z: Embeddings, y: ArrayLike, *, seen: NDArray[np.bool_] | None = None
    ) -> LabelScores:
        """Return how likely each label is right, and the likeliest true class.

        Parameters
        ----------
        Z : array-like, EmbeddingTable or DeviceEmbeddings of shape (n, d)
            Images; not modified.
        y : array-like of shape (n,)
            Their class numbers.
        seen : ndarray of shape (n,), bool, optional
            Which images the estimate was fitted to, so that none votes for its own label. Left
            out, these are the images of the estimate, in their order.

        Returns
        -------
        LabelScores

        Raises
        ------
        InvalidInputError
            Where lengths or widths differ, a label is no class, a row is not finite or all
            zeros, or the estimate is the mean of several adapters', which have no space in
            common.

        Notes
        -----
        One pass, O(n k d), O(d²) for each image that was seen, and O(n k²) up to 64 classes.
        """
        if self._scorer is None:
            raise InvalidInputError(
                "This estimate is the mean over several adapters, which have no space in common, "
                "or was made by hand. Read 'label_probability' in the scores of the selection."
            )
        image_emb_nd = check_embeddings(
            Z, "Z", width=self._scorer.evidence.mean_d.shape[0], finite=False
        )
        codes_n = encode_labels(y, n_images=len(image_emb_nd), n_classes=self.n_classes)
        seen = self._scorer.seen() if seen is None else array_of(seen, "seen")
        if seen.dtype != bool or seen.ndim != 1:
            raise InvalidInputError(
                f"`seen` must be a flag for each image; got {seen.dtype} of shape {seen.shape}. "
                "Pass an array of booleans."
            )
        if len(seen) != len(codes_n):
            raise InvalidInputError(
                f"`Z` must hold the {len(seen)} images of the estimate; got {len(codes_n)}. For "
                "others pass `seen`: whether the estimate was fitted to each of them."
            )
        scores: LabelScores = self._scorer.score(image_emb_nd, codes_n, seen)
        return scores


def share_in_words(share: float, interval: tuple[float, float]) -> str:
    """Say how many labels are wrong, and how sure that is; never a bare 0.

    Examples
    --------
    >>> share_in_words(0.1, (0.08, 0.12))
    '10 % of the labels look wrong (8–12 %)'
    >>> share_in_words(0.001, (0.0, 0.012))
    'no sign of more than 2 % wrong labels'
    >>> share_in_words(0.06, (0.0, 0.13))
    'up to 13 % of the labels may be wrong (6 % look so)'
    """
    low, high = (100 * bound for bound in interval)
    if interval[0] < SMALL_SHARE and share >= LEAST_SAID / 100:
        said = f"{100 * share:.0f} % look so"
        return f"up to {math.ceil(high)} % of the labels may be wrong ({said})"
    if interval[0] < SMALL_SHARE:
        return f"no sign of more than {max(LEAST_SAID, math.ceil(high))} % wrong labels"
    return f"{100 * share:.0f} % of the labels look wrong ({low:.0f}–{high:.0f} %)"


def fit_label_confusion(
    chance: LabelNoise,
    image_emb_nd: NDArray[Any],
    codes_n: NDArray[np.int64],
    text_emb_kd: NDArray[np.float32],
    adapter: Adapter | None,
    random_state: int | None,
) -> LabelConfusion:
    """Fit the confusion of classes.

    Parameters
    ----------
    chance : LabelNoise
        The fit of labels drawn by chance alone.
    image_emb_nd : ndarray of shape (n, d)
        Any float type, not modified.
    codes_n : ndarray of shape (n,), int64
        Class numbers in [0, k).
    text_emb_kd : ndarray of shape (k, d), float32
        Unit rows, as the adapter maps them.
    adapter, random_state
        See `estimate_label_noise`.
    """
    n, k = len(codes_n), len(text_emb_kd)
    rng = np.random.default_rng(random_state)
    rows = _draw(rng, np.arange(n), min(max(MAX_FITTED[0], PER_CLASS * k), MAX_FITTED[1]))
    evidence = fit_evidence(image_emb_nd, codes_n, text_emb_kd, rows, adapter)
    sample = _draw(rng, rows, min(MAX_SAMPLE, max(MIN_SAMPLE, MAX_ENTRIES // k)))
    y_s = codes_n[sample]

    def look(block: slice) -> NDArray[np.float32]:
        unit_bd = host(unit_rows(image_emb_nd, sample[block], adapter=adapter))
        return evidence.of(unit_bd, y_s[block], np.ones(len(unit_bd), dtype=bool))

    sim_fsk = np.concatenate(list(map_blocks(look, len(sample), LOOKED_AT)), axis=1)
    fits, looks = _fits(sim_fsk, y_s)
    scorer = _Scorer(evidence, fits, looks, adapter, rows, n)
    counted = _draw(rng, rows, min(MAX_FITTED[0], max(len(sample), MAX_COUNTED // k)))
    return _summary(chance, image_emb_nd, codes_n, counted, looks, scorer)


def mean_confusion(parts: Sequence[LabelConfusion], n_of_part: Sequence[int]) -> LabelConfusion:
    """Return the mean of estimates of parts of a dataset, which scores no image."""
    if len(parts) == 1:
        return parts[0]
    weight_p = np.asarray(n_of_part, dtype=float) / sum(n_of_part)
    counts: Any = sum(
        _diagonal(part.expected_k * weight) @ part.confusion
        for part, weight in zip(parts, weight_p, strict=True)
    )

    def mean(name: str) -> Any:
        return np.average([getattr(part, name) for part in parts], axis=0, weights=weight_p)

    low, high = mean("interval")
    return replace(
        parts[0],
        temperature=float(np.mean([part.temperature for part in parts])),
        uniform_share=float(np.mean([part.uniform_share for part in parts])),
        share=float(mean("share")), interval=(float(low), float(high)), looks=float(mean("looks")),
        confusion=_rows_to_one(counts), expected_k=mean("expected_k"), _scorer=None,
    )  # fmt: skip


def _draw(rng: np.random.Generator, rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _fits(
    sim_fsk: NDArray[np.float32], y_s: NDArray[np.int64]
) -> tuple[list[tuple[float, Fit]], float]:
    """Return the fits of chance and of people as far as each is believed, and the second's."""
    fits: list[Fit] = []
    for kappa in LOOKS.values():
        likelihood = Likelihood(sim_fsk, y_s, kappa)
        start = fits[-1].x if fits else likelihood.start()
        fits.append(likelihood.maximize(start, rounds=ROUNDS, steps=STEPS))
    chance, people = (fit.log_likelihood for fit in fits)
    looks = float(1 / (1 + np.exp(np.clip(chance - people - DOUBT, -50, 50))))
    # One fit alone scores twice as fast as two, of which one hardly counts.
    looks = 0.0 if looks < CERTAIN else 1.0 if looks > 1 - CERTAIN else looks
    believed = zip((1 - looks, looks), fits, strict=True)
    return [(belief, fit) for belief, fit in believed if belief > 0], looks


class _Scorer:
    """Scores images by the mean of the fits, each as far as it is believed."""

    def __init__(
        self,
        evidence: ClassEvidence,
        fits: list[tuple[float, Fit]],
        looks: float,
        adapter: Adapter | None,
        rows: NDArray[np.int64],
        n_images: int,
    ) -> None:
        self.evidence, self.fits, self.looks, self.adapter = evidence, fits, looks, adapter
        self.rows, self.n_images = rows, n_images
        # Logits are linear in an image that was not seen: one product in place of three.
        self.vectors = [
            np.tensordot(fit.weight_f.astype(np.float32), evidence.vector_fdk, axes=1)
            for _, fit in fits
        ]

    def seen(self) -> NDArray[np.bool_]:
        """Return which images the evidence was fitted to."""
        seen_n = np.zeros(self.n_images, dtype=bool)
        seen_n[self.rows] = True
        return seen_n

    def posteriors(
        self, unit_bd: NDArray[np.float32], y_b: NDArray[np.int64], seen_b: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return P(true class | image, label), (b, k)."""
        seen = np.flatnonzero(seen_b)
        sim_fmk = self.evidence.of(unit_bd[seen], y_b[seen], np.ones(len(seen), dtype=bool))
        centred_bd = unit_bd - self.evidence.mean_d
        mixed_bk = np.zeros((len(y_b), len(self.evidence.share_k)), dtype=np.float32)
        logit_bk: NDArray[np.float32]
        for (belief, fit), vector_dk in zip(self.fits, self.vectors, strict=True):
            if len(seen) == len(y_b):
                logit_bk = logits(sim_fmk, fit.weight_f, fit.bias_k)
            else:
                logit_bk = np.asarray(centred_bd @ vector_dk + fit.bias_k, dtype=np.float32)
                logit_bk[seen] = logits(sim_fmk, fit.weight_f, fit.bias_k)
            mixed_bk += np.float32(belief) * fit.posteriors(logit_bk, y_b)
        return mixed_bk

    def score(
        self, image_emb_nd: NDArray[Any], codes_n: NDArray[np.int64], seen_n: NDArray[np.bool_]
    ) -> LabelScores:
        """Score every image, in blocks."""
        n, (d, k) = len(codes_n), self.evidence.vector_fdk.shape[1:]
        out = LabelScores(
            np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, dtype=np.int64)
        )

        def score(block: slice) -> None:
            rows = np.arange(block.start, block.stop)
            unit_bd = host(unit_rows(image_emb_nd, rows, adapter=self.adapter))
            y_b = codes_n[block]
            posterior_bk = self.posteriors(unit_bd, y_b, seen_n[block])
            places = np.arange(len(rows))
            right_b = posterior_bk[places, y_b]
            out.likeliest_n[block] = posterior_bk.argmax(axis=1)
            posterior_bk[places, y_b] = 0.0
            wrong_b = posterior_bk.sum(axis=1)
            out.right_n[block] = np.clip(right_b, 0.0, 1.0)
            out.odds_n[block] = np.log(np.maximum(right_b, SMALLEST)) - np.log(
                np.maximum(wrong_b, SMALLEST)
            )

        for _ in map_blocks(score, n, max(1, block_rows(max(d, 8 * k)) // 4)):
            pass
        return out


def _summary(
    chance: LabelNoise,
    image_emb_nd: NDArray[Any],
    codes_n: NDArray[np.int64],
    rows: NDArray[np.int64],
    looks: float,
    scorer: _Scorer,
) -> LabelConfusion:
    """Return share, interval and matrix of images that the evidence was fitted to."""
    s, k = len(rows), chance.n_classes

    def count(block: slice) -> tuple[NDArray[np.float64], Any]:
        unit_bd = host(unit_rows(image_emb_nd, rows[block], adapter=scorer.adapter))
        y_b = codes_n[rows[block]]
        posterior_bk = scorer.posteriors(unit_bd, y_b, np.ones(len(y_b), dtype=bool))
        image, true = np.nonzero(posterior_bk > SMALLEST_COUNT)
        moved_kk = sparse.coo_array(
            (posterior_bk[image, true].astype(float), (true, y_b[image])), shape=(k, k)
        ).tocsr()
        return 1.0 - posterior_bk[np.arange(len(y_b)), y_b].astype(float), moved_kk

    parts = list(map_blocks(count, s, LOOKED_AT))
    wrong_s = np.concatenate([wrong_b for wrong_b, _ in parts])
    counts: Any = sum(moved_kk for _, moved_kk in parts)
    share = float(np.clip(wrong_s.mean(), 0.0, 1.0))
    part, relative = (
        (1 - looks) * a + looks * b for a, b in zip(*MODEL_ERROR.values(), strict=True)
    )
    error = np.sqrt(part**2 + (relative * share) ** 2 + wrong_s.var() / s)
    # Of s images without a wrong label, up to 3 / s of all may be wrong at 95 %.
    high = share + max(Z95 * error, RULE_OF_THREE / s)
    return LabelConfusion(
        chance.temperature, chance.uniform_share, k, share,
        (float(max(0.0, share - Z95 * error)), float(min(1.0, high))), looks,
        _rows_to_one(counts), np.asarray(counts.sum(axis=1)).ravel(), scorer,
    )  # fmt: skip


def _diagonal(values_k: NDArray[np.float64]) -> Any:
    """Return a diagonal matrix as a sparse array, also in SciPy 1.11, which has no diags_array."""
    rows = np.arange(len(values_k))
    return sparse.csr_array((values_k, (rows, rows)), shape=(len(rows), len(rows)))


def _rows_to_one(counts: Any) -> Any:
    """Return the share of each label among the images of a class; classes unseen keep theirs."""
    total_k = np.asarray(counts.sum(axis=1)).ravel()
    unseen = _diagonal((total_k == 0).astype(float))  # taken to be labelled rightly
    return (_diagonal(1 / np.where(total_k == 0, 1.0, total_k)) @ counts + unseen).tocsr()
