"""A table follows its folder: new images get rows, gone ones keep theirs, ids never move."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

import clip_al.table.files as table_files
from clip_al import ClipEncoder, EmbeddingTable
from clip_al.errors import InvalidInputError, SkippedImagesWarning, UnreadableImageError
from clip_al.table.shards import encode_shard
from tests.table.deaths import Killed, files, interrupt, let_die


def write_images(folder, numbers):
    folder.mkdir(exist_ok=True)
    for i in numbers:
        pixels = np.random.default_rng(i).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        # Names in another order than they come in.
        Image.fromarray(pixels).save(folder / f"{i * 7 % 100:02}.png")
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "images", range(20))


def rows_by_id(table):
    return dict(zip(table.ids, np.array(table.embeddings), strict=True))


def count_encoded(monkeypatch):
    """Return a list that grows by the number of images of each batch that is encoded."""
    encoded, batches = [], ClipEncoder.iter_embeddings

    def watched(self, *args, **kwargs):
        for batch in batches(self, *args, **kwargs):
            encoded.append(len(batch.embeddings))
            yield batch

    monkeypatch.setattr(ClipEncoder, "iter_embeddings", watched)
    return encoded


def test_a_folder_that_grows_three_times_gives_the_rows_of_one_embedded_at_once(
    tmp_path, folder, encoder, monkeypatch
):
    table = EmbeddingTable.create(tmp_path / "t", folder, encoder)
    assert table.changes == (20, 0, 0, 0)
    for stop in (33, 34, 50):
        before = table
        ids, rows = before.ids.tolist(), np.array(before.embeddings)
        n_new = stop - len(before)
        write_images(folder, range(len(before), stop))
        with monkeypatch.context() as patch:
            encoded = count_encoded(patch)
            table = EmbeddingTable.create(tmp_path / "t", folder, encoder)
        assert sum(encoded) == n_new
        assert table.changes == (n_new, 0, 0, 0)
        assert table.ids[: len(ids)].tolist() == ids
        np.testing.assert_array_equal(table[: len(ids)], rows)
    once = EmbeddingTable.create(tmp_path / "once", folder, encoder)
    grown, whole = rows_by_id(table), rows_by_id(once)
    assert grown.keys() == whole.keys()
    for name, row in whole.items():
        np.testing.assert_allclose(grown[name], row, atol=1e-6)
    assert dict(zip(table.ids, table.paths, strict=True)) == dict(
        zip(once.ids, once.paths, strict=True)
    )
    assert sorted(files(tmp_path / "t")) == ["embeddings.npy", "index.csv", "meta.json"]
    before = files(tmp_path / "t")
    assert EmbeddingTable.create(tmp_path / "t", folder, encoder).changes == (0, 0, 0, 0)
    assert files(tmp_path / "t") == before


def test_gone_images_keep_their_rows_and_are_marked(tmp_path, folder, encoder):
    table = EmbeddingTable.create(tmp_path / "t", folder, encoder)
    assert table.gone.tolist() == []
    ids, rows = table.ids.tolist(), np.array(table.embeddings)
    kept = (folder / ids[3]).read_bytes(), (folder / ids[3]).stat().st_mtime_ns
    for row in (3, 7):
        (folder / ids[row]).unlink()
    table = EmbeddingTable.create(tmp_path / "t", folder, encoder)
    assert table.gone.tolist() == [3, 7]
    assert table.changes == (0, 0, 0, 2)
    write_images(folder, range(20, 25))
    table = EmbeddingTable.create(tmp_path / "t", folder, encoder)
    assert (len(table), table.gone.tolist(), table.changes) == (25, [3, 7], (5, 0, 0, 2))
    assert table.ids[:20].tolist() == ids
    np.testing.assert_array_equal(table[:20], rows)
    (folder / ids[3]).write_bytes(kept[0])  # back again
    os.utime(folder / ids[3], ns=(kept[1], kept[1]))
    table = EmbeddingTable.create(tmp_path / "t", folder, encoder)
    assert (table.gone.tolist(), table.changes) == ([7], (0, 0, 0, 1))
    assert EmbeddingTable.open(tmp_path / "t").gone.tolist() == [7]


def test_changed_images_are_encoded_again_in_their_rows(tmp_path, folder, encoder, monkeypatch):
    table = EmbeddingTable.create(tmp_path / "t", folder, encoder)
    ids, rows = table.ids.tolist(), np.array(table.embeddings)
    Image.new("RGB", (20, 20), "red").save(folder / ids[4])
    encoded = count_encoded(monkeypatch)
    table = EmbeddingTable.create(tmp_path / "t", folder, encoder)
    assert (encoded, table.changes) == ([1], (0, 1, 0, 0))
    assert table.ids.tolist() == ids
    others = np.arange(20) != 4
    np.testing.assert_array_equal(table[others], rows[others])
    np.testing.assert_allclose(table[4], encoder.encode_images([folder / ids[4]])[0], atol=1e-6)


def test_a_changed_image_that_cannot_be_read_keeps_its_row_as_gone(tmp_path, folder, encoder):
    table = EmbeddingTable.create(tmp_path / "t", folder, encoder)
    ids, rows = table.ids.tolist(), np.array(table.embeddings)
    (folder / ids[4]).write_text("text")
    write_images(folder, range(20, 22))
    with pytest.raises(UnreadableImageError, match=f"1 is not: .*{ids[4]}"):
        EmbeddingTable.create(tmp_path / "t", folder, encoder)
    assert len(EmbeddingTable.open(tmp_path / "t")) == 20  # readable as it was
    with pytest.warns(SkippedImagesWarning, match="1 is not"):
        table = EmbeddingTable.create(tmp_path / "t", folder, encoder, errors="skip")
    assert (len(table), table.gone.tolist()) == (22, [4])
    np.testing.assert_array_equal(table[:20], rows)


def test_skipped_images_stay_skipped_until_they_change(tmp_path, folder, encoder, monkeypatch):
    bad = sorted(folder.iterdir())[5]
    good = bad.read_bytes()
    bad.write_text("text")
    with pytest.warns(SkippedImagesWarning):
        table = EmbeddingTable.create(tmp_path / "t", folder, encoder, errors="skip")
    write_images(folder, range(20, 24))
    encoded = count_encoded(monkeypatch)
    with pytest.warns(SkippedImagesWarning, match="1 is not"):
        table = EmbeddingTable.create(tmp_path / "t", folder, encoder, errors="skip")
    assert (encoded, len(table)) == ([4], 23)
    assert (tmp_path / "t" / "skipped.csv").read_text().count(bad.name) == 2  # id and path
    bad.write_bytes(good)
    table = EmbeddingTable.create(tmp_path / "t", folder, encoder)
    assert (len(table), table.ids[-1]) == (24, bad.name)
    assert not (tmp_path / "t" / "skipped.csv").exists()
    np.testing.assert_allclose(table[-1], encoder.encode_images([bad])[0], atol=1e-6)


def test_repaired_images_are_all_that_is_encoded_again(tmp_path, folder, encoder, monkeypatch):
    bad = sorted(folder.iterdir())[5]
    good = bad.read_bytes()
    bad.write_text("text")
    with pytest.raises(UnreadableImageError, match="Or repair them and run again: only these"):
        EmbeddingTable.create(tmp_path / "t", folder, encoder)
    bad.write_bytes(good)
    encoded = count_encoded(monkeypatch)
    table = EmbeddingTable.create(tmp_path / "t", folder, encoder)
    assert (encoded, len(table)) == ([1], 20)


def test_a_folder_may_change_before_a_table_is_finished(tmp_path, folder, encoder, monkeypatch):
    interrupt(monkeypatch, tmp_path / "t", folder, encoder, after=1)  # 8 are done
    names = sorted(path.name for path in folder.iterdir())
    (folder / names[2]).unlink()
    (folder / names[15]).unlink()
    Image.new("RGB", (9, 9), "red").save(folder / names[4])
    write_images(folder, range(20, 26))
    with monkeypatch.context() as patch:
        encoded = count_encoded(patch)
        table = EmbeddingTable.create(tmp_path / "t", folder, encoder)
    assert sum(encoded) == (20 - 8 - 1 + 6) + 1
    assert table.ids[:8].tolist() == names[:8]
    assert table.gone.tolist() == [2]
    assert sorted(table.ids) == sorted([*(p.name for p in folder.iterdir()), names[2]])
    for name, row in rows_by_id(table).items():
        if name != names[2]:
            expected = encoder.encode_images([folder / name])[0]
            np.testing.assert_allclose(row, expected, atol=1e-6)


def test_death_at_any_step_of_growth_leaves_a_table(tmp_path, folder, encoder, monkeypatch):
    monkeypatch.setattr(table_files, "CHECKPOINT_S", 0.0)
    EmbeddingTable.create(tmp_path / "before", folder, encoder)
    names = sorted(path.name for path in folder.iterdir())
    (folder / names[2]).unlink()
    Image.new("RGB", (9, 9), "red").save(folder / names[4])
    write_images(folder, range(20, 30))
    shutil.copytree(tmp_path / "before", tmp_path / "whole")
    whole = files(EmbeddingTable.create(tmp_path / "whole", folder, encoder).directory)
    step = 0
    while True:
        step += 1
        shutil.rmtree(tmp_path / "t", ignore_errors=True)
        shutil.copytree(tmp_path / "before", tmp_path / "t")
        with monkeypatch.context() as patch:
            let_die(patch, step)
            try:
                EmbeddingTable.create(tmp_path / "t", folder, encoder)
                break
            except Killed:
                pass
        assert len(EmbeddingTable.open(tmp_path / "t")) in (20, 30)  # the old one or the new one
        EmbeddingTable.create(tmp_path / "t", folder, encoder)
        assert files(tmp_path / "t") == whole, step
    assert step > 15


def test_an_interrupted_growth_goes_on(tmp_path, folder, encoder, monkeypatch):
    monkeypatch.setattr(table_files, "CHECKPOINT_S", 0.0)
    EmbeddingTable.create(tmp_path / "t", folder, encoder)
    write_images(folder, range(20, 50))
    interrupt(monkeypatch, tmp_path / "t", folder, encoder, after=2)
    assert len(EmbeddingTable.open(tmp_path / "t")) == 20
    encoded = count_encoded(monkeypatch)
    assert len(EmbeddingTable.create(tmp_path / "t", folder, encoder)) == 50
    assert sum(encoded) == 30 - 2 * 8


def test_a_list_of_paths_grows_at_its_end_only(tmp_path, folder, encoder):
    paths = sorted(map(str, folder.iterdir()))
    EmbeddingTable.create(tmp_path / "t", paths[:12], encoder)
    table = EmbeddingTable.create(tmp_path / "t", paths, encoder)
    assert (table.ids.tolist(), table.changes.encoded) == (paths, 8)
    for other in (paths[1:], paths[::-1], ["new.png", *paths]):
        with pytest.raises(InvalidInputError, match="The images must be those that the table"):
            EmbeddingTable.create(tmp_path / "t", other, encoder)


def test_images_in_memory_do_not_grow(tmp_path, encoder):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 9), dtype=np.uint8)
    EmbeddingTable.create(tmp_path / "t", pixels[:4], encoder)
    with pytest.raises(InvalidInputError, match=r"2 added \(4, 5\)"):
        EmbeddingTable.create(tmp_path / "t", pixels, encoder)


def test_the_first_rank_follows_the_folder(tmp_path, folder, encoder):
    EmbeddingTable.create(tmp_path / "t", folder, encoder)
    write_images(folder, range(20, 22))
    assert encode_shard(tmp_path / "t", folder, encoder, rank=1, world_size=2) is None
    assert len(encode_shard(tmp_path / "t", folder, encoder, rank=0, world_size=2)) == 22
    assert len(encode_shard(tmp_path / "t", folder, encoder, rank=1, world_size=2)) == 22


def test_old_rows_never_mix_with_upright_ones(tmp_path, folder, encoder):
    """A table of 0.1.0, whose key does not name the rules by which images were read."""
    table = EmbeddingTable.create(tmp_path / "t", folder, encoder)
    meta = table_files.read_meta(tmp_path / "t")
    for name in ("checksums", "sha256"):
        meta.pop(name)
    meta["key"]["preprocessing"] = meta["key"]["preprocessing"].removesuffix(" reading=2")
    table_files.write_meta(tmp_path / "t", meta)
    old = EmbeddingTable.open(tmp_path / "t")
    np.testing.assert_array_equal(old[:], table[:])
    old.check_model(encoder)  # texts fit
    write_images(folder, range(20, 22))
    with pytest.raises(InvalidInputError) as caught:
        EmbeddingTable.create(tmp_path / "t", folder, encoder)
    message = str(caught.value)
    assert "photos as they lie, whatever their EXIF orientation" in message
    assert "It can still be opened and selected from" in message
    assert message.endswith("or pass overwrite=True (`--force`) to encode all again.")
    assert len(EmbeddingTable.open(tmp_path / "t")) == 20
