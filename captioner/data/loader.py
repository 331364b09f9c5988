"""Loading and preprocessing of images in threads, ahead of the model and in order."""

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
    """Yield pixels (3, size, size) of each image, or its error; at most ``ahead`` images wait in memory.

    Threads suffice: Pillow releases the GIL to decode and resize. An ``ImageError`` in ``images`` is passed through.

    ``in_turns``: start the next ``ahead`` images only when all previous ones have been consumed and another one is
    requested, so that loading does not compete with a consumer that uses all cores between batches. URLs do not wait
    for their turn: a download takes time, not CPU.
    """
    pool = ThreadPoolExecutor(max_workers=workers)
    waiting: deque[Future[Tensor | ImageError]] = deque()
    ahead = min(ahead, sys.maxsize)  # the maximum of islice
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
    finally:  # a consumer that stops early (a broken pipe, Ctrl-C) does not wait for the remaining images
        pool.shutdown(cancel_futures=True)


def _is_far(image: ImageSource | ImageError) -> bool:
    name = image.id if isinstance(image, Item) else image
    return isinstance(name, str) and is_url(name)


@dataclass(frozen=True)
class Transform:
    """The preprocessing of a model: any input of ``open_image`` -> pixels (3, size, size).

    ::

        transform = Transform(checkpoint.config.preprocess)
        pixels = transform("dog.jpg")

    It can be pickled, for the workers of data loaders. Raises ``ImageError``.
    """

    config: PreprocessConfig

    def __call__(self, image: ImageSource) -> Tensor:
        # Draft mode decodes a large JPEG at the smallest scale of at least twice the target size.
        return preprocess(open_image(image, min_side=round(2 * self.config.size * self.config.zoom)), self.config)


def _load(image: ImageSource | ImageError, config: PreprocessConfig) -> Tensor | ImageError:
    if isinstance(image, ImageError):
        return image
    try:
        return Transform(config)(image)
    except ImageError as error:
        return error
