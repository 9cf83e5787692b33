import numpy as np
import pytest

from clip_al.score.scaling import credible_first, standardize_scores

N = 300


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def scores(rng):
    sas, sds = rng.standard_normal((2, N)).astype(np.float32)
    right = rng.random(N).astype(np.float32)
    return sas - 5, sds + 1, right, rng.integers(3, size=N)


def weigh(scores, threshold, **changes):
    settings = {"scale": "class", "noise_aware": True, **changes}
    return credible_first(*scores, min_label_probability=threshold, **settings)


@pytest.mark.parametrize("noise_aware", [True, False])
@pytest.mark.parametrize("scale", ["class", "global", "none"])
def test_with_no_threshold_scores_are_scaled(scores, scale, noise_aware):
    sas, sds, right, y = scores
    found = weigh(scores, 0.0, scale=scale, noise_aware=noise_aware)
    np.testing.assert_allclose(found[0], standardize_scores(sas, y, scale), rtol=1e-6)
    weight = right if noise_aware else 1.0
    np.testing.assert_allclose(found[1], standardize_scores(sds, y, scale) * weight, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -40.0, 40.0])
def test_labels_that_look_wrong_are_behind_whatever_the_weight(scores, alpha):
    right = scores[2]
    sas, sds = weigh(scores, 0.4, largest_alpha=alpha)
    total, behind = sas + alpha * sds, right < 0.4
    assert total[behind].max() < total[~behind].min()
    # Among themselves by the probability, whatever their SAS and SDS.
    assert np.argsort(total[behind]).tolist() == np.argsort(right[behind]).tolist()


def test_mean_and_spread_are_those_of_the_credible(scores):
    sas, sds, right, y = scores
    sas[right < 0.4] = -1e4
    kept = right >= 0.4
    found = weigh(scores, 0.4)
    np.testing.assert_allclose(found[0][kept], standardize_scores(sas[kept], y[kept]), rtol=1e-6)
    np.testing.assert_allclose(
        found[1][kept], standardize_scores(sds[kept], y[kept]) * right[kept], rtol=1e-6
    )


def test_where_no_label_is_credible_all_are_weighed(scores):
    sas, sds, right, y = scores
    found = weigh((sas, sds, 0.5 * right, y), 0.9)
    np.testing.assert_allclose(found[0], standardize_scores(sas, y), rtol=1e-6)


def test_an_outlier_among_the_credible_stays_before_those_behind(rng):
    n = 40_000
    sas = rng.standard_normal(n).astype(np.float32)
    sas[0] = -1e6
    right = np.ones(n, dtype=np.float32)
    right[1] = 0.1
    scaled, _ = credible_first(
        sas, None, right, np.zeros(n, dtype=np.int64),
        scale="class", noise_aware=True, min_label_probability=0.5,
    )  # fmt: skip
    assert np.argsort(scaled)[:2].tolist() == [1, 0]
