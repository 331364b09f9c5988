"""Photos to pixels ahead of the model, in threads, in order; a photo that cannot be read is an item, not an end."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from captioner.config import PreprocessConfig
from captioner.data.images import ImageSource, open_image
from captioner.data.items import Item
from captioner.data.transforms import preprocess
from captioner.data.urls import is_url
from captioner.errors import ImageError

if TYPE_CHECKING:
    from torch import Tensor


def load_pixels(
    images: Iterable[ImageSource | ImageError],
    config: PreprocessConfig,
    *,
    workers: int = 2,
    ahead: int = 32,
    in_turns: bool = False,
) -> Iterator[Tensor | ImageError]:
    """Pixels (3, size, size) of each image, or the error that it raised; at most ``ahead`` images wait in memory.

    Threads suffice: Pillow decodes and resizes without holding the interpreter. An ``ImageError`` given in the place
    of an image comes back at its place.

    ``in_turns``: the next ``ahead`` images are begun when all before have been taken and one more is asked for. A
    reader that works with all cores between its batches is then not disturbed. Images behind a URL do not wait for
    their turn: to fetch them takes time, not work.
    """
    pool = ThreadPoolExecutor(max_workers=workers)
    waiting: deque[Future[Tensor | ImageError]] = deque()
    ahead = min(ahead, sys.maxsize)  # islice counts no further
    source = iter(images)

    def begin(count: int) -> None:
        nonlocal in_turns
        for image in islice(source, count):
            in_turns = in_turns and not _is_far(image)
            waiting.append(pool.submit(_load, image, config))

    try:
        begin(ahead)
        while waiting:
            done = waiting.popleft().result()
            if not in_turns:
                begin(ahead - len(waiting))
            yield done
            if not waiting:
                begin(ahead)
    finally:  # a reader that leaves early (a broken pipe, Ctrl-C) does not wait for images it will not see
        pool.shutdown(cancel_futures=True)


def _is_far(image: ImageSource | ImageError) -> bool:
    name = image.id if isinstance(image, Item) else image
    return isinstance(name, str) and is_url(name)


@dataclass(frozen=True)
class Transform:
    """What photos go through before a model reads them: whatever ``open_image`` takes -> pixels (3, size, size).

    It can be pickled, so a data set that holds it may be read by workers. Raises ``ImageError``.
    """

    config: PreprocessConfig

    def __call__(self, image: ImageSource) -> Tensor:
        # Draft mode decodes a large JPEG at the smallest scale that is still twice the size wanted.
        return preprocess(open_image(image, min_side=2 * self.config.size), self.config)


def _load(image: ImageSource | ImageError, config: PreprocessConfig) -> Tensor | ImageError:
    if isinstance(image, ImageError):
        return image
    try:
        return Transform(config)(image)
    except ImageError as error:
        return error
