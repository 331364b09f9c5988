"""Conversion of the items of a walk into photos of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from captioner.data.items import Item
from captioner.folder.entry import Photo
from captioner.folder.plan import Place


def photos_of(items: Iterable[Item], place: Place) -> Iterator[Photo]:
    for item in items:
        key = item.id if item.problem else place.key(item.id)
        yield Photo(id=item.id, key=key, source=item, path=item.path, problem=item.problem)
