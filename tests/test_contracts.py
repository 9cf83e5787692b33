"""What every public strategy, score and sampler promises, in loops over all of them."""

from __future__ import annotations

import inspect
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from modAL.models import ActiveLearner, Committee
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

import clip_al
from clip_al import (
    AlignmentDiversitySampling,
    CBDMarginSampling,
    CBDSampling,
    ConceptCounts,
    ConceptProfiles,
    UncertaintyCoverageSampling,
)
from tests.helpers import Table, learner_of
from tests.reference import contents, make_vocabulary, random_probabilities, random_unit

N, D, V, K = 60, 12, 40, 3

ONE = "cold, one concept"
STRATEGIES = {
    "hybrid": (CBDMarginSampling, {}),
    "hybrid, plain vectors": (CBDMarginSampling, {"weighting": "binary", "m": 3}),
    "hybrid, one candidate a pick": (CBDMarginSampling, {"candidate_factor": 1}),
    "hybrid, whole pool": (CBDMarginSampling, {"candidate_factor": 1000}),
    "hybrid, entropy": (CBDMarginSampling, {"uncertainty": "entropy"}),
    "hybrid, least confidence": (CBDMarginSampling, {"uncertainty": "least_confidence"}),
    # The mean over labels is the same for all rows that sum to 1 and have none above ½.
    "hybrid, several labels": (
        CBDMarginSampling,
        {"multi_label": True, "label_doubt": "worst"},
    ),
    "hybrid, like the pool": (CBDMarginSampling, {"target": "pool"}),
    "hybrid, like the uncertain": (CBDMarginSampling, {"target": "uncertain"}),
    "hybrid, plain cosines": (CBDMarginSampling, {"similarity": "cosine"}),
    "hybrid, all concepts": (CBDMarginSampling, {"m": V}),
    "cold": (CBDSampling, {}),
    "cold, plain vectors": (CBDSampling, {"weighting": "binary", "m": 3}),
    "cold, uniform": (CBDSampling, {"target": "uniform"}),
    "cold, own target": (CBDSampling, {"target": np.linspace(0, 0.3, V)}),
    "cold, plain cosines": (CBDSampling, {"similarity": "cosine"}),
    ONE: (CBDSampling, {"m": 1}),
    "aligned": (AlignmentDiversitySampling, {}),
    "aligned by cosine, no quotas": (
        AlignmentDiversitySampling,
        {"alignment": "cosine", "scale": "global", "class_balance": "none"},
    ),
    "aligned, proportional quotas": (
        AlignmentDiversitySampling,
        {"class_balance": "proportional", "n_neighbors": 3, "alpha": 0.5},
    ),
    "coverage": (UncertaintyCoverageSampling, {}),
    "coverage, small radius": (UncertaintyCoverageSampling, {"radius": 0.2}),
    "coverage, several labels": (UncertaintyCoverageSampling, {"multi_label": True}),
}
COLD = [name for name, (cls, _) in STRATEGIES.items() if cls is CBDSampling]
ALIGNED = [name for name, (cls, _) in STRATEGIES.items() if cls is AlignmentDiversitySampling]
COVERAGE = [n for n, (cls, _) in STRATEGIES.items() if cls is UncertaintyCoverageSampling]
CONCEPT = [name for name in STRATEGIES if name not in ALIGNED + COVERAGE]
every_strategy = pytest.mark.parametrize("name", STRATEGIES)
every_aligned_strategy = pytest.mark.parametrize("name", ALIGNED)
every_concept_strategy = pytest.mark.parametrize("name", CONCEPT)
every_cold_strategy = pytest.mark.parametrize("name", COLD)


def make(name, vocabulary, **settings):
    """Make a strategy; those that align take the first concepts for classes."""
    cls, own = STRATEGIES[name]
    first = vocabulary.embeddings[:K] if name in ALIGNED + COVERAGE else vocabulary
    return cls(first, **{**own, **settings})


@pytest.fixture
def y():
    return np.arange(N) % K


