"""Tests of `clip_al.label.concept_sampling`: what each strategy picks, and its messages.

What all strategies share is in `test_contracts.py`.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from clip_al.concepts.diversity import ConceptCounts
from clip_al.concepts.profiles import ConceptProfiles
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.errors import InvalidInputError, InvalidTypeError, ModelMismatchError
from clip_al.label.concept_sampling import CBDMarginSampling, CBDSampling
from clip_al.label.explain import PickExplanation, explain_picks
from tests import reference
from tests.helpers import Table, exactly, learner_of
from tests.reference import make_vocabulary, random_unit

ANIMALS = ConceptVocabulary.from_names(["dog", "cat", "cow", "hen"]).with_embeddings(np.eye(4))


def images(*concepts):
    """Each image shows one of the four animals, and a little of the next one."""
    return np.eye(4)[list(concepts)] + 0.3 * np.eye(4)[[(c + 1) % 4 for c in concepts]]


def plain(strategy=CBDMarginSampling, m=1, **settings):
    return strategy(ANIMALS, m=m, weighting="binary", similarity="cosine", **settings)


def doubtful(*margins):
    margins = np.array(margins)
    return np.stack([(1 + margins) / 2, (1 - margins) / 2], axis=1)


# CBDMarginSampling


@pytest.mark.parametrize("target", ["uniform", "pool", "uncertain"])
@pytest.mark.parametrize("weighting", ["binary", "softmax"])
@pytest.mark.parametrize("uncertainty", ["margin", "entropy", "least_confidence"])
def test_the_hybrid_is_a_shortlist_and_a_greedy_choice(
    Z, vocabulary, probabilities, target, weighting, uncertainty
):
    strategy = CBDMarginSampling(
        vocabulary,
        m=5,
        candidate_factor=3,
        weighting=weighting,
        target=target,
        uncertainty=uncertainty,
    )
    labelled = Z[[1, 2]]
    picks, metrics = strategy(learner_of(probabilities), Z, 6, labelled=labelled)

    score = getattr(reference, uncertainty)(probabilities)
    score = score if uncertainty == "margin" else -score
    candidates = np.sort(np.argsort(score, kind="stable")[:18])
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary, 5)
    vectors = reference.concept_vectors(profiles, weighting)
    target_v = {"pool": vectors, "uncertain": vectors[candidates]}.get(target)

    def scores(candidates, chosen):
        if target_v is None:
            return reference.cbd_scores(candidates, chosen)
        return reference.target_scores(candidates, chosen, target_v.mean(axis=0))

    assert set(picks) <= set(candidates)
    places = np.searchsorted(candidates, picks)
    assert reference.shortfall(scores, vectors[candidates], places, vectors[[1, 2]]) < 1e-4
    np.testing.assert_allclose(metrics, score[picks], atol=1e-9)


def test_the_defaults_are_those_that_were_measured():
    assert CBDMarginSampling().get_params() == {
        "vocabulary": None,
        "m": 10,
        "candidate_factor": 2,
        "weighting": "binary",
        "target": "uniform",
        "uncertainty": "margin",
        "multi_label": False,
        "label_doubt": "mean",
        "similarity": "centred",
        "table": None,
        "device": None,
    }
    assert CBDSampling().get_params() == {
        "vocabulary": None,
        "m": 10,
        "weighting": "binary",
        "target": "pool",
        "similarity": "centred",
        "table": None,
        "device": None,
    }


def test_concepts_decide_among_candidates_and_doubt_decides_who_they_are():
    X, P = images(0, 0, 1, 2), doubtful(0.1, 0.2, 0.3, 0.9)
    X[1] += 0.1  # the same concept, and no copy
    for factor, expected in [(1, [0, 1]), (2, [0, 2]), (8, [0, 2])]:
        picks = plain(candidate_factor=factor).select(X, 2, probabilities=P)
        assert picks.tolist() == expected


def test_each_uncertainty_finds_its_own_candidates():
    P = np.array([[0.5, 0.5, 0.0], [0.4, 0.3, 0.3], [0.45, 0.3, 0.25], [0.9, 0.05, 0.05]])
    found = {
        kind: plain(candidate_factor=1, uncertainty=kind)
        .select(images(0, 1, 2, 3), 1, probabilities=P)
        .tolist()
        for kind in ("margin", "entropy", "least_confidence")
    }
    assert found == {"margin": [0], "entropy": [1], "least_confidence": [1]}


def test_an_ensemble_is_most_unsure_where_its_models_disagree():
    strategy = plain(candidate_factor=1, uncertainty="ensemble_variance")
    first = np.array([[0.5, 0.5], [1.0, 0.0], [0.9, 0.1]])
    P = np.stack([first, first[:, ::-1]])
    # The first image has the least margin in each model, the second the least agreement.
    X = images(0, 1, 2)
    assert strategy.select(X, 1, probabilities=P).tolist() == [1]
    picks, metrics = strategy(None, X, 2, probabilities=P)
    assert sorted(picks) == [1, 2]
    np.testing.assert_allclose(metrics, -reference.ensemble_variance(P)[picks], atol=1e-12)
    with pytest.raises(InvalidInputError, match="one row for each of the 2 images; got 3"):
        strategy.select(X[:2], 1, probabilities=P)


def test_metrics_are_the_margins_of_the_picks(Z, vocabulary, probabilities):
    picks, metrics = CBDMarginSampling(vocabulary)(learner_of(probabilities), Z, 5)
    np.testing.assert_allclose(metrics, reference.margin(probabilities)[picks], atol=1e-12)


def test_given_probabilities_spare_the_classifier(Z, vocabulary, probabilities):
    class Silent:
        def predict_proba(self, X):
            raise AssertionError("asked")

    strategy = CBDMarginSampling(vocabulary)
    picks, _ = strategy(Silent(), Z, 5, probabilities=probabilities)
    assert picks.tolist() == strategy.select(Z, 5, probabilities=probabilities).tolist()


def test_the_classifier_is_asked_once_with_the_pool_as_it_came(Z, vocabulary, probabilities):
    asked = []
    classifier = SimpleNamespace(predict_proba=lambda X: asked.append(X) or probabilities)
    X = [f"{i}.jpg" for i in range(60)]
    CBDMarginSampling(vocabulary)(classifier, X, 5, embeddings=Z)
    assert len(asked) == 1
    assert asked[0] is X


# CBDSampling


@pytest.mark.parametrize("target", ["uniform", "pool", "array"])
@pytest.mark.parametrize("weighting", ["binary", "softmax"])
def test_the_cold_start_is_a_greedy_choice_of_the_whole_pool(Z, vocabulary, target, weighting):
    own = np.linspace(0, 0.4, 40)
    strategy = CBDSampling(
        vocabulary, m=5, weighting=weighting, target=own if target == "array" else target
    )
    picks = strategy.select(Z, 6, labelled=Z[[1, 2]])
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary, 5)
    vectors = reference.concept_vectors(profiles, weighting)
    mean = own if target == "array" else vectors.mean(axis=0)

    def scores(candidates, chosen):
        if target == "uniform":
            return reference.cbd_scores(candidates, chosen)
        return reference.target_scores(candidates, chosen, mean)

    assert reference.shortfall(scores, vectors, picks, vectors[[1, 2]]) < 1e-4


@pytest.mark.parametrize("way", ["select", "query", "profile"])
def test_without_a_model_no_image_is_uncertain(way):
    strategy = plain(CBDSampling, target="uncertain")
    message = (
        "`target` of CBDSampling must be 'uniform', 'pool' or a mean concept vector; got "
        "'uncertain', and without a model no image is. Choose one of these, or take "
        "CBDMarginSampling."
    )
    ask = {
        "select": lambda X: strategy.select(X, 1),
        "query": lambda X: strategy(None, X, 1),
        "profile": strategy.profile,
    }
    with pytest.raises(InvalidInputError, match=exactly(message)):
        ask[way](images(0, 1))


def test_a_target_of_ones_own_is_steered_to():
    X = images(0, 1, 2, 3)
    strategy = plain(CBDSampling, target=[0.0, 0.0, 1.0, 0.0])
    assert strategy.select(X, 1).tolist() == [2]


def test_the_pool_is_followed_in_its_proportions():
    # Three dogs for each cat.
    X = images(0, 0, 0, 1, 0, 0, 0, 1)
    picks = plain(CBDSampling, target="pool").select(X, 4)
    assert sorted((X[picks][:, 0] == 1.0).tolist()) == [False, True, True, True]
    even = plain(CBDSampling, target="uniform").select(X, 4)
    assert sorted((X[even][:, 0] == 1.0).tolist()) == [False, False, True, True]


# The labelled set


@pytest.mark.parametrize("strategy", [CBDMarginSampling, CBDSampling])
def test_what_is_labelled_is_not_picked_again_while_there_is_other(strategy):
    X, P = images(0, 1, 2, 0), doubtful(0.1, 0.1, 0.1, 0.1)
    with_doubt = strategy is CBDMarginSampling
    more = {"probabilities": P} if with_doubt else {}
    all_four = {"candidate_factor": 4} if with_doubt else {}
    picker = plain(strategy, target="uniform", **all_four)
    assert picker.select(X, 1, **more).tolist() == [0]
    assert picker.select(X, 1, labelled=images(0), **more).tolist() == [1]
    assert picker.select(X, 1, labelled=images(0, 1), **more).tolist() == [2]
    profiles = picker.profile(images(0, 1, 2))
    assert picker.select(X, 1, labelled=profiles, **more).tolist() == [0]
    counts = ConceptCounts.from_profiles(profiles, [0, 1], weighting="binary")
    assert picker.select(X, 1, labelled=counts, **more).tolist() == [2]


def test_labelled_takes_the_place_of_the_training_set():
    X = images(0, 1, 2)
    taught = SimpleNamespace(X_training=images(0))
    strategy = plain(CBDSampling, target="uniform")
    assert strategy(taught, X, 1)[0].tolist() == [1]
    assert strategy(taught, X, 1, labelled=images(1))[0].tolist() == [0]


# One image


@pytest.mark.parametrize("similarity", ["centred", "standardized", "cosine"])
def test_a_pool_of_one_image_is_picked(Z, vocabulary, similarity):
    cold = CBDSampling(vocabulary, similarity=similarity)
    hybrid = CBDMarginSampling(vocabulary, similarity=similarity)
    assert cold.select(Z[:1], 1, labelled=Z[1:9]).tolist() == [0]
    assert hybrid.select(Z[:1], 1, probabilities=[[0.5, 0.5]]).tolist() == [0]
    assert cold(None, [["one"]], 1, embeddings=Z[:1])[0].tolist() == [0]


# explain


def test_picks_are_explained_by_what_they_add():
    strategy = plain(CBDSampling, m=2, target="uniform")
    pool, labelled = images(0, 0, 2, 1), images(3)
    picks = strategy.select(pool, 3, labelled=labelled)
    assert picks.tolist()[0] == 3  # all but it share a concept with the labelled image
    assert strategy.explain(picks[:1], pool, labelled=labelled) == [
        PickExplanation(3, ("cat", "cow"), ("cat", "cow"))
    ]
    assert strategy.explain([0, 1, 3], pool, labelled=labelled) == [
        PickExplanation(0, ("dog", "cat"), ("cat",)),
        PickExplanation(1, ("dog", "cat"), ()),
        PickExplanation(3, ("cat", "cow"), ("cow",)),
    ]


def test_picks_of_other_profiles_are_explained():
    strategy = plain(CBDSampling)
    profiles = ConceptProfiles.from_embeddings(images(0, 2), ANIMALS, 2, similarity="cosine")
    assert strategy.explain([1, 0], profiles=profiles) == [
        PickExplanation(1, ("cow", "hen"), ("cow", "hen")),
        PickExplanation(0, ("dog", "cat"), ("dog", "cat")),
    ]
    labelled = ConceptProfiles.from_embeddings(images(1), ANIMALS, 2, similarity="cosine")
    for weighting in ("binary", "softmax"):
        counts = ConceptCounts.from_profiles(labelled, weighting=weighting)
        for seen in (labelled, counts, images(1)):
            (told,) = strategy.explain([0], profiles=profiles, labelled=seen)
            assert told.added == ("dog",)
            assert explain_picks([0], profiles, labelled=seen) == [told]


def test_an_explanation_knows_nothing_of_other_queries(Z, vocabulary):
    strategy = CBDSampling(vocabulary)
    before = vars(strategy).copy()
    picks = strategy.select(Z, 5, labelled=Z[:3])
    told = strategy.explain(picks, Z, labelled=Z[:3])
    strategy.select(Z[::-1], 7)
    assert strategy.explain(picks, Z, labelled=Z[:3]) == told
    assert vars(strategy) == before


def test_an_explanation_needs_the_pool():
    message = "A pool is needed; got none of `X`, `embeddings=` and `profiles=`. Pass one."
    strategy = plain(CBDSampling)
    strategy.select(images(0, 1), 1)
    with pytest.raises(InvalidInputError, match=exactly(message)):
        strategy.explain([0])


@pytest.mark.parametrize(("indices", "message"), [([4], "got 4"), ([1, 1], "got 1 more than once")])
def test_picks_that_are_not_there_cannot_be_explained(indices, message):
    strategy = plain(CBDSampling)
    with pytest.raises(InvalidInputError, match=message):
        strategy.explain(indices, images(0, 1, 2, 3))


# Bad input, the same for both


def cold(vocabulary, **settings):
    strategy = CBDSampling(vocabulary, **settings)
    return strategy, {}


def hybrid(vocabulary, **settings):
    strategy = CBDMarginSampling(vocabulary, **settings)
    return strategy, {"probabilities": np.full((60, 2), 0.5)}


both = pytest.mark.parametrize("make", [cold, hybrid])
ways = pytest.mark.parametrize("way", ["select", "query"])


def ask(way, strategy, X, n, **more):
    return strategy.select(X, n, **more) if way == "select" else strategy(None, X, n, **more)


@both
@ways
@pytest.mark.parametrize(
    ("n", "message"),
    [
        (61, "`n_instances` must be in [1, 60], the size of the pool; got 61. Lower it."),
        (0, "`n_instances` must be in [1, 60], the size of the pool; got 0. Raise it."),
        (-1, "`n_instances` must be in [1, 60], the size of the pool; got -1. Raise it."),
    ],
)
def test_a_budget_outside_the_pool(Z, vocabulary, make, way, n, message):
    strategy, more = make(vocabulary)
    with pytest.raises(InvalidInputError, match=exactly(message)):
        ask(way, strategy, Z, n, **more)


@both
@ways
@pytest.mark.parametrize("n", [True, 2.0, "2", None])
def test_a_budget_that_is_no_number(Z, vocabulary, make, way, n):
    strategy, more = make(vocabulary)
    message = f"`n_instances` must be a whole number; got {n!r}. Pass an int."
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        ask(way, strategy, Z, n, **more)


@both
@ways
def test_an_empty_pool(vocabulary, make, way):
    strategy, more = make(vocabulary)
    with pytest.raises(InvalidInputError, match=r"must hold at least one image; got .* Stop the"):
        ask(way, strategy, np.empty((0, 12)), 1, **more)


@both
@ways
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_that_are_not_finite(Z, vocabulary, make, way, bad):
    Z[4, 4] = bad
    strategy, more = make(vocabulary)
    with pytest.raises(InvalidInputError, match="must be finite; row 4 holds NaN or infinity"):
        ask(way, strategy, Z, 2, **more)


@both
@ways
def test_a_vocabulary_of_another_width(Z, vocabulary, make, way):
    strategy, more = make(vocabulary)
    with pytest.raises(InvalidInputError, match=r"12 columns; got 7\. Encode both with one model"):
        ask(way, strategy, Z[:, :7], 2, **more)


@both
@ways
def test_a_table_of_another_model(Z, vocabulary, make, way):
    strategy, more = make(vocabulary)
    with pytest.raises(ModelMismatchError, match="by one model; got other and toy"):
        ask(way, strategy, Table(Z, "other"), 2, **more)


@both
@ways
def test_a_bound_table_of_another_model(Z, vocabulary, make, way):
    strategy, more = make(vocabulary, table=Table(Z, "other"))
    with pytest.raises(ModelMismatchError, match="by one model; got other and toy"):
        ask(way, strategy, np.arange(60), 2, **more)


@both
@ways
def test_a_vocabulary_that_is_not_encoded(Z, make, way):
    strategy, more = make(ConceptVocabulary.from_names(["dog", "cat"]))
    with pytest.raises(InvalidInputError, match="`vocabulary` must have embeddings; got names"):
        ask(way, strategy, Z, 2, **more)


@both
@ways
def test_no_vocabulary(Z, make, way):
    strategy, more = make(None)
    message = (
        f"{type(strategy).__name__} needs a vocabulary or `profiles=`; got neither. Pass an "
        "encoded ConceptVocabulary when you construct it."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        ask(way, strategy, Z, 2, **more)


@both
@ways
def test_profiles_of_another_length(Z, vocabulary, profiles, make, way):
    strategy, more = make(vocabulary)
    message = (
        "`profiles` must have one row for each of the 59 images of the pool; got 60. Pass "
        "`profiles.take(pool_indices)`."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        ask(way, strategy, Z[:59], 2, profiles=profiles, **more)


@both
def test_embeddings_of_another_length(Z, vocabulary, make):
    strategy, more = make(vocabulary)
    with pytest.raises(InvalidInputError, match="each of the 60 images of the pool; got 59"):
        strategy(None, Z, 2, embeddings=Z[:59], **more)


@both
def test_no_pool(vocabulary, make):
    strategy, more = make(vocabulary)
    message = "A pool is needed; got none of `X`, `embeddings=` and `profiles=`. Pass one."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        strategy.select(None, 2, **more)


@both
@ways
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"m": 0}, InvalidInputError, "`m` must be in [1, 40]; got 0. Change it."),
        ({"m": 41}, InvalidInputError, "`m` must be in [1, 40]; got 41. Change it."),
        ({"m": 2.0}, InvalidTypeError, "`m` must be a whole number; got 2.0. Pass an int."),
        (
            {"weighting": "idf"},
            InvalidInputError,
            "`weighting` must be one of 'binary', 'softmax'; got 'idf'. Choose one.",
        ),
        (
            {"target": "labelled"},
            InvalidInputError,
            "`target` must be one of 'uniform', 'pool', 'uncertain'; got 'labelled'. Choose one.",
        ),
        (
            {"target": np.ones(39)},
            InvalidInputError,
            "`target` must be 'uniform', 'pool', 'uncertain' or one finite number for each of the "
            "40 concepts; got shape (39,). Pass the mean concept vector that you want.",
        ),
    ],
)
def test_a_bad_setting_is_found_at_the_query(Z, vocabulary, make, way, settings, error, message):
    strategy, more = make(vocabulary, **settings)
    with pytest.raises(error, match=exactly(message)):
        ask(way, strategy, Z, 2, **more)


# Bad input of the hybrid alone


@ways
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"candidate_factor": 0},
            InvalidInputError,
            "`candidate_factor` must be at least 1; got 0. Change it.",
        ),
        (
            {"candidate_factor": 1.5},
            InvalidTypeError,
            "`candidate_factor` must be a whole number; got 1.5. Pass an int.",
        ),
        (
            {"uncertainty": "variance"},
            InvalidInputError,
            "`uncertainty` must be one of 'margin', 'entropy', 'least_confidence', "
            "'ensemble_variance'; got 'variance'. Choose one.",
        ),
    ],
)
def test_a_bad_setting_of_the_shortlist(Z, vocabulary, way, settings, error, message):
    strategy, more = hybrid(vocabulary, **settings)
    with pytest.raises(error, match=exactly(message)):
        ask(way, strategy, Z, 2, **more)


@ways
@pytest.mark.parametrize(
    ("P", "message"),
    [
        (np.full((59, 2), 0.5), "one row for each of the 60 images; got 59. Predict on the same"),
        (np.full((60, 2), 0.6), "each row must sum to 1; got row 0, which sums to 1.2"),
        (np.tile([1.5, -0.5], (60, 1)), "must be at least 0 .* got a value of -0.5"),
        (np.full((60, 2), np.nan), "must be finite; row 0, 1, 2, 3, 4 and others holds NaN"),
        (np.full(60, 0.5), r"must be a 2-D array of numbers, .* got shape \(60,\)"),
    ],
)
def test_bad_probabilities(Z, vocabulary, way, P, message):
    strategy = CBDMarginSampling(vocabulary)
    with pytest.raises(InvalidInputError, match=f"^`probabilities` .*{message}"):
        ask(way, strategy, Z, 2, probabilities=P)


def test_bad_probabilities_of_the_classifier(Z, vocabulary):
    strategy, classifier = CBDMarginSampling(vocabulary), learner_of(np.full((60, 2), 0.6))
    with pytest.raises(InvalidInputError, match="each row must sum to 1; got row 0"):
        strategy(classifier, Z, 2)


@pytest.mark.parametrize(
    "classifier",
    [LogisticRegression(), SimpleNamespace(estimator=SimpleNamespace(initialized_=False))],
    ids=["scikit-learn", "a skorch network"],
)
def test_a_classifier_that_is_not_fitted(Z, vocabulary, classifier):
    message = (
        "The classifier must be fitted to be unsure of anything; it is not. Teach it first, or "
        "start with `CBDSampling`, which needs no labels."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        CBDMarginSampling(vocabulary)(classifier, Z, 2)


def test_an_error_of_the_classifier_is_its_own(Z, vocabulary):
    def fail(X):
        raise RuntimeError("out of memory")

    strategy, classifier = CBDMarginSampling(vocabulary), SimpleNamespace(predict_proba=fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        strategy(classifier, Z, 2)


def test_labelled_of_another_vocabulary(Z, vocabulary, rng):
    other = ConceptProfiles.from_embeddings(Z, make_vocabulary(random_unit(rng, 9, 12)), 3)
    strategy = CBDSampling(vocabulary)
    with pytest.raises(InvalidInputError, match="vocabulary of 40 concepts; got 9"):
        strategy.select(Z, 2, labelled=other)
