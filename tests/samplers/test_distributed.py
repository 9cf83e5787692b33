"""Tests of `clip_al.samplers.distributed`."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, DistributedSampler
from torchdata import nodes
from torchdata.stateful_dataloader import StatefulDataLoader

from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.samplers.distributed import DistributedSelectedSubsetSampler, check_shards
from clip_al.samplers.sampler import SelectedSubsetSampler
from tests.helpers import exactly

INDICES = [7, 3, 5, 11, 2, 13, 17]
DATA = torch.arange(40) * 10
WEIGHTS = [1, 2, 3, 4, 5, 6, 7]


def shards(n_replicas, indices=INDICES, epoch=0, **settings):
    samplers = [
        DistributedSelectedSubsetSampler(indices, num_replicas=n_replicas, rank=rank, **settings)
        for rank in range(n_replicas)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return samplers


# Reference


def dealt(order, n_replicas, drop_last):
    """Deal the items of an epoch out one by one."""
    order = list(order)
    i = 0
    while drop_last and len(order) % n_replicas:
        order.pop()
    while len(order) % n_replicas:
        order.append(order[i])
        i += 1
    hands = [[] for _ in range(n_replicas)]
    for i, item in enumerate(order):
        hands[i % n_replicas].append(item)
    return hands


# Shares


@given(
    st.lists(st.integers(0, 99), min_size=1, max_size=30, unique=True),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
)
def test_the_order_of_one_process_is_dealt_out(indices, n_replicas, shuffle, drop_last, epoch):
    if drop_last and len(indices) < n_replicas:
        return
    single = SelectedSubsetSampler(indices, shuffle=shuffle, random_state=4)
    single.set_epoch(epoch)
    samplers = shards(
        n_replicas, indices, epoch, shuffle=shuffle, random_state=4, drop_last=drop_last
    )
    shares = [list(sampler) for sampler in samplers]
    assert shares == dealt(single, n_replicas, drop_last)
    assert [len(sampler) for sampler in samplers] == [len(share) for share in shares]


@pytest.mark.parametrize("n", [1, 5, 8, 11])
@pytest.mark.parametrize("drop_last", [False, True])
def test_shares_are_as_large_as_torchs(n, drop_last):
    ours = DistributedSelectedSubsetSampler(range(20), num_replicas=4, rank=1, drop_last=drop_last)
    ours.update(range(n + 3))
    theirs = DistributedSampler(range(n + 3), num_replicas=4, rank=1, drop_last=drop_last)
    for name in ("num_samples", "total_size", "num_replicas", "rank", "drop_last"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert len(ours) == len(theirs) == len(list(theirs)) == len(list(ours))


@pytest.mark.parametrize(
    "settings",
    [
        {"weights": WEIGHTS, "n_samples": 12},
        {"weights": WEIGHTS, "replacement": False, "n_samples": 4},
        {"replay": range(30, 40), "replay_fraction": 0.3},
    ],
)
def test_weights_and_replay_are_of_the_epoch_of_all(settings):
    single = SelectedSubsetSampler(INDICES, random_state=0, **settings)
    assert sorted(i for sampler in shards(2, **settings) for i in sampler) == sorted(single)


def test_without_a_seed_it_is_zero_in_every_process():
    assert [list(s) for s in shards(2)] == [list(s) for s in shards(2, random_state=0)]
    assert [list(s) for s in shards(2)] != [list(s) for s in shards(2, random_state=1)]


def test_it_is_a_distributed_sampler_of_torch():
    sampler = shards(2)[1]
    assert isinstance(sampler, DistributedSampler)
    assert isinstance(sampler, SelectedSubsetSampler)
    assert sampler.seed == sampler.random_state == 0


def test_a_pickle_is_the_same_share():
    sampler = shards(3, epoch=2, weights=WEIGHTS)[1]
    assert list(pickle.loads(pickle.dumps(sampler))) == list(sampler)


def test_an_update_changes_the_share_and_its_length():
    sampler = shards(2)[1]
    sampler.update(range(20, 31))
    assert list(sampler) == list(shards(2, range(20, 31))[1])
    assert (len(sampler), sampler.total_size, len(sampler.dataset)) == (6, 12, 11)


# What is refused


def test_without_a_group_the_place_must_be_given():
    message = (
        "`num_replicas` and `rank` must be given where torch has no process group; got {} and "
        "None. Call `torch.distributed.init_process_group` first, or pass `num_replicas=1, "
        "rank=0` for a single process."
    )
    with pytest.raises(InvalidInputError, match=exactly(message.format(None))):
        DistributedSelectedSubsetSampler(INDICES)
    with pytest.raises(InvalidInputError, match=exactly(message.format(2))):
        DistributedSelectedSubsetSampler(INDICES, num_replicas=2)


@pytest.mark.parametrize(("n_replicas", "rank"), [(2, 2), (2, -1), (1, 1)])
def test_a_rank_outside_the_group_is_refused(n_replicas, rank):
    message = f"`rank` must be in [0, {n_replicas - 1}]; got {rank}. Change it."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        DistributedSelectedSubsetSampler(INDICES, num_replicas=n_replicas, rank=rank)


def test_a_group_of_none_is_refused():
    with pytest.raises(InvalidInputError, match=r"^`num_replicas` must be at least 1; got 0"):
        DistributedSelectedSubsetSampler(INDICES, num_replicas=0, rank=0)


def test_an_empty_share_is_refused():
    message = (
        "An epoch must have at least 3 items, one for each process, with `drop_last`; got 2. "
        "Choose more or pass `drop_last=False`."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        DistributedSelectedSubsetSampler([1, 2], num_replicas=3, rank=0, drop_last=True)
    sampler = shards(3, drop_last=True)[0]
    with pytest.raises(InvalidInputError, match=exactly(message)):
        sampler.update([1, 2])
    assert len(sampler) == 2


# Shards that belong together


def test_shards_of_one_epoch_pass_as_samplers_and_as_states():
    samplers = shards(3, epoch=1)
    assert check_shards(samplers) is None
    assert check_shards(iter(sampler).state_dict() for sampler in reversed(samplers)) is None
    assert check_shards([SelectedSubsetSampler(INDICES)]) is None


def overlap(key, one, other):
    return exactly(
        f"Shards must agree in {key}, or they overlap; got {one} in rank 0 and {other} in rank "
        "1. Make every process's sampler from the same indices, settings and `random_state`, "
        "and set the same epoch."
    )


def test_shards_that_overlap_are_refused():
    first = shards(2)[0]
    for key, other in (
        ("seed", shards(2, random_state=7)[1]),
        ("epoch", shards(2, epoch=7)[1]),
        ("num_replicas", shards(7)[1]),
    ):
        one = {"seed": 0, "epoch": 0, "num_replicas": 2}[key]
        with pytest.raises(InvalidInputError, match=overlap(key, one, 7)):
            check_shards([first, other])


def test_shards_of_two_subsets_are_refused():
    one, other = shards(2)[0], shards(2, range(7))[1]
    with pytest.raises(
        InvalidInputError, match=overlap("fingerprint", one.fingerprint, other.fingerprint)
    ):
        check_shards([one, other])


@pytest.mark.parametrize(
    "twice", [[shards(2)[1]] * 2, [SelectedSubsetSampler(INDICES, random_state=0)] * 2]
)
def test_one_rank_twice_is_refused(twice):
    rank, n_replicas = (1, 2) if isinstance(twice[0], DistributedSampler) else (0, 1)
    message = (
        f"Shards must not overlap; got rank {rank} of {n_replicas} twice. Use "
        "`DistributedSelectedSubsetSampler` and give each process its own rank."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        check_shards(twice)


def test_a_missing_shard_is_refused():
    message = (
        "Shards must cover the epoch; got none of rank 1 of 3. Gather the states of all processes."
    )
    samplers = shards(3)
    with pytest.raises(InvalidInputError, match=exactly(message)):
        check_shards([samplers[0], samplers[2]])


def test_no_shards_and_no_states_are_refused():
    with pytest.raises(InvalidInputError, match=r"^`states` must hold one for each process; got"):
        check_shards([])
    with pytest.raises(InvalidTypeError, match=r"^A state must be a mapping that holds epoch,"):
        check_shards([3])


# Resuming in one process


def loader_of(rank, num_workers=0, n_replicas=2, **settings):
    sampler = shards(n_replicas, range(2, 24, 2), **settings)[rank]
    return StatefulDataLoader(DATA, batch_size=2, sampler=sampler, num_workers=num_workers)


def read_epochs(loader, epochs, n_batches=None):
    read = []
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            read.append(batch.tolist())
            if len(read) == n_batches:
                return read
    return read


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stops", [[2], [3], [1, 1]])
def test_each_rank_resumes_in_the_middle_at_the_end_and_twice(num_workers, stops):
    rank = 1
    whole = read_epochs(loader_of(rank), [1, 2])
    loader, read = loader_of(rank, num_workers), []
    for n_batches in stops:
        read += read_epochs(loader, [1], n_batches)
        state = pickle.loads(pickle.dumps(loader.state_dict()))
        loader = loader_of(rank, num_workers)
        loader.load_state_dict(state)
    assert read + read_epochs(loader, [1, 2]) == whole


def test_another_number_of_processes_is_refused_by_the_loader():
    loader = loader_of(0)
    read_epochs(loader, [0], 1)
    other = loader_of(0, n_replicas=3)
    other.load_state_dict(loader.state_dict())
    with pytest.raises(InvalidInputError, match=r"must be of 3 process\(es\).*got one of 2:"):
        iter(other)


def test_nodes_resume_a_share():
    def make():
        node = nodes.SamplerWrapper(shards(2)[1])
        return nodes.Loader(nodes.Batcher(node, batch_size=2, drop_last=False))

    whole, loader = list(make()), make()
    read = [next(iter(loader))]
    again = make()
    again.load_state_dict(loader.state_dict())
    assert read + list(again) == whole


# Two processes


CHILD = """
import sys
from tests.samplers.test_distributed import in_process