@pytest.fixture
def start(y):
    """Nine labelled images; the pool is what comes after them."""
    return np.arange(9)


def taught(strategy, X, y, start):
    return ActiveLearner(
        LogisticRegression(), query_strategy=strategy, X_training=X[start], y_training=y[start]
    )


def check_picks(indices, metrics, n_instances, n_pool):
    assert isinstance(indices, np.ndarray)
    assert indices.dtype == np.int64
    assert indices.shape == metrics.shape == (n_instances,)
    assert len(set(indices.tolist())) == n_instances
    assert 0 <= indices.min() <= indices.max() < n_pool
    assert np.isfinite(metrics).all()


def test_no_public_strategy_is_left_out():
    public = {name for name in clip_al.__all__ if name.endswith("Sampling")}
    assert {cls.__name__ for cls, _ in STRATEGIES.values()} == public


# Called as modAL calls


@every_strategy
@pytest.mark.parametrize("n_instances", [1, 2, 3, 7, N - 9])
def test_unique_indices_in_range_as_many_as_asked(Z, y, start, vocabulary, name, n_instances):
    strategy = make(name, vocabulary)
    pool = Z[9:]
    result = strategy(taught(strategy, Z, y, start), pool, n_instances)
    assert type(result) is tuple
    assert len(result) == 2
    check_picks(*result, n_instances, len(pool))


@every_strategy
def test_one_image_is_the_default(Z, y, start, vocabulary, name):
    strategy = make(name, vocabulary)
    indices, _ = strategy(taught(strategy, Z, y, start), Z)
    assert indices.shape == (1,)


@every_strategy
def test_one_image_all_images_and_identical_images(Z, y, start, vocabulary, name):
    strategy = make(name, vocabulary)
    learner = taught(strategy, Z, y, start)
    assert strategy(learner, Z[:1], 1)[0].tolist() == [0]
    assert sorted(strategy(learner, Z, N)[0]) == list(range(N))
    check_picks(*strategy(learner, np.repeat(Z[:1], 20, axis=0), 5), 5, 20)


@every_strategy
@pytest.mark.parametrize("n_instances", [1, 2, 5])
def test_query_returns_indices_and_their_rows_and_asks_once(
    Z, y, start, vocabulary, name, n_instances
):
    strategy, calls = make(name, vocabulary), []

    def counting(*args, **kwargs):
        calls.append(args)
        return strategy(*args, **kwargs)

    learner, pool = taught(counting, Z, y, start), Z[9:]
    indices, images = learner.query(pool, n_instances=n_instances)
    assert len(calls) == 1
    assert images.shape == (n_instances, D)
    assert (images == pool[indices]).all()


@every_strategy
def test_query_returns_metrics_where_it_is_asked_to(Z, y, start, vocabulary, name):
    learner = taught(make(name, vocabulary), Z, y, start)
    indices, _, metrics = learner.query(Z, n_instances=4, return_metrics=True)
    check_picks(indices, metrics, 4, N)


@every_strategy
def test_a_second_call_and_a_second_strategy_pick_the_same(Z, y, start, vocabulary, name):
    strategy = make(name, vocabulary)
    learner = taught(strategy, Z, y, start)
    first, second = strategy(learner, Z, 6), strategy(learner, Z, 6)
    other = make(name, vocabulary)(learner, Z, 6)
    assert contents(*first) == contents(*second) == contents(*other)


@every_concept_strategy
def test_the_last_query_does_not_change_the_next(Z, y, start, vocabulary, name):
    strategy = make(name, vocabulary)
    learner = taught(strategy, Z, y, start)
    first = strategy(learner, Z, 6)
    strategy(learner, Z[20:40], 3, labelled=Z[:5])
    assert contents(*strategy(learner, Z, 6)) == contents(*first)


@every_strategy
def test_random_states_are_left_alone(Z, y, start, vocabulary, name):
    strategy = make(name, vocabulary)
    learner = taught(strategy, Z, y, start)
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    strategy(learner, Z, 6)
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002


