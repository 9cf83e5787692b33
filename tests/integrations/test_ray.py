"""The Ray path on a local cluster of two workers gives what one machine gives."""

from __future__ import annotations

import builtins
import io
import logging
import os
import signal

import numpy as np
import pytest
from PIL import Image

from clip_al import (
    CBDMarginSampling,
    ClipEncoder,
    ClipSelector,
    ConceptProfiles,
    DatasetAdapter,
    SelectionOptimizer,
    UncertaintyCoverageSampling,
)
from clip_al.concepts.diversity import ConceptCounts
from clip_al.concepts.profiles import ConceptStatistics
from clip_al.errors import (
    InvalidInputError,
    InvalidTypeError,
    MissingDependencyError,
    SkippedImagesWarning,
    UnreadableImageError,
)
from clip_al.integrations import ray as on_ray
from clip_al.integrations.ray import batches, coverage, runs, steps
from clip_al.integrations.ray.threshold import N_BINS, Bounds, Extent, find_bounds, sort_keys
from clip_al.label.coverage import kernel, weights
from clip_al.score.label_noise.confusion import share_in_words
from tests.reference import contents, make_vocabulary, random_probabilities, random_unit

N, D, K, M = 600, 12, 4, 5


# The threshold search, on blocks in memory


def search(value_n, ids, group_n, quota_g, *, n_blocks=3, few=5):
    """Return what is taken, by way of blocks, and how many passes of counting it took."""
    parts = np.array_split(np.arange(len(ids)), n_blocks)
    keys = [(sort_keys(value_n[p], np.asarray(ids)[p]), group_n[p]) for p in parts]
    n_groups, passes = len(quota_g), []

    def count(bounds):
        passes.append(bounds)
        return [bounds.counts(key) for key in keys]

    def gather(bounds):
        found = [(key, bounds.is_open(key)) for key in keys]
        width = bounds.prefix_gw.shape[1]
        words = [np.pad(k[0][o], ((0, 0), (0, width - k[0].shape[1]))) for k, o in found]
        return np.concatenate(words), np.concatenate([k[1][o] for k, o in found])

    extent = Extent.merged([(np.arange(n_groups), Extent.of(key, n_groups)) for key in keys])
    bounds = find_bounds(extent, quota_g, count, gather, few=few)
    return np.concatenate([parts[i][bounds.is_taken(key)] for i, key in enumerate(keys)]), passes


def lowest_by_sort(value_n, ids, group_n, quota_g):
    taken = []
    for g, quota in enumerate(quota_g):
        members = [i for i in range(len(ids)) if group_n[i] == g]
        taken += sorted(members, key=lambda i: (value_n[i], ids[i]))[:quota]
    return sorted(taken)


VALUES = {
    "spread": lambda rng, n: rng.standard_normal(n),
    "tied": lambda rng, n: rng.integers(0, 3, n).astype(float),
    "all alike": lambda rng, n: np.zeros(n),
    "of many sizes": lambda rng, n: rng.choice([-1, 1], n) * 10.0 ** rng.integers(-300, 300, n),
    "both zeros": lambda rng, n: rng.choice([0.0, -0.0], n),
    "hashes": lambda rng, n: rng.integers(0, 2**64, n, dtype=np.uint64),
}
IDS = {
    "numbers": lambda rng, n: rng.permutation(n) - n // 2,
    "strings": lambda rng, n: rng.permutation([f"{'ab' * (i % 9)}/é{i}" for i in range(n)]),
}


@pytest.mark.parametrize("few", [0, 20])
@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("values", VALUES)
def test_the_search_takes_what_a_sort_takes(rng, values, ids, few):
    value_n, id_n = VALUES[values](rng, 200), IDS[ids](rng, 200)
    group_n = rng.integers(0, 4, 200)
    quota_g = np.array([0, 1, 17, (group_n == 3).sum()])
    taken, _ = search(value_n, id_n, group_n, quota_g, few=few)
    assert sorted(taken) == lowest_by_sort(value_n, id_n.tolist(), group_n, quota_g)


