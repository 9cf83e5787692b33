"""Tests of `clip_al.integrations.lightning`: trained on digits, in one process and in two."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import Dataset

import clip_al
from clip_al.errors import InvalidInputError, InvalidTypeError, MissingDependencyError

pytest.importorskip("lightning.pytorch", reason="Lightning comes with the extra `lightning`")

import lightning.pytorch as pl
from lightning.pytorch.utilities.model_helpers import is_overridden

from clip_al.integrations.lightning import SelectedSubsetDataModule

N, N_EPOCHS = 60, 2
SELECTION = clip_al.Selection.from_indices(range(3, 60, 4), N)  # 15 images


class Digits(Dataset):
    X = torch.tensor(load_digits().data[:N] / 16, dtype=torch.float32)
    y = torch.tensor(load_digits().target[:N])

    def __len__(self):
        return N

    def __getitem__(self, index):
        return index, self.X[index], self.y[index]


class Model(pl.LightningModule):
    """Keeps the positions it is trained on and validated on; may save at a batch."""

    def __init__(self, save_at=None, path=None):
        super().__init__()
        self.linear = torch.nn.Linear(64, 10)
        self.read, self.validated, self.save_at, self.path = [], [], save_at, path

    def training_step(self, batch, batch_idx):
        index, x, y = batch
        self.read.append(index.tolist())
        return torch.nn.functional.cross_entropy(self.linear(x), y)

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch[0].tolist())

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if len(self.read) == self.save_at:
            self.trainer.save_checkpoint(self.path)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder, data, model=None, ckpt_path=None, **settings):
    settings = {"devices": 1, "max_epochs": N_EPOCHS, "num_sanity_val_steps": 0, **settings}
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, **settings,
    )  # fmt: skip
    model = Model() if model is None else model
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return model


def module(selection=SELECTION, **settings):
    return SelectedSubsetDataModule(Digits(), selection, **{"batch_size": 4, **settings})


def order_of(sampler, n_epochs=N_EPOCHS):
    orders = []
    for epoch in range(n_epochs):
        sampler.set_epoch(epoch)
        orders += list(sampler)
    return orders


def flat(batches):
    return [index for batch in batches for index in batch]


pytestmark = pytest.mark.filterwarnings("ignore")


def test_reads_what_the_sampler_of_the_array_call_does(tmp_path):
    model = fit(tmp_path, module())
    expected = order_of(clip_al.SelectedSubsetSampler(SELECTION, random_state=0))
    assert flat(model.read) == expected
    assert [len(batch) for batch in model.read] == [4, 4, 4, 3] * N_EPOCHS


@pytest.mark.parametrize(
    "selection", [SELECTION.indices, SELECTION.indices.tolist(), SELECTION.mask]
)
def test_positions_and_a_mask_are_taken_too(selection):
    sampler = module(selection, sampling={"random_state": 3}).train_dataloader().sampler
    assert list(sampler) == list(clip_al.SelectedSubsetSampler(SELECTION, random_state=3))


def test_the_sampling_goes_to_the_sampler():
    sampling = {"weights": np.arange(N), "n_samples": 40, "random_state": 2}
    sampler = module(sampling=sampling).train_dataloader().sampler
    expected = clip_al.SelectedSubsetSampler(SELECTION, **sampling)
    assert order_of(sampler) == order_of(expected)
    assert len(sampler) == 40


def test_validates_on_the_whole_other_dataset_in_order(tmp_path):
    model = fit(tmp_path, module(val_dataset=Digits(), drop_last=True, batch_size=8))
    assert flat(model.validated) == list(range(N)) * N_EPOCHS
    assert [len(batch) for batch in model.read] == [8] * N_EPOCHS


def test_without_one_it_does_not_validate(tmp_path):
    data = module()
    assert fit(tmp_path, data).validated == []
    assert not is_overridden("val_dataloader", data, pl.LightningDataModule)
    assert is_overridden("val_dataloader", module(val_dataset=Digits()), pl.LightningDataModule)


@pytest.mark.parametrize(
    ("save_at", "n_workers"),
    [(2, 0), (6, 0), pytest.param(6, 2, marks=pytest.mark.slow)],
)
def test_goes_on_in_the_middle_of_an_epoch(tmp_path, save_at, n_workers):
    path = tmp_path / "at.ckpt"
    whole = fit(tmp_path, module(num_workers=n_workers), Model(save_at, path))
    again = fit(tmp_path, module(num_workers=n_workers), ckpt_path=path)
    assert again.read == whole.read[save_at:]
    torch.testing.assert_close(again.linear.weight, whole.linear.weight)


@pytest.mark.parametrize("save_at", [2, 4])  # in the middle of an epoch, and at its end
@pytest.mark.parametrize(
    "change",
    [
        {"selection": SELECTION.indices[1:]},
        {"sampling": {"random_state": 1}},
        {"sampling": {"shuffle": False}},
    ],
    ids=["subset", "seed", "setting"],
)
def test_a_checkpoint_of_another_subset_or_seed_is_refused(tmp_path, change, save_at):
    path = tmp_path / "at.ckpt"
    fit(tmp_path, module(), Model(save_at, path), max_epochs=1)
    with pytest.raises(InvalidInputError, match="A checkpoint must be of this selection, samp"):
        fit(tmp_path, module(**change), ckpt_path=path)


def test_a_state_is_checked_without_a_trainer_too():
    state = module().state_dict()
    module().load_state_dict(state)
    with pytest.raises(InvalidInputError, match=r"got one of others, .*'random_state': 0"):
        module([1, 2]).load_state_dict(state)


def test_but_to_validate_with_its_weights_it_is_taken(tmp_path):
    path = tmp_path / "at.ckpt"
    model = fit(tmp_path, module(), Model(2, path))
    other = module(SELECTION.indices[:3], val_dataset=Digits())
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    trainer.validate(model, datamodule=other, ckpt_path=path, verbose=False)
    assert flat(model.validated) == list(range(N))


def test_a_newer_selection_is_trained_on_next(tmp_path):
    data = module()
    fit(tmp_path, data, max_epochs=1)
    data.selection = newer = [1, 2, 4, 8]
    assert flat(fit(tmp_path, data, max_epochs=1).read) == list(
        clip_al.SelectedSubsetSampler(newer, random_state=0)
    )


@pytest.mark.parametrize(
    ("selection", "error", "message"),
    [
        (clip_al.Selection.from_indices([1], 61), InvalidInputError, "60 images .*one of 61"),
        ([1, 60], InvalidInputError, r"`selection` must be in \[0, 59\]"),
        ([1, 1], InvalidInputError, "once"),
        (np.ones(59, bool), InvalidInputError, r"shape \(60,\)"),
        ([0.5], InvalidTypeError, "whole numbers"),
    ],
)
def test_a_selection_of_something_else_is_refused_at_once(selection, error, message):
    with pytest.raises(error, match=message):
        module(selection)


@pytest.mark.parametrize("package", ["lightning.pytorch", "torchdata.stateful_dataloader"])
def test_without_the_host_the_extra_is_named(monkeypatch, package):
    name = "clip_al.integrations.lightning"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=r'pip install "clip_al\[lightning\]"'):
        importlib.import_module(name)


# Two processes


def run_rank(folder):
    """Train in one of two processes, then once more from the middle; write what was read."""
    path = f"{folder}/at-3.ckpt"
    settings = {"devices": 2, "strategy": "ddp"}
    whole = fit(folder, module(batch_size=2), Model(3, path), **settings)
    again = fit(folder, module(batch_size=2), ckpt_path=path, **settings)
    result = {"whole": whole.read, "again": again.read}
    Path(folder, f"{os.environ['LOCAL_RANK']}.json").write_text(json.dumps(result))


@pytest.mark.slow
def test_two_processes_share_an_epoch_and_resume(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    code = f"from tests.integrations.test_lightning import run_rank; run_rank({str(tmp_path)!r})"
    started = []
    for rank in "01":
        where = {"LOCAL_RANK": rank, "RANK": rank, "NODE_RANK": "0", "WORLD_SIZE": "2", **place}
        where |= {"GLOO_SOCKET_IFNAME": "lo"}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", code],
                env={**os.environ, **where},
                cwd=Path(__file__).parents[2],
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        said = [process.communicate(timeout=240)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    for rank in (0, 1):
        result = json.loads((tmp_path / f"{rank}.json").read_text())
        sampler = clip_al.DistributedSelectedSubsetSampler(SELECTION, num_replicas=2, rank=rank)
        assert flat(result["whole"]) == order_of(sampler)
        assert result["again"] == result["whole"][3:]
