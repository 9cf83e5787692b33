"""Tests of `clip_al.adapter`."""

from __future__ import annotations

import json
import pickle
import re
import threading

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from clip_al import adapter as module
from clip_al.adapter import CrossFitAdapter, DatasetAdapter
from clip_al.embeddings import EmbeddingTable
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.losses import LOSSES
from tests.reference import contents, random_unit

N, D, K = 120, 16, 4


def exactly(message):
    return f"^{re.escape(message)}$"


def make(**settings):
    """A short run on the CPU, at a rate that shows in few steps."""
    defaults = {"epochs": 4, "learning_rate": 1e-2, "batch_size": 32, "device": "cpu"}
    return DatasetAdapter(**{**defaults, **settings})


def shifted(n=N, seed=0, noise=0.1):
    """Images of K classes, moved and turned away from their texts: zero-shot errs."""
    rng = np.random.default_rng(seed)
    T = random_unit(np.random.default_rng(7), K, D)
    turn, r = np.linalg.qr(np.eye(D) + 0.25 * np.random.default_rng(8).standard_normal((D, D)))
    turn *= np.sign(np.diag(r))  # towards the identity
    y = np.arange(n) % K
    Z = T[y] @ turn + 0.6 * T[0] + noise * rng.standard_normal((n, D))
    return (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32), y, T


def accuracy(Z, y, T):
    return np.mean((Z @ T.T).argmax(axis=1) == y)


def same(one, other):
    return one.weights_.keys() == other.weights_.keys() and all(
        contents(one.weights_[name]) == contents(other.weights_[name]) for name in one.weights_
    )


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


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_falls(loss):
    Z, y, T = shifted()
    history = make(loss=loss, epochs=10).fit(Z, y, T).history_
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]


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


def test_the_last_row_of_history_is_what_the_fitted_adapter_scores():
    Z, y, T = shifted()
    adapter = make(loss="image-to-text", validation_fraction=0.0, epochs=3).fit(Z, y, T)
    # With a rate that decays to nothing, the last epoch's mean loss is that of its weights.
    still = make(loss="image-to-text", validation_fraction=0.0, step_size=1, gamma=1e-6, epochs=3)
    still.fit(Z, y, T)
    cosine = still.transform_images(Z) @ still.transform_texts(T).T
    logits = torch.from_numpy(cosine / still.temperature_)
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)).item()
    assert still.history_[-1]["loss"] == pytest.approx(expected, rel=1e-3)
    assert adapter.history_[-1]["loss"] != pytest.approx(expected, rel=1e-3)


def test_history_names_each_epoch_and_the_rate_decays_in_steps():
    Z, y, T = shifted()
    history = make(epochs=5, step_size=2, gamma=0.1, learning_rate=1e-2).fit(Z, y, T).history_
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    rates = [row["learning_rate"] for row in history]
    np.testing.assert_allclose(rates, [1e-2, 1e-2, 1e-3, 1e-3, 1e-4])
    keys = ["epoch", "loss", "validation_loss", "validation_accuracy", "learning_rate"]
    assert list(history[0]) == keys
    assert all(0 <= row["validation_accuracy"] <= 1 for row in history)


def test_temperature_is_learned_or_kept():
    Z, y, T = shifted()
    assert make(temperature=0.05).fit(Z, y, T).temperature_ == 0.05
    learned = make(epochs=3).fit(Z, y, T).temperature_
    assert learned != pytest.approx(0.07, rel=1e-3)
    assert make(epochs=0).fit(Z, y, T).temperature_ == pytest.approx(0.07)


def test_the_learned_temperature_stops_at_the_lowest(monkeypatch):
    _, y, T = shifted()
    settings = {"loss": "image-to-text", "epochs": 10, "learning_rate": 0.01}
    free = make(**settings).fit(T[y], y, T).temperature_
    assert module.LOWEST_TEMPERATURE < free < 0.069
    monkeypatch.setattr(module, "LOWEST_TEMPERATURE", 0.0695)
    assert make(**settings).fit(T[y], y, T).temperature_ == pytest.approx(0.0695)


