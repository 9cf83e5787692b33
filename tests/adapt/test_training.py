"""Tests of `clip_al.adapt.training`, through `DatasetAdapter`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_al.adapt import training as module
from clip_al.adapt.losses import LOSSES
from clip_al.adapt.training import split_rows
from clip_al.errors import InvalidInputError
from tests.adapt.adapters import K, N, make, same, shifted

# What it learns


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_falls(loss):
    Z, y, T = shifted()
    history = make(loss=loss, epochs=10).fit(Z, y, T).history_
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]


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


# Validation and early stop


def split(n=N, y=None, *, validation_fraction):
    y = np.arange(n) % K if y is None else np.asarray(y)
    rows = np.arange(100, 100 + len(y))
    labels = np.zeros(100 + len(y), dtype=np.int64)
    labels[rows] = y
    train, held = split_rows(np.random.default_rng(0), rows, labels, validation_fraction)
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


# Threads, batches, devices


def test_a_small_step_runs_on_one_thread_and_a_large_one_on_torchs(monkeypatch):
    seen = []

    def spy(logits_bk, y_b):
        seen.append(torch.get_num_threads())
        return LOSSES["image-to-text"](logits_bk, y_b)

    monkeypatch.setitem(module.LOSSES, "multi-positive", spy)
    Z, y, T = shifted()
    before = torch.get_num_threads()
    make(epochs=1, batch_size=N).fit(Z, y, T)
    assert seen[0] == 1
    monkeypatch.setattr(module, "SMALL_STEP", 1)
    seen.clear()
    make(epochs=1, batch_size=N).fit(Z, y, T)
    assert seen[0] == before


def test_the_number_of_threads_is_put_back_after_a_failure():
    before = torch.get_num_threads()

    def fail():
        with module.threads_for(1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert torch.get_num_threads() == before


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
