"""Tests of `clip_al.adapt.adapter`; how training goes is tested in `test_adapter_training`."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from clip_al import atomic
from clip_al.adapt import adapter as module
from clip_al.adapt.adapter import DatasetAdapter
from clip_al.adapt.cross_fit import CrossFitAdapter
from clip_al.adapt.losses import LOSSES
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.table.embedding_table import EmbeddingTable
from tests.adapt.adapters import D, K, N, make, same, shifted
from tests.helpers import exactly
from tests.reference import contents


def accuracy(Z, y, T):
    return np.mean((Z @ T.T).argmax(axis=1) == y)


# What it learns


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("hidden", "residual"), [(None, True), (8, True), (None, False)])
def test_unseen_images_are_better_recognised_than_zero_shot(loss, hidden, residual):
    Z, y, T = shifted()
    unseen, truth, _ = shifted(seed=1)
    adapter = make(loss=loss, hidden=hidden, residual=residual, epochs=20).fit(Z, y, T)
    assert accuracy(unseen, truth, T) < 0.8
    found = accuracy(adapter.transform_images(unseen), truth, adapter.transform_texts(T))
    assert found > 0.95


@pytest.mark.parametrize("hidden", [None, 5])
def test_an_untrained_residual_is_clip_itself(hidden):
    Z, y, T = shifted()
    adapter = make(hidden=hidden, epochs=0).fit(Z, y, T)
    np.testing.assert_allclose(adapter.transform_images(Z), Z, atol=1e-6)
    np.testing.assert_allclose(adapter.transform_texts(T), T, atol=1e-6)
    assert adapter.history_ == []


def test_without_a_residual_the_first_weights_are_random():
    Z, y, T = shifted()
    adapter = make(residual=False, epochs=0).fit(Z, y, T)
    assert np.abs(adapter.transform_images(Z) - Z).max() > 0.1


@pytest.mark.parametrize(("hidden", "residual"), [(None, True), (5, True), (5, False)])
def test_transforms_equal_the_formula(hidden, residual):
    Z, y, T = shifted()
    adapter = make(hidden=hidden, residual=residual).fit(Z, y, T)
    for side, X, found in (
        ("image", Z, adapter.transform_images(Z)),
        ("text", T, adapter.transform_texts(T)),
    ):
        w = adapter.weights_
        out = X @ w[f"{side}.0.weight"].T + w[f"{side}.0.bias"]
        if hidden:
            out = np.maximum(out, 0) @ w[f"{side}.1.weight"].T + w[f"{side}.1.bias"]
        expected = X + out if residual else out
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert found.dtype == np.float32


def test_a_class_without_images_stays_a_negative():
    Z, y, T = shifted()
    some = y != 2
    with_text = make().fit(Z[some], y[some], T)
    assert with_text.n_classes_ == K
    assert with_text.transform_texts(T).shape == (K, D)
    moved = make().fit(Z[some], y[some], np.where(np.arange(K)[:, None] == 2, -T, T))
    assert not same(with_text, moved)


# Determinism, and what is left alone


@pytest.mark.parametrize("hidden", [None, 8])
@pytest.mark.parametrize("seed", [0, np.int64(3)])
def test_a_seed_gives_one_result(hidden, seed):
    Z, y, T = shifted()
    one, other = (make(hidden=hidden, random_state=seed).fit(Z, y, T) for _ in range(2))
    assert same(one, other)
    assert one.history_ == other.history_


def test_seeds_differ_and_none_draws_another():
    Z, y, T = shifted()
    fits = [make(random_state=seed).fit(Z, y, T) for seed in (0, 1, None, None)]
    weights = {fit.weights_["image.0.weight"].tobytes() for fit in fits}
    assert len(weights) == 4


def test_global_random_states_and_threads_are_left_alone():
    def states():
        return contents(np.random.get_state()[1], torch.get_rng_state())  # noqa: NPY002

    Z, y, T = shifted()
    before = states(), torch.get_num_threads()
    make(hidden=4).fit(Z, y, T).transform_images(Z)
    assert (states(), torch.get_num_threads()) == before


def test_inputs_are_not_modified():
    Z, y, T = shifted()
    Z *= 3
    before = contents(Z, y, T)
    adapter = make().fit(Z, y, T)
    adapter.transform_images(Z)
    adapter.transform_texts(T)
    assert contents(Z, y, T) == before


@pytest.mark.parametrize("kind", ["memmap", "table", "strided", "readonly", "list", ">f4"])
def test_every_kind_of_array_gives_the_same(tmp_path, kind):
    Z, y, T = shifted()
    np.save(tmp_path / "z.npy", Z)
    readonly = Z.copy()
    readonly.setflags(write=False)
    X = {
        "memmap": lambda: np.load(tmp_path / "z.npy", mmap_mode="r"),
        "table": lambda: EmbeddingTable.from_array(
            tmp_path / "table", Z, [str(i) for i in range(N)], model_id="toy"
        ),
        "strided": lambda: np.repeat(Z, 2, axis=0)[::2],
        "readonly": lambda: readonly,
        "list": lambda: Z.tolist(),
        ">f4": lambda: Z.astype(">f4"),
    }[kind]()
    expected, found = make().fit(Z, y, T), make().fit(X, y, T)
    np.testing.assert_allclose(
        found.weights_["image.0.weight"], expected.weights_["image.0.weight"], atol=1e-4
    )
    np.testing.assert_allclose(found.transform_images(X), found.transform_images(Z), atol=1e-6)


@pytest.mark.parametrize(("dtype", "atol"), [(np.float16, 2e-2), (np.float64, 1e-4)])
def test_every_float_type_and_any_length_of_rows_will_do(dtype, atol):
    Z, y, T = shifted()
    lengths = np.linspace(0.5, 3, N)[:, None]
    found = make().fit((Z * lengths).astype(dtype), y, (2 * T).astype(dtype))
    expected = make().fit(Z, y, T)
    np.testing.assert_allclose(found.transform_images(Z), expected.transform_images(Z), atol=atol)


def test_transforms_of_many_blocks_equal_one(monkeypatch):
    Z, y, T = shifted()
    adapter = make().fit(Z, y, T)
    whole = adapter.transform_images(Z)
    monkeypatch.setattr(module, "block_rows", lambda d: 7)
    np.testing.assert_allclose(adapter.transform_images(Z), whole, atol=1e-6)


# Names, sklearn, pickle, files


def test_names_of_classes_serve_as_labels():
    Z, y, T = shifted()
    names = ["cat", "dog", "owl", "fox"]
    named = make().fit(Z, np.array(names)[y], T, class_names=names)
    assert same(named, make().fit(Z, y, T))
    assert named.classes_.tolist() == names
    assert make(epochs=0).fit(Z, y, T).classes_.tolist() == [0, 1, 2, 3]


def test_what_is_fitted():
    Z, y, T = shifted()
    adapter = make()
    assert adapter.fit(Z, y, T) is adapter
    assert (adapter.n_classes_, adapter.n_features_in_, adapter.n_epochs_) == (K, D, 4)
    assert isinstance(adapter.temperature_, float)
    assert adapter.weights_["text.0.weight"].shape == (D, D)


def test_clone_and_parameters():
    adapter = make(hidden=8, loss="gce")
    other = clone(adapter)
    assert other.get_params() == adapter.get_params()
    assert other.set_params(hidden=4).hidden == 4
    assert len(other.get_params()) == 16


def test_a_pickle_transforms_the_same():
    Z, y, T = shifted()
    adapter = make(hidden=8).fit(Z, y, T)
    other = pickle.loads(pickle.dumps(adapter))
    assert contents(other.transform_images(Z)) == contents(adapter.transform_images(Z))


@pytest.mark.parametrize("hidden", [None, 8])
@pytest.mark.parametrize("names", [None, ["ä", "b", "c", "d"]])
def test_a_file_gives_back_the_same_adapter(tmp_path, hidden, names):
    Z, y, T = shifted()
    path = tmp_path / "adapter.safetensors"
    adapter = make(hidden=hidden, random_state=np.int64(3), patience=2)
    adapter.fit(Z, y, T, class_names=names).save(path)
    other = DatasetAdapter.load(path, width=D)
    assert same(adapter, other)
    assert contents(other.transform_images(Z)) == contents(adapter.transform_images(Z))
    assert contents(other.transform_texts(T)) == contents(adapter.transform_texts(T))
    assert other.get_params() == adapter.get_params()
    fitted = ("temperature_", "n_epochs_", "history_", "n_classes_", "n_features_in_")
    for name in fitted:
        assert getattr(other, name) == getattr(adapter, name)
    assert other.classes_.tolist() == adapter.classes_.tolist()
    assert vars(other).keys() == vars(adapter).keys()
    assert [file.name for file in tmp_path.iterdir()] == ["adapter.safetensors"]


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    Z, y, T = shifted()
    path = tmp_path / "adapter.safetensors"
    adapter = make().fit(Z, y, T)
    adapter.save(path)
    before = path.read_bytes()

    def full(file):
        raise OSError("disk full")

    monkeypatch.setattr(atomic, "sync_file", full)
    with pytest.raises(OSError, match="disk full"):
        make(epochs=1).fit(Z, y, T).save(path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_another_width_is_refused(tmp_path):
    Z, y, T = shifted()
    path = tmp_path / "adapter.safetensors"
    make().fit(Z, y, T).save(path)
    message = (
        f"The adapter must be for embeddings of 512 columns; {path} is for 16. Load one that was "
        "fitted on embeddings of this model."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        DatasetAdapter.load(path, width=512)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": np.ones(3)}, path)
    message = (
        f"{path} must be a file that `DatasetAdapter.save` wrote; it holds safetensors of "
        "something else. Pass such a file, or fit the adapter again."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        DatasetAdapter.load(path)
    path.write_bytes(b"no safetensors at all")
    with pytest.raises(InvalidInputError, match=r"must be a file that `DatasetAdapter.save` wrote"):
        DatasetAdapter.load(path)


def test_a_file_of_this_kind_without_its_arrays_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    metadata = {"format": module.FORMAT, "clip_al": json.dumps({"settings": {}, "fitted": {}})}
    save_file({"image.0.weight": np.ones((2, 2))}, path, metadata)
    with pytest.raises(InvalidInputError, match="wrote; something in it is missing or wrong"):
        DatasetAdapter.load(path)


# Errors


def test_before_fit_it_says_so():
    Z, _, T = shifted()
    with pytest.raises(NotFittedError, match="This DatasetAdapter instance is not fitted yet"):
        make().transform_images(Z)
    with pytest.raises(NotFittedError):
        make().transform_texts(T)
    with pytest.raises(NotFittedError):
        make().save("nowhere")


def test_another_width_is_refused_when_transforming():
    Z, y, T = shifted()
    adapter = make().fit(Z, y, T)
    message = "`Z` must have 16 columns; got 15. Encode both with one model."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        adapter.transform_images(Z[:, :15])


def changed(array, row, value):
    array = array.copy()
    array[row] = value
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda Z, y, T: (changed(Z, 5, np.nan), y, T),
            "`Z` must be finite; row 5 holds NaN or infinity. Drop those rows (images that an "
            "encoder skipped are NaN) or encode them again.",
        ),
        (
            lambda Z, y, T: (changed(Z, 5, 0.0), y, T),
            "Every embedding must have a direction; row 5 is all zeros. Encode it again.",
        ),
        (
            lambda Z, y, T: (Z[:, :9], y, T),
            "`Z` must have 16 columns; got 9. Encode both with one model.",
        ),
        (
            lambda Z, y, T: (Z, y[:7], T),
            "`y` must have one label for each of the 120 images; got shape (7,). Pass the labels "
            "of the same images, in the same order.",
        ),
        (
            lambda Z, y, T: (Z, y, T[:3]),
            "`y` must be in [0, 2], the numbers of the 3 classes; got 3 at position 3. Count "
            "classes from 0, in the order of their names or embeddings.",
        ),
        (
            lambda Z, y, T: (Z, y, changed(T, 1, 0.0)),
            "Every class text must have a direction; row 1 of `T` is all zeros. Encode it again.",
        ),
        (
            lambda Z, y, T: (Z, 0 * y, T[:1]),
            "`T` must hold the texts of at least 2 classes; got 1. A text needs another to be "
            "told from: add the other classes.",
        ),
    ],
)
@pytest.mark.parametrize("estimator", [make, lambda: CrossFitAdapter(make())])
def test_inputs_that_cannot_be_are_refused(change, message, estimator):
    Z, y, T = change(*shifted())
    with pytest.raises(InvalidInputError, match=exactly(message)):
        estimator().fit(Z, y, T)


def test_texts_that_are_not_finite_are_refused():
    Z, y, T = shifted()
    with pytest.raises(InvalidInputError, match=r"^`T` must be finite; row 2 holds NaN"):
        make().fit(Z, y, changed(T, 2, np.inf))


@pytest.mark.parametrize("names", [["a", "b"], list("abcde")])
def test_names_that_do_not_name_each_text_are_refused(names):
    Z, y, T = shifted()
    message = (
        f"`class_names` must name each of the 4 rows of `T`; got {len(names)} names. Encode one "
        "text for each name."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        make().fit(Z, y, T, class_names=names)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"loss": "l2"}, InvalidInputError, "`loss` must be one of 'diagonal', 'multi-positive', "
         "'image-to-text', 'gce'; got 'l2'. Choose one."),
        ({"hidden": 0}, InvalidInputError, "`hidden` must be at least 1; got 0. Change it."),
        ({"hidden": 2.0}, InvalidTypeError, "`hidden` must be a whole number; got 2.0. Pass an "
         "int."),
        ({"epochs": -1}, InvalidInputError, "`epochs` must be at least 0; got -1. Change it."),
        ({"step_size": 0}, InvalidInputError, "`step_size` must be at least 1; got 0. Change it."),
        ({"batch_size": 0}, InvalidInputError, "`batch_size` must be at least 1; got 0. Change "
         "it."),
        ({"patience": 0}, InvalidInputError, "`patience` must be at least 1; got 0. Change it."),
        ({"random_state": -1}, InvalidInputError, "`random_state` must be at least 0; got -1. "
         "Change it."),
        ({"learning_rate": 0}, InvalidInputError, "`learning_rate` must be finite, above 0; "
         "got 0. Change it."),
        ({"learning_rate": "1"}, InvalidTypeError, "`learning_rate` must be a number; got '1'. "
         "Pass a float."),
        ({"learning_rate": np.nan}, InvalidInputError, "`learning_rate` must be finite, above "
         "0; got nan. Change it."),
        ({"gamma": 1.5}, InvalidInputError, "`gamma` must be finite, above 0, at most 1; got 1.5. "
         "Change it."),
        ({"gce_q": 0.0}, InvalidInputError, "`gce_q` must be finite, above 0, at most 1; got 0.0. "
         "Change it."),
        ({"temperature": -1.0}, InvalidInputError, "`temperature` must be finite, above 0; got "
         "-1.0. Change it."),
        ({"validation_fraction": 0.6}, InvalidInputError, "`validation_fraction` must be finite, "
         "at least 0, at most 0.5; got 0.6. Change it."),
        ({"weight_decay": -0.1}, InvalidInputError, "`weight_decay` must be finite, at least 0; "
         "got -0.1. Change it."),
        ({"validation_fraction": 0.0, "patience": 2}, InvalidInputError, "`patience` needs images "
         "to validate on; `validation_fraction` = 0 of 120 images leaves none. Raise it, or leave "
         "`patience` out."),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_at_fit(settings, error, message):
    Z, y, T = shifted()
    adapter = make(**settings)
    with pytest.raises(error, match=exactly(message)):
        adapter.fit(Z, y, T)


@pytest.mark.parametrize("wrap", [lambda adapter: adapter, CrossFitAdapter])
def test_a_fit_that_is_refused_leaves_none(wrap):
    Z, y, T = shifted()
    estimator = wrap(make(epochs=1)).fit(Z, y, T)
    with pytest.raises(InvalidInputError, match="must have one label for each"):
        estimator.fit(Z, y[:3], T)
    assert [name for name in vars(estimator) if name.endswith("_")] == []


@pytest.mark.parametrize("wrap", [lambda adapter: adapter, CrossFitAdapter])
def test_an_interrupted_fit_leaves_none(monkeypatch, wrap):
    Z, y, T = shifted()
    estimator = wrap(make()).fit(Z, y, T)
    calls = []

    def interrupting(logits_bk, y_b):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return LOSSES["image-to-text"](logits_bk, y_b)

    monkeypatch.setitem(module.LOSSES, "multi-positive", interrupting)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(Z, y, T)
    assert [name for name in vars(estimator) if name.endswith("_")] == []
    assert torch.is_grad_enabled()


def test_a_device_that_is_not_there_is_refused():
    Z, y, T = shifted()
    with pytest.raises(InvalidInputError, match=r"^`device` must be one that torch can use here"):
        make(device="gpu").fit(Z, y, T)
