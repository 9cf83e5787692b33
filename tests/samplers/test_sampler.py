"""Tests of `clip_al.samplers.sampler`."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader
from torchdata import nodes
from torchdata.stateful_dataloader import StatefulDataLoader

from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.samplers.sampler import SelectedSubsetSampler
from tests.helpers import exactly
from tests.reference import contents

INDICES = [7, 3, 5, 11, 2, 13]


@pytest.mark.parametrize("shuffle", [True, False])
def test_each_index_comes_once_as_a_python_int(shuffle):
    sampler = SelectedSubsetSampler(INDICES, shuffle=shuffle, random_state=0)
    indices = list(sampler)
    assert sorted(indices) == sorted(INDICES)
    assert {type(index) for index in indices} == {int}
    assert len(sampler) == 6


def test_without_shuffling_the_order_stays():
    assert list(SelectedSubsetSampler(INDICES, shuffle=False)) == INDICES


def test_shuffling_is_the_default_and_changes_the_order():
    assert list(SelectedSubsetSampler(range(50), random_state=0)) != list(range(50))


@pytest.mark.parametrize("seed", [0, 1, np.int64(7)])
def test_a_seed_and_an_epoch_give_one_order(seed):
    one, other = (SelectedSubsetSampler(range(50), random_state=seed) for _ in range(2))
    for epoch in (0, 3):
        one.set_epoch(epoch)
        other.set_epoch(epoch)
        assert list(one) == list(other)


def test_epochs_and_seeds_differ():
    orders = []
    for seed in (0, 1):
        sampler = SelectedSubsetSampler(range(50), random_state=seed)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            orders.append(tuple(sampler))
    assert len(set(orders)) == 4


def test_an_epoch_repeats_until_another_is_set():
    sampler = SelectedSubsetSampler(range(50), random_state=0)
    assert list(sampler) == list(sampler)


def test_without_a_seed_one_is_drawn_once():
    sampler = SelectedSubsetSampler(range(50))
    assert list(sampler) == list(sampler)
    others = {tuple(SelectedSubsetSampler(range(50))) for _ in range(5)}
    assert len(others) > 1


def test_iterators_do_not_disturb_each_other():
    sampler = SelectedSubsetSampler(range(10), random_state=0)
    first, second = iter(sampler), iter(sampler)
    next(first)
    assert list(second) == list(sampler)
    assert list(first) == list(sampler)[1:]


def test_global_random_states_are_left_alone():
    def states():
        return contents(np.random.get_state()[1], torch.get_rng_state())  # noqa: NPY002

    before = states()
    list(SelectedSubsetSampler(range(50)))
    assert states() == before


def test_many_indices_come_in_order_over_the_chunks():
    n = 2 * 65536 + 3
    assert list(SelectedSubsetSampler(np.arange(n)[::-1], shuffle=False)) == list(range(n))[::-1]


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64])
def test_the_given_indices_are_neither_changed_nor_shared(dtype):
    indices = np.array(INDICES, dtype=dtype)
    before = contents(indices)
    sampler = SelectedSubsetSampler(indices, shuffle=False)
    list(sampler)
    assert contents(indices) == before
    indices[0] = 99
    assert list(sampler) == INDICES


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_data_loader_reads_the_chosen_images(num_workers):
    data = torch.arange(20) * 10
    loader = DataLoader(
        data,
        batch_size=4,
        sampler=SelectedSubsetSampler(INDICES, random_state=0),
        num_workers=num_workers,
    )
    batches = [batch.tolist() for batch in loader]
    assert [len(batch) for batch in batches] == [4, 2]
    assert sorted(i for batch in batches for i in batch) == [10 * i for i in sorted(INDICES)]
    assert len(loader) == 2


def test_a_pickle_keeps_seed_and_epoch():
    sampler = SelectedSubsetSampler(range(50))
    sampler.set_epoch(3)
    assert list(pickle.loads(pickle.dumps(sampler))) == list(sampler)


def test_a_pickle_keeps_weights_and_replay():
    sampler = SelectedSubsetSampler(
        range(50), weights=range(50), replay=range(60, 90), replay_fraction=0.2
    )
    again = pickle.loads(pickle.dumps(sampler))
    assert list(again) == list(sampler)
    assert again.fingerprint == sampler.fingerprint


@pytest.mark.parametrize("indices", [[], np.array([], dtype=int)])
def test_nothing_is_refused(indices):
    message = "`indices` must name at least one image; got none. Pass what a selection returned."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        SelectedSubsetSampler(indices)


@pytest.mark.parametrize(
    ("indices", "what"),
    [
        ([0.5], "shape (1,) and dtype float64"),
        ([[1, 2]], "shape (1, 2) and dtype int64"),
        ([[True, False]], "shape (1, 2) and dtype bool"),
        (3, "shape () and dtype int64"),
        (["a"], "shape (1,) and dtype <U1"),
    ],
)
def test_what_are_no_positions_is_refused(indices, what):
    message = (
        "`indices` must be a 1-D array of whole numbers, a boolean mask or a Selection; got "
        f"{what}. Pass positions in the dataset."
    )
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        SelectedSubsetSampler(indices)


@pytest.mark.parametrize(
    ("indices", "what"),
    [
        ([3, -1], "2, the lowest -1, 2 different"),
        ([3, 1, 3], "3, the lowest 1, 2 different"),
    ],
)
def test_positions_that_cannot_be_are_refused(indices, what):
    message = (
        "`indices` must name each image once, counted from 0; got "
        f"{what}. Pass what a selection returned."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        SelectedSubsetSampler(indices)


@pytest.mark.parametrize("seed", [0.0, 1.5, "0", True, False])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    message = f"`random_state` must be a whole number; got {seed!r}. Pass an int."
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        SelectedSubsetSampler([1, 2], random_state=seed)


def test_a_negative_seed_is_refused_and_zero_is_named_as_the_least():
    with pytest.raises(InvalidInputError, match=r"^`random_state` must be at least 0; got -1"):
        SelectedSubsetSampler([1, 2], random_state=-1)


# A selection, a mask, weights, replay


def test_a_selection_a_mask_and_indices_are_one():
    selection = SimpleNamespace(indices=np.array([1, 4]), n_images=6, fingerprint="x")
    mask = [False, True, False, False, True, False]
    orders = [
        list(SelectedSubsetSampler(given, random_state=0)) for given in (selection, mask, [1, 4])
    ]
    assert orders[0] == orders[1] == orders[2]
    assert sorted(orders[0]) == [1, 4]


def test_weights_and_replay_reach_the_epoch_and_its_length():
    sampler = SelectedSubsetSampler(
        [0, 1, 2],
        random_state=0,
        weights=[0, 1, 0],
        n_samples=6,
        replay=[8, 9],
        replay_fraction=0.25,
    )
    assert sorted(sampler) == [1] * 6 + [8, 9]
    assert len(sampler) == 8
    assert {type(index) for index in sampler} == {int}


def test_the_indices_can_be_read_but_not_written():
    sampler = SelectedSubsetSampler(INDICES)
    assert sampler.indices.tolist() == INDICES
    with pytest.raises(ValueError, match="read-only"):
        sampler.indices[0] = 1


# Updating


def test_an_update_swaps_the_subset_and_keeps_the_settings():
    sampler = SelectedSubsetSampler(range(50), random_state=3)
    sampler.set_epoch(2)
    loader = DataLoader(torch.arange(100), batch_size=8, sampler=sampler)
    sampler.update(range(50, 90))
    fresh = SelectedSubsetSampler(range(50, 90), random_state=3)
    fresh.set_epoch(2)
    assert torch.cat(list(loader)).tolist() == list(fresh)
    assert len(loader) == 5
    assert sampler.fingerprint == fresh.fingerprint


def test_a_running_iterator_keeps_its_subset_epoch_and_order():
    sampler = SelectedSubsetSampler(range(50), random_state=0)
    order = list(sampler)
    waiting, running = iter(sampler), iter(sampler)
    next(running)
    sampler.update([99])
    sampler.set_epoch(5)
    assert list(running) == order[1:]
    assert list(waiting) == order
    assert list(sampler) == [99]


def test_an_update_can_bring_replay_and_later_other_replay():
    sampler = SelectedSubsetSampler([0, 1, 2], random_state=0)
    sampler.update([3, 4, 5], replay=[0, 1, 2], replay_fraction=0.5)
    assert sorted(sampler) == [0, 1, 2, 3, 4, 5]
    sampler.update([6, 7], replay=range(6))
    assert len(sampler) == 4
    assert {6, 7} < set(sampler)


def test_an_update_keeps_n_samples_unless_it_is_given():
    sampler = SelectedSubsetSampler(range(10), random_state=0, n_samples=4)
    sampler.update(range(20))
    assert len(list(sampler)) == 4
    sampler.update(range(20), n_samples=15)
    assert len(list(sampler)) == 15


def test_an_update_that_fails_changes_nothing():
    sampler = SelectedSubsetSampler(range(10), random_state=0, n_samples=4)
    order = list(sampler)
    with pytest.raises(InvalidInputError, match="`n_samples` must be at most 2"):
        sampler.update([1, 2], n_samples=3)
    assert list(sampler) == order
    sampler.update(range(20))
    assert len(sampler) == 4


@pytest.mark.parametrize("name", ["weights", "replay"])
def test_an_update_does_not_drop_weights_or_replay_unseen(name):
    settings = {"weights": [1, 2], "replay": [5, 6], "replay_fraction": 0.5}
    sampler = SelectedSubsetSampler([1, 2], **settings)
    message = (
        f"`{name}` must come anew with the subset, as this sampler has some; got none. Pass it, "
        "or make a new sampler without."
    )
    given = {"weights": [1, 2], "replay": [5, 6], name: None}
    with pytest.raises(InvalidInputError, match=exactly(message)):
        sampler.update([3, 4], **given)


# Resuming: whatever the host, what was read and what is read after a stop make up what an
# uninterrupted run reads.

N_EPOCHS = 3
DATA = torch.arange(40) * 10
SETTINGS = {
    "plain": {},
    "weights": {"weights": np.arange(1, 12)},
    "replay": {"replay": range(30, 40), "replay_fraction": 0.3},
}


def make_sampler(**settings):
    return SelectedSubsetSampler(range(2, 24, 2), random_state=0, **settings)


def stateful(num_workers=0, batch_size=3, **settings):
    sampler = make_sampler(**settings)
    loader = StatefulDataLoader(
        DATA, batch_size=batch_size, sampler=sampler, num_workers=num_workers
    )
    return loader, sampler


def batches_of(loader, sampler, epochs):
    """What a training loop over these epochs reads, epoch by epoch."""
    read = []
    for epoch in epochs:
        sampler.set_epoch(epoch)
        read.append([batch.tolist() for batch in loader])
    return read


def stop_after(loader, sampler, epoch, n_batches):
    """Read some batches of an epoch; return them and the state, as a checkpoint keeps it."""
    sampler.set_epoch(epoch)
    read = []
    for batch in loader:
        read.append(batch.tolist())
        if len(read) == n_batches:
            break
    return read, pickle.loads(pickle.dumps(loader.state_dict()))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_loader_resumes_in_the_middle_of_an_epoch(num_workers, settings):
    whole = batches_of(*stateful(**settings), range(N_EPOCHS))
    read, state = stop_after(*stateful(num_workers, **settings), 1, 2)
    loader, sampler = stateful(num_workers, **settings)
    loader.load_state_dict(state)
    rest = batches_of(loader, sampler, range(1, N_EPOCHS))
    assert [whole[0], read + rest[0], *rest[1:]] == whole


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_loader_resumes_twice_in_a_row(num_workers):
    whole = batches_of(*stateful(), range(N_EPOCHS))
    first, state = stop_after(*stateful(num_workers), 1, 1)
    loader, sampler = stateful(num_workers)
    loader.load_state_dict(state)
    second, state = stop_after(loader, sampler, 1, 2)
    loader, sampler = stateful(num_workers)
    loader.load_state_dict(state)
    rest = batches_of(loader, sampler, range(1, N_EPOCHS))
    assert first + second + rest[0] == whole[1]
    assert rest[1] == whole[2]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_loader_resumes_behind_the_last_batch(num_workers):
    whole = batches_of(*stateful(), range(N_EPOCHS))
    read, state = stop_after(*stateful(num_workers), 1, len(whole[1]))
    loader, sampler = stateful(num_workers)
    loader.load_state_dict(state)
    assert read == whole[1]
    assert batches_of(loader, sampler, range(1, N_EPOCHS)) == [[], whole[2]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_loader_resumes_behind_an_epoch(num_workers):
    whole = batches_of(*stateful(), range(N_EPOCHS))
    read, state = stop_after(*stateful(num_workers), 1, None)
    loader, sampler = stateful(num_workers)
    loader.load_state_dict(state)
    assert read == whole[1]
    assert batches_of(loader, sampler, [2]) == [whole[2]]


def test_a_stateful_loader_resumes_before_the_first_batch():
    loader, sampler = stateful()
    sampler.set_epoch(1)
    state = loader.state_dict()
    loader, sampler = stateful()
    loader.load_state_dict(state)
    assert [batch.tolist() for batch in loader] == batches_of(*stateful(), [1])[0]


def test_the_epoch_of_a_state_holds_whatever_was_set():
    whole = batches_of(*stateful(), range(2))
    _, state = stop_after(*stateful(), 1, 2)
    loader, _ = stateful()
    loader.load_state_dict(state)
    assert [batch.tolist() for batch in loader] == whole[1][2:]


def test_a_stateful_loader_without_batches_resumes():
    whole = batches_of(*stateful(batch_size=None), range(2))
    read, state = stop_after(*stateful(batch_size=None), 1, 4)
    loader, sampler = stateful(batch_size=None)
    loader.load_state_dict(state)
    assert read + batches_of(loader, sampler, [1])[0] == whole[1]


def test_without_a_seed_a_state_brings_its_own():
    indices = range(2, 24, 2)
    loader = StatefulDataLoader(DATA, sampler=SelectedSubsetSampler(indices), batch_size=3)
    read = [next(iter(loader)).tolist()]
    state = loader.state_dict()
    loader = StatefulDataLoader(DATA, sampler=SelectedSubsetSampler(indices), batch_size=3)
    loader.load_state_dict(state)
    read += [batch.tolist() for batch in loader]
    assert sorted(i for batch in read for i in batch) == DATA[list(indices)].tolist()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_loader_refuses_a_changed_subset(num_workers):
    _, state = stop_after(*stateful(num_workers), 0, 1)
    loader, sampler = stateful(num_workers)
    sampler.update(range(11))
    loader.load_state_dict(state)
    with pytest.raises(InvalidInputError, match="must be of this sampler's subset and settings"):
        iter(loader)


def node_loader(num_workers=0, **settings):
    node = nodes.SamplerWrapper(make_sampler(**settings))
    if num_workers:
        node = nodes.ParallelMapper(
            node, DATA.__getitem__, num_workers=num_workers, method="thread"
        )
    else:
        node = nodes.Mapper(node, DATA.__getitem__)
    return nodes.Loader(nodes.Batcher(node, batch_size=3, drop_last=False))


def node_batches(loader, n_batches=None):
    read = []
    for batch in loader:
        read.append([int(item) for item in batch])
        if len(read) == n_batches:
            break
    return read


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_nodes_read_the_same_epochs_as_a_loader(settings):
    # The wrapper counts the epochs itself.
    loader = node_loader(**settings)
    whole = batches_of(*stateful(**settings), range(N_EPOCHS))
    assert [node_batches(loader) for _ in range(N_EPOCHS)] == whole


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stops", [[2], [4], [1, 2], [1, 3]])
def test_nodes_resume_in_the_middle_at_the_end_and_twice(num_workers, stops):
    whole = batches_of(*stateful(), range(N_EPOCHS))
    loader = node_loader(num_workers)
    node_batches(loader)  # epoch 0
    read = []
    for n_batches in stops:
        read += node_batches(loader, n_batches)
        state = loader.state_dict()
        loader = node_loader(num_workers)
        loader.load_state_dict(state)
    # At the end of an epoch the loader goes on with the next.
    if sum(stops) < len(whole[1]):
        read += node_batches(loader)
    assert read == whole[1]
    assert node_batches(loader) == whole[2]


def test_a_batch_sampler_of_torch_reads_it_too():
    batches = list(BatchSampler(make_sampler(), 3, False))
    assert [i for batch in batches for i in batch] == list(make_sampler())
    assert [len(batch) for batch in batches] == [3, 3, 3, 2]


# Lightning, accelerate and Hugging Face's Trainer: not needed otherwise, so only where they
# are installed.


def lightning():
    return pytest.importorskip("lightning.pytorch", reason="needs lightning")


def recording_module(pl, read, stop=None):
    """A model that keeps what it is trained on, and may save and stop at a batch."""

    class Recorder(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, batch_idx):
            read.append((self.current_epoch, batch.tolist()))
            return (self.weight * batch.float().mean()).sum()

        def on_train_batch_end(self, outputs, batch, batch_idx):
            if stop is not None and len(read) == stop[0]:
                self.trainer.save_checkpoint(stop[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    return Recorder()


def lightning_fit(pl, tmp_path, loader, model, ckpt_path=None):
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=N_EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, loader, ckpt_path=ckpt_path)


def by_epoch(read):
    return [[batch for epoch, batch in read if epoch == wanted] for wanted in range(N_EPOCHS)]


@pytest.mark.filterwarnings("ignore")
def test_lightning_trains_on_the_subset_and_sets_the_epoch(tmp_path):
    pl = lightning()
    read = []
    loader = DataLoader(DATA, batch_size=3, sampler=make_sampler())
    lightning_fit(pl, tmp_path, loader, recording_module(pl, read))
    assert by_epoch(read) == batches_of(*stateful(), range(N_EPOCHS))


@pytest.mark.filterwarnings("ignore")
def test_lightning_resumes_in_the_middle_of_an_epoch(tmp_path):
    pl = lightning()
    read = []
    path = tmp_path / "at-6.ckpt"
    lightning_fit(pl, tmp_path, stateful()[0], recording_module(pl, read, stop=(6, path)))
    again = []
    lightning_fit(pl, tmp_path, stateful()[0], recording_module(pl, again), ckpt_path=path)
    assert len(read) == 12
    assert again == read[6:]


def accelerator(**settings):
    accelerate = pytest.importorskip("accelerate", reason="needs accelerate")
    return accelerate, accelerate.Accelerator(cpu=True, **settings)


@pytest.mark.parametrize("use_stateful", [False, True])
def test_accelerate_reads_the_subset_and_sets_the_epoch(use_stateful):
    accelerate, _ = accelerator()
    config = accelerate.DataLoaderConfiguration(use_stateful_dataloader=use_stateful)
    loader = accelerate.Accelerator(cpu=True, dataloader_config=config).prepare(
        DataLoader(DATA, batch_size=3, sampler=make_sampler())
    )
    read = [[batch.tolist() for batch in loader] for _ in range(N_EPOCHS)]
    assert read == batches_of(*stateful(), range(N_EPOCHS))


def test_accelerate_skips_to_the_middle_of_an_epoch():
    accelerate, host = accelerator()
    loader = host.prepare(DataLoader(DATA, batch_size=3, sampler=make_sampler()))
    loader.set_epoch(1)
    rest = [batch.tolist() for batch in accelerate.skip_first_batches(loader, 2)]
    assert rest == batches_of(*stateful(), [1])[0][2:]


@pytest.mark.filterwarnings("ignore")
def test_hugging_faces_trainer_reads_the_subset_and_resumes(tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    accelerator()
    data = [{"x": torch.tensor(float(i))} for i in range(40)]

    class Model(torch.nn.Module):
        def __init__(self, read):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.read = read

        def forward(self, x):
            self.read.append([10 * int(i) for i in x])
            return {"loss": (self.weight * x.mean()).sum()}

    class SubsetTrainer(transformers.Trainer):
        def _get_train_sampler(self, train_dataset=None):
            return make_sampler()

    def fit(read, **resume):
        arguments = transformers.TrainingArguments(
            str(tmp_path),
            per_device_train_batch_size=3,
            num_train_epochs=N_EPOCHS,
            save_steps=6,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
        )
        SubsetTrainer(Model(read), arguments, train_dataset=data).train(**resume)
        return read

    whole = [batch for epoch in batches_of(*stateful(), range(N_EPOCHS)) for batch in epoch]
    assert fit([]) == whole
    assert fit([], resume_from_checkpoint=str(tmp_path / "checkpoint-6")) == whole[6:]
