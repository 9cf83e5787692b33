import copy
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

import clip_al.table.embedding_table as embeddings_module
import clip_al.table.files as table_files
from clip_al import ClipEncoder, EmbeddingTable
from clip_al.errors import (
    InvalidInputError,
    InvalidTypeError,
    ModelMismatchError,
    SkippedImagesWarning,
    UnreadableImageError,
)
from tests.table.deaths import Killed, files, interrupt, let_die, wait_for
from tests.tiny_clip import write_tiny_clip

N_IMAGES = 60


@pytest.fixture(scope="module")
def other_encoder(tmp_path_factory):
    model = write_tiny_clip(tmp_path_factory.mktemp("models") / "other", seed=1)
    return ClipEncoder(model, batch_size=8, device="cpu")


def write_images(root):
    rng = np.random.default_rng(0)
    for i in range(N_IMAGES):
        file = root / f"class{i % 3}" / f"{i:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(file)
    return root


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "images")


BAD = {"class0/00.png": b"", "class1/22.png": b"text", "class2/59.png": b"\x89PNG\r\n\x1a\n"}


@pytest.fixture
def damaged(folder):
    """The same folder with three unreadable images: first, last, and one in between."""
    for name, content in BAD.items():
        (folder / name).write_bytes(content)
    return folder


# --- create and open -----------------------------------------------------------------------


def test_a_table_holds_what_the_encoder_gives(tmp_path, folder, encoder):
    table = EmbeddingTable.create(tmp_path / "new" / "table", folder, encoder)
    expected = encoder.encode_images(folder)
    assert isinstance(table.embeddings, np.memmap)
    np.testing.assert_array_equal(table.embeddings, expected)
    assert sorted(files(table.directory)) == ["embeddings.npy", "index.csv", "meta.json"]
    assert (len(table), table.shape, table.ndim, table.dtype) == (60, (60, 16), 2, np.float32)
    assert table.ids[:2].tolist() == ["class0/00.png", "class0/03.png"]
    assert table.paths[0] == str(folder / "class0" / "00.png")
    assert all(Path(path).is_file() for path in table.paths)
    assert table.model_id == encoder.model_id
    assert table.key == {**encoder.key(), "dtype": "float32"}
    assert repr(table) == f"EmbeddingTable(60 images, width 16, {encoder.model_id}, float32)"
    np.testing.assert_array_equal(np.load(table.directory / "embeddings.npy"), expected)


def test_rows_are_read_by_position(tmp_path, folder, encoder):
    table = EmbeddingTable.create(tmp_path / "table", folder, encoder)
    Z = np.array(table.embeddings)
    rows, mask = np.array([7, 3, 3]), np.arange(60) % 7 == 0
    for key in (5, -1, slice(3, 9), rows, mask, [2, 1]):
        np.testing.assert_array_equal(table[key], Z[key])
        assert table[key].dtype == np.float32
    with pytest.raises(IndexError):
        table[60]
    with pytest.raises(ValueError, match="read-only"):
        table.embeddings[0] = 0.0


def test_numpy_takes_a_table_without_a_copy(tmp_path, folder, encoder):
    table = EmbeddingTable.create(tmp_path / "table", folder, encoder)
    assert np.shares_memory(np.asarray(table), table.embeddings)
    assert np.shares_memory(table[2:5], table.embeddings)
    assert not np.shares_memory(np.array(table), table.embeddings)
    assert np.asarray(table, dtype=np.float64).dtype == np.float64
    np.testing.assert_array_equal(np.asarray(table), table.embeddings)
    with pytest.raises(ValueError, match="a table of float32 cannot be read as float64 without"):
        table.__array__(np.float64, copy=False)


