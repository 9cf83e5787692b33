"""`expected_accuracy`: what a head's labels are worth, and whether more would be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import (
    check_embeddings,
    check_indices,
    check_int,
    check_number,
    check_seed,
)
from clip_al.arrays.given import labels_of, listed, method_of
from clip_al.arrays.types import Embeddings
from clip_al.errors import InvalidInputError, not_finite
from clip_al.label.expected.calibration import (
    Calibration,
    beta_interval,
    calibrate,
    log_odds,
)
from clip_al.label.expected.evidence import Evidence, gather
from clip_al.label.expected.outlook import ClassOutlook, ExpectedAccuracy, Promise
from clip_al.label.expected.promise import Counts, Pool, calibrated_pool, promise

LEAST_LABELS = 20
MAX_ROWS, MAX_CELLS = 20_000, 2**24
"""Of a larger pool so many images are drawn, or fewer where there are more than 800 classes."""
WORTH = 0.01
N_MORE = 50


def expected_accuracy(
    head: Any,
    Z: Embeddings,
    labelled: ArrayLike,
    y: ArrayLike,
    *,
    n_more: int = N_MORE,
    picks: ArrayLike | None = None,
    unlabelled: ArrayLike | None = None,
    worth: float = WORTH,
    target_accuracy: float | None = None,
    class_names: Sequence[str] | None = None,
    random_state: int | None = 0,
) -> ExpectedAccuracy:
    """Say what accuracy to expect of a head's labels, and whether to go on labelling.

    Parameters
    ----------
    head : ClipClassifier, or a classifier of scikit-learn
        Fitted to `Z[labelled]` and `y`; it has `predict_proba`, and is copied, not changed.
    Z : array-like or EmbeddingTable of shape (n, d)
        Embeddings of the pool, labelled images included; not modified.
    labelled : array-like of shape (l,), int
        Positions in `Z` of the labelled images; at least 20.
    y : array-like of shape (l,)
        Their labels, as in `head.classes_`.
    n_more : int
        Labels whose promise is asked for; without `picks`.
    picks : array-like of int, optional
        Positions in `Z` that are labelled next. Without them, images are thought to be picked in
        proportion to the head's doubt.
    unlabelled : array-like of int, optional
        Positions in `Z` that the head labels: all others by default.
    worth : float
        Gain in [0, 1) that the next labels must promise to be worth it.
    target_accuracy : float, optional
        In (0, 1]; stop where the lower limit of the accuracy's interval is at least that.
    class_names : sequence of str, optional
        Of the classes, for the text, in the order of `head.classes_`.
    random_state : int, optional
        Of the folds, and of the images that are drawn of a large pool.

    Returns
    -------
    ExpectedAccuracy
        ``print`` shows it in plain words.

    Raises
    ------
    InvalidInputError
        Where there are too few labels, one is no class of the head, or nothing is left to label.
    InvalidTypeError
        Where the head has no `predict_proba`, or gives several labels an image.

    Notes
    -----
    Plain cross-validation says nothing of the pool: the labelled images were picked because they
    are hard. But an image that was picked and one that was not are about equally often right
    where the head is equally sure. So five heads say of each labelled image, held out, how sure
    they are, and are right or not; a logistic regression of right on confidence, with a prior
    around "as sure as right", gives each image of the pool its chance to be right, and their
    mean is the accuracy. The interval holds what is uncertain about the regression, and chance.
    What no label has shown it cannot know: a class without any, where there are no class texts.

    The promise has two parts: picks that the head names wrongly are set right by hand, and the
    error of the others falls with a power of the number of labels, which heads of half of the
    labels show. `stop` is where the estimated gain is below `worth`, or the target is reached.

    5 + 4 more fits up to 1,000 labels, 1 + 2 beyond; at most 20,000 images of the pool are
    predicted, five times.

    References
    ----------
    Ours; the parts are those of J. Platt, "Probabilistic outputs for support vector machines",
    1999 (a sigmoid on held-out scores), and D. Guillory et al., "Predicting with Confidence on
    Unseen Distributions", ICCV 2021 (the mean confidence as accuracy). results/expected-accuracy
    says what was measured.

    Examples
    --------
    >>> rng = np.random.default_rng(2)
    >>> T, truth = np.eye(3), rng.integers(3, size=300)
    >>> Z = T[truth] + 0.4 * rng.standard_normal((300, 3))
    >>> from clip_al import ClipClassifier
    >>> head, labelled = ClipClassifier(class_embeddings=T), np.arange(60)
    >>> found = expected_accuracy(
    ...     head.fit(Z[labelled], truth[labelled]), Z, labelled, truth[labelled]
    ... )
    >>> low, high = found.unlabelled_interval
    >>> bool(low < (head.predict(Z[60:]) == truth[60:]).mean() < high)
    True
    """
    seed = check_seed(random_state)
    worth = check_number(worth, "worth", low=0.0, below=1.0)
    goal = target_accuracy
    if goal is not None:
        goal = check_number(goal, "target_accuracy", above=0.0, high=1.0)
    _check_head(head)
    image_emb_nd = check_embeddings(
        Z, "Z", width=getattr(head, "n_features_in_", None), finite=False
    )
    known, code_l, names = _check_labelled(head, len(image_emb_nd), labelled, y, class_names)
    rest = _check_rest(unlabelled, known, len(image_emb_nd))
    asked = None
    if picks is None:
        n_more = min(check_int(n_more, "n_more"), len(rest))
    else:
        asked = _check_picks(picks, rest, len(image_emb_nd))
        n_more = len(asked)
    sample = _draw(rest, len(names), seed)
    evidence = gather(
        head,
        (_rows(image_emb_nd, known), code_l),
        _rows(image_emb_nd, sample),
        None if asked is None else _rows(image_emb_nd, asked),
        seed,
    )
    counts = Counts(len(known), len(rest), n_more)
    return conclude(evidence, counts, np.bincount(code_l, minlength=len(names)), names, worth, goal)


def is_enough(labels_k: NDArray[np.int64]) -> bool:
    """Say whether so many labels of each class can be held out from one another."""
    return bool(labels_k.sum() >= LEAST_LABELS and (labels_k >= 2).sum() >= 2)


def conclude(
    evidence: Evidence,
    counts: Counts,
    labels_k: NDArray[np.int64],
    names: list[Any],
    worth: float = WORTH,
    target: float | None = None,
) -> ExpectedAccuracy:
    """Say what follows from the predictions; see `expected_accuracy`.

    Parameters
    ----------
    evidence : Evidence
    counts : Counts
    labels_k : ndarray of shape (k,), int64
        Labels of each class.
    names : list
        Of the classes.
    worth, target : float
        As `worth` and `target_accuracy` of `expected_accuracy`.
    """
    right_h = evidence.prob_hk.argmax(axis=1) == evidence.code_h
    odds_h, odds_n = log_odds(evidence.prob_hk.max(axis=1)), log_odds(evidence.prob_nk.max(axis=1))
    fit = calibrate(odds_h, right_h)
    pool = calibrated_pool(evidence.prob_nk, odds_n, fit)
    odds_b = None if evidence.prob_bk is None else log_odds(evidence.prob_bk.max(axis=1))
    ahead = promise(pool, fit, counts, evidence.of_halves, odds_b)
    of_rest = float(1 - pool.doubt_n.mean())
    low, high = beta_interval(of_rest, _variance(pool, fit, counts.unlabelled))
    n = counts.unlabelled  # so many images: the share is one of 0, 1/n, …, 1
    low, high = np.floor(low * n) / n, np.ceil(high * n) / n
    low, high = float(min(low, of_rest)), float(max(high, of_rest))
    share = [(counts.labelled + counts.unlabelled * a) / counts.all for a in (of_rest, low, high)]
    stop, reason = _decide(share[1], ahead, worth, target)
    return ExpectedAccuracy(
        n_labelled=counts.labelled,
        n_unlabelled=counts.unlabelled,
        accuracy=share[0],
        interval=(share[1], share[2]),
        unlabelled_accuracy=of_rest,
        unlabelled_interval=(low, high),
        held_out=float(right_h.mean()),
        classes=_classes(pool, counts.unlabelled, labels_k, names),
        promise=ahead,
        stop=stop,
        reason=reason,
    )


def _variance(pool: Pool, fit: Calibration, n_rest: int) -> float:
    """Return the variance of the share of right ones: the fit's, the draw's, and chance."""
    n, chance_n = len(pool.doubt_n), 1 - pool.doubt_n
    slope = fit.slope(np.full(n, 1 / n), pool.odds_n)
    of_draw = chance_n.var() / n * (1 - n / n_rest)
    return float(
        slope @ fit.covariance @ slope + of_draw + (chance_n * pool.doubt_n).mean() / n_rest
    )


def _decide(low: float, ahead: Promise, worth: float, target: float | None) -> tuple[bool, str]:
    """Say whether to stop, and why."""
    if target is not None and low >= target:
        return True, f"the accuracy is at least {low:.1%}; {target:.1%} was the target."
    gain = f"{ahead.n_more:,} more labels promise {100 * ahead.gain:.1f} points"
    if ahead.gain < worth:
        return True, f"{gain}, less than the {100 * worth:.1f} that they must be worth."
    if target is not None:
        return False, f"{gain}; the target of {target:.1%} is not sure yet."
    return False, f"{gain}, at least the {100 * worth:.1f} that they must be worth."


def _classes(
    pool: Pool, n_rest: int, labels_k: NDArray[np.int64], names: list[Any]
) -> tuple[ClassOutlook, ...]:
    """Count the labels of each class, and what is expected of it among the others."""
    k = len(names)
    found_k = np.bincount(pool.code_n, weights=1 - pool.doubt_n, minlength=k)
    there_k = pool.prob_nk.sum(axis=0)
    recall_k = np.divide(found_k, there_k, out=np.full(k, np.nan), where=there_k > 0)
    expected_k = there_k * (n_rest / len(pool.doubt_n))
    rows = zip(names, labels_k, expected_k, recall_k, strict=True)
    return tuple(ClassOutlook(name, int(n), float(e), float(r)) for name, n, e, r in rows)


def _draw(rest: NDArray[np.int64], n_classes: int, seed: int | None) -> NDArray[np.int64]:
    """Return the rows that are looked at: all, or some in random order."""
    most = max(1, min(MAX_ROWS, MAX_CELLS // n_classes))
    if len(rest) <= most:
        return rest
    return np.sort(np.random.default_rng(seed).choice(rest, most, replace=False))


def _rows(image_emb_nd: Any, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return some rows of the pool, finite ones."""
    emb_rd: NDArray[Any] = np.asarray(image_emb_nd[rows])
    bad = np.flatnonzero(~np.isfinite(emb_rd).all(axis=1))
    if bad.size:
        raise not_finite("Z", rows[bad].tolist())
    return emb_rd


