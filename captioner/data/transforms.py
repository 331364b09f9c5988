"""Preprocessing of an RGB image for a backbone, and augmentation for training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from PIL import Image

from captioner.config import PreprocessConfig
from captioner.data.sides import names_side

if TYPE_CHECKING:
    from torch import Tensor

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def preprocess(image: Image.Image, config: PreprocessConfig) -> Tensor:
    """Convert an RGB image to normalised pixels (3, size, size), float32."""
    return _normalise(fit(image, config), config)


def fit(image: Image.Image, config: PreprocessConfig) -> Image.Image:
    """Bring an image to size x size by the config's aspect rule."""
    size, resample = config.size, _FILTERS[config.interpolation]
    if config.aspect != "pad":  # crop before scaling: a scaled narrow strip might not fit into memory
        width, height = _kept(image.size, config)
        left, top = (image.width - width) / 2, (image.height - height) / 2
        return image.resize((size, size), resample, (left, top, left + width, top + height), reducing_gap=3.0)
    scale = size / max(image.size)
    columns, rows = (max(1, round(side * scale)) for side in image.size)
    canvas = Image.new("RGB", (size, size), tuple(round(255 * channel) for channel in config.mean))
    scaled = image.resize((columns, rows), resample, reducing_gap=3.0)
    canvas.paste(scaled, ((size - columns) // 2, (size - rows) // 2))
    return canvas


def _kept(size: tuple[int, int], config: PreprocessConfig) -> tuple[float, float]:
    """Return width and height of the part of an image that is kept, without padding."""
    if config.aspect == "squash":
        return size[0] / config.zoom, size[1] / config.zoom
    return min(size) / config.zoom, min(size) / config.zoom


Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class View:
    """The part of an image that the model sees, and its position in the model's square input.

    Boxes are (left, top, right, bottom), from 0 to 1.
    """

    photo: Box  # in the image
    square: Box  # in the input


def view(size: tuple[int, int], config: PreprocessConfig) -> View:
    """Return the view that ``fit`` makes of an image of this size (width, height)."""
    width, height = size
    whole = (0.0, 0.0, 1.0, 1.0)
    if config.aspect != "pad":
        columns, rows = _kept(size, config)
        x, y = (1 - columns / width) / 2, (1 - rows / height) / 2  # share of the image cropped on each side
        return View(photo=(x, y, 1 - x, 1 - y), square=whole)
    side = max(size)
    x, y = (1 - width / side) / 2, (1 - height / side) / 2  # share of the square padded on each side
    return View(photo=whole, square=(x, y, 1 - x, 1 - y))


def augment(image: Image.Image, config: PreprocessConfig, *, flip: bool, seed: int) -> Tensor:
    """Return a random view of an image as pixels (3, size, size): resized crop, mirror (if ``flip``), colour jitter.

    The same ``seed`` gives the same view, independent of earlier draws, so a resumed run sees the same views.
    """
    import torch
    from torchvision.transforms import v2

    steps = [
        v2.RandomResizedCrop(config.size, scale=(0.6, 1.0), interpolation=v2.InterpolationMode(config.interpolation)),
        v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
    ]
    if flip:
        steps.append(v2.RandomHorizontalFlip())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reset the GPU's dropout
        return _normalise(v2.Compose(steps)(image), config)


def may_flip(captions: Iterable[str]) -> bool:
    """Return whether the captions also fit the mirrored image: none of them mentions left or right."""
    return not any(map(names_side, captions))


def _normalise(image: Image.Image, config: PreprocessConfig) -> Tensor:
    """Normalise pixels with numpy.

    torch would keep its own thread pool for every loader thread, and with more threads than cores all parallel loops of
    the process, including the model's, sleep instead of spinning while they wait (images per second: 32 instead of 48).
    """
    import numpy as np
    import torch

    pixels = np.array(image, dtype=np.float32)  # (size, size, 3)
    rows = pixels.reshape(len(pixels), -1)  # (size, size * 3): a last axis of 3 is slow (1.1 instead of 0.3 ms)
    rows /= np.float32(255)
    rows -= _row_of(config.mean, pixels.shape[1])
    rows /= _row_of(config.std, pixels.shape[1])
    return torch.from_numpy(pixels).permute(2, 0, 1)  # (3, size, size)


@lru_cache(maxsize=4)
def _row_of(channels: tuple[float, ...], width: int) -> Any:
    """Return the channel values repeated for a row of pixels."""
    import numpy as np

    return np.tile(np.asarray(channels, dtype=np.float32), width)