def test_half_precision_on_disk_is_float32_in_hand(tmp_path, folder, encoder):
    table = EmbeddingTable.create(tmp_path / "half", folder, encoder, dtype="float16")
    expected = encoder.encode_images(folder).astype(np.float16)
    np.testing.assert_array_equal(table.embeddings, expected)
    assert table.dtype == table.embeddings.dtype == np.float16
    assert table[3:5].dtype == np.float32
    with pytest.raises(InvalidInputError) as caught:
        EmbeddingTable.create(tmp_path / "half", folder, encoder)
    assert str(caught.value) == (
        f"A table has one dtype; {str(tmp_path / 'half')!r} holds float16, got float32. Name "
        "another directory, or pass overwrite=True (`--force`) to encode all again."
    )
    with pytest.raises(InvalidInputError, match="`dtype` must be one of"):
        EmbeddingTable.create(tmp_path / "x", folder, encoder, dtype="int8")


def test_a_finished_table_is_returned_at_once(tmp_path, folder, encoder, monkeypatch):
    EmbeddingTable.create(tmp_path / "table", folder, encoder)
    before = files(tmp_path / "table")
    monkeypatch.setattr(ClipEncoder, "iter_embeddings", None)
    assert len(EmbeddingTable.create(tmp_path / "table", folder, encoder)) == 60
    assert files(tmp_path / "table") == before


def test_pickles_and_copies_hold_the_name_only(tmp_path, folder, encoder):
    EmbeddingTable.create(tmp_path / "table", folder, encoder)
    table = EmbeddingTable.open(tmp_path / "table", root="/elsewhere")
    assert table.paths[0] == "/elsewhere/class0/00.png"
    data = pickle.dumps(table)
    assert len(data) < 1000
    for twin in (pickle.loads(data), copy.deepcopy(table)):
        np.testing.assert_array_equal(twin.embeddings, table.embeddings)
        assert twin.paths[0] == table.paths[0]


def test_a_moved_folder_of_images_is_followed(tmp_path, folder, encoder):
    EmbeddingTable.create(tmp_path / "table", folder, encoder)
    moved = folder.rename(tmp_path / "moved")
    table = EmbeddingTable.create(tmp_path / "table", moved, encoder)
    assert table.paths[0] == str(moved / "class0" / "00.png")
    assert EmbeddingTable.open(tmp_path / "table").root == moved


def test_ids_are_found_and_close_ones_suggested(tmp_path, folder, encoder):
    table = EmbeddingTable.create(tmp_path / "table", folder, encoder)
    found = table.index_of(["class2/59.png", "class0/00.png"])
    assert found.dtype == np.int64
    assert table.ids[found].tolist() == ["class2/59.png", "class0/00.png"]
    assert table.index_of([]).shape == (0,)
    with pytest.raises(InvalidInputError) as caught:
        table.index_of(["class0/00.png", "class0/00.jpg", "nothing"])
    assert str(caught.value).startswith(
        "`ids` must be among the 60 of the table; got 'class0/00.jpg' and 1 more. The closest are "
        "'class0/00.png'"
    )
    with pytest.raises(InvalidTypeError, match=r"got the string 'a'. Pass \[id\]"):
        table.index_of("a")
    with pytest.raises(InvalidTypeError, match=r"`ids` must be strings or whole numbers; got 1.5"):
        table.index_of([1.5])


def test_images_in_memory_and_datasets(tmp_path, encoder):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 9, 9), dtype=np.uint8)
    expected = encoder.encode_images(pixels)
    data = TensorDataset(torch.from_numpy(pixels)[:, None], torch.zeros(20))
    for name, images in (("arrays", pixels), ("dataset", data)):
        for _ in range(2):
            table = EmbeddingTable.create(tmp_path / name, images, encoder)
        np.testing.assert_array_equal(table.embeddings, expected)
        assert table.ids.tolist() == [str(i) for i in range(20)]
        assert set(table.paths) == {""}
        assert table.index_of([3, "4"]).tolist() == [3, 4]
    changed = pixels.copy()
    changed[7] = 0
    with pytest.raises(InvalidInputError, match=r"begun with; got 1 modified \(7\)\. Restore"):
        EmbeddingTable.create(tmp_path / "arrays", changed, encoder)
    with pytest.raises(InvalidInputError, match=r"got 5 removed \(15, 16, 17, \.\.\.\)"):
        EmbeddingTable.create(tmp_path / "dataset", TensorDataset(data.tensors[0][:15]), encoder)