@every_concept_strategy
def test_inputs_are_left_alone(Z, y, start, vocabulary, name):
    strategy = make(name, vocabulary)
    learner, labelled = taught(strategy, Z, y, start), Z[:4].copy()
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary, strategy.m)
    arrays = [
        Z,
        labelled,
        learner.X_training,
        vocabulary.embeddings,
        profiles.ids,
        profiles.similarities,
    ]
    if not isinstance(strategy.target, str):
        arrays.append(strategy.target)
    before = contents(*arrays)
    strategy(learner, Z, 6)
    strategy(learner, Z, 6, profiles=profiles, labelled=labelled)
    assert contents(*arrays) == before
    Z.setflags(write=False)
    check_picks(*strategy(learner, Z, 6), 6, N)


# Equal concept vectors are picked by position, so only weighted ones follow a permutation.
@pytest.mark.parametrize("name", [n for n in STRATEGIES if "plain vectors" not in n and n != ONE])
def test_permuted_pools_have_permuted_picks(rng, y, start, vocabulary, name):
    Z = random_unit(rng, N, D)
    strategy, order = make(name, vocabulary), rng.permutation(N)
    if name in CONCEPT:
        strategy.set_params(weighting="softmax")
    learner = taught(strategy, Z, y, start)
    indices, _ = strategy(learner, Z, 6)
    permuted, _ = strategy(learner, Z[order], 6)
    assert order[permuted].tolist() == indices.tolist()


@every_cold_strategy
def test_a_longer_pick_starts_with_a_shorter_one(Z, vocabulary, name):
    # Not so for the hybrid: more picks have more candidates.
    strategy = make(name, vocabulary)
    longer, cost = strategy(None, Z, 20)
    for n_instances in (1, 2, 9):
        shorter, first = strategy(None, Z, n_instances)
        assert longer[:n_instances].tolist() == shorter.tolist()
        assert cost[:n_instances].tolist() == first.tolist()


@every_concept_strategy
def test_select_picks_what_the_query_picks(Z, y, start, vocabulary, name):
    strategy = make(name, vocabulary)
    learner = taught(strategy, Z, y, start)
    more = {}
    if isinstance(strategy, CBDMarginSampling):
        more["probabilities"] = learner.predict_proba(Z)
    picks = strategy.select(Z, 6, labelled=learner.X_training, **more)
    assert picks.tolist() == strategy(learner, Z, 6)[0].tolist()
    assert strategy.select(Z, **more).shape == (1,)


# Where the pool comes from


@every_concept_strategy
def test_embeddings_and_profiles_stand_in_for_the_pool(Z, y, start, vocabulary, rng, name):
    X = rng.standard_normal((N, 5))
    strategy = make(name, vocabulary)
    learner = taught(strategy, X, y, start)
    indices, rows = learner.query(X, n_instances=4, embeddings=Z)
    check_picks(indices, np.zeros(4), 4, N)
    assert (rows == X[indices]).all()
    profiles = strategy.profile(Z)
    again, _ = learner.query(X, n_instances=4, profiles=profiles)
    assert again.tolist() == indices.tolist()


@every_concept_strategy
def test_profiles_make_the_vocabulary_needless(Z, y, start, vocabulary, name):
    profiles = make(name, vocabulary).profile(Z)
    with_vocabulary, without = make(name, vocabulary), make(name, None)
    learner = taught(without, Z, y, start)
    expected = with_vocabulary(learner, Z, 4)
    assert contents(*without(learner, Z, 4, profiles=profiles)) == contents(*expected)


@every_strategy
@pytest.mark.parametrize("shape", [(-1, 1), (-1,)])
def test_row_numbers_of_a_bound_table_stand_in_for_embeddings(Z, y, start, vocabulary, name, shape):
    strategy = make(name, vocabulary, table=Table(Z))
    P = random_probabilities(np.random.default_rng(4), N, K)
    rows = np.random.default_rng(5).permutation(np.arange(9, N))
    learner = SimpleNamespace(
        X_training=start.reshape(shape),
        predict_proba=lambda X: P[np.ravel(X)],
        predict=lambda X: P[np.ravel(X)].argmax(axis=1),
    )
    indices, metrics = strategy(learner, rows.reshape(shape), 5)
    check_picks(indices, metrics, 5, N - 9)
    direct = SimpleNamespace(
        X_training=Z[start],
        predict_proba=lambda X: P[rows],
        predict=lambda X: P[rows].argmax(axis=1),
    )
    expected, _ = make(name, vocabulary)(direct, Z[rows], 5)
    assert indices.tolist() == expected.tolist()


