"""What a query is asked over: the pool's embeddings, the labelled set, the target.

Plain functions that turn what a host hands to a strategy into what the picking needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import NotFittedError

from clip_al.arrays.checks import check_choice, check_indices
from clip_al.arrays.given import array_of, length_of
from clip_al.arrays.several import stack_labels
from clip_al.arrays.types import Embeddings, as_array
from clip_al.concepts.diversity import ConceptCounts
from clip_al.concepts.profiles import ConceptProfiles
from clip_al.errors import InvalidInputError, InvalidTypeError

if TYPE_CHECKING:
    from clip_al.table.embedding_table import EmbeddingTable

Labelled: TypeAlias = "ConceptProfiles | ConceptCounts | Embeddings | None"
"""What is labelled: its profiles, counts of its concepts, or its embeddings."""
TARGETS = ("uniform", "pool", "uncertain")


def pool_embeddings(X: Any, embeddings: Embeddings | None, table: EmbeddingTable | None) -> Any:
    """Find the pool's embeddings: as given, or rows of a bound table, or `X` itself.

    Parameters
    ----------
    X : array-like of shape (n, ...) or None
        The pool as the host knows it.
    embeddings : array-like of shape (n, d) or None
        Its embeddings, where the caller has them.
    table : EmbeddingTable or None
        With it, and without `embeddings`, `X` holds row numbers.
    """
    if embeddings is not None:
        n_rows = length_of(as_array(embeddings), "embeddings")
        if X is not None and n_rows != length_of(X, "X"):
            raise InvalidInputError(
                f"`embeddings` must have one row for each of the {length_of(X, 'X')} images of the "
                f"pool; got {n_rows}. Pass those of the same pool, in the same order."
            )
        return embeddings
    if X is None:
        raise InvalidInputError(
            "A pool is needed; got none of `X`, `embeddings=` and `profiles=`. Pass one."
        )
    if table is None:
        return X
    rows = array_of(X, "X")
    if not rows.ndim or rows.dtype.kind not in "iu" or rows.size != len(rows):
        raise InvalidTypeError(
            "With a table bound, `X` must hold row numbers of the table; got shape "
            f"{rows.shape} and dtype {rows.dtype}. Pass integers, or `embeddings=`."
        )
    return table[check_indices(rows.ravel(), len(table), "X")]


def check_profiles(profiles: object, X: Any) -> ConceptProfiles:
    """Return `profiles` if it is one, of as many images as the pool `X` (where given)."""
    if not isinstance(profiles, ConceptProfiles):
        raise InvalidTypeError(
            f"`profiles` must be a ConceptProfiles; got {type(profiles).__name__}. "
            "Make one with `ConceptProfiles.from_embeddings`."
        )
    if X is not None and length_of(X, "X") != len(profiles):
        raise InvalidInputError(
            f"`profiles` must have one row for each of the {length_of(X, 'X')} images of the pool; "
            f"got {len(profiles)}. Pass `profiles.take(pool_indices)`."
        )
    return profiles


def answer_of(classifier: Any, method: str, X: Any) -> Any:
    """Return what a learner's method says of the pool; None before it is fitted.

    Parameters
    ----------
    classifier : modAL learner, classifier or None
    method : str
        "predict" or "predict_proba".
    X : array-like of shape (n, ...)
        The pool as the classifier takes it.
    """
    # skorch's error for this inherits from BaseException, so its networks are asked first.
    estimator = getattr(classifier, "estimator", classifier)
    if classifier is None or not getattr(estimator, "initialized_", True):
        return None
    for learner in _members(classifier) or [classifier]:
        # modAL's have every method; the classifier inside may not. Others ask for themselves:
        # the `estimator` of a calibrated one is what it was calibrated from.
        one = getattr(learner, "estimator", learner) if hasattr(learner, "X_training") else learner
        if not callable(getattr(one, method, None)):
            raise _no_method(one, method)
    try:
        return getattr(classifier, method)(X)
    except NotFittedError:
        return None


def probabilities_of(classifier: Any, X: Any, multi_label: bool) -> Any:
    """Return a learner's probabilities; of several labels an image as one array, (n, k)."""
    answer = answer_of(classifier, "predict_proba", X)
    if not multi_label or answer is None:
        return one_array(answer, multi_label)
    learner = getattr(classifier, "estimator", classifier)
    classes = getattr(classifier if hasattr(classifier, "classes_") else learner, "classes_", None)
    return stack_labels(answer, classes if isinstance(classes, list | tuple) else None)


def one_array(probabilities: Any, multi_label: bool) -> Any:
    """Return probabilities as one array; refuse those of several labels where classes are meant."""
    if multi_label:
        return stack_labels(probabilities)
    several = stack_labels(probabilities) if isinstance(probabilities, list) else probabilities
    if several is not probabilities:
        raise InvalidInputError(
            "`probabilities` must be (images, classes), rows that sum to 1; got a list of "
            f"{len(probabilities)} arrays, one a label: those of several labels an image. Pass "
            "multi_label=True to the strategy."
        )
    return probabilities


def _members(classifier: Any) -> list[Any]:
    """Return the learners of a committee; none of any other."""
    return list(getattr(classifier, "learner_list", ()))