def test_the_search_counts_few_times(rng):
    value_n = rng.standard_normal(20_000)
    taken, passes = search(value_n, np.arange(20_000), np.zeros(20_000, int), [6000], few=100)
    assert len(taken) == 6000
    assert 1 <= len(passes) <= 3


@pytest.mark.parametrize("few", [0, 20])
def test_an_id_twice_at_the_threshold_is_refused(few):
    with pytest.raises(InvalidInputError, match="name each image once"):
        search(np.zeros(6), [1, 1, 1, 1, 1, 1], np.zeros(6, int), [3], few=few)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(InvalidInputError, match="row 1 holds NaN"):
        sort_keys(np.array([0.0, np.nan]), [0, 1])


def test_ids_that_are_neither_numbers_nor_strings_are_refused():
    with pytest.raises(InvalidTypeError, match="whole numbers or strings"):
        sort_keys(np.zeros(2), np.array(["a", None], dtype=object))


def test_bounds_are_not_modified(rng):
    keys = sort_keys(rng.standard_normal(50), np.arange(50)), np.zeros(50, int)
    bounds = Bounds.of(Extent.of(keys, 1), np.array([7]))
    before = contents(*vars(bounds).values())
    counts_gb = np.zeros((1, N_BINS), int)
    counts_gb.ravel()[bounds.counts(keys)[0]] = bounds.counts(keys)[1]
    bounds.narrowed(counts_gb)
    bounds.settled(keys)
    assert contents(*vars(bounds).values()) == before


# What workers do with a batch


def test_hashes_do_not_depend_on_the_batch_and_do_on_the_seed():
    ids = np.array(["b", "a", "c"], dtype=object)
    hashed = batches.hash_ids(ids, 1)
    assert batches.hash_ids(ids[1:], 1).tolist() == hashed[1:].tolist()
    assert (batches.hash_ids(ids, 2) != hashed).all()


@pytest.mark.parametrize("similarity", ["centred", "standardized"])
def test_moments_of_blocks_merge_to_those_of_all(Z, vocabulary, similarity):
    known = {"vocabulary": vocabulary, "similarity": similarity}
    blocks = [{"id": np.arange(a, b), "embedding": Z[a:b]} for a, b in [(0, 1), (1, 40), (40, 60)]]
    parts = [batches.similarity_moments(block, **known) for block in blocks]
    merged = batches.merge_moments([{name: p[name][0] for name in p} for p in parts], similarity)
    expected = ConceptStatistics.from_embeddings(
        Z, vocabulary, similarity=similarity, max_images=None
    )
    assert merged.similarity == similarity
    assert merged.n == expected.n
    np.testing.assert_allclose(merged.mean_v, expected.mean_v, atol=1e-6)
    np.testing.assert_allclose(merged.std_v, expected.std_v, rtol=1e-5)


def test_moments_of_equal_images_have_no_spread(vocabulary, Z):
    block = {"id": np.arange(5), "embedding": np.repeat(Z[:1], 5, axis=0)}
    part = batches.similarity_moments(block, vocabulary=vocabulary, similarity="standardized")
    merged = batches.merge_moments([{name: part[name][0] for name in part}], "standardized")
    assert (merged.scale_and_shift()[0] == 1.0).all()


def test_a_single_image_has_no_statistics(vocabulary, Z):
    part = batches.similarity_moments(
        {"id": np.array([0]), "embedding": Z[:1]},
        vocabulary=vocabulary,
        similarity="standardized",
    )
    with pytest.raises(InvalidInputError, match="at least 2 images; got 1"):
        batches.merge_moments([{name: part[name][0] for name in part}], "standardized")


def test_a_batch_without_the_column_says_what_there_is():
    with pytest.raises(InvalidInputError, match=r"column `embedding`; got 'id'"):
        batches.column({"id": np.arange(2)}, "embedding")


def test_rows_of_several_lengths_are_refused():
    ragged = np.empty(2, dtype=object)
    ragged[:] = [np.zeros(2), np.zeros(3)]
    with pytest.raises(InvalidInputError, match="rows of one length"):
        batches.column({"embedding": ragged}, "embedding")


