"""What ``embed`` makes a table of: images of any kind, or a file of embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clip_al.cli.options import make_encoder, note, refuse_options
from clip_al.errors import InvalidInputError, ModelMismatchError

if TYPE_CHECKING:
    from clip_al.encode.encoder import ClipEncoder
    from clip_al.table.embedding_table import EmbeddingTable


def resolve_images(
    images: str, every: float | None, boxes: Path | None
) -> tuple[Any, list[str] | None]:
    """Return images as tables take them, and their ids where these are others."""
    from clip_al.handed_in.image_lists import LIST_ENDINGS, read_image_list
    from clip_al.images.crops import crop_source
    from clip_al.images.parents import parent_codes
    from clip_al.images.video import is_video, video_source

    if every is not None and boxes is not None:
        raise InvalidInputError(
            "One of `--every` (frames of videos) and `--boxes` (crops of photos) can be given; got "
            "both. Leave one out."
        )
    if boxes is not None:
        crops = crop_source(images, boxes)
        n_photos = int(parent_codes(crops.ids).max()) + 1
        note(boxes, f"{len(crops):,} boxes in {n_photos:,} photos, each an image")
        return crops, None
    if every is not None:
        frames = video_source(images, every)
        note(images, f"{len(frames):,} frames, one every {every:g} s")
        return frames, None
    if is_video(images) and not Path(images).is_dir():
        raise InvalidInputError(
            f"`--every SECONDS` must come with a video, of which it takes frames; got {images} "
            "without. Pass `--every 2`, for instance."
        )
    if images.lower().endswith(LIST_ENDINGS) and not Path(images).is_dir():
        read = read_image_list(images)
        note(images, read.how)
        return read.paths, read.ids
    return images, None


def named_encoder(
    ctx: typer.Context, model: str | None, pretrained: str | None, model_name: str | None
) -> ClipEncoder | None:
    """Return the encoder of the model that is said to have made embeddings; None where none is."""
    typed = ctx.get_parameter_source("model")
    if typed is None or typed.name != "COMMANDLINE" or model is None:
        refuse_options(ctx, {"pretrained": "--pretrained"}, "`--model`", "`--from` alone")
        return None
    if model_name is not None:
        raise InvalidInputError(
            "One of `--model` (a CLIP, which reads words) and `--model-name` (any other) names "
            "the model of `--from`; got both. Leave one out."
        )
    return make_encoder(model, pretrained)


def take_embeddings(
    encoder: ClipEncoder | None, output: Path, source: Path, **options: Any
) -> EmbeddingTable:
    """Make a table of the embeddings in a file, and say what was taken."""
    from clip_al.integrations.embedding_files import table_from_file

    if encoder is not None:
        options["model_id"] = encoder.model_id
        options["width"] = encoder.embedding_dim
    try:
        table, how = table_from_file(output, source, **options)
    except ModelMismatchError as exc:
        raise ModelMismatchError(
            f"{exc} Name the model that made them with `--model` and `--pretrained`, or a model "
            "without words with `--model-name`."
        ) from exc
    note(source, how)
    return table
