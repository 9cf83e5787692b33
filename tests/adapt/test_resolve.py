"""Tests of `clip_al.adapt.resolve`."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from clip_al.adapt.adapter import DatasetAdapter
from clip_al.adapt.cross_fit import CrossFitAdapter
from clip_al.adapt.resolve import PAPER_ADAPTER, describe_adapter, is_fitted, make_adapter
from clip_al.errors import InvalidInputError, InvalidTypeError

Y = np.arange(12) % 2
Z, T = np.eye(3)[Y] + 0.1, np.eye(3)[:2]


def make(asked, **changes):
    settings = {"n_images": 12, "settings": {"epochs": 1}, "device": "cpu", "random_state": 5}
    return make_adapter(asked, **{**settings, **changes})


def test_none_where_none_is_asked_for():
    assert make(False) is None


def test_a_new_adapter_takes_the_settings():
    adapter = make(True)
    assert isinstance(adapter, DatasetAdapter)
    assert not is_fitted(adapter)
    assert (adapter.epochs, adapter.device, adapter.random_state) == (1, "cpu", 5)


def test_a_new_cross_fit_takes_the_settings():
    folds = make("cross-fit")
    assert isinstance(folds, CrossFitAdapter)
    assert (folds.adapter.epochs, folds.adapter.random_state, folds.random_state) == (1, 5, 5)


@pytest.mark.parametrize("asked", [DatasetAdapter(epochs=2), CrossFitAdapter(n_splits=3)])
def test_an_unfitted_adapter_is_cloned(asked):
    adapter = make(asked)
    assert adapter is not asked
    assert adapter.get_params() == asked.get_params()


@pytest.mark.parametrize("asked", [DatasetAdapter(epochs=1), CrossFitAdapter()])
def test_a_fitted_adapter_is_used_as_it_is(asked):
    asked.fit(Z, Y, T)
    assert is_fitted(asked)
    assert make(asked) is asked


def test_a_cross_fit_of_other_images():
    folds = CrossFitAdapter(DatasetAdapter(epochs=0)).fit(Z, Y, T)
    message = re.escape(
        "A cross-fitted adapter must be of the 11 images; it was fitted on 12. Fit it on these."
    )
    with pytest.raises(InvalidInputError, match=f"^{message}$"):
        make(folds, n_images=11)


@pytest.mark.parametrize("asked", ["crossfit", 1, None, DatasetAdapter])
def test_anything_else(asked):
    message = re.escape(
        "`adapter` must be True, False, 'cross-fit', a DatasetAdapter or a CrossFitAdapter; got "
        f"{asked!r}. Choose one."
    )
    with pytest.raises(InvalidTypeError, match=f"^{message}$"):
        make(asked)


def test_the_papers_settings():
    adapter = make(True, settings=PAPER_ADAPTER)
    assert (adapter.learning_rate, adapter.epochs, adapter.batch_size) == (1e-4, 30, 256)
    assert (adapter.step_size, adapter.gamma) == (30, 0.1)
    assert adapter.loss == "diagonal"
    assert adapter.weight_decay == 0.0
    assert adapter.patience is None


@pytest.mark.parametrize("asked", [True, "cross-fit"])
def test_what_was_asked_for_in_a_word_is_described_by_it(asked):
    assert describe_adapter(asked, make(asked)) == asked
    assert describe_adapter(False, None) is False


def test_settings_describe_an_adapter_in_json():
    adapter = DatasetAdapter(epochs=1, device=torch.device("cpu")).fit(Z, Y, T)
    described = describe_adapter(adapter, adapter)
    assert json.loads(json.dumps(described)) == described
    assert described["kind"] == "DatasetAdapter"
    assert (described["epochs"], described["device"]) == (1, "cpu")


def test_settings_describe_a_cross_fit_in_json():
    folds = CrossFitAdapter(DatasetAdapter(epochs=1), n_splits=3).fit(Z, Y, T)
    described = describe_adapter(folds, folds)
    assert json.loads(json.dumps(described)) == described
    assert (described["kind"], described["n_splits"]) == ("CrossFitAdapter", 3)
    assert (described["epochs"], described["device"]) == (1, None)