def _check_head(head: Any) -> None:
    """Raise unless a head is fitted, gives one label an image, and can be copied."""
    for method in ("predict_proba", "get_params"):
        method_of(head, method, "head", "Pass a `ClipClassifier`.")
    if getattr(head, "multi_label", False):
        raise InvalidInputError(
            "`head` must give one label an image; got multi_label=True, where right and wrong are "
            "of each label by itself. Measure it on labels of your own that are held out."
        )
    if getattr(head, "classes_", None) is None:
        raise InvalidInputError(
            f"`head` must be fitted to the labelled images; a {type(head).__name__} without "
            "`classes_` is not. Call `fit` first."
        )


def _check_labelled(
    head: Any, n: int, labelled: ArrayLike, y: ArrayLike, class_names: Sequence[str] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[Any]]:
    """Return which images are labelled, their class numbers, and what the classes are called."""
    classes = np.asarray(head.classes_)
    known = check_indices(labelled, n, "labelled")
    labels = labels_of(y, "y")
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise InvalidInputError(
            f"`y` must have one label for each labelled image; got shape {labels.shape}, several "
            "an image, where right and wrong are of each label by itself. Measure the head on "
            "labels of your own that are held out."
        )
    if labels.shape != known.shape:
        raise InvalidInputError(
            f"`y` must have one label for each of the {len(known)} labelled images; got shape "
            f"{labels.shape}. Pass them in the order of `labelled`."
        )
    place = {label: i for i, label in enumerate(classes.tolist())}
    odd = next((label for label in labels.tolist() if label not in place), None)
    if odd is not None:
        raise InvalidInputError(
            f"`y` must hold labels of `head.classes_`; got {odd!r}. Fit the head to these labels."
        )
    code_l = np.array([place[label] for label in labels.tolist()], dtype=np.int64)
    labels_k = np.bincount(code_l, minlength=len(classes))
    if not is_enough(labels_k):
        raise InvalidInputError(
            f"`labelled` must hold at least {LEAST_LABELS} images, and two of each of two classes; "
            f"got {len(known)}, and two of {int((labels_k >= 2).sum())}. Label more."
        )
    names = classes.tolist() if class_names is None else listed(class_names, "class_names")
    if len(names) != len(classes):
        raise InvalidInputError(
            f"`class_names` must name the {len(classes)} classes of the head; got {len(names)}. "
            "List them in the order of `head.classes_`."
        )
    return known, code_l, names


def _check_rest(
    unlabelled: ArrayLike | None, known: NDArray[np.int64], n: int
) -> NDArray[np.int64]:
    """Return the positions of the images that the head labels."""
    if unlabelled is None:
        rest = np.setdiff1d(np.arange(n), known)
    else:
        rest = check_indices(unlabelled, n, "unlabelled")
        both = np.intersect1d(rest, known)
        if both.size:
            raise InvalidInputError(
                f"`unlabelled` must hold no labelled image; got {both[0]} in both. Take it out."
            )
    if not rest.size:
        raise InvalidInputError(
            f"`labelled` must leave images to label; all {n:,} have a label. Nothing is left to "
            "expect."
        )
    return rest


def _check_picks(picks: ArrayLike, rest: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return the positions of what is labelled next."""
    asked = check_indices(picks, n, "picks")
    if not asked.size or not np.isin(asked, rest).all():
        raise InvalidInputError(
            "`picks` must hold at least one image, and images without a label only; got "
            f"{len(asked)}, of which {int((~np.isin(asked, rest)).sum())} are not. Pass what a "
            "strategy picks of the others."
        )
    return asked
