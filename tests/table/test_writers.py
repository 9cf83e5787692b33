"""Two writers of one table: one writes, the other is refused, and nothing is damaged."""

from __future__ import annotations

import os
import sys
import threading
import time
from multiprocessing import get_context

import numpy as np
import pytest
import torch

import clip_al.table.files as table_files
from clip_al import ClipEncoder, EmbeddingTable
from clip_al.errors import InvalidInputError
from clip_al.table.checksums import check_table
from clip_al.table.files import UNFINISHED, read_meta
from clip_al.table.lock import LOCK, is_held, writing
from tests.table.deaths import files, wait_for

N_IMAGES = 40


def write(pipe, model, table, folder, force):
    """Make a table each time that the pipe says so, and say what came of it."""
    torch.set_num_threads(1)
    table_files.CHECKPOINT_S = 0.0
    batches = ClipEncoder.iter_embeddings

    def slow(self, *args, **kwargs):
        for batch in batches(self, *args, **kwargs):
            time.sleep(0.02)
            yield batch

    ClipEncoder.iter_embeddings = slow
    encoder = ClipEncoder(model, batch_size=4, device="cpu", n_workers=0, progress=False)
    encoder.model_id  # noqa: B018  load it
    pipe.send("ready")
    while pipe.recv():
        try:
            EmbeddingTable.create(table, folder, encoder, overwrite=force)
            pipe.send("made")
        except InvalidInputError as error:
            pipe.send(str(error))


class Writers:
    """Two processes that make one table, time and again, when they are let go."""

    def __init__(self, model, table, folder, force):
        self.table = table
        context = get_context("fork")
        self.pipes, self.processes = [], []
        for _ in range(2):
            here, there = context.Pipe()
            process = context.Process(target=write, args=(there, model, table, folder, force))
            process.start()
            self.pipes.append(here)
            self.processes.append(process)
        for pipe in self.pipes:
            assert pipe.poll(200)
            assert pipe.recv() == "ready"

    def race(self, at):
        """Let one go, and the other when the first has done a share `at`; return what they say."""
        first, second = self.pipes
        log, meta = self.table / "progress.jsonl", self.table / "meta.json"
        before = meta.read_bytes() if meta.is_file() else b""
        first.send(True)
        if at:
            enough = int(at * N_IMAGES / 4)
            wait_for(lambda: meta.is_file() and meta.read_bytes() != before and log.is_file())
            wait_for(lambda: log.read_bytes().count(b"\n") >= enough)
        second.send(True)
        assert first.poll(100)
        assert second.poll(100)
        return [first.recv(), second.recv()]

    def close(self):
        for process in self.processes:
            process.kill()
            process.join()


def race_and_look(encoder, tmp_path, folder, force, at, rounds):
    expected = encoder.encode_images(folder)
    table = tmp_path / "t"
    writers = Writers(encoder.model, table, folder, force)
    try:
        for _ in range(rounds):
            told = writers.race(at)
            refused = [line for line in told if line != "made"]
            assert len(refused) <= 1, told
            if at:
                assert told[0] == "made"
                assert len(refused) == 1
            for line in refused:
                assert line == (
                    f"One process at a time can write a table; another is writing {str(table)!r}. "
                    "Wait for it, or name another directory."
                )
            assert check_table(table)["damaged"] == []
            found = EmbeddingTable.open(table)
            assert found.ids.tolist() == sorted(os.listdir(folder))  # noqa: PTH208
            np.testing.assert_allclose(found[:], expected, atol=1e-5)
            assert sorted(files(table)) == ["embeddings.npy", "index.csv", "meta.json"]
            if not force:
                for file in table.iterdir():
                    file.unlink()
    finally:
        writers.close()


@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("at", [0.0, 0.4])
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("rounds", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_two_processes_never_damage_a_table(encoder, tmp_path, folder, force, at, rounds):
    race_and_look(encoder, tmp_path, folder, force, at, rounds)


def test_force_removes_nothing_while_another_writes(tmp_path, folder, encoder):
    table = EmbeddingTable.create(tmp_path / "t", folder, encoder).directory
    before = files(table)
    told = []

    def force():
        for make in (
            lambda: EmbeddingTable.create(table, folder, encoder, overwrite=True),
            lambda: EmbeddingTable.from_array(table, np.eye(3), model_id="toy", overwrite=True),
        ):
            try:
                make()
            except InvalidInputError as error:
                told.append(str(error))

    with writing(table):
        thread = threading.Thread(target=force)  # the system's lock would let it through
        thread.start()
        thread.join()
        assert {name: content for name, content in files(table).items() if name != LOCK} == before
    assert len(told) == 2
    assert all(line.startswith("One process at a time can write a table") for line in told)
    assert files(table) == before


def test_a_finished_table_needs_no_lock(tmp_path, folder, encoder):
    table = EmbeddingTable.create(tmp_path / "t", folder, encoder).directory
    with writing(table):
        (table / LOCK).unlink()
        thread_result = []
        thread = threading.Thread(
            target=lambda: thread_result.append(EmbeddingTable.create(table, folder, encoder))
        )
        thread.start()
        thread.join()
    assert len(thread_result[0]) == N_IMAGES


def test_a_lock_is_given_back_on_any_way_out(tmp_path):
    with pytest.raises(KeyError), writing(tmp_path / "t"):  # noqa: PT012
        assert is_held(tmp_path / "t")
        assert (tmp_path / "t" / LOCK).is_file()
        raise KeyError
    assert not is_held(tmp_path / "t")
    assert not (tmp_path / "t").exists()
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / LOCK).touch()  # what a kill leaves
    with writing(tmp_path / "t"):
        pass
    assert list((tmp_path / "t").iterdir()) == []


def test_who_waits_gets_the_lock_next(tmp_path):
    order = []

    def second():
        with writing(tmp_path, wait=True):
            order.append("second")

    with writing(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_replacement_that_a_kill_left_is_moved_under_the_lock(tmp_path):
    table = EmbeddingTable.from_array(tmp_path / "t", np.eye(3), model_id="toy").directory
    other = EmbeddingTable.from_array(tmp_path / "u", np.eye(4), model_id="toy").directory
    other.rename(table / "replacement")
    assert len(EmbeddingTable.open(table)) == 4
    assert sorted(files(table)) == ["embeddings.npy", "index.csv", "meta.json"]
    (table / "replacement").mkdir()  # killed after the last file
    assert len(EmbeddingTable.open(table)) == 4
    assert read_meta(table)["n"] == 4
    assert not (table / UNFINISHED).exists()
