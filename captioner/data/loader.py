"""Photos to pixels ahead of the model, in threads, in order; a photo that cannot be read is an item, not an end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from captioner.config import PreprocessConfig
from captioner.data.images import ImageSource, open_image
from captioner.data.transforms import preprocess
from captioner.errors import ImageError

if TYPE_CHECKING:
    from torch import Tensor


def load_pixels(
    images: Iterable[ImageSource | ImageError], config: PreprocessConfig, *, workers: int = 2, ahead: int = 32
) -> Iterator[Tensor | ImageError]:
    """Pixels (3, size, size) of each image, or the error that it raised; at most ``ahead`` images wait in memory.

    Threads suffice: Pillow decodes and resizes without holding the interpreter. An ``ImageError`` given in the place
    of an image comes back at its place.
    """
    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        waiting: deque[Future[Tensor | ImageError]] = deque()
        source = iter(images)
        for image in islice(source, ahead):
            waiting.append(pool.submit(_load, image, config))
        while waiting:
            done = waiting.popleft().result()
            for image in islice(source, 1):
                waiting.append(pool.submit(_load, image, config))
            yield done
    finally:  # a reader that leaves early (a broken pipe, Ctrl-C) does not wait for images it will not see
        pool.shutdown(cancel_futures=True)


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
