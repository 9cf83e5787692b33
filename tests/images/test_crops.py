"""Boxes of COCO and YOLO as images of their own: what they show, and which photo is whose."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from PIL import Image

from clip_al import EmbeddingTable
from clip_al.errors import InvalidInputError, LeftOutWarning, UnreadableImageError
from clip_al.images import crops
from clip_al.images import sources as images
from clip_al.images.crops import crop_source
from clip_al.images.parents import parent_of
from tests.command_line import flat, run

WIDTH, HEIGHT = 40, 30
BOXES = {"a/1.png": [(0, 0, 10, 10), (20, 5, 16, 20)], "b.png": [(30, 20, 10, 10)]}


@pytest.fixture
def photos(tmp_path):
    """Photos whose pixels say where they are: red is the column, green the row."""
    home = tmp_path / "photos"
    (home / "a").mkdir(parents=True)
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[:, :, 0] = np.arange(WIDTH)
    pixels[:, :, 1] = np.arange(HEIGHT)[:, None]
    for name in ("a/1.png", "a/2.png", "b.png"):
        Image.fromarray(pixels).save(home / name)
    return home


def write_coco(path, boxes=BOXES):
    names = list(boxes)
    annotations = [
        {"id": i, "image_id": names.index(name) + 7, "category_id": 1, "bbox": list(box)}
        for i, (name, box) in enumerate((name, box) for name in names for box in boxes[name])
    ]
    images = [
        {"id": i + 7, "file_name": name, "width": WIDTH, "height": HEIGHT}
        for i, name in enumerate(names)
    ]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
    return path


def write_yolo(folder, boxes=BOXES):
    for name, some in boxes.items():
        file = (folder / name).with_suffix(".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        shares = [
            ((x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT)
            for x, y, w, h in some
        ]
        file.write_text("".join(f"3 {' '.join(f'{v:.6f}' for v in share)}\n" for share in shares))
    return folder


IDS = ["a/1.png#xywh=0,0,10,10", "a/1.png#xywh=20,5,16,20", "b.png#xywh=30,20,10,10"]


@pytest.mark.parametrize("write", [write_coco, write_yolo])
def test_a_crop_is_what_is_in_the_box(photos, tmp_path, write):
    source = crop_source(photos, write(tmp_path / "boxes"))
    assert source.ids == IDS
    for index, (x, y, w, h) in enumerate(box for some in BOXES.values() for box in some):
        crop = np.asarray(source.load(index))
        assert crop.shape == (h, w, 3)
        assert (crop[0, 0, :2] == (x, y)).all()
        assert (crop[-1, -1, :2] == (x + w - 1, y + h - 1)).all()


def test_a_table_of_crops_knows_their_photos(photos, tmp_path, encoder):
    boxes = write_coco(tmp_path / "boxes.json")
    table = EmbeddingTable.create(tmp_path / "t", crop_source(photos, boxes), encoder)
    assert table.ids.tolist() == IDS
    assert [parent_of(name) for name in table.ids] == ["a/1.png", "a/1.png", "b.png"]
    assert table.paths.tolist() == [str(photos / parent_of(name)) for name in IDS]
    crops = [crop_source(photos, boxes).load(i) for i in range(3)]
    np.testing.assert_allclose(table.embeddings, encoder.encode_images(crops), atol=1e-6)
    write_coco(boxes, {**BOXES, "a/2.png": [(1, 1, 5, 5)], "b.png": []})
    again = EmbeddingTable.create(tmp_path / "t", crop_source(photos, boxes), encoder)
    assert again.changes.encoded == 1
    assert again.gone.tolist() == [2]


def test_boxes_are_rounded_outward_and_equal_ones_are_one(photos, tmp_path):
    odd = {"b.png": [(3.4, 2.6, 4.2, 5.0), (3, 2, 5, 6), (-2.0, -1.0, 6.0, 5.0), (35, 25, 10, 10)]}
    source = crop_source(photos, write_coco(tmp_path / "boxes.json", odd))
    assert source.ids == [
        "b.png#xywh=3,2,5,6", "b.png#xywh=0,0,4,4", "b.png#xywh=35,25,10,10"
    ]  # fmt: skip
    assert source.load(2).size == (5, 5)  # what is outside of the photo is left out


def test_polygons_and_confidences_of_yolo(photos, tmp_path):
    (tmp_path / "l").mkdir()
    lines = "0 0.5 0.5 0.5 0.5 0.91\n\n1 0.25 0 0.5 0 0.5 0.5 0.25 0.5\n"
    (tmp_path / "l" / "b.txt").write_text(lines)
    source = crop_source(photos, tmp_path / "l")
    assert source.ids == ["b.png#xywh=10,7,20,16", "b.png#xywh=10,0,10,15"]


def test_boxes_are_of_the_upright_photo(photos, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(photos / "tall.jpg", exif=exif)
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / "tall.txt").write_text("0 0.5 0.5 1 1\n")
    source = crop_source(photos, tmp_path / "l")
    assert source.ids == ["tall.jpg#xywh=0,0,20,40"]
    assert source.load(0).size == (20, 40)


def test_a_box_outside_of_its_photo_is_named(photos, tmp_path, encoder):
    boxes = write_coco(tmp_path / "boxes.json", {**BOXES, "b.png": [(90, 5, 5, 5)]})
    with pytest.raises(UnreadableImageError, match=r"b\.png#xywh=90,5,5,5 \(the box is outside"):
        EmbeddingTable.create(tmp_path / "t", crop_source(photos, boxes), encoder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "must be COCO's JSON, with `images`"),
        ("no json", "must be COCO's JSON"),
        ('{"images": [], "annotations": []}', "must hold at least one box"),
        (
            '{"images": [], "annotations": [{"image_id": 3, "bbox": [0, 0, 1, 1]}]}',
            "annotation 0 of .* got the id 3",
        ),
        (
            '{"images": [{"id": 3, "file_name": "b.png"}], "annotations": '
            '[{"image_id": 3, "bbox": [0, 0, 0, 1]}]}',
            r"the last two above 0; annotation 0 of .* has \[0, 0, 0, 1\]",
        ),
    ],
)
def test_other_files_are_refused(photos, tmp_path, text, message):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        crop_source(photos, tmp_path / "boxes.json")


def test_lines_of_yolo_that_are_none_are_named(photos, tmp_path):
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / "b.txt").write_text("0 0.5 0.5 0.5 0.5\n0 0.5\n")
    with pytest.raises(InvalidInputError, match=r"b\.txt must have a class .* line 2 has '0 0\.5'"):
        crop_source(photos, tmp_path / "l")
    with pytest.raises(InvalidInputError, match="is not there"):
        crop_source(photos, tmp_path / "none")
    with pytest.raises(InvalidInputError, match="must be the folder of the photos"):
        crop_source(photos / "b.png", tmp_path / "l")


def test_the_command_cuts_boxes_out(photos, tmp_path):
    boxes = write_coco(tmp_path / "boxes.json")
    result = run("embed", photos, "--boxes", boxes, "-o", tmp_path / "t")
    assert result.exit_code == 0, result.output
    assert "3 boxes in 2 photos, each an image" in flat(result)
    assert EmbeddingTable.open(tmp_path / "t").ids.tolist() == IDS
    result = run("embed", photos, "--boxes", boxes, "--every", 2, "-o", tmp_path / "u")
    assert result.exit_code == 2
    assert "One of `--every` (frames of videos) and `--boxes`" in flat(result)


def test_a_photo_is_decoded_and_read_once_for_all_its_boxes(photos, tmp_path, monkeypatch):
    boxes = {"a/1.png": [(x, 0, 5, 5) for x in range(20)]}
    source = crop_source(photos, write_coco(tmp_path / "boxes.json", boxes))
    decoded, hashed = [], []
    to_rgb, file_hash = crops.to_rgb, images._file_hash
    monkeypatch.setattr(crops, "to_rgb", lambda path: decoded.append(path) or to_rgb(path))
    monkeypatch.setattr(images, "_file_hash", lambda file: hashed.append(1) or file_hash(file))
    for index in range(len(source)):
        source.load(index)
        source.fingerprint(index, hash_content=True)
    assert (len(decoded), len(hashed)) == (1, 1)


def test_a_photo_that_has_changed_is_decoded_again(photos, tmp_path):
    source = crop_source(photos, write_coco(tmp_path / "boxes.json"))
    before = source.fingerprint(0, hash_content=True)
    assert np.asarray(source.load(0)).max() > 0
    Image.new("RGB", (WIDTH, HEIGHT)).save(photos / "a" / "1.png")
    assert np.asarray(source.load(0)).max() == 0
    assert source.fingerprint(0, hash_content=True) != before


def test_files_of_boxes_without_a_photo_are_named(photos, tmp_path):
    folder = write_yolo(tmp_path / "labels", {**BOXES, "train/b.png": [(0, 0, 5, 5)]})
    (folder / "classes.txt").write_text("cat\ndog\n")  # as labelling tools write beside them
    with pytest.warns(LeftOutWarning, match=r"1 of the 3 text files .*train.b\.txt; their boxes"):
        source = crop_source(photos, folder)
    assert source.ids == IDS
    (folder / "train" / "b.txt").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeftOutWarning)
        assert crop_source(photos, folder).ids == IDS


def test_files_that_are_no_boxes_are_named(photos, tmp_path):
    folder = write_yolo(tmp_path / "labels")
    (folder / "b.txt").write_bytes(b"\xff\xfe3 0.5")
    with pytest.raises(InvalidInputError, match="must be text in UTF-8"):
        crop_source(photos, folder)
    named = [{"id": 1, "file_name": "b.png"}]
    for entry in ({"image_id": [1], "bbox": [0, 0, 1, 1]}, 3):
        (tmp_path / "c.json").write_text(json.dumps({"images": named, "annotations": [entry]}))
        with pytest.raises(InvalidInputError, match="must be COCO's JSON"):
            crop_source(photos, tmp_path / "c.json")