@every_strategy
def test_a_real_learner_is_taught_row_numbers(Z, y, start, vocabulary, name):
    X = np.arange(N)[:, None]
    learner = ActiveLearner(
        GaussianNB(),
        query_strategy=make(name, vocabulary, table=Table(Z)),
        X_training=X[start],
        y_training=y[start],
    )
    indices, rows = learner.query(X[9:], n_instances=2)
    assert rows.tolist() == X[9:][indices].tolist()
    learner.teach(rows, y[rows.ravel()])
    check_picks(learner.query(X[20:], n_instances=3)[0], np.zeros(3), 3, N - 20)


# Where the labelled set comes from


@every_concept_strategy
def test_a_learner_without_a_training_set(Z, vocabulary, probabilities, name):
    strategy = make(name, vocabulary)
    bare, none = learner_of(probabilities), learner_of(probabilities)
    none.X_training = None
    first, second = strategy(bare, Z, 4), strategy(none, Z, 4)
    check_picks(*first, 4, N)
    assert contents(*first) == contents(*second)
    empty = strategy(bare, Z, 4, labelled=np.empty((0, D)))
    assert contents(*empty) == contents(*first)


@every_strategy
def test_a_real_learner_that_was_fitted_elsewhere(Z, y, vocabulary, name):
    estimator = LogisticRegression().fit(Z, y)
    learner = ActiveLearner(estimator, query_strategy=make(name, vocabulary))
    assert learner.X_training is None
    indices, images = learner.query(Z, n_instances=2)
    assert (images == Z[indices]).all()
    assert images.shape == (2, D)


@every_cold_strategy
def test_a_cold_start_needs_no_fitted_learner(Z, vocabulary, name):
    learner = ActiveLearner(LogisticRegression(), query_strategy=make(name, vocabulary))
    indices, images = learner.query(Z, n_instances=2)
    assert (images == Z[indices]).all()
    assert make(name, vocabulary)(None, Z, 2)[0].tolist() == indices.tolist()


@every_strategy
def test_a_committee_queries_too(Z, y, start, vocabulary, name):
    strategy = make(name, vocabulary)
    members = [taught(strategy, Z, y, start + 9 * i) for i in range(2)]
    indices, images = Committee(members, query_strategy=strategy).query(Z, n_instances=2)
    assert (images == Z[indices]).all()


@every_concept_strategy
def test_the_labelled_set_is_one_however_it_is_given(Z, vocabulary, probabilities, name):
    strategy = make(name, vocabulary)
    learner, part = learner_of(probabilities), [3, 30, 44]
    profiles = strategy.profile(Z)
    picks = [
        strategy(learner, Z, 5, labelled=labelled)[0].tolist()
        for labelled in (
            Z[part],
            profiles.take(part),
            ConceptCounts.from_profiles(profiles, part),
        )
    ]
    learner.X_training = Z[part]
    picks.append(strategy(learner, Z, 5)[0].tolist())
    assert picks == [picks[0]] * 4


@pytest.mark.parametrize("cls", [CBDMarginSampling, CBDSampling])
@pytest.mark.parametrize("weighting", ["binary", "softmax"])
@pytest.mark.parametrize("target", ["uniform", "pool"])
def test_the_labelled_set_counts_as_chosen(cls, weighting, target):
    vocabulary = make_vocabulary(np.eye(3))
    X = np.array([[1, 0.2, 0], [1, 0.2, 0], [0, 1, 0.2], [0.2, 0, 1]])
    strategy = cls(vocabulary, m=1, weighting=weighting, target=target, similarity="cosine")
    learner = learner_of(np.full((4, 2), 0.5))
    assert strategy(learner, X, 1)[0].tolist() == [0]
    learner.X_training = X[[0, 1]]
    assert strategy(learner, X, 2)[0].tolist() == [2, 3]