def test_weight_decay_keeps_a_residual_near_clip():
    Z, y, T = shifted()
    free, held = (make(weight_decay=decay).fit(Z, y, T) for decay in (0.0, 20.0))
    size = [np.abs(adapter.weights_["image.0.weight"]).mean() for adapter in (free, held)]
    assert size[1] < 0.7 * size[0]


def test_a_class_without_images_stays_a_negative():
    Z, y, T = shifted()
    some = y != 2
    with_text = make().fit(Z[some], y[some], T)
    assert with_text.n_classes_ == K
    assert with_text.transform_texts(T).shape == (K, D)
    moved = make().fit(Z[some], y[some], np.where(np.arange(K)[:, None] == 2, -T, T))
    assert not same(with_text, moved)


# Validation and early stop


def split(n=N, y=None, **settings):
    y = np.arange(n) % K if y is None else np.asarray(y)
    rows = np.arange(100, 100 + len(y))
    labels = np.zeros(100 + len(y), dtype=np.int64)
    labels[rows] = y
    train, held = make(**settings)._split(np.random.default_rng(0), rows, labels)
    assert sorted([*train, *held]) == rows.tolist()
    return np.bincount(labels[train], minlength=K), np.bincount(labels[held], minlength=K)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.5])
def test_validation_images_are_spread_over_the_classes(fraction):
    _, held = split(validation_fraction=fraction)
    assert held.sum() == round(fraction * 120)
    assert np.ptp(held) <= 1


@pytest.mark.parametrize("y", [[0, 1, 2, 3], [0, 0, 1, 2, 2, 2], [0, 0, 1, 1, 2, 2, 3, 3], [1]])
def test_no_class_loses_all_its_images_to_validation(y):
    train, held = split(y=y, validation_fraction=0.5)
    assert (train[np.unique(y)] >= 1).all()
    assert held.sum() <= len(y) / 2


def test_without_validation_history_has_none():
    Z, y, T = shifted()
    history = make(validation_fraction=0.0).fit(Z, y, T).history_
    assert {row["validation_loss"] for row in history} == {None}
    assert {row["validation_accuracy"] for row in history} == {None}


def test_early_stop_keeps_the_weights_of_the_best_epoch():
    Z, y, T = shifted()
    y = np.random.default_rng(0).permutation(y)  # nothing to learn: validation soon worsens
    settings = {"loss": "image-to-text", "gamma": 1.0, "learning_rate": 0.03}
    stopped = make(epochs=60, patience=3, **settings).fit(Z, y, T)
    losses = [row["validation_loss"] for row in stopped.history_]
    best = int(np.argmin(losses)) + 1
    assert stopped.n_epochs_ == len(losses) == best + 3 < 60
    assert same(stopped, make(epochs=best, **settings).fit(Z, y, T))
    assert not same(stopped, make(epochs=best + 3, **settings).fit(Z, y, T))


def test_patience_without_a_stop_keeps_the_best_epoch_too():
    Z, y, T = shifted()
    y = np.random.default_rng(0).permutation(y)
    settings = {"loss": "image-to-text", "gamma": 1.0, "learning_rate": 0.03}
    adapter = make(epochs=15, patience=50, **settings).fit(Z, y, T)
    best = int(np.argmin([row["validation_loss"] for row in adapter.history_])) + 1
    assert best < 15
    assert same(adapter, make(epochs=best, **settings).fit(Z, y, T))


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


def test_a_small_step_runs_on_one_thread_and_another_thread_keeps_its_own(monkeypatch):
    seen = []

    def spy(logits_bk, y_b):
        other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        seen.append(torch.get_num_threads())
        other.start()
        other.join()
        return LOSSES["image-to-text"](logits_bk, y_b)

    monkeypatch.setitem(module.LOSSES, "multi-positive", spy)
    Z, y, T = shifted()
    before = torch.get_num_threads()
    make(epochs=1, batch_size=N).fit(Z, y, T)
    assert seen[:2] == [1, before]
    monkeypatch.setattr(module, "SMALL_STEP", 1)
    seen.clear()
    make(epochs=1, batch_size=N).fit(Z, y, T)
    assert seen[:2] == [before, before]


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


