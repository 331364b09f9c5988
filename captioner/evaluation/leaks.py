"""The search for evaluation images that are also training images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from captioner.data.items import MAX_BYTES, Refused, digest_of, open_file
from captioner.data.samples import Sample


def leaked(samples: Sequence[Sample], training: Sequence[Sample]) -> list[str]:
    """Return the names of the samples whose image is a training image: the same file, or a file of the same bytes.

    Names are not compared: ``train/1.jpg`` and ``test/1.jpg`` are two photos. A re-encoded photo has other bytes and is
    not found; ``captioner inspect`` finds those. Images in a tar are compared by their position only.
    """
    known = {(sample.path.resolve(), sample.span) for sample in training}
    sizes: dict[int, list[Path]] = {}
    for path, span in known:
        if span is None:
            sizes.setdefault(_size(path), []).append(path)
    contents: dict[int, set[bytes]] = {}
    leaks = []
    for sample in samples:
        size = _size(sample.path) if sample.span is None else -1
        if (sample.path.resolve(), sample.span) in known:
            leaks.append(sample.name)
        elif size in sizes and size >= 0:
            if size not in contents:
                contents[size] = {_content(path) for path in sizes[size]}
            if _content(sample.path) in contents[size]:
                leaks.append(sample.name)
    return leaks


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _content(path: Path) -> bytes:
    try:
        with open_file(path, most=MAX_BYTES) as file:
            return digest_of(file)
    except (OSError, Refused):
        return str(path).encode("utf-8", "surrogateescape")
