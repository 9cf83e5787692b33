"""Where images come from: folders, lists and memory as `sources`, archives and URLs besides."""

from __future__ import annotations

import os
from typing import Any

from clip_al.images.remote import is_url, remote_folder, remote_list
from clip_al.images.sources import ImageSource, image_source
from clip_al.images.tar_shards import is_tar, tar_source


def find_source(images: Any) -> ImageSource:
    """Return the images of anything that `EmbeddingTable.create` takes.

    Parameters
    ----------
    images : ImageSource, str, path, sequence, array or torch Dataset
        As `image_source`; a tar shard or, with ``*``, several; a URL of a folder; a list of URLs.
    """
    if isinstance(images, ImageSource):
        return images
    if isinstance(images, str | os.PathLike):
        name = os.fspath(images)
        if is_url(name):
            return remote_folder(name)
        if isinstance(name, str) and is_tar(name):
            return tar_source(name)
    elif isinstance(images, list | tuple) and images and all(map(is_url, images)):
        return remote_list(images)
    return image_source(images)
