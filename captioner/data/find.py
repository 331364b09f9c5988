"""Finding the images of a run in files, folders, patterns, archives, videos and URLs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from captioner.data.archives import in_archive, numbered
from captioner.data.connections import Reach
from captioner.data.items import Item
from captioner.data.leftout import LeftOut
from captioner.data.paths import Unreadable, Walker, is_archive_name, is_video_name
from captioner.data.urls import is_url, of_url
from captioner.data.videos import Frames, in_video


def find_items(
    names: Iterable[str | os.PathLike[str]],
    *,
    frames: Frames = "scenes",
    reach: Reach = "named",
    left: LeftOut | None = None,
) -> Iterator[Item]:
    """Yield every image that ``names`` match, lazily, without duplicates, in a stable order.

    names: Files, folders and patterns, as in ``find_images``, and http(s) URLs. A zip or tar that is named, or matched
        by a pattern with a suffix (``shards/*.tar``), yields its images; so do the thirteen of
        ``train-{000..012}.tar``. A video yields frames in the same way. Archives and videos inside folders are skipped.
    frames: Number of evenly spaced frames of a video, or one per scene.
    reach: ``public`` if others wrote the names, so that no URL reaches a private network.
    left: Counts hidden files, thumbnails and deleted files, which are left out unless its ``everything`` is set.

    A name without an image yields an item with a ``problem``.
    """
    walker = Walker(left=left or LeftOut())
    urls: set[str] = set()
    for name in [names] if isinstance(names, (str, os.PathLike)) else names:
        text = os.fsdecode(name)
        if is_url(text):
            if text not in urls:
                urls.add(text)
                yield of_url(text, reach=reach)
            continue
        for match in (match for path in numbered(text) for match in walker.visit(path)):
            if isinstance(match, Unreadable):
                yield Item.broken(os.fspath(match.path), match.reason)
            elif is_archive_name(match.name):
                yield from in_archive(match, walker.left)
            elif is_video_name(match.name):
                yield from in_video(match, frames)
            else:
                yield Item.of_file(match)