def test_rows_are_gathered_a_batch_at_a_time():
    class Watched(np.ndarray):
        def __getitem__(self, rows):
            if isinstance(rows, np.ndarray):
                gathered.append(np.diff(rows).min(initial=1) > 0 and len(rows))
            return super().__getitem__(rows)

    gathered = []
    Z, y, T = shifted()
    make(epochs=1, validation_fraction=0.1).fit(Z.view(Watched), y, T)
    assert gathered == [32, 32, 32, 12, 12]


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

    monkeypatch.setattr(module, "sync_file", full)
    with pytest.raises(OSError, match="disk full"):
        make(epochs=1).fit(Z, y, T).save(path)
    assert path.read_bytes() == before


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
    with pytest.raises(InvalidInputError, match="wrote; something is missing from it"):
        DatasetAdapter.load(path)


def test_no_file_is_python_s_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        DatasetAdapter.load(tmp_path / "none.safetensors")


# Progress


def test_progress_is_shown_on_standard_error_of_a_terminal(monkeypatch, capsys):
    Z, y, T = shifted()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    make(progress=True).fit(Z, y, T)
    shown = capsys.readouterr()
    assert "Adapting" in shown.err
    assert "4/4" in shown.err
    assert shown.out == ""
    make(progress=False).fit(Z, y, T)
    assert capsys.readouterr().err == ""


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


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "c", "a"]])
def test_names_that_do_not_name_each_text_are_refused(names):
    Z, y, T = shifted()
    message = (
        f"`class_names` must name each of the 4 rows of `T` once; got {len(names)} names, "
        f"{len(set(names))} different. Encode one text for each name."
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
        ({"learning_rate": 0}, InvalidInputError, "`learning_rate` must be above 0 and finite; "
         "got 0. Change it."),
        ({"learning_rate": "1"}, InvalidTypeError, "`learning_rate` must be a number; got '1'. "
         "Pass a float."),
        ({"learning_rate": np.nan}, InvalidInputError, "`learning_rate` must be above 0 and "
         "finite; got nan. Change it."),
        ({"gamma": 1.5}, InvalidInputError, "`gamma` must be above 0 and at most 1; got 1.5. "
         "Change it."),
        ({"gce_q": 0.0}, InvalidInputError, "`gce_q` must be above 0 and at most 1; got 0.0. "
         "Change it."),
        ({"temperature": -1.0}, InvalidInputError, "`temperature` must be above 0 and finite; got "
         "-1.0. Change it."),
        ({"validation_fraction": 0.6}, InvalidInputError, "`validation_fraction` must be at least "
         "0 and at most 0.5; got 0.6. Change it."),
        ({"weight_decay": -0.1}, InvalidInputError, "`weight_decay` must be at least 0 and finite; "
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


def test_a_rate_that_leaves_the_finite_numbers_is_named():
    Z, y, T = shifted()
    message = (
        r"^Training must stay finite; the (loss was (nan|inf)|weights were not) in epoch 1, at "
        r"learning rate 1e\+38\. Lower `learning_rate`\.$"
    )
    adapter = make(learning_rate=1e38)
    with pytest.raises(InvalidInputError, match=message):
        adapter.fit(Z, y, T)
    assert not hasattr(adapter, "weights_")


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


# Cross-fit


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


# GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("resident", [True, False])
def test_a_gpu_gives_what_the_cpu_does(monkeypatch, resident):
    if not resident:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))
    Z, y, T = shifted()
    one, other = (make(hidden=8, device=device).fit(Z, y, T) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(other.transform_images(Z), one.transform_images(Z), atol=5e-3)
    assert same(other, make(hidden=8, device="cuda").fit(Z, y, T))
