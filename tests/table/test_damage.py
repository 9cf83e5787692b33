"""Every damaged bit of a table is noticed, named, and encoded again without the rest."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import clip_al.table.checksums as table_checksums
import clip_al.table.files as table_files
from clip_al import EmbeddingTable
from clip_al.cli.main import app
from clip_al.errors import InvalidInputError, UnreadableImageError
from clip_al.table.checksums import check_table
from tests.table.deaths import files
from tests.table.test_growth import count_encoded

N_IMAGES, HEADER, ROW = 48, 128, 64


@pytest.fixture
def blocks_of_eight(monkeypatch):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 8 * ROW)


@pytest.fixture
def table(tmp_path, folder, encoder, blocks_of_eight):
    return EmbeddingTable.create(tmp_path / "t", folder, encoder).directory


def flip(file, position, bit=0):
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(content)


def check(table, *options):
    return CliRunner().invoke(app, ["check", str(table), *options])


def test_a_whole_table_is_as_it_was_written(table):
    done = check(table)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{table}: 48 images, all as they were written\n"
    assert json.loads(check(table, "--json").stdout) == {
        "table": str(table), "complete": True, "checksums": True, "images": 48, "damaged": [],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["embeddings.npy", "index.csv", "meta.json"])
def test_any_flipped_bit_is_noticed_on_open_and_by_check(table, name):
    rng = np.random.default_rng(0)
    content = (table / name).read_bytes()
    for position in rng.integers(0, len(content), 40):
        flip(table / name, position, rng.integers(8))
        with pytest.raises(InvalidInputError):
            EmbeddingTable.open(table)
        assert check(table).exit_code == 2
        (table / name).write_bytes(content)
    assert check(table).exit_code == 0


def test_another_width_in_the_header_is_noticed(table):
    content = (table / "embeddings.npy").read_bytes()
    assert b"(48, 16)" in content
    (table / "embeddings.npy").write_bytes(content.replace(b"(48, 16)", b"(96, 8) "))
    with pytest.raises(InvalidInputError, match=r"embeddings.npy does not begin as the array of"):
        EmbeddingTable.open(table)
    assert "does not begin as the array" in check(table).output


def test_a_large_table_is_not_read_whole_on_open(table, monkeypatch):
    monkeypatch.setattr(table_checksums, "CHECKED_ON_OPEN", 100)
    flip(table / "embeddings.npy", HEADER + 20 * ROW)
    EmbeddingTable.open(table)
    done = check(table)
    assert done.exit_code == 2
    assert "1 block of its rows is not what was written (16 to 23)" in " ".join(done.output.split())
    flip(table / "index.csv", 300)
    opened = EmbeddingTable.open(table)
    with pytest.raises(InvalidInputError, match=r"index.csv was edited or is damaged"):
        opened.ids  # noqa: B018


@pytest.mark.parametrize("part", ["rows", "end of the rows", "header", "line", "id", "order"])
def test_only_the_damaged_part_is_encoded_again(table, folder, encoder, monkeypatch, part):
    whole = files(table)
    if part == "rows":
        flip(table / "embeddings.npy", HEADER + 20 * ROW, 6)
    elif part == "end of the rows":
        (table / "embeddings.npy").write_bytes(whole["embeddings.npy"][: -9 * ROW])
    elif part == "header":
        flip(table / "embeddings.npy", 70)
    elif part == "order":
        lines = whole["index.csv"].splitlines(keepends=True)
        (table / "index.csv").write_bytes(b"".join([*lines[:5], lines[6], lines[5], *lines[7:]]))
    else:
        at = whole["index.csv"].index(b"17.png" if part == "id" else b"16.png,16.png,") + 1
        flip(table / "index.csv", at)
    encoded = count_encoded(monkeypatch)
    again = EmbeddingTable.create(table, folder, encoder)
    assert sum(encoded) == {"rows": 8, "end of the rows": 16}.get(part, 0)
    assert again.changes.repaired == sum(encoded)
    rows = np.load(table / "embeddings.npy")
    np.testing.assert_allclose(rows, encoder.encode_images(folder), atol=1e-6)
    assert (table / "index.csv").read_bytes() == whole["index.csv"]
    assert check(table).exit_code == 0


def test_a_line_of_a_grown_table_is_restored_by_its_image(table, folder, encoder, monkeypatch):
    Image.new("RGB", (9, 9), "red").save(folder / "000.png")  # last in the table, first by name
    EmbeddingTable.create(table, folder, encoder)
    whole = (table / "index.csv").read_bytes()
    flip(table / "index.csv", whole.index(b"17.png"))
    encoded = count_encoded(monkeypatch)
    again = EmbeddingTable.create(table, folder, encoder)
    assert encoded == [1]  # what the line says cannot be known otherwise
    assert (table / "index.csv").read_bytes() == whole
    expected = encoder.encode_images([folder / name for name in again.ids])
    np.testing.assert_allclose(again[:], expected, atol=1e-6)


def test_a_damaged_row_of_a_lost_image_is_named(table, folder, encoder):
    flip(table / "embeddings.npy", HEADER + 20 * ROW)
    (folder / "18.png").unlink()
    with pytest.raises(UnreadableImageError, match=r"18.png \(no such file\).* are damaged, and o"):
        EmbeddingTable.create(table, folder, encoder)
    EmbeddingTable.create(table, folder, encoder, overwrite=True)
    assert check(table).exit_code == 0


def test_the_message_says_what_to_do(table):
    flip(table / "embeddings.npy", HEADER + 20 * ROW)
    with pytest.raises(InvalidInputError) as caught:
        EmbeddingTable.open(table)
    assert str(caught.value) == (
        f"The table {str(table)!r} is damaged: 1 block of its rows is not what was written (16 to "
        "23). Copy it again, or run the same `EmbeddingTable.create` or `clip-al embed` again: it "
        "encodes only what is damaged."
    )


def test_damaged_metadata_can_be_overwritten(table, folder, encoder):
    text = (table / "meta.json").read_text()
    (table / "meta.json").write_text(text.replace('"n": 48', '"n": 47'))
    with pytest.raises(InvalidInputError, match=r"meta.json was edited or is damaged"):
        EmbeddingTable.create(table, folder, encoder)
    assert len(EmbeddingTable.create(table, folder, encoder, overwrite=True)) == 48


def test_a_table_without_checksums_is_read_and_said_to_have_none(table):
    meta = table_files.read_meta(table)
    for name in ("checksums", "index_sha256", "sha256"):
        meta.pop(name)
    (table / "meta.json").write_text(json.dumps(meta))
    assert len(EmbeddingTable.open(table)) == 48
    done = check(table)
    assert done.exit_code == 0
    assert "has no checksums" in done.stdout


def test_an_unfinished_table_is_said_to_be_one(table):
    meta = table_files.read_meta(table)
    meta.pop("sha256")
    table_files.write_meta(table, {**meta, "complete": False})
    done = check(table)
    assert done.exit_code == 2
    assert "is not finished: 0 of 48 images" in done.output
    assert check(table.parent / "none").exit_code == 2
    assert check_table(table)["complete"] is False


def test_blocks_grow_with_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 1)
    monkeypatch.setattr(table_files, "MAX_BLOCKS", 4)
    table = EmbeddingTable.from_array(tmp_path / "t", np.eye(10), model_id="toy")
    checksums = table_files.read_meta(table.directory)["checksums"]
    assert (checksums["rows_per_block"], len(checksums["rows"])) == (3, 4)
