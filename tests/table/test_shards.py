"""A table made in shards is that of one process, whatever is lost on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset
from typer.testing import CliRunner

from clip_al.cli.main import app
from clip_al.encode.encoder import ClipEncoder
from clip_al.errors import (
    InvalidInputError,
    ModelMismatchError,
    SkippedImagesWarning,
    UnreadableImageError,
)
from clip_al.images.sources import image_source
from clip_al.table import files as table_files
from clip_al.table import shards as sharded_table
from clip_al.table.embedding_table import EmbeddingTable
from clip_al.table.shards import Rank, encode_shard
from tests.table.deaths import Killed, files, interrupt, let_die, wait_for
from tests.tiny_clip import write_tiny_clip

N_IMAGES = 45
BAD = ("00.png", "20.png", "44.png")


def write_images(folder, n=N_IMAGES, ending="png", size=(12, 10)):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(n):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.{ending}")
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "images")


@pytest.fixture
def damaged(folder):
    for name in BAD:
        (folder / name).write_text("text")
    return folder


def encode_all(directory, images, encoder, world_size=3, order=None, **settings):
    """Run all ranks, one after the other; return the table."""
    found = [
        encode_shard(directory, images, encoder, rank=rank, world_size=world_size, **settings)
        for rank in order or range(world_size)
    ]
    assert (found[0] is None) == (world_size > 1)
    return found[-1]


def left_beside(directory):
    return list(directory.parent.glob(f"{directory.name}.shards*"))


# --- the same bytes ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("world_size", "order"), [(1, None), (2, None), (3, (2, 0, 1)), (9, None)])
def test_the_table_is_that_of_one_process(tmp_path, folder, encoder, dtype, world_size, order):
    one = EmbeddingTable.create(tmp_path / "one", folder, encoder, dtype=dtype)
    # The first of nine ranks has nothing to do: there are six batches.
    table = encode_all(
        tmp_path / "t", folder, encoder, world_size=world_size, order=order, dtype=dtype
    )
    assert files(table.directory) == files(one.directory)
    assert left_beside(tmp_path / "t") == []


def test_a_rank_that_comes_as_another_joins_leaves_nothing(tmp_path, folder, encoder, monkeypatch):
    assert encode_shard(tmp_path / "t", folder, encoder, rank=0, world_size=2) is None
    encode = sharded_table._Shards.encode

    def late(shards, rank, source, encoder):  # the other rank joins and removes all shards first
        monkeypatch.setattr(sharded_table._Shards, "encode", encode)
        other = encode_shard(tmp_path / "t", folder, encoder, rank=1, world_size=2)
        assert other is not None
        encode(shards, rank, source, encoder)

    monkeypatch.setattr(sharded_table._Shards, "encode", late)
    table = encode_shard(tmp_path / "t", folder, encoder, rank=0, world_size=2)
    assert table is not None
    assert len(table) == N_IMAGES
    assert left_beside(tmp_path / "t") == []


def test_slices_are_even_whole_batches_that_cover_all(tmp_path):
    for n, batch_size, world_size in [(45, 8, 3), (45, 8, 9), (1, 256, 4), (1000, 7, 6)]:
        slices = sharded_table._slices(tmp_path, n, batch_size, world_size)
        assert [s.start for s in slices] == [0, *[s.stop for s in slices[:-1]]]
        assert slices[-1].stop == n
        assert all(s.start % batch_size == 0 or s.start == n for s in slices)
        n_batches = [-(-(s.stop - s.start) // batch_size) for s in slices]
        assert max(n_batches) - min(n_batches) <= 1


def test_unreadable_images_are_skipped_as_by_one_process(tmp_path, damaged, encoder):
    with pytest.warns(SkippedImagesWarning, match="3 are not"):
        one = EmbeddingTable.create(tmp_path / "one", damaged, encoder, errors="skip")
    with pytest.warns(SkippedImagesWarning, match="3 are not") as caught:
        table = encode_all(tmp_path / "t", damaged, encoder, errors="skip")
    assert len(caught) == 1
    assert files(table.directory) == files(one.directory)


def test_unreadable_images_end_no_rank_but_the_last(tmp_path, damaged, encoder, monkeypatch):
    for rank in (0, 1):
        assert encode_shard(tmp_path / "t", damaged, encoder, rank=rank, world_size=3) is None
    with pytest.raises(UnreadableImageError, match=r"3 are not: .*00\.png .* All others are safe"):
        encode_shard(tmp_path / "t", damaged, encoder, rank=2, world_size=3)
    monkeypatch.setattr(ClipEncoder, "iter_embeddings", None)
    with pytest.warns(SkippedImagesWarning):
        table = encode_shard(tmp_path / "t", damaged, encoder, rank=0, world_size=3, errors="skip")
    assert len(table) == N_IMAGES - 3
    assert left_beside(tmp_path / "t") == []


def test_a_share_without_a_readable_image_is_a_share(tmp_path, folder, encoder):
    for i in range(16):
        (folder / f"{i:02}.png").write_text("text")
    with pytest.warns(SkippedImagesWarning):
        table = encode_all(tmp_path / "t", folder, encoder, errors="skip")
    assert table.ids.tolist() == [f"{i:02}.png" for i in range(16, N_IMAGES)]
    for file in folder.iterdir():
        file.write_text("text")
    with pytest.raises(UnreadableImageError, match="None could be read"):
        encode_all(tmp_path / "none", folder, encoder, errors="skip")


@pytest.mark.parametrize("kind", ["array", "dataset", "paths"])
def test_all_kinds_of_images_are_shared_out(tmp_path, folder, encoder, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (N_IMAGES, 9, 9), dtype=np.uint8)
    images = {
        "array": pixels,
        "dataset": TensorDataset(torch.from_numpy(pixels)[:, None]),
        "paths": [str(path) for path in sorted(folder.iterdir())],
    }[kind]
    ids = [f"image {i}" for i in range(N_IMAGES)]
    one = EmbeddingTable.create(tmp_path / "one", images, encoder, ids=ids)
    table = encode_all(tmp_path / "t", images, encoder, ids=ids)
    assert files(table.directory) == files(one.directory)


def test_a_part_of_a_source_reads_the_same_images(folder):
    whole = image_source(folder)
    part = whole.part(3, 7)
    assert (len(part), part.ids) == (4, whole.ids[3:7])
    assert [part.load(i).tobytes() for i in range(4)] == [
        whole.load(i).tobytes() for i in range(3, 7)
    ]
    assert part.fingerprint(0) == whole.fingerprint(3)


# --- lost and repeated ranks ---------------------------------------------------------------


def test_a_lost_rank_is_redone_alone(tmp_path, folder, encoder, monkeypatch):
    one = files(EmbeddingTable.create(tmp_path / "one", folder, encoder).directory)
    monkeypatch.setattr(table_files, "CHECKPOINT_S", 0.0)
    lost = {"rank": 1, "world_size": 3}
    for rank in (0, 2):
        encode_shard(tmp_path / "t", folder, encoder, rank=rank, world_size=3)
    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingTable, "create", lambda *args: encode_shard(*args, **lost))
        interrupt(patch, tmp_path / "t", folder, encoder, after=1)
    encoded, batches = [], ClipEncoder.iter_embeddings

    def watched(self, source, **kwargs):
        encoded.append((source.ids[0], kwargs["start"]))
        return batches(self, source, **kwargs)

    monkeypatch.setattr(ClipEncoder, "iter_embeddings", watched)
    assert encode_shard(tmp_path / "t", folder, encoder, **lost) is not None
    assert encoded == [("16.png", 8)]
    assert files(tmp_path / "t") == one


def test_a_finished_share_is_not_encoded_again(tmp_path, folder, encoder, monkeypatch):
    encode_shard(tmp_path / "t", folder, encoder, rank=0, world_size=2)
    monkeypatch.setattr(ClipEncoder, "iter_embeddings", None)
    assert encode_shard(tmp_path / "t", folder, encoder, rank=0, world_size=2) is None


def test_a_finished_table_is_returned_at_once(tmp_path, folder, encoder, monkeypatch):
    table = encode_all(tmp_path / "t", folder, encoder)
    before = files(table.directory)
    (tmp_path / "t.shards" / "0-of-3").mkdir(parents=True)  # a kill while shards were removed
    monkeypatch.setattr(ClipEncoder, "iter_embeddings", None)
    for rank in (0, 4):
        assert encode_shard(tmp_path / "t", folder, encoder, rank=rank, world_size=5) is not None
    assert files(table.directory) == before
    assert left_beside(tmp_path / "t") == []


def test_overwrite_replaces_a_finished_table(tmp_path, folder, encoder):
    EmbeddingTable.from_array(tmp_path / "t", np.eye(3), model_id="other")
    with pytest.raises(ModelMismatchError, match="was made by other"):
        encode_shard(tmp_path / "t", folder, encoder, rank=0, world_size=2)
    table = encode_all(tmp_path / "t", folder, encoder, world_size=2, overwrite=True)
    assert len(table) == N_IMAGES
    np.testing.assert_array_equal(table.embeddings, encoder.encode_images(folder))


def test_an_unfinished_table_is_taken_up(tmp_path, folder, encoder, monkeypatch):
    one = files(EmbeddingTable.create(tmp_path / "one", folder, encoder).directory)
    interrupt(monkeypatch, tmp_path / "t", folder, encoder, after=2)
    assert files(encode_all(tmp_path / "t", folder, encoder).directory) == one


@pytest.mark.slow
def test_death_at_any_step_leaves_shards_that_can_be_joined(
    tmp_path, damaged, encoder, monkeypatch
):
    """Let every call that changes a file be the last one of the last rank, in turn."""
    monkeypatch.setattr(table_files, "CHECKPOINT_S", 0.0)
    with pytest.warns(SkippedImagesWarning):
        whole = files(
            EmbeddingTable.create(tmp_path / "one", damaged, encoder, errors="skip").directory
        )

    def last():
        return encode_shard(tmp_path / "t", damaged, encoder, rank=1, world_size=2, errors="skip")

    step = 0
    while True:
        step += 1
        encode_shard(tmp_path / "t", damaged, encoder, rank=0, world_size=2, errors="skip")
        with monkeypatch.context() as patch:
            let_die(patch, step)
            try:
                with pytest.warns(SkippedImagesWarning):
                    last()
                break
            except Killed:
                pass
        with pytest.warns(SkippedImagesWarning):
            last()
        assert files(tmp_path / "t") == whole, step
        assert left_beside(tmp_path / "t") == [], step
        shutil.rmtree(tmp_path / "t")
    assert step > 25


def encode_and_report(directory, images, model, rank, world_size, barrier, results):
    torch.set_num_threads(1)
    encoder = ClipEncoder(model, batch_size=8, device="cpu")
    encoder.model_id  # noqa: B018  load it, so that all set out together
    barrier.wait()
    table = encode_shard(directory, images, encoder, rank=rank, world_size=world_size)
    results.put(None if table is None else len(table))


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_ranks_that_finish_together_make_one_table(tmp_path, folder, encoder):
    """Every round a few processes race from the first step to the last."""
    one = files(EmbeddingTable.create(tmp_path / "one", folder, encoder).directory)
    context = get_context("fork")
    for round_ in range(4):
        barrier, results = context.Barrier(3), context.Queue()
        arguments = (tmp_path / f"t{round_}", folder, encoder.model)
        ranks = [
            context.Process(target=encode_and_report, args=(*arguments, rank, 3, barrier, results))
            for rank in range(3)
        ]
        for process in ranks:
            process.start()
        given = [results.get(timeout=120) for _ in ranks]
        for process in ranks:
            process.join()
        assert set(given) <= {None, N_IMAGES}
        assert N_IMAGES in given
        assert files(arguments[0]) == one
        assert left_beside(arguments[0]) == []


def test_a_table_begun_at_this_moment_is_seen(tmp_path, monkeypatch):
    """Ranks set out together: metadata may come between the two looks at a folder."""
    names, source = table_files._file_names, image_source(np.zeros((1, 2, 2, 3), np.uint8))
    meta = table_files.new_meta(source, "mine", {}, 4, 8)

    def begin(folder):
        table_files.write_meta(folder, meta)
        (folder / "progress.jsonl").touch()
        return names(folder)

    monkeypatch.setattr(table_files, "_file_names", begin)
    assert table_files.read_meta(tmp_path) == meta


# --- what does not fit ---------------------------------------------------------------------


def test_another_model_is_refused(tmp_path, folder, encoder):
    encode_shard(tmp_path / "t", folder, encoder, rank=0, world_size=2)
    other = ClipEncoder(write_tiny_clip(tmp_path / "other", seed=1), batch_size=8, device="cpu")
    with pytest.raises(ModelMismatchError) as caught:
        encode_shard(tmp_path / "t", folder, other, rank=1, world_size=2)
    shards = tmp_path / "t.shards"
    assert str(caught.value) == (
        f"A table holds the embeddings of one model; {str(shards / '0-of-2')!r} was made by "
        f"{encoder.model_id}, got {other.model_id}. Name another directory, or remove "
        f"{str(shards)!r} to encode all again."
    )


def test_another_number_of_ranks_is_refused(tmp_path, folder, encoder):
    encode_shard(tmp_path / "t", folder, encoder, rank=0, world_size=2)
    shards = str(tmp_path / "t.shards")
    with pytest.raises(InvalidInputError) as caught:
        encode_shard(tmp_path / "t", folder, encoder, rank=0, world_size=3)
    assert str(caught.value) == (
        f"`world_size` must stay that which {shards!r} was begun with, 2; got 3. Run 2 ranks, "
        f"name another directory, or remove {shards!r} to encode all again."
    )


def test_changed_images_are_refused(tmp_path, folder, encoder):
    def encode():
        return encode_shard(tmp_path / "t", folder, encoder, rank=0, world_size=2)

    encode()
    os.utime(folder / "00.png", ns=(1, 1))
    with pytest.raises(InvalidInputError, match=r"1 modified \(00.png\)\. Restore them, name an"):
        encode()
    (folder / "00.png").rename(folder / "0.png")
    with pytest.raises(InvalidInputError, match=r"1 added \(0.png\), 1 removed \(00.png\)"):
        encode()
    for file in sorted(folder.iterdir())[:16]:
        file.unlink()
    with pytest.raises(InvalidInputError, match=r"was begun with n = 24, got 16\. Give all the s"):
        encode()


def test_a_share_of_other_images_is_not_joined(tmp_path, folder, encoder):
    encode_shard(tmp_path / "t", folder, encoder, rank=0, world_size=2)
    (folder / "00.png").rename(folder / "0.png")  # in the other rank's share, which is not read
    with pytest.raises(InvalidInputError, match=r"where it has '00.png', got '0.png'\. Restore"):
        encode_shard(tmp_path / "t", folder, encoder, rank=1, world_size=2)
    assert not (tmp_path / "t").exists()


def test_the_first_rank_settles_the_batch_size(tmp_path, folder, encoder, monkeypatch):
    one = files(EmbeddingTable.create(tmp_path / "one", folder, encoder).directory)
    encode_shard(tmp_path / "t", folder, encoder, rank=0, world_size=2)
    other = ClipEncoder(encoder.model, batch_size=5, device="cpu")
    assert encode_shard(tmp_path / "t", folder, other, rank=1, world_size=2) is not None
    assert files(tmp_path / "t") == one
    # Two that began in one moment with two sizes never meet in a table.
    encode_shard(tmp_path / "u", folder, encoder, rank=0, world_size=2)
    meta = tmp_path / "u.shards" / "0-of-2" / "meta.json"
    hasty = json.loads(meta.read_text())
    encode = ClipEncoder.iter_embeddings

    def late(*args, **kwargs):
        meta.write_text(json.dumps({**hasty, "batch_size": 6}))
        return encode(*args, **kwargs)

    monkeypatch.setattr(ClipEncoder, "iter_embeddings", late)
    with pytest.raises(InvalidInputError, match="begun with batch_size = 6, got 8"):
        encode_shard(tmp_path / "u", folder, encoder, rank=1, world_size=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 2, "world_size": 2}, r"`rank` must be in \[0, 1\]; got 2"),
        ({"rank": 0, "world_size": 0}, "`world_size` must be at least 1; got 0"),
        ({"rank": 0, "world_size": 2, "dtype": "int8"}, "`dtype` must be one of"),
        ({"rank": 0, "world_size": 2, "errors": "drop"}, "`errors` must be one of"),
        ({"rank": 0, "world_size": 2, "ids": ["a"]}, "`ids` must name each of the 45 images"),
    ],
)
def test_bad_arguments(tmp_path, folder, encoder, settings, message):
    with pytest.raises(InvalidInputError, match=message):
        encode_shard(tmp_path / "t", folder, encoder, **settings)
    assert left_beside(tmp_path / "t") == []


# --- under torchrun ------------------------------------------------------------------------


def test_ranks_come_from_the_environment(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert Rank.from_environment() is None
    monkeypatch.setenv("RANK", "5")
    assert Rank.from_environment() is None
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert Rank.from_environment() == Rank(5, 8, 5)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Rank.from_environment() == Rank(5, 8, 1)
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(InvalidInputError, match="variable RANK must be a whole number; got 'one'"):
        Rank.from_environment()


def test_each_rank_takes_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [Rank(r, 4, r).device(None) for r in range(4)] == ["cuda:0", "cuda:1"] * 2
    assert Rank(1, 2, 1).device("cuda") == "cuda:1"
    assert Rank(1, 2, 1).device("cuda:0") == "cuda:0"
    assert Rank(1, 2, 1).device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert Rank(1, 2, 1).device(None) is None


def test_ranks_share_the_cores(encoder, folder, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    many = image_source([str(folder / "00.png")] * 600)
    for n_ranks, n_workers in (("1", 15), ("4", 3), ("16", 0), ("32", 0)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", n_ranks)
        assert encoder._workers(many) == n_workers


def embed(*arguments):
    return CliRunner().invoke(app, ["embed", *map(str, arguments)])


def test_the_command_is_one_rank(tmp_path, folder, encoder, monkeypatch):
    one = EmbeddingTable.create(tmp_path / "one", folder, encoder)
    monkeypatch.setenv("WORLD_SIZE", "2")
    given = (folder, "-o", tmp_path / "t", "--model", encoder.model, "--batch-size", 8)
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        done = embed(*given)
        assert done.exit_code == 0, done.output
        assert (tmp_path / "t").exists() == (rank == "1")
    assert "45 images" in done.stdout
    assert files(tmp_path / "t") == files(one.directory)


def worker_of(agent, rank):
    """The process that torchrun started for a rank."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    for pid in map(int, children):
        if f"\0RANK={rank}\0" in Path(f"/proc/{pid}/environ").read_text():
            return pid
    raise LookupError(rank)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_torchrun_makes_one_table_also_after_a_kill(tmp_path):
    photos = write_images(tmp_path / "photos", 48, "jpg", (320, 240))

    def embed(name):
        module = ["-m", "clip_al.cli.main", "embed", str(photos), "-o", str(tmp_path / name)]
        return [*module, "--batch-size", "8", "--device", "cpu"]

    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launch, *embed("t")]
    # The last bits of a product depend on the number of threads.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = tmp_path / "t.shards" / "1-of-2" / "progress.jsonl"
    run = subprocess.Popen(command, env=environment)
    try:
        wait_for(log.is_file)
        os.kill(worker_of(run.pid, 1), signal.SIGKILL)
        assert run.wait(timeout=120) != 0
    finally:
        run.kill()
        run.wait()
    assert not (tmp_path / "t" / "index.csv").exists()
    for asked in (command, [sys.executable, *embed("one")]):
        done = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert files(tmp_path / "t") == files(tmp_path / "one")
    assert left_beside(tmp_path / "t") == []