def test_ids_of_the_callers_own(tmp_path, encoder):
    pixels = np.zeros((3, 9, 9), np.uint8)
    table = EmbeddingTable.create(tmp_path / "table", pixels, encoder, ids=[10, 20, 30])
    assert table.index_of([30, 10]).tolist() == [2, 0]
    with pytest.raises(InvalidInputError, match=r"must name each of the 3 images; got 2. Pass one"):
        EmbeddingTable.create(tmp_path / "b", pixels, encoder, ids=["a", "b"])
    with pytest.raises(InvalidInputError) as caught:
        EmbeddingTable.create(tmp_path / "b", pixels, encoder, ids=["a", "b", "a"])
    assert str(caught.value) == (
        "Every id must stand for one image; 1 repeated: 'a'. Leave the repeated images out, or "
        "pass distinct `ids`."
    )
    assert not (tmp_path / "b").exists()


def test_a_repeated_path_is_an_error(tmp_path, folder, encoder):
    path = str(folder / "class0" / "00.png")
    with pytest.raises(InvalidInputError, match=f"1 repeated: '{path}'"):
        EmbeddingTable.create(tmp_path / "table", [path, path], encoder)


def test_odd_names_survive(tmp_path, encoder):
    names = ['quo"te, comma.png', "new\nline.png", "ümläut.png", "NA.png", os.fsdecode(b"\xff.png")]
    (tmp_path / "odd").mkdir()
    for name in names:
        Image.new("L", (4, 4)).save(tmp_path / "odd" / name)
    table = EmbeddingTable.create(tmp_path / "table", tmp_path / "odd", encoder)
    assert sorted(table.ids) == sorted(names)
    assert all(Path(path).is_file() for path in table.paths)
    assert len(EmbeddingTable.create(tmp_path / "table", tmp_path / "odd", encoder)) == 5


def test_the_same_input_gives_the_same_bytes(tmp_path, folder, encoder):
    tables = [EmbeddingTable.create(tmp_path / name, folder, encoder) for name in ("a", "b")]
    assert files(tables[0].directory) == files(tables[1].directory)


# --- another model, other images, other things ---------------------------------------------


def test_a_table_of_another_model_is_refused(tmp_path, folder, encoder, other_encoder):
    table = EmbeddingTable.create(tmp_path / "table", folder, encoder)
    before = files(table.directory)
    with pytest.raises(ModelMismatchError) as caught:
        EmbeddingTable.create(table.directory, folder, other_encoder)
    assert str(caught.value) == (
        f"A table holds the embeddings of one model; {str(table.directory)!r} was made by "
        f"{encoder.model_id}, got {other_encoder.model_id}. Name another directory, or pass "
        "overwrite=True (`--force`) to encode all again."
    )
    assert files(table.directory) == before
    again = EmbeddingTable.create(table.directory, folder, other_encoder, overwrite=True)
    assert again.model_id == other_encoder.model_id
    np.testing.assert_array_equal(again.embeddings, other_encoder.encode_images(folder))


