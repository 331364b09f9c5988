"""From what a person names to the images of a run, one by one: files, folders, patterns, archives, videos, URLs."""

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
    """Yield every image that ``names`` name, lazily, each once, in a stable order.

    A name is a file, a folder or a pattern, as ``find_images`` reads them, or an http(s) URL. A zip or tar that is
    named, or fits a pattern with a suffix of its own (``shards/*.tar``), stands for the images in it, and so does
    ``train-{000..012}.tar`` for those of thirteen. A video that is named so stands for a frame of each of its scenes,
    or for as many ``frames``. One that lies in a folder is not looked into. What gives no image is an item with a
    ``problem``. ``reach`` is ``public`` where others wrote the names: no URL then leads to a private network. Hidden
    files, thumbnails and deleted files are left out and counted in ``left``, which can have them taken.
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
        for found in (found for path in numbered(text) for found in walker.visit(path)):
            if isinstance(found, Unreadable):
                yield Item.broken(os.fspath(found.path), found.reason)
            elif is_archive_name(found.name):
                yield from in_archive(found, walker.left)
            elif is_video_name(found.name):
                yield from in_video(found, frames)
            else:
                yield Item.of_file(found)
