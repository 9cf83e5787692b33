"""Tests of what functions take: each Protocol is met by what it stands for, and by no other."""

from __future__ import annotations

import numpy as np
import pytest

from clip_al import CrossFitAdapter, DatasetAdapter, DeviceEmbeddings, EmbeddingTable
from clip_al.arrays.types import Adapter, ChecksModel, FoldAdapters, as_array


@pytest.fixture
def table(tmp_path):
    return EmbeddingTable.from_array(tmp_path / "table", np.eye(3), ["a", "b", "c"], model_id="toy")


def test_as_array_takes_the_mapped_array_of_a_table_and_leaves_the_rest(table):
    Z, on_device = np.eye(3), DeviceEmbeddings(np.eye(3), "cpu")
    assert as_array(table) is table.embeddings
    assert as_array(Z) is Z
    assert as_array(on_device) is on_device


def test_what_knows_its_model(table):
    assert isinstance(table, ChecksModel)
    assert isinstance(DeviceEmbeddings(table, "cpu"), ChecksModel)
    assert not isinstance(np.eye(3), ChecksModel)


def test_one_adapter_and_one_a_fold_are_told_apart():
    y = np.arange(8) % 2
    one, folds = DatasetAdapter(epochs=1, device="cpu"), CrossFitAdapter()
    assert isinstance(one, Adapter)
    assert not isinstance(one, FoldAdapters)
    assert not isinstance(folds, FoldAdapters)  # not fitted
    folds = CrossFitAdapter(one).fit(np.eye(2)[y], y, np.eye(2))
    assert isinstance(folds, FoldAdapters)
    assert not isinstance(folds, Adapter)
    assert all(isinstance(adapter, Adapter) for adapter in folds.adapters_)
