"""Images in tar shards and behind URLs: the rows of their files, and tables that follow them."""

from __future__ import annotations

import io
import sys
import tarfile

import fsspec
import numpy as np
import pytest
import webdataset
from PIL import Image

from clip_al import EmbeddingTable
from clip_al.errors import InvalidInputError, MissingDependencyError, UnreadableImageError
from clip_al.images.find_source import find_source
from clip_al.images.remote import remote_folder
from clip_al.images.tar_shards import tar_source

N = 6


def png(seed):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def write_shard(path, seeds):
    with webdataset.TarWriter(str(path)) as writer:
        for seed in seeds:
            writer.write({"__key__": f"{seed:04d}", "png": png(seed), "cls": seed % 3})


@pytest.fixture
def files(tmp_path):
    """The same images as files."""
    (tmp_path / "files").mkdir()
    for seed in range(N):
        (tmp_path / "files" / f"{seed:04d}.png").write_bytes(png(seed))
    return tmp_path / "files"


@pytest.fixture
def shards(tmp_path):
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path / "shards" / "a-0.tar", range(4))
    write_shard(tmp_path / "shards" / "a-1.tar", range(4, N))
    return tmp_path / "shards"


@pytest.fixture
def bucket(files):
    """The same images in a file system in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    for path in files.iterdir():
        system.pipe(f"/bucket/photos/in/{path.name}", path.read_bytes())
    system.pipe("/bucket/photos/notes.txt", b"no image")
    system.pipe("/bucket/photos/.hidden.png", png(0))
    yield system
    system.store.clear()


IDS = [*(f"a-0.tar/{i:04d}.png" for i in range(4)), *(f"a-1.tar/{i:04d}.png" for i in (4, 5))]


def test_members_are_what_webdataset_reads(shards):
    source = tar_source(str(shards / "*.tar"))
    assert source.ids == IDS
    urls = sorted(map(str, shards.glob("*.tar")))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [item.read() for item in source.items] == [sample["png"] for sample in samples]
    assert [name[-8:-4] for name in source.ids] == [sample["__key__"] for sample in samples]


def test_shards_give_the_rows_of_their_files(shards, files, tmp_path, encoder):
    table = EmbeddingTable.create(tmp_path / "t", str(shards / "*.tar"), encoder)
    plain = EmbeddingTable.create(tmp_path / "u", files, encoder)
    np.testing.assert_array_equal(table.embeddings, plain.embeddings)
    assert table.ids.tolist() == IDS
    assert table.paths.tolist() == [""] * N


def test_a_table_follows_its_shards(shards, tmp_path, encoder):
    pattern = str(shards / "*.tar")
    table = EmbeddingTable.create(tmp_path / "t", pattern, encoder)
    before = np.array(table.embeddings)
    again = EmbeddingTable.create(tmp_path / "t", pattern, encoder)
    assert again.changes == (0, 0, 0, 0)
    write_shard(shards / "a-2.tar", range(20, 23))
    grown = EmbeddingTable.create(tmp_path / "t", pattern, encoder)
    assert grown.changes.encoded == 3
    np.testing.assert_array_equal(grown.embeddings[:N], before)
    (shards / "a-0.tar").unlink()
    less = EmbeddingTable.create(tmp_path / "t", pattern, encoder)
    assert less.gone.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(less.embeddings, grown.embeddings)


def test_an_unreadable_member_is_named(shards, tmp_path, encoder):
    with webdataset.TarWriter(str(shards / "b.tar")) as writer:
        writer.write({"__key__": "bad", "png": b"no picture"})
    with pytest.raises(UnreadableImageError, match=r"b\.tar/bad\.png \(not an image"):
        EmbeddingTable.create(tmp_path / "t", str(shards / "*.tar"), encoder)


def test_archives_that_cannot_be_read_in_place_are_refused(tmp_path):
    with tarfile.open(tmp_path / "z.tar", "w:gz") as archive:
        archive.add(__file__, "x.png")
    with pytest.raises(InvalidInputError, match="whole and not compressed"):
        tar_source(str(tmp_path / "z.tar"))
    with pytest.raises(InvalidInputError, match="matches none"):
        tar_source(str(tmp_path / "none*.tar"))
    with tarfile.open(tmp_path / "e.tar", "w") as archive:
        archive.add(__file__, "x.py")
    with pytest.raises(InvalidInputError, match="found none in the 1 shards"):
        tar_source(str(tmp_path / "e.tar"))


def test_a_folder_behind_a_url(bucket, files, tmp_path, encoder):
    table = EmbeddingTable.create(tmp_path / "t", "memory://bucket/photos", encoder)
    plain = EmbeddingTable.create(tmp_path / "u", files, encoder)
    np.testing.assert_array_equal(table.embeddings, plain.embeddings)
    assert table.ids.tolist() == [f"in/{i:04d}.png" for i in range(N)]
    bucket.pipe("/bucket/photos/in/9.png", png(9))
    bucket.pipe("/bucket/photos/in/0000.png", png(77))
    after = EmbeddingTable.create(tmp_path / "t", "memory://bucket/photos", encoder)
    assert after.changes == (1, 1, 0, 0)
    assert after.ids[-1] == "in/9.png"


def test_files_behind_a_url_of_this_machine_and_workers(files, tmp_path, encoder):
    source = remote_folder(f"file://{files}")
    assert source.ids == [f"{i:04d}.png" for i in range(N)]
    encoder.n_workers = 2
    try:
        table = EmbeddingTable.create(tmp_path / "t", f"file://{files}", encoder)
    finally:
        encoder.n_workers = None
    plain = EmbeddingTable.create(tmp_path / "u", files, encoder)
    np.testing.assert_array_equal(table.embeddings, plain.embeddings)


def test_a_list_of_urls(bucket, files, tmp_path, encoder):
    urls = [f"memory://bucket/photos/in/{i:04d}.png" for i in (3, 1)]
    table = EmbeddingTable.create(tmp_path / "t", urls, encoder, ids=["x", "y"])
    plain = EmbeddingTable.create(tmp_path / "u", files, encoder)
    np.testing.assert_allclose(table.embeddings, plain.embeddings[[3, 1]], atol=1e-6)
    hashed = EmbeddingTable.create(tmp_path / "v", urls, encoder, hash_content=True)
    bucket.pipe("/bucket/photos/in/0001.png", png(77))
    again = EmbeddingTable.create(tmp_path / "v", urls, encoder)
    assert again.changes.changed == 1
    assert len(hashed) == 2


def test_urls_that_cannot_be_read_say_why(bucket, monkeypatch):
    with pytest.raises(InvalidInputError, match="found none below memory://bucket/nothing"):
        find_source("memory://bucket/nothing")
    with pytest.raises(InvalidInputError, match=r"nonsense:// must be|must be an address"):
        find_source("nonsense://bucket/photos")
    for protocol, package in (("s3", "s3fs"), ("gs", "gcsfs")):
        monkeypatch.setitem(sys.modules, package, None)
        extra = package.removesuffix("fs")
        with pytest.raises(MissingDependencyError, match=rf"needs {package}.*clip_al\[{extra}\]"):
            find_source(f"{protocol}://bucket/photos")