in_process(int(sys.argv[1]), *sys.argv[2:])
"""


def in_process(rank, name, folder, port):
    """Run one of the functions below as `rank` of 2, as torchrun would, and keep its result."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none", "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    result = globals()[name](rank, folder)
    Path(folder, f"{rank}.json").write_text(json.dumps(result), encoding="utf-8")


def run_two(name, folder):
    """Run a function of this module in two processes; return what each returned."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Neither forked nor spawned: what the tests started or patched is not passed on.
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(rank), name, str(folder), str(port)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for rank in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=240)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def plain_torch(rank, folder):
    dist = torch.distributed
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)

    def gathered(value):
        values = [None, None]
        dist.all_gather_object(values, value)
        return values

    result = {"epochs": [], "resumed": []}
    sampler = DistributedSelectedSubsetSampler(range(2, 24, 2))
    loader = StatefulDataLoader(DATA, batch_size=2, sampler=sampler)
    check_shards(gathered(iter(sampler).state_dict()))
    for epoch in (0, 1):
        result["epochs"].append(read_epochs(loader, [epoch]))
    result["resumed"] += read_epochs(loader, [1], 1)
    # All resume from the checkpoint that rank 0 wrote, as most scripts have it.
    state = gathered(loader.state_dict())[0]
    again = StatefulDataLoader(
        DATA, batch_size=2, sampler=DistributedSelectedSubsetSampler(range(2, 24, 2))
    )
    again.load_state_dict(state)
    result["resumed"] += read_epochs(again, [1])
    for key, refused in (
        ("seeds", DistributedSelectedSubsetSampler(range(9), random_state=rank)),
        ("plain", SelectedSubsetSampler(range(9), random_state=0)),
    ):
        try:
            check_shards(gathered(iter(refused).state_dict()))
        except InvalidInputError as error:
            result[key] = str(error)
    try:
        list(SelectedSubsetSampler(range(9)))
    except InvalidInputError as error:
        result["drawn"] = str(error)
    dist.destroy_process_group()
    return result


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    if not torch.distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    return run_two("plain_torch", tmp_path_factory.mktemp("two"))


def flat(batches):
    return [i for batch in batches for i in batch]


@pytest.mark.slow
def test_two_processes_read_every_image_of_the_subset(two):
    for epoch in (0, 1):
        shares = [flat(result["epochs"][epoch]) for result in two]
        # 11 images: one comes twice, so that both read 6.
        assert [len(share) for share in shares] == [6, 6]
        assert set(shares[0]) | set(shares[1]) == set(DATA[2:24:2].tolist())
        assert len(set(shares[0]) & set(shares[1])) == 1
        assert shares == [flat(read_epochs(loader_of(rank), [epoch])) for rank in (0, 1)]


def test_two_processes_resume_from_the_state_of_rank_0(two):
    for result in two:
        assert result["resumed"] == result["epochs"][1]


def test_two_processes_find_that_their_shards_overlap(two):
    for result in two:
        assert result["seeds"].startswith("Shards must agree in seed, or they overlap; got 0 in")
        assert result["plain"].startswith("Shards must not overlap; got rank 0 of 1 twice.")


def test_two_processes_that_each_drew_a_seed_are_refused(two):
    message = (
        "`random_state` must be given where several processes train together; got None, so that "
        "each has drawn its own and what they read overlaps. Pass the same number in all."
    )
    assert [result["drawn"] for result in two] == [message] * 2


def under_lightning(rank, folder):
    import lightning.pytorch as pl

    read = []

    class Recorder(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def train_dataloader(self):
            # Made where the group is set up, so that the place is known.
            sampler = DistributedSelectedSubsetSampler(range(2, 24, 2))
            return StatefulDataLoader(DATA, batch_size=2, sampler=sampler)

        def training_step(self, batch, batch_idx):
            read.append(batch.tolist())
            return (self.weight * batch.float().mean()).sum()

        def on_train_batch_end(self, outputs, batch, batch_idx):
            if len(read) == 4 and self.stop:
                self.trainer.save_checkpoint(f"{folder}/at-4.ckpt")

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    def fit(stop, ckpt_path=None):
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=2,
            strategy="ddp",
            max_epochs=2,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        model = Recorder()
        model.stop = stop
        trainer.fit(model, ckpt_path=ckpt_path)
        return type(trainer.train_dataloader.sampler).__name__

    kind = fit(stop=True)
    whole = list(read)
    read.clear()
    fit(stop=False, ckpt_path=f"{folder}/at-4.ckpt")
    return {"kind": kind, "whole": whole, "rest": list(read)}


@pytest.mark.slow
def test_lightning_leaves_the_sampler_alone_and_resumes(tmp_path):
    pytest.importorskip("lightning.pytorch", reason="needs lightning")
    for rank, result in enumerate(run_two("under_lightning", tmp_path)):
        assert result["kind"] == "DistributedSelectedSubsetSampler"
        assert result["whole"] == read_epochs(loader_of(rank), [0, 1])
        assert result["rest"] == result["whole"][4:]


def under_accelerate(rank, folder):
    import accelerate

    host = accelerate.Accelerator(cpu=True)
    result = {}
    for name, sampler in (
        ("plain", SelectedSubsetSampler(range(12), random_state=0)),
        ("distributed", DistributedSelectedSubsetSampler(range(12))),
    ):
        loader = host.prepare(DataLoader(torch.arange(40), batch_size=2, sampler=sampler))
        result[name] = [flat(batch.tolist() for batch in loader) for _ in range(2)]
    torch.distributed.destroy_process_group()
    return result


@pytest.mark.slow
def test_accelerate_shares_out_a_plain_sampler_and_must_not_get_the_distributed_one(tmp_path):
    pytest.importorskip("accelerate", reason="needs accelerate")
    first, second = run_two("under_accelerate", tmp_path)
    for epoch in (0, 1):
        assert len(first["plain"][epoch]) == len(second["plain"][epoch]) == 6
        assert sorted(first["plain"][epoch] + second["plain"][epoch]) == list(range(12))
        # Shared out twice: this is what the documentation warns of.
        assert len({*first["distributed"][epoch], *second["distributed"][epoch]}) < 12
    assert first["plain"][0] != first["plain"][1]


def test_state_is_small_and_plain():
    state = iter(shards(2, np.arange(10_000))[1]).state_dict()
    assert {type(value) for value in state.values()} <= {int, str}
    assert len(json.dumps(state)) < 200