def test_concepts_of_another_vocabulary_are_refused(vocabulary):
    batch = {"concepts": np.array([[40]]), "similarities": np.array([[1.0]])}
    with pytest.raises(InvalidInputError, match="the vocabulary of 40 concepts"):
        batches.profiles_of(batch, vocabulary)


def test_without_ray_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def no_ray(name, *args, **kwargs):
        if name.partition(".")[0] == "ray":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_ray)
    with pytest.raises(MissingDependencyError, match=r'pip install "clip_al\[ray\]"'):
        on_ray.select(None, 0.5)


# On a cluster


@pytest.fixture(scope="module")
def cluster():
    """Two workers on this machine."""
    import ray

    # Workers that wait are kept: starting one takes a second or more, each task a tenth.
    keep = {"num_workers_soft_limit": 8, "idle_worker_killing_time_threshold_ms": 600_000}
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        logging_level="error",
        log_to_driver=False,
        _system_config=keep,
    )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def pool():
    """Labelled images of K classes of several sizes, a tenth mislabelled; ids in no order."""
    rng = np.random.default_rng(5)
    T = random_unit(rng, K, D)
    y = rng.choice(K, N, p=[0.1, 0.2, 0.3, 0.4])
    Z = T[y] + 0.3 * rng.standard_normal((N, D))
    y[: N // 10] = rng.integers(0, K, N // 10)
    return {
        "id": np.arange(N),
        "embedding": (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32),
        "label": y,
        "probabilities": random_probabilities(rng, N, K),
        "T": T,
        "vocabulary": make_vocabulary(random_unit(rng, 30, D)),
    }


def on_cluster(cluster, columns, n_blocks=4, seed=0):
    """Rows in random order, in blocks of several sizes."""
    n = len(columns["id"])
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    cuts = np.sort(rng.choice(np.arange(1, n), n_blocks - 1, replace=False))
    parts = [{k: v[rows] for k, v in columns.items()} for rows in np.split(order, cuts)]
    arrays = [cluster.data.from_numpy(part["id"]) for part in parts]
    rows = arrays[0].union(*arrays[1:]) if len(arrays) > 1 else arrays[0]
    return rows.map_batches(Lookup(columns), batch_size=None).materialize()


class Lookup:
    """Turns row numbers into rows."""

    def __init__(self, columns):
        self.columns = columns

    def __call__(self, batch):
        (rows,) = batch.values()
        return {name: values[rows] for name, values in self.columns.items()}


def only(pool, *names):
    return {name: pool[name] for name in names}


def table(dataset):
    """All rows, sorted by id."""
    return batches.sorted_by_id(runs.gather_rows(dataset))


@pytest.fixture(scope="module")
def labelled(cluster, pool):
    return on_cluster(cluster, only(pool, "id", "embedding", "label"))


@pytest.fixture(scope="module")
def profiled(cluster, pool):
    """The dataset with concepts, and the local profiles of the same rows."""
    data = on_cluster(cluster, only(pool, "id", "embedding", "probabilities"))
    statistics = on_ray.concept_statistics(data, pool["vocabulary"])
    profiles = ConceptProfiles.from_embeddings(
        pool["embedding"], pool["vocabulary"], M, statistics=statistics
    )
    return on_ray.profile(data, pool["vocabulary"], M, statistics).materialize(), profiles


@pytest.mark.ray
def test_statistics_are_those_of_all_rows(profiled, pool):
    expected = ConceptStatistics.from_embeddings(
        pool["embedding"], pool["vocabulary"], max_images=None
    )
    found = profiled[1].statistics
    assert found.n == N
    np.testing.assert_allclose(found.mean_v, expected.mean_v, atol=1e-6)
    np.testing.assert_allclose(found.std_v, expected.std_v, rtol=1e-5)


@pytest.mark.ray
def test_profiles_are_the_local_ones(profiled):
    rows, profiles = table(profiled[0]), profiled[1]
    assert (rows["concepts"] == profiles.ids).all()
    np.testing.assert_allclose(rows["similarities"], profiles.similarities, atol=1e-5)


@pytest.mark.ray
@pytest.mark.parametrize("weighting", ["softmax", "binary"])
def test_concept_counts_are_the_local_ones(profiled, pool, weighting):
    found = on_ray.concept_counts(profiled[0], pool["vocabulary"], weighting=weighting)
    expected = ConceptCounts.from_profiles(profiled[1], weighting=weighting)
    assert found.n == expected.n
    assert (found.count_v == expected.count_v).all()
    np.testing.assert_allclose(found.sum_v, expected.sum_v, rtol=1e-5)


def fitted_adapter(pool):
    adapter = DatasetAdapter(epochs=1, device="cpu")
    return adapter.fit(pool["embedding"], pool["label"], pool["T"])


SETTINGS = {
    "default": {},
    "cosine, not noise aware": {"alignment": "cosine", "noise_aware": False, "alpha": 0.5},
    "with SDS, unscaled": {"alpha": 0.3, "scale": "none", "n_neighbors": 3},
    "SDS beside it": {"alpha": 0.0, "n_neighbors": 0.1},
    "none last": {"min_label_probability": 0.0},
    "no SDS": {"alpha": 0.0},
    "a count, as an array has it": {"n_neighbors": np.int64(4)},
}


@pytest.mark.ray
@pytest.mark.parametrize(
    ("name", "adapted"), [*((name, False) for name in SETTINGS), ("default", True)]
)
def test_scores_and_choice_are_those_of_the_selector(labelled, pool, name, adapted):
    settings, adapter = SETTINGS[name], fitted_adapter(pool) if adapted else None
    scored = on_ray.score(labelled, pool["T"], adapter=adapter, **settings).materialize()
    selector = ClipSelector(
        0.3, class_embeddings=pool["T"], adapter=adapter or False, text_weight=1.0, **settings
    )
    expected = selector.fit_select(pool["embedding"], pool["label"])
    rows = table(scored)
    assert (rows["likeliest"] == expected.scores["likeliest"]).all()
    assert ("sds" in rows) == (name != "no SDS")
    assert rows.keys() - {"id", "label"} == expected.scores.keys()
    for score in expected.scores:
        # The odds of a label are sums of products some tens of times as large.
        atol = 1e-2 if score == "label_score" else 1e-4
        np.testing.assert_allclose(rows[score], expected.scores[score], atol=atol, err_msg=score)
    assert table(on_ray.select(scored, 0.3))["id"].tolist() == expected.indices.tolist()


@pytest.mark.ray
def test_without_sds_the_embeddings_stay_where_they_are(labelled, pool):
    rows = table(on_ray.score(labelled, pool["T"], alpha=0.0))
    assert set(rows) == {
        "id", "label", "sas", "label_score", "label_probability", "likeliest", "total",
    }  # fmt: skip


@pytest.mark.ray
def test_neither_the_cut_into_blocks_nor_their_order_changes_a_score(cluster, pool):
    columns = only(pool, "id", "embedding", "label")
    one, other = (
        table(on_ray.score(on_cluster(cluster, columns, n, seed=n), pool["T"], n_neighbors=0.1))
        for n in (2, 5)
    )
    assert (one["sds"] == other["sds"]).all()
    np.testing.assert_allclose(one["total"], other["total"], atol=2e-5)


@pytest.mark.ray
def test_the_noise_of_a_larger_dataset_comes_from_a_sample(labelled, pool, monkeypatch):
    monkeypatch.setattr(steps, "MAX_IMAGES", 400)
    first, again = (table(on_ray.score(labelled, pool["T"]))["label_probability"] for _ in range(2))
    monkeypatch.setattr(steps, "MAX_IMAGES", N)
    of_all = table(on_ray.score(labelled, pool["T"]))["label_probability"]
    assert (first == again).all()
    assert (first != of_all).any()
    assert np.abs(first - of_all).mean() < 0.05


@pytest.mark.ray
def test_the_noise_is_said_and_knows_its_sample(labelled, pool, monkeypatch):
    monkeypatch.setattr(steps, "MAX_IMAGES", 400)
    noise = on_ray.label_noise(labelled, pool["T"])
    assert str(noise) == share_in_words(noise.wrong_fraction, noise.interval)
    seen = noise.seen({"id": pool["id"]})
    assert seen.sum() == 400
    rows = table(on_ray.score(labelled, pool["T"], noise=noise))
    expected = noise.score(pool["embedding"], pool["label"], seen=seen)
    np.testing.assert_allclose(rows["label_probability"], expected.right_n, atol=1e-4)
    again = table(on_ray.score(labelled, pool["T"]))
    assert (rows["label_probability"] == again["label_probability"]).all()
    chance = on_ray.label_noise(labelled, pool["T"], noise_model="symmetric")
    assert chance.wrong_fraction == chance.uniform_share * (1 - 1 / K)


BALANCES = {
    "none": "none",
    "proportional": "proportional",
    "equal": "equal",
    "shares": [0.5, 0.0, 0.25, 0.25],
    "by class": {1: 0.75, 2: 0.25},
}


@pytest.mark.ray
@pytest.mark.parametrize(
    ("balance", "ids"), [*((balance, "numbers") for balance in BALANCES), ("equal", "strings")]
)
def test_the_choice_is_that_of_the_optimizer(cluster, pool, monkeypatch, balance, ids):
    rng = np.random.default_rng(1)
    monkeypatch.setattr("clip_al.integrations.ray.runs.FEW", 10)
    rule, y = BALANCES[balance], pool["label"]
    total_n = rng.integers(0, 9, N) / 4  # ties
    id_n = np.sort(IDS[ids](rng, N))
    columns = {"id": id_n.astype(object if ids == "strings" else int), "label": y}
    chosen = on_ray.select(
        on_cluster_by_row(cluster, {**columns, "total": total_n}),
        0.12,
        class_balance=rule,
        n_classes=K,
    )
    optimizer = SelectionOptimizer(0.12, class_balance=rule, alpha=0.0)
    expected = optimizer.select(total_n, np.zeros(N), y, n_classes=K).indices
    rows = table(chosen)
    assert rows["id"].tolist() == id_n[expected].tolist()
    assert (rows["total"] == total_n[expected]).all()
    assert ("label" in rows) == (balance != "none")


def on_cluster_by_row(cluster, columns):
    """As `on_cluster`, where ids are no row numbers."""
    rows = on_cluster(cluster, {**columns, "row": columns["id"], "id": np.arange(N)})
    return rows.drop_columns(["id"]).rename_columns({"row": "id"})


# Picking

PICKS = {
    "default": {},
    "weighted, to the pool": {"weighting": "softmax", "target": "pool"},
    "to the candidates, by entropy": {"target": "uncertain", "uncertainty": "entropy"},
    "to a given target": {"target": np.full(30, 1 / 30), "candidate_factor": 3},
}


def local_picks(pool, profiles, n, labelled=None, **settings):
    strategy = CBDMarginSampling(**settings)
    found = strategy.select(
        profiles=profiles,
        n_instances=n,
        probabilities=pool["probabilities"],
        labelled=labelled,
    )
    return found.tolist()


@pytest.mark.ray
@pytest.mark.parametrize("name", PICKS)
def test_picks_of_one_shard_are_the_local_ones(profiled, pool, name):
    data, profiles = profiled
    settings = PICKS[name]
    labelled = profiles.take(np.arange(20))
    found = on_ray.pick(data, 25, pool["vocabulary"], labelled=labelled, **settings)
    assert found.tolist() == local_picks(pool, profiles, 25, labelled, **settings)


COVERED = {
    "default": {},
    "several labels": {"multi_label": True, "label_doubt": "worst"},
    "first batch": {"probabilities": None},
    "narrow": {"radius": 0.3},
}


def local_coverage(pool, n, labelled=None, probabilities="probabilities", **settings):
    given = None if probabilities is None else pool["probabilities"]
    strategy = UncertaintyCoverageSampling(**settings)
    return strategy.select(pool["embedding"], n, probabilities=given, labelled=labelled).tolist()


@pytest.mark.ray
@pytest.mark.parametrize("name", COVERED)
def test_picks_by_coverage_are_the_local_ones(profiled, pool, name):
    data, settings = profiled[0], COVERED[name]
    found = on_ray.pick_by_coverage(data, 25, **settings)
    assert found.tolist() == local_coverage(pool, 25, **settings)


@pytest.mark.ray
def test_what_is_labelled_counts_as_covered(cluster, profiled, pool):
    known = pool["embedding"][:40]
    found = on_ray.pick_by_coverage(profiled[0], 10, labelled=known)
    assert found.tolist() == local_coverage(pool, 10, labelled=known)
    assert found.tolist() != local_coverage(pool, 10)
    again = on_ray.pick_by_coverage(profiled[0].repartition(7), 10, labelled=known)
    assert again.tolist() == found.tolist()


@pytest.mark.ray
def test_a_dataset_that_is_drawn_from_is_covered_as_well(cluster, profiled, pool, monkeypatch):
    monkeypatch.setattr(coverage, "N_CANDIDATES", 300)
    monkeypatch.setattr(coverage, "EXACT_UP_TO", 300)
    P = pool["probabilities"]
    weight_n = weights.coverage_weights(P)
    space = kernel.measure(pool["embedding"], 0.6, np.random.default_rng(0))

    def covered(picks):
        cover_n = kernel.covered(
            pool["embedding"][picks],
            kernel.placed(pool["embedding"], np.arange(N), space.mean_d), space,
        )  # fmt: skip
        return cover_n @ weight_n / weight_n.sum()

    found = on_ray.pick_by_coverage(profiled[0], 20)
    assert len(set(found.tolist())) == 20
    again = on_ray.pick_by_coverage(profiled[0].repartition(7), 20)
    assert again.tolist() == found.tolist()
    best = covered(local_coverage(pool, 20))
    drawn = np.random.default_rng(0).choice(N, 20, replace=False)
    assert covered(drawn) < covered(found) <= best + 1e-6
    assert covered(found) > 0.95 * best


def test_a_draw_by_weight_estimates_sums_without_bias(rng):
    n, n_drawn = 400, 60
    weight_n = rng.exponential(size=n) ** 2
    batch = {"id": np.arange(n), "weight": weight_n, "likeliest": np.zeros(n, np.int32)}
    value_n, estimates, sizes = rng.random(n), [], []
    for seed in range(400):
        keys = coverage.priority_keys(batch, mean_weight=weight_n.mean(), seed=seed)["value"]
        order = np.argsort(keys)
        taken, bound = order[:n_drawn], keys[order[n_drawn]]
        chance = np.minimum(1.0, (1.0 + weight_n[taken] / weight_n.mean()) * bound)
        estimates.append((weight_n[taken] * value_n[taken] / chance).sum())
        sizes.append(weight_n[taken].mean())
    truth = weight_n @ value_n
    assert np.mean(estimates) == pytest.approx(truth, rel=4 * np.std(estimates) / truth / 20)
    assert np.std(estimates) < 0.2 * truth
    assert np.mean(sizes) > 1.5 * weight_n.mean()  # half of the draw goes by weight


@pytest.mark.ray
def test_coverage_refuses_what_is_no_probability(cluster, pool):
    columns = only(pool, "id", "embedding", "probabilities")
    bad = on_cluster(cluster, {**columns, "probabilities": 2 * columns["probabilities"]})
    with pytest.raises(InvalidInputError, match="each row must sum to 1"):
        on_ray.pick_by_coverage(bad, 5)
    with pytest.raises(InvalidInputError, match=r"in \[1, 600\], the size of the pool; got 601"):
        on_ray.pick_by_coverage(on_cluster(cluster, columns), 601)
    twice = on_cluster(cluster, {**columns, "id": columns["id"] // 2})
    with pytest.raises(InvalidInputError, match="name each image once"):
        on_ray.pick_by_coverage(twice, 5)


@pytest.mark.ray
def test_shards_that_keep_all_candidates_pick_as_one(profiled, pool):
    data, profiles = profiled
    found = on_ray.pick(data, 25, pool["vocabulary"], n_shards=3, oversample=8)
    assert found.tolist() == local_picks(pool, profiles, 25)


@pytest.mark.ray
def test_two_rounds_pick_candidates_and_lose_little(cluster, profiled, pool):
    data, profiles = profiled
    found = on_ray.pick(data, 25, pool["vocabulary"], n_shards=3)
    again = on_ray.pick(data.repartition(7), 25, pool["vocabulary"], n_shards=3)
    certain_n = np.sort(batches.UNCERTAINTIES["margin"](pool["probabilities"]))
    assert found.tolist() == again.tolist()
    assert len(set(found.tolist())) == 25
    assert batches.UNCERTAINTIES["margin"](pool["probabilities"][found]).max() <= certain_n[99]
    counts = [
        ConceptCounts.from_profiles(profiles, ids, weighting="binary").diversity()
        for ids in (found, local_picks(pool, profiles, 25))
    ]
    assert counts[0] > 0.98 * counts[1]


# Images


def encoded(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).integers(0, 256, (6, 20, 20, 3), dtype=np.uint8)


def image_encoder(**settings):
    return batches.ImageEncoder("image", encoder={"device": "cpu"}, **settings)


@pytest.mark.parametrize("kind", ["bytes", "paths", "arrays"])
def test_images_of_every_kind_are_embedded(images, tmp_path, kind):
    column = images
    if kind == "bytes":
        column = np.array([encoded(image) for image in images], dtype=object)
    if kind == "paths":
        paths = [tmp_path / f"{i}.png" for i in range(len(images))]
        for image, path in zip(images, paths, strict=True):
            path.write_bytes(encoded(image))
        column = np.array(list(map(str, paths)), dtype=object)
    batch = {"id": np.arange(6), "image": column, "source": np.arange(6) + 10}
    rows = image_encoder(errors="raise")(batch)
    assert set(rows) == {"id", "source", "embedding"}
    assert rows["source"].tolist() == batch["source"].tolist()
    expected = ClipEncoder("mini", device="cpu").encode_images(images)
    np.testing.assert_allclose(rows["embedding"], expected, atol=1e-6)


def one_unreadable(images):
    files = [encoded(image) for image in images]
    files[1] = b"nothing"
    return {"id": np.array([f"image {i}" for i in range(6)]), "image": np.array(files, object)}


def test_an_unreadable_image_is_named(images):
    with pytest.raises(UnreadableImageError, match=r"image 1 \(not an image"):
        image_encoder(errors="raise")(one_unreadable(images))


def test_an_unreadable_image_is_left_out_with_a_warning(images):
    with pytest.warns(SkippedImagesWarning, match=r"image 1 \(.*They are left out"):
        rows = image_encoder(errors="skip")(one_unreadable(images))
    assert rows["id"].tolist() == [f"image {i}" for i in (0, 2, 3, 4, 5)]


@pytest.mark.ray
def test_images_are_embedded_in_actors(cluster, images):
    columns = one_unreadable(images)
    data = cluster.data.from_items(
        [{"id": i, "image": f} for i, f in zip(*columns.values(), strict=True)],
        override_num_blocks=2,
    )
    rows = table(on_ray.embed(data, errors="skip", batch_size=2, device="cpu"))
    readable = [0, 2, 3, 4, 5]
    assert rows["id"].tolist() == [f"image {i}" for i in readable]
    expected = ClipEncoder("mini", device="cpu").encode_images(images[readable])
    np.testing.assert_allclose(rows["embedding"], expected, atol=1e-5)


# Failure


class KilledOnce:
    """Passes rows through, but its process dies the first time that it sees row 0."""

    def __init__(self, marker):
        self.marker = marker

    def __call__(self, batch):
        if 0 in batch["id"] and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return batch


@pytest.mark.ray
def test_a_killed_worker_changes_nothing(labelled, profiled, pool, tmp_path):
    def results(data, profiled, n):
        if n:
            data = data.map_batches(KilledOnce(tmp_path / "score"), batch_size=None)
            profiled = profiled.map_batches(KilledOnce(tmp_path / "pick"), batch_size=None)
        chosen = on_ray.select(on_ray.score(data, pool["T"], alpha=0.2), 0.3)
        picked = on_ray.pick(profiled, 20, pool["vocabulary"], n_shards=2)
        return contents(*table(chosen).values(), picked)

    calm = results(labelled, profiled[0], 0)
    assert results(labelled, profiled[0], 1) == calm
    assert (tmp_path / "score").exists()
    assert (tmp_path / "pick").exists()


# Bad input


def without_the_first_block(batch):
    """Leaves the block of row 0 empty."""
    return {name: x[:0] for name, x in batch.items()} if 0 in batch["id"] else batch


@pytest.mark.ray
def test_empty_blocks_are_no_trouble(cluster, pool):
    columns = only(pool, "id", "embedding", "label", "probabilities")
    data = on_cluster(cluster, columns).map_batches(without_the_first_block, batch_size=None)
    n = data.count()
    assert 0 < n < N
    assert on_ray.concept_statistics(data, pool["vocabulary"]).n == n
    scored = on_ray.score(data, pool["T"])
    assert on_ray.select(scored, 0.5).count() == (n + 1) // 2
    profiled = on_ray.profile(data, pool["vocabulary"], M)
    assert on_ray.concept_counts(profiled, pool["vocabulary"]).n == n
    assert 0 not in on_ray.pick(profiled, 5, pool["vocabulary"])


@pytest.mark.ray
def test_a_dataset_without_rows_is_refused(cluster):
    data = cluster.data.from_items([{"id": 0, "total": 1.0, "label": 0}])
    with pytest.raises(InvalidInputError, match="got none"):
        on_ray.select(data.filter(lambda row: row["id"] > 0), 0.5)


@pytest.mark.ray
def test_what_a_worker_refuses_arrives_as_our_error(cluster, pool):
    columns = only(pool, "id", "embedding", "label")
    bad = on_cluster(cluster, {**columns, "label": columns["label"] + 1})
    with pytest.raises(InvalidInputError, match=r"must be in \[0, 3\]"):
        table(on_ray.score(bad, pool["T"]))
    assert not cluster.data.DataContext.get_current().raise_original_map_exception


@pytest.mark.ray
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda data, pool: on_ray.select(data, 0.5), r"columns 'id', 'total', 'label'; got 'id'"),
        (lambda data, pool: on_ray.score(data, pool["T"], alpha="ratio"), "scores know no ratio"),
        (lambda data, pool: on_ray.score(data, pool["T"], scale="global"), "one of 'class'"),
        (
            lambda data, pool: on_ray.score(data, pool["T"], n_neighbors=N),
            "smallest|below",
        ),
        (lambda data, pool: on_ray.profile(data, pool["vocabulary"], 31), r"in \[1, 30\]"),
        (lambda data, pool: on_ray.embed(data, errors="ignore"), "one of 'raise', 'skip'"),
    ],
)
def test_bad_arguments_are_refused(labelled, pool, call, message):
    with pytest.raises(InvalidInputError, match=message):
        call(labelled, pool).materialize()


@pytest.mark.ray
def test_repeated_ids_are_noticed(cluster):
    rows = [{"id": 7, "total": 1.0, "label": 0}] * 4
    data = cluster.data.from_items(rows)
    with pytest.raises(InvalidInputError, match="name each image once"):
        on_ray.select(data, 0.5)


@pytest.mark.ray
def test_other_types_are_refused(labelled, pool):
    with pytest.raises(InvalidTypeError, match="must be a Ray Dataset; got ndarray"):
        on_ray.select(np.zeros(3), 0.5)
    with pytest.raises(InvalidTypeError, match="a fitted DatasetAdapter; got DatasetAdapter"):
        on_ray.score(labelled, pool["T"], adapter=DatasetAdapter())