# As scikit-learn's estimators


@every_strategy
def test_a_clone_is_another_with_the_same_settings(Z, y, start, vocabulary, name):
    strategy = make(name, vocabulary)
    learner = taught(strategy, Z, y, start)
    expected = strategy(learner, Z, 5)
    copy = clone(strategy)
    assert copy is not strategy
    assert copy.get_params().keys() == strategy.get_params().keys()
    assert contents(*copy(learner, Z, 5)) == contents(*expected)


@every_concept_strategy
def test_parameters_are_kept_as_they_were_given(vocabulary, name):
    cls, own = STRATEGIES[name]
    params = make(name, vocabulary).get_params()
    assert params["vocabulary"] is vocabulary
    assert all(params[key] is value for key, value in own.items())
    changed = cls().set_params(**params)
    assert all(changed.get_params()[key] is value for key, value in params.items())


@every_concept_strategy
def test_bad_settings_are_stored_until_the_query(name):
    cls, _ = STRATEGIES[name]
    assert cls(None, m=-1, weighting="?", target="?").get_params()["m"] == -1


@every_concept_strategy
def test_a_query_and_a_pickle_leave_the_settings_alone(Z, y, start, vocabulary, name):
    strategy = make(name, vocabulary)
    learner = taught(strategy, Z, y, start)
    expected = strategy(learner, Z, 5)
    copy = pickle.loads(pickle.dumps(strategy))
    assert vars(strategy).keys() == vars(copy).keys() == strategy.get_params().keys()
    assert contents(*copy(learner, Z, 5)) == contents(*expected)


@every_concept_strategy
def test_a_strategy_is_shown_with_its_vocabulary_in_short(vocabulary, name):
    cls, _ = STRATEGIES[name]
    text = " ".join(repr(make(name, vocabulary)).split())
    assert text.startswith(f"{cls.__name__}(")
    assert "vocabulary=ConceptVocabulary(40 concepts, encoded by toy, width 12)" in text


# The strategies that align, where they differ: no profiles, and no labelled set


@every_aligned_strategy
def test_aligned_picks_need_no_fitted_learner(Z, vocabulary, name):
    strategy = make(name, vocabulary)
    learner = ActiveLearner(LogisticRegression(), query_strategy=strategy)
    indices, images = learner.query(Z, n_instances=2)
    assert (images == Z[indices]).all()
    assert images.shape == (2, D)
    assert strategy(None, Z, 2)[0].tolist() == strategy.select(Z, 2).tolist() == indices.tolist()


@every_aligned_strategy
def test_aligned_picks_by_embeddings_and_by_select(Z, y, start, vocabulary, rng, name):
    X = rng.standard_normal((N, 5))
    strategy = make(name, vocabulary)
    learner = taught(strategy, X, y, start)
    indices, rows = learner.query(X, n_instances=4, embeddings=Z)
    assert (rows == X[indices]).all()
    assert strategy.select(Z, 4, y=learner.predict(X)).tolist() == indices.tolist()
    assert strategy.select(Z).shape == (1,)


@every_aligned_strategy
def test_aligned_picks_leave_inputs_alone_and_keep_nothing(Z, y, start, vocabulary, name):
    strategy = make(name, vocabulary)
    learner = taught(strategy, Z, y, start)
    arrays = [Z, learner.X_training, strategy.class_embeddings]
    before, state = contents(*arrays), dict(vars(strategy))
    expected = strategy(learner, Z, 6)
    strategy(learner, Z[20:40], 3)
    assert contents(*strategy(learner, Z, 6)) == contents(*expected)
    assert contents(*arrays) == before
    assert vars(strategy) == state
    Z.setflags(write=False)
    check_picks(*strategy(learner, Z, 6), 6, N)


