"""Tests of `adapt.cross_fit`; what it refuses as `DatasetAdapter` does, in `test_adapter`."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from clip_al.adapt.cross_fit import CrossFitAdapter
from clip_al.errors import InvalidInputError
from tests.adapt.adapters import K, N, make, same, shifted
from tests.helpers import exactly


@pytest.mark.parametrize("n_splits", [2, 3])
def test_folds_are_equal_and_hold_the_same_share_of_each_class(n_splits):
    Z, y, T = shifted()
    folds = CrossFitAdapter(make(epochs=1), n_splits=n_splits).fit(Z, y, T)
    assert folds.fold_.dtype == np.int64
    counts = np.array([np.bincount(y[folds.fold_ == f], minlength=K) for f in range(n_splits)])
    assert np.ptp(counts, axis=0).max() <= 1
    assert np.ptp(counts.sum(axis=1)) <= 1
    assert len(folds.adapters_) == n_splits
    mean = np.mean([adapter.temperature_ for adapter in folds.adapters_])
    assert folds.temperature_ == pytest.approx(mean)


@pytest.mark.parametrize("n_splits", [2, 3])
def test_an_adapter_never_sees_the_labels_nor_the_images_of_its_fold(n_splits):
    Z, y, T = shifted()
    folds = CrossFitAdapter(make(), n_splits=n_splits).fit(Z, y, T)
    for f in range(n_splits):
        held = folds.fold_ == f
        wrong = np.where(held, (y + 1) % K, y)
        other_images = np.where(held[:, None], -Z, Z)
        other = CrossFitAdapter(make(), n_splits=n_splits)
        other.fit(other_images, wrong, T, fold=folds.fold_)
        changed_fits = [
            not same(*pair) for pair in zip(folds.adapters_, other.adapters_, strict=True)
        ]
        assert changed_fits == [g != f for g in range(n_splits)]


def test_an_adapter_of_a_fold_is_that_of_the_other_images():
    Z, y, T = shifted()
    folds = CrossFitAdapter(make()).fit(Z, y, T)
    seen = folds.fold_ != 0
    assert same(folds.adapters_[0], make().fit(Z[seen], y[seen], T))


def test_folds_follow_the_seed():
    Z, y, T = shifted()
    seeds = (0, 0, 1)
    fits = [CrossFitAdapter(make(epochs=1), random_state=seed).fit(Z, y, T) for seed in seeds]
    folds = [tuple(fit.fold_) for fit in fits]
    assert folds[0] == folds[1] != folds[2]
    assert same(fits[0].adapters_[0], fits[1].adapters_[0])


def test_cross_fit_takes_names_and_leaves_its_template_alone():
    Z, y, T = shifted()
    names = ["cat", "dog", "owl", "fox"]
    template = make(epochs=1)
    folds = CrossFitAdapter(template).fit(Z, np.array(names)[y], T, class_names=names)
    assert folds.adapters_[1].classes_.tolist() == names
    assert not hasattr(template, "weights_")
    assert clone(folds).get_params()["adapter__epochs"] == 1


def test_given_folds_are_copied():
    Z, y, T = shifted()
    fold = np.arange(N) % 2
    folds = CrossFitAdapter(make(epochs=1)).fit(Z, y, T, fold=fold)
    fold[:] = 0
    assert folds.fold_.sum() == N // 2


@pytest.mark.parametrize(
    ("settings", "fold", "message"),
    [
        ({"n_splits": 1}, None, "`n_splits` must be in [2, 120]; got 1. Change it."),
        ({"n_splits": 121}, None, "`n_splits` must be in [2, 120]; got 121. Change it."),
        (
            {"n_splits": 3},
            np.arange(N) % 2,
            "`fold` must use all of the 3 folds; no image is in 2. Lower `n_splits`, or number "
            "the folds from 0.",
        ),
        (
            {},
            np.zeros(3, dtype=int),
            "`fold` must have one label for each of the 120 images; got shape (3,). Pass the "
            "labels of the same images, in the same order.",
        ),
    ],
)
def test_folds_that_cannot_be_are_refused(settings, fold, message):
    Z, y, T = shifted()
    folds = CrossFitAdapter(make(epochs=1), **settings)
    with pytest.raises(InvalidInputError, match=exactly(message)):
        folds.fit(Z, y, T, fold=fold)