def _no_method(estimator: Any, method: str) -> InvalidTypeError:
    name = type(estimator).__name__
    remedy = (
        f"Wrap it, as in `CalibratedClassifierCV({name}())`, or pass `probabilities=`."
        if method == "predict_proba"
        else "Pass a modAL learner, a classifier or None."
    )
    return InvalidTypeError(f"The classifier must have `{method}`; {name} has none. {remedy}")


def training_set(classifier: Any) -> Any:
    """Return what a modAL learner, or the members of a committee, were taught with; or None.

    Lists become arrays. An image that several members of a committee have counts once.
    """
    taught = [
        one.X_training
        for one in (_members(classifier) or [classifier])
        if getattr(one, "X_training", None) is not None
    ]
    taught = [np.array(X) if isinstance(X, list) and _is_even(X) else X for X in taught]
    taught = [X for X in taught if getattr(X, "shape", ())]
    if len(taught) < 2:
        return taught[0] if taught else None
    arrays = [array_of(X, "X_training") for X in taught]
    if len({X.shape[1:] for X in arrays}) > 1:
        return None  # members that see different things: no embeddings of one model
    rows = np.concatenate(arrays)
    _, first = np.unique(rows.reshape(len(rows), -1), axis=0, return_index=True)
    return rows[np.sort(first)]


def _is_even(rows: list[Any]) -> bool:
    """Whether rows of a list have one shape, so that they are an array: not text, for instance."""
    shapes = {np.shape(row) for row in rows if not isinstance(row, str | dict)}
    return len(shapes) == 1 and not any(isinstance(row, str | dict) for row in rows)


def training_embeddings(
    classifier: Any, profiles: ConceptProfiles, table: EmbeddingTable | None
) -> Any:
    """Return the embeddings a modAL learner was taught with; None where it holds none.

    `X_training` is absent or None in some learners, and holds raw images in others.
    """
    X, text = training_set(classifier), profiles.vocabulary.embeddings
    if X is None:
        return None
    if table is not None and array_of(X, "X_training").dtype.kind in "iu":
        # An image that was taught twice counts twice, as its embedding would.
        return table[check_indices(np.ravel(X), len(table), "X_training", distinct=False)]
    if text is None and len(X.shape) == 2:
        raise InvalidInputError(
            "To count the learner's `X_training` as chosen, the profiles' vocabulary must have "
            "embeddings; it has none. Encode it, or pass `labelled=` (`[]` for nothing)."
        )
    return X if text is not None and X.shape[1:] == text.shape[1:] else None


def count_labelled(labelled: Labelled, profiles: ConceptProfiles, weighting: str) -> ConceptCounts:
    """Count the concepts of what is labelled, profiled as the pool was.

    Parameters
    ----------
    labelled : None, ConceptCounts, ConceptProfiles or array-like of shape (l, d)
        Embeddings are profiled with the pool's statistics; an empty array is None.
    weighting : {"binary", "softmax"}
        Of the result; counts of another are refused.
    """
    counts = ConceptCounts.empty(profiles.n_concepts, weighting)
    if labelled is None:
        return counts
    if isinstance(labelled, ConceptCounts):
        if labelled.weighting != weighting:
            raise InvalidInputError(
                f"`labelled` must be counts of the strategy's weighting, {weighting!r}; got counts "
                f"of {labelled.weighting!r}. Make them with `ConceptCounts.from_profiles(…, "
                f"weighting={weighting!r})`, or pass the profiles."
            )
        return counts + labelled
    if not isinstance(labelled, ConceptProfiles):
        if length_of(as_array(labelled), "labelled") == 0:
            return counts
        labelled = profiles.profile(labelled)
    if labelled.n_concepts != profiles.n_concepts:
        raise InvalidInputError(
            f"`labelled` must be profiled with the pool's vocabulary of {profiles.n_concepts} "
            f"concepts; got {labelled.n_concepts}. Use `profiles.profile(embeddings)`."
        )
    return ConceptCounts.from_profiles(labelled, weighting=weighting)


def target_vector(
    target: str | ArrayLike, profiles: ConceptProfiles, part: ConceptProfiles, weighting: str
) -> NDArray[np.float64] | None:
    """Return the mean concept vector to steer towards; None for the plain CBD gain.

    Parameters
    ----------
    target : {"uniform", "pool", "uncertain"} or array-like of shape (v,)
        As even as possible; like `profiles`; like `part`; or as given.
    profiles, part : ConceptProfiles
        Of the pool, and of the candidates among it.
    """
    if isinstance(target, str):
        check_choice(target, TARGETS, "target")
        if target == "uniform":
            return None
        like = profiles if target == "pool" else part
        return ConceptCounts.from_profiles(like, weighting=weighting).sum_v / len(like)
    target_v = array_of(target, "target", np.float64)
    if target_v.shape != (profiles.n_concepts,) or not np.isfinite(target_v).all():
        raise InvalidInputError(
            f"`target` must be {', '.join(map(repr, TARGETS))} or one finite number for "
            f"each of the {profiles.n_concepts} concepts; got shape {target_v.shape}. "
            "Pass the mean concept vector that you want."
        )
    return target_v