@every_aligned_strategy
def test_aligned_picks_after_a_pickle(Z, y, start, vocabulary, name):
    strategy = make(name, vocabulary)
    learner = taught(strategy, Z, y, start)
    copy = pickle.loads(pickle.dumps(strategy))
    assert contents(*copy(learner, Z, 5)) == contents(*strategy(learner, Z, 5))


@every_aligned_strategy
def test_parameters_of_aligned_strategies_are_kept_as_they_were_given(vocabulary, name):
    strategy = make(name, vocabulary)
    params = strategy.get_params()
    assert all(params[key] is value for key, value in STRATEGIES[name][1].items())
    bad = AlignmentDiversitySampling("?", n_neighbors=-1, scale="?").get_params()
    assert (bad["class_embeddings"], bad["n_neighbors"], bad["scale"]) == ("?", -1, "?")


# A loop


@every_strategy
def test_three_rounds_of_a_shrinking_pool(Z, y, start, vocabulary, name):
    learner = taught(make(name, vocabulary), Z, y, start)
    pool, seen = np.arange(9, N), set(start.tolist())
    for round_ in range(3):
        indices, images = learner.query(Z[pool], n_instances=4)
        chosen = pool[indices]
        assert seen.isdisjoint(chosen.tolist())
        seen |= set(chosen.tolist())
        learner.teach(images, y[chosen])
        pool = np.delete(pool, indices)
        assert len(pool) == N - 9 - 4 * (round_ + 1)
        assert len(learner.X_training) == 9 + 4 * (round_ + 1)
    assert len(seen) == 9 + 12


@every_concept_strategy
def test_picks_can_be_explained(Z, y, start, vocabulary, name):
    strategy = make(name, vocabulary)
    learner = taught(strategy, Z, y, start)
    indices, _ = learner.query(Z, n_instances=4)
    explanations = strategy.explain(indices, Z, labelled=learner.X_training)
    assert [e.index for e in explanations] == indices.tolist()
    profiles = strategy.profile(Z)
    assert [list(e.concepts) for e in explanations] == [profiles.words(i) for i in indices]
    added = [name for e in explanations for name in e.added]
    assert len(added) == len(set(added))


# Scores

# For each score, whether a high value is uncertain.
SCORES = {"margin": False, "entropy": True, "least_confidence": True}
every_score = pytest.mark.parametrize("name", SCORES)


def test_no_public_score_is_left_out():
    uncertainties = functions_of(clip_al.uncertainty)
    # The others take other arrays: of several models, of several labels.
    assert {*SCORES, "ensemble_variance", "label_uncertainty"} == uncertainties
    scores = {name for name in functions_of(clip_al.scores) if name.endswith("_scores")}
    assert set(LABELLED_SCORES) == scores


def functions_of(module):
    """Names of the functions that a public module documents."""
    return {
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ in (module.__name__, "clip_al.score.scaling")
        and not name.startswith("_")
    }


@every_score
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_score_is_one_finite_number_an_image(rng, name, dtype):
    P = random_probabilities(rng, 30, 4, dtype)
    before = contents(P)
    score = getattr(clip_al.uncertainty, name)
    values = score(P)
    assert values.shape == (30,)
    assert values.dtype == np.float64
    assert np.isfinite(values).all()
    assert values.min() >= 0
    assert contents(score(P)) == contents(values)
    assert contents(P) == before


@every_score
def test_the_direction_of_a_score(name):
    values = getattr(clip_al.uncertainty, name)([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]])
    assert (np.diff(values) > 0).all() == SCORES[name]
    assert (np.diff(values) < 0).all() != SCORES[name]


def test_the_direction_of_the_variance_of_an_ensemble():
    values = clip_al.uncertainty.ensemble_variance(
        [[[0.5, 0.5], [0.6, 0.4], [1.0, 0.0]], [[0.5, 0.5], [0.4, 0.6], [0.0, 1.0]]]
    )
    assert (np.diff(values) > 0).all()