def test_another_precision_or_preprocessing_is_refused(tmp_path, folder, tiny, encoder):
    EmbeddingTable.create(tmp_path / "table", folder, encoder)
    lower = ClipEncoder(tiny, batch_size=8, device="cpu", precision="bf16")
    with pytest.raises(ModelMismatchError, match=r"one precision; .* made with fp32, got bf16. N"):
        EmbeddingTable.create(tmp_path / "table", folder, lower)
    copied = shutil.copytree(tiny.removeprefix("local-dir:"), tmp_path / "tiny")
    config = json.loads((copied / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["resize_mode"] = "squash"
    (copied / "open_clip_config.json").write_text(json.dumps(config))
    squash = ClipEncoder(f"local-dir:{copied}", batch_size=8, device="cpu")
    with pytest.raises(ModelMismatchError, match=r"one preprocessing; .* shortest .* squash"):
        EmbeddingTable.create(tmp_path / "table", folder, squash)
    with pytest.raises(ModelMismatchError, match="Both must have one preprocessing"):
        EmbeddingTable.open(tmp_path / "table").check_model(squash)


def test_check_model(tmp_path, folder, tiny, encoder, other_encoder):
    table = EmbeddingTable.create(tmp_path / "table", folder, encoder)
    table.check_model(encoder)
    table.check_model(encoder.model_id)
    renamed = shutil.copytree(tiny.removeprefix("local-dir:"), tmp_path / "renamed")
    table.check_model(ClipEncoder(f"local-dir:{renamed}", precision="bf16", device="cpu"))
    for model in (other_encoder, other_encoder.model_id):
        with pytest.raises(ModelMismatchError) as caught:
            table.check_model(model)
        assert str(caught.value) == (
            f"Both must come from one model; the table {str(table.directory)!r} was made by "
            f"{encoder.model_id}, got {other_encoder.model_id}. Encode with {encoder.model_id}, or "
            "make another table."
        )


def test_another_order_is_refused(tmp_path, folder, encoder):
    paths = [str(path) for path in sorted(folder.rglob("*.png"))]
    EmbeddingTable.create(tmp_path / "table", paths, encoder)
    with pytest.raises(InvalidInputError, match=r"begun with; got another order. Restore them"):
        EmbeddingTable.create(tmp_path / "table", paths[::-1], encoder)


def test_hashed_content_outlives_a_copy(tmp_path, folder, encoder):
    EmbeddingTable.create(tmp_path / "table", folder, encoder, hash_content=True)
    for path in folder.rglob("*.png"):
        os.utime(path, ns=(1, 1))
    assert len(EmbeddingTable.create(tmp_path / "table", folder, encoder)) == 60
    Image.new("L", (4, 4)).save(folder / "class0" / "00.png")
    table = EmbeddingTable.create(tmp_path / "table", folder, encoder)
    assert table.changes.changed == 1


@pytest.mark.parametrize("content", [None, "not json", '{"format": "else"}', "[]"])
def test_other_directories_are_never_touched(tmp_path, folder, encoder, content):
    target = tmp_path / "mine"
    target.mkdir()
    (target / "embeddings.npy").write_bytes(b"precious")
    if content is not None:
        (target / "meta.json").write_text(content)
    before = files(target)
    for overwrite in (False, True):
        with pytest.raises(InvalidInputError) as caught:
            EmbeddingTable.create(target, folder, encoder, overwrite=overwrite)
        assert str(caught.value) == (
            f"`directory` must be new, empty or a table of embeddings; {str(target)!r} holds other "
            "things. Name another directory."
        )
    assert files(target) == before
    with pytest.raises(InvalidInputError, match="holds other things"):
        EmbeddingTable.open(target)


def test_a_file_is_no_directory(tmp_path, folder, encoder):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInputError, match="`directory` must be new, empty or a table"):
        EmbeddingTable.create(tmp_path / "file", folder, encoder)


def test_no_table_and_damaged_tables(tmp_path, folder, encoder):
    with pytest.raises(InvalidInputError) as caught:
        EmbeddingTable.open(tmp_path / "none")
    assert str(caught.value) == (
        f"`directory` must hold a table of embeddings; found none in {str(tmp_path / 'none')!r}. "
        "Make one with `EmbeddingTable.create` or `clip-al embed`."
    )
    directory = EmbeddingTable.create(tmp_path / "table", folder, encoder).directory
    for name in ("embeddings.npy", "index.csv"):
        content = (directory / name).read_bytes()
        (directory / name).write_bytes(content[:-1])
        with pytest.raises(InvalidInputError) as caught:
            EmbeddingTable.open(directory)
        assert str(caught.value) == (
            f"{name} of the table {str(directory)!r} must have {len(content)} bytes; got "
            f"{len(content) - 1} bytes. The table is damaged: make it again with overwrite=True "
            "(`--force`)."
        )
        (directory / name).write_bytes(content)
    (directory / "index.csv").unlink()
    with pytest.raises(InvalidInputError, match=r"bytes; got no such file. The table is damaged"):
        EmbeddingTable.open(directory)
    meta = json.loads((directory / "meta.json").read_text())
    (directory / "meta.json").write_text(json.dumps({**meta, "format_version": 99}))
    with pytest.raises(InvalidInputError, match=r"of format 1 or older; .* has 99, .* Update clip"):
        EmbeddingTable.open(directory)


# --- unreadable images ---------------------------------------------------------------------


def test_unreadable_images_can_be_accepted_without_encoding_again(
    tmp_path, damaged, encoder, monkeypatch
):
    with pytest.raises(UnreadableImageError) as caught:
        EmbeddingTable.create(tmp_path / "table", damaged, encoder)
    assert caught.value.failures == [
        (str(damaged / "class0/00.png"), "the file is empty"),
        (str(damaged / "class1/22.png"), "not an image that Pillow can read"),
        (str(damaged / "class2/59.png"), caught.value.failures[2][1]),
    ]
    assert str(caught.value).endswith(
        f"All others are safe in {str(tmp_path / 'table')!r}. To have the table without these, run "
        'again with errors="skip" (`--skip-unreadable`): nothing is encoded a second time. Or '
        "repair them and run again: only these are encoded."
    )
    with pytest.raises(InvalidInputError) as unfinished:
        EmbeddingTable.open(tmp_path / "table")
    assert str(unfinished.value) == (
        f"A table must be finished before it is opened; {str(tmp_path / 'table')!r} has 60 of 60 "
        "images done, 3 of them unreadable. Run the same `EmbeddingTable.create` or `clip-al "
        "embed` again to finish it."
    )
    with monkeypatch.context() as patch:
        patch.setattr(ClipEncoder, "iter_embeddings", None)
        with pytest.warns(SkippedImagesWarning, match="3 are not: .* not in the table; see .*csv"):
            table = EmbeddingTable.create(tmp_path / "table", damaged, encoder, errors="skip")
    with pytest.warns(SkippedImagesWarning):
        expected = encoder.encode_images(damaged, errors="skip")
    np.testing.assert_array_equal(table.embeddings, expected[np.isfinite(expected[:, 0])])
    assert len(table) == 57
    assert not set(BAD) & set(table.ids)
    skipped = (tmp_path / "table" / "skipped.csv").read_text().splitlines()
    assert skipped[0] == "position,id,path,size,mtime_ns,sha256,reason"
    assert skipped[1].startswith("0,class0/00.png,class0/00.png,0,")
    assert skipped[1].endswith(",,the file is empty")
    assert [line.split(",")[0] for line in skipped[1:]] == ["0", "27", "59"]


def test_a_finished_table_goes_on_reporting_what_it_skipped(tmp_path, damaged, encoder):
    for _ in range(2):
        with pytest.warns(SkippedImagesWarning, match="3 are not") as caught:
            EmbeddingTable.create(tmp_path / "table", damaged, encoder, errors="skip")
        assert caught[0].filename == __file__
    with pytest.raises(UnreadableImageError, match="All others are safe"):
        EmbeddingTable.create(tmp_path / "table", damaged, encoder)
    (damaged / "class0" / "00.png").write_bytes(b"repaired")
    with pytest.warns(SkippedImagesWarning, match="3 are not"):  # tried again
        EmbeddingTable.create(tmp_path / "table", damaged, encoder, errors="skip")


def test_a_table_of_unreadable_images_alone_is_not_made(tmp_path, encoder):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_text("text")
    with pytest.raises(UnreadableImageError, match="None could be read, so there is no table"):
        EmbeddingTable.create(tmp_path / "table", tmp_path / "images", encoder, errors="skip")


def test_a_missing_path_in_a_list_is_skipped(tmp_path, folder, encoder):
    paths = [str(folder / "class0" / "00.png"), str(folder / "none.png")]
    with pytest.warns(SkippedImagesWarning, match="none.png .no such file"):
        table = EmbeddingTable.create(tmp_path / "table", paths, encoder, errors="skip")
    assert table.ids.tolist() == paths[:1]


# --- interruption --------------------------------------------------------------------------


def create(directory, folder, encoder):
    with pytest.warns(SkippedImagesWarning):
        return EmbeddingTable.create(directory, folder, encoder, errors="skip")


def test_an_interrupted_run_encodes_only_the_rest(tmp_path, damaged, encoder, tiny, monkeypatch):
    whole = files(create(tmp_path / "whole", damaged, encoder).directory)
    interrupt(monkeypatch, tmp_path / "table", damaged, encoder, after=3)
    with pytest.raises(InvalidInputError, match="has 24 of 60 images done, 1 of them unreadable"):
        EmbeddingTable.open(tmp_path / "table")
    starts, batches = [], ClipEncoder.iter_embeddings

    def watched(self, *args, **kwargs):
        starts.append((kwargs["start"], kwargs["batch_size"]))
        return batches(self, *args, **kwargs)

    monkeypatch.setattr(ClipEncoder, "iter_embeddings", watched)
    create(tmp_path / "table", damaged, ClipEncoder(tiny, batch_size=5, device="cpu"))
    assert starts == [(24, 8)]
    assert files(tmp_path / "table") == whole


def test_death_at_any_step_leaves_a_table_that_can_be_finished(
    tmp_path, damaged, encoder, monkeypatch
):
    """Let every call that changes a file be the last one, in turn."""
    monkeypatch.setattr(table_files, "CHECKPOINT_S", 0.0)
    images = [*sorted(damaged.rglob("*.png"))[:18], damaged / "class2" / "59.png"]
    whole = files(create(tmp_path / "whole", images, encoder).directory)
    step = 0
    while True:
        step += 1
        with monkeypatch.context() as patch:
            let_die(patch, step)
            try:
                with pytest.warns(SkippedImagesWarning):
                    EmbeddingTable.create(tmp_path / "t", images, encoder, errors="skip")
                break
            except Killed:
                pass
        create(tmp_path / "t", images, encoder)
        assert files(tmp_path / "t") == whole, step
        shutil.rmtree(tmp_path / "t")
    assert step > 20


@pytest.mark.parametrize("overwritten", ["finished", "unfinished"])
def test_death_while_overwriting_never_mixes_two_models(
    tmp_path, folder, encoder, other_encoder, monkeypatch, overwritten
):
    monkeypatch.setattr(table_files, "CHECKPOINT_S", 0.0)
    images = sorted(folder.rglob("*.png"))[:20]
    expected = {e.model_id: e.encode_images(images) for e in (encoder, other_encoder)}
    for step in range(1, 10):
        shutil.rmtree(tmp_path / "t", ignore_errors=True)
        if overwritten == "finished":
            EmbeddingTable.create(tmp_path / "t", images, encoder)
        else:
            interrupt(monkeypatch, tmp_path / "t", images, encoder, after=2)
        with monkeypatch.context() as patch:
            let_die(patch, step)
            with pytest.raises(Killed):
                EmbeddingTable.create(tmp_path / "t", images, other_encoder, overwrite=True)
        try:
            table = EmbeddingTable.create(tmp_path / "t", images, encoder)
        except ModelMismatchError:
            table = EmbeddingTable.create(tmp_path / "t", images, other_encoder)
        np.testing.assert_array_equal(table.embeddings, expected[table.model_id])


@pytest.mark.parametrize(
    "harm",
    [
        lambda t: cut(t / "progress.jsonl", 5),
        lambda t: cut(t / "progress.jsonl", 10**6),
        lambda t: cut(t / "embeddings.npy", 1),
        lambda t: cut(t / "embeddings.npy", 64 * 9),
        lambda t: cut(t / "embeddings.npy", 10**6),
        lambda t: (t / "embeddings.npy").unlink(),
        lambda t: (t / "progress.jsonl").unlink(),
        lambda t: (t / "progress.jsonl").open("ab").write(b'{"done": 48, "ro'),
        lambda t: (t / "progress.jsonl").open("ab").write(b"\0\0\0\0\n"),
        lambda t: (t / "embeddings.npy").open("ab").write(b"half a batch"),
        lambda t: (t / "images.csv").rename(t / "images.csv.tmp"),
    ],
)
def test_torn_files_cost_no_more_than_what_they_held(tmp_path, damaged, encoder, monkeypatch, harm):
    monkeypatch.setattr(table_files, "CHECKPOINT_S", 0.0)
    whole = files(create(tmp_path / "whole", damaged, encoder).directory)
    interrupt(monkeypatch, tmp_path / "table", damaged, encoder, after=5)
    harm(tmp_path / "table")
    create(tmp_path / "table", damaged, encoder)
    assert files(tmp_path / "table") == whole


def cut(file, n_bytes):
    content = file.read_bytes()
    file.write_bytes(content[: max(0, len(content) - n_bytes)])


SLOW = """
import sys, time, torch
import clip_al, clip_al.table.files
torch.set_num_threads(1)
clip_al.table.files.CHECKPOINT_S = 0.0
batches = clip_al.ClipEncoder.iter_embeddings
def slow(self, *args, **kwargs):
    for batch in batches(self, *args, **kwargs):
        yield batch
        time.sleep(0.3)
clip_al.ClipEncoder.iter_embeddings = slow
model, table, folder = sys.argv[1:]
encoder = clip_al.ClipEncoder(model, batch_size=8, device="cpu", n_workers=1)
clip_al.EmbeddingTable.create(table, folder, encoder, errors="skip")
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process_is_continued_to_the_same_bytes(tmp_path, damaged, encoder, tiny):
    whole = files(create(tmp_path / "whole", damaged, encoder).directory)
    table = tmp_path / "table"
    log = table / "progress.jsonl"
    run = subprocess.Popen([sys.executable, "-c", SLOW, tiny, str(table), str(damaged)])
    try:
        wait_for(lambda: log.is_file() and log.read_bytes().count(b"\n") >= 2)
        with pytest.raises(InvalidInputError) as busy:
            EmbeddingTable.create(table, damaged, encoder, errors="skip")
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert str(busy.value) == (
        f"One process at a time can write a table; another is writing {str(table)!r}. Wait for it, "
        "or name another directory."
    )
    done = json.loads(log.read_text().splitlines()[-1])["done"]
    assert 0 < done < N_IMAGES
    with pytest.raises(InvalidInputError, match=f"has {done} of 60 images done"):
        EmbeddingTable.open(table)
    create(table, damaged, encoder)
    assert files(table) == whole


# --- embeddings from elsewhere -------------------------------------------------------------


def test_from_array(tmp_path):
    Z = np.random.default_rng(0).normal(size=(7, 4))
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    table = EmbeddingTable.from_array(tmp_path / "a", Z, model_id="mine", preprocessing="none")
    np.testing.assert_array_equal(table.embeddings, Z.astype(np.float32))
    assert table.ids.tolist() == list("0123456")
    assert (table.model_id, table.key["preprocessing"]) == ("mine", "none")
    table.check_model("mine")
    with pytest.raises(ModelMismatchError, match="made by mine, got yours"):
        table.check_model("yours")
    assert sorted(files(table.directory)) == ["embeddings.npy", "index.csv", "meta.json"]
    paths = [f"/data/{i}.png" for i in range(7)]
    half = EmbeddingTable.from_array(
        tmp_path / "b", Z, paths=paths, model_id="mine", dtype="float16"
    )
    assert half.ids.tolist() == half.paths.tolist() == paths
    assert half.root == Path("/data")
    np.testing.assert_array_equal(half.embeddings, Z.astype(np.float16))
    again = EmbeddingTable.from_array(tmp_path / "b", table, model_id="mine", overwrite=True)
    np.testing.assert_array_equal(again.embeddings, table.embeddings)


def test_from_array_writes_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings_module, "block_rows", lambda d: 3)
    Z = np.eye(7)
    table = EmbeddingTable.from_array(tmp_path / "a", Z, model_id="mine")
    np.testing.assert_array_equal(table.embeddings, Z)


@pytest.mark.parametrize(
    ("Z", "extra", "message"),
    [
        (np.eye(3) * 2, {}, "`Z` must have rows of unit length; row 0 has length 2. Pass Z / np"),
        (np.full((2, 2), np.nan), {}, "`Z` must be finite; row 0, 1 holds NaN"),
        (np.eye(3), {"ids": ["a", "b"]}, "`ids` must name each of the 3 images; got 2"),
        (np.eye(3), {"ids": ["a", "b", "b"]}, "1 repeated: 'b'"),
        (np.eye(3), {"paths": ["a", "b"]}, "`paths` must name each of the 3 rows; got 2"),
    ],
)
def test_from_array_checks(tmp_path, Z, extra, message):
    with pytest.raises(InvalidInputError, match=message):
        EmbeddingTable.from_array(tmp_path / "a", Z, model_id="mine", **extra)
    assert not (tmp_path / "a").exists()


def test_from_array_does_not_overwrite_unasked(tmp_path, folder, encoder):
    EmbeddingTable.from_array(tmp_path / "a", np.eye(3), model_id="mine")
    with pytest.raises(InvalidInputError) as caught:
        EmbeddingTable.from_array(tmp_path / "a", np.eye(3), model_id="mine")
    assert str(caught.value) == (
        f"`directory` must be new or empty; {str(tmp_path / 'a')!r} holds a table. Name another, "
        "or pass overwrite=True to replace it."
    )
    with pytest.raises(ModelMismatchError, match="was made by mine, got local-dir:tiny@"):
        EmbeddingTable.create(tmp_path / "a", folder, encoder)


# --- ids that files must hold --------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\rb", "\r", "a\r\nb", '\r"', "x" * 100_000, "ünï\udcff", ","])
def test_odd_ids_are_given_back(tmp_path, encoder, name):
    pixels = np.zeros((2, 9, 9), np.uint8)
    for table in (
        EmbeddingTable.create(tmp_path / "a", pixels, encoder, ids=["first", name]),
        EmbeddingTable.create(tmp_path / "a", pixels, encoder, ids=["first", name]),
        EmbeddingTable.from_array(tmp_path / "b", np.eye(2), ["first", name], model_id="toy"),
    ):
        assert table.ids.tolist() == ["first", name]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("x" * 200_000, "has 200,000 characters, more than 100,000. Shorten"),
        ("a\0b", "has a null character"),
        ("a\ud800", "has half of a surrogate pair"),
        ("\udcc3\udca9", "has half of a surrogate pair"),  # would come back as é
    ],
)
def test_ids_that_no_file_gives_back_are_refused_at_once(tmp_path, encoder, name, problem):
    with pytest.raises(InvalidInputError, match=f"the id at position 1, .*{problem}"):
        EmbeddingTable.create(
            tmp_path / "a", np.zeros((2, 9, 9), np.uint8), encoder, ids=["first", name]
        )
    with pytest.raises(InvalidInputError, match=problem):
        EmbeddingTable.from_array(tmp_path / "b", np.eye(2), ["first", name], model_id="toy")
    assert list(tmp_path.iterdir()) == []