# Scores of labelled images: each takes (embeddings, labels, class embeddings)

LABELLED_SCORES = {
    "semantic_alignment_scores": lambda score, Z, y, T: score(Z, y, T),
    "sample_diversity_scores": lambda score, Z, y, T: score(Z, y),
    "standardize_scores": lambda score, Z, y, T: score(Z[:, 0], y),
}
every_labelled_score = pytest.mark.parametrize("name", LABELLED_SCORES)


def labelled_score(name, Z, y, T):
    return LABELLED_SCORES[name](getattr(clip_al.scores, name), Z, y, T)


@every_labelled_score
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_score_of_labelled_images(Z, y, vocabulary, name, dtype):
    Z, T = Z.astype(dtype), vocabulary.embeddings[:K]
    before = contents(Z, y, T)
    values = labelled_score(name, Z, y, T)
    assert values.shape == (N,)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert contents(labelled_score(name, Z, y, T)) == contents(values)
    assert contents(Z, y, T) == before


@every_labelled_score
def test_a_score_follows_a_permutation_of_labelled_images(rng, Z, y, vocabulary, name):
    order, T = rng.permutation(N), vocabulary.embeddings[:K]
    values = labelled_score(name, Z, y, T)
    permuted = labelled_score(name, Z[order], y[order], T)
    np.testing.assert_allclose(permuted, values[order], atol=1e-6)


@every_labelled_score
def test_a_score_needs_a_label_for_each_image(Z, y, vocabulary, name):
    with pytest.raises(
        clip_al.errors.InvalidInputError, match=r"one label for each of the 60 images"
    ):
        labelled_score(name, Z, y[:-1], vocabulary.embeddings[:K])


@pytest.mark.parametrize("name", ["semantic_alignment_scores", "sample_diversity_scores"])
def test_a_score_of_a_table_is_that_of_its_rows(Z, y, vocabulary, name):
    T = vocabulary.embeddings[:K]
    of_table = labelled_score(name, Table(Z), y, T)
    assert contents(of_table) == contents(labelled_score(name, Z, y, T))


def test_the_direction_of_scores_of_labelled_images():
    Z = np.array([[1.0, 0.0], [0.8, 0.6], [0.99, 0.14]])
    sas = clip_al.scores.semantic_alignment_scores(Z, [0, 0, 0], np.eye(2))
    assert np.argsort(sas).tolist() == [1, 2, 0]
    sds = clip_al.scores.sample_diversity_scores(Z, [0, 0, 0], 1)
    assert sds.argmax() == 1


# Samplers

# With what else each is made, to yield everything in one process.
SAMPLERS = {
    "SelectedSubsetSampler": {},
    "DistributedSelectedSubsetSampler": {"num_replicas": 1, "rank": 0},
}
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def test_no_public_sampler_is_left_out():
    assert {name for name in clip_al.__all__ if name.endswith("Sampler")} == set(SAMPLERS)


@every_sampler
def test_a_sampler_yields_what_a_strategy_picked(Z, vocabulary, name):
    picks = CBDSampling(vocabulary).select(Z, 8)
    before = contents(picks)
    sampler = getattr(clip_al, name)(picks, random_state=0, **SAMPLERS[name])
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(picks.tolist())
    assert first == second
    assert len(sampler) == 8
    assert contents(picks) == before
    sampler.set_epoch(1)
    assert sorted(sampler) == sorted(first)
    assert list(sampler) != first


@every_sampler
def test_a_sampler_takes_a_selection_indices_or_a_mask(Z, y, vocabulary, name):
    selection = clip_al.ClipSelector(
        0.3, class_embeddings=vocabulary.embeddings[:K], adapter=False
    ).fit_select(Z, y)
    epochs = [
        list(getattr(clip_al, name)(chosen, random_state=0, **SAMPLERS[name]))
        for chosen in (selection, selection.indices, selection.mask)
    ]
    assert epochs == [epochs[0]] * 3
    assert all(type(i) is int for i in epochs[0])
    assert sorted(epochs[0]) == selection.indices.tolist()
