"""From an RGB photo to the pixels that a backbone reads, and the augmentation of training."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from PIL import Image

from captioner.config import PreprocessConfig

if TYPE_CHECKING:
    from torch import Tensor

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_SIDES = re.compile(r"\b(left|right)(most|ward|wards)?\b", re.IGNORECASE)


def preprocess(image: Image.Image, config: PreprocessConfig) -> Tensor:
    """An RGB image -> normalised pixels (3, size, size), float32."""
    return _normalise(fit(image, config), config)


def fit(image: Image.Image, config: PreprocessConfig) -> Image.Image:
    """Bring an image to size x size by the config's aspect rule."""
    size, resample = config.size, _FILTERS[config.interpolation]
    if config.aspect == "squash":
        return image.resize((size, size), resample, reducing_gap=3.0)
    if config.aspect == "crop":  # cut before it is scaled: the whole of a thin strip would not fit in memory
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        return image.resize((size, size), resample, (left, top, left + side, top + side), reducing_gap=3.0)
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    canvas = Image.new("RGB", (size, size), tuple(round(255 * channel) for channel in config.mean))
    scaled = image.resize((width, height), resample, reducing_gap=3.0)
    canvas.paste(scaled, ((size - width) // 2, (size - height) // 2))
    return canvas


Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class View:
    """Which part of a photo lies where in the square that the model sees.

    Each is (left, top, right, bottom), from 0 to 1 over the photo and over the square.
    """

    photo: Box
    square: Box


def view(size: tuple[int, int], config: PreprocessConfig) -> View:
    """What ``fit`` keeps of a photo of this size (width, height), and where it puts it."""
    width, height = size
    whole = (0.0, 0.0, 1.0, 1.0)
    if config.aspect == "squash":
        return View(photo=whole, square=whole)
    side = min(size) if config.aspect == "crop" else max(size)
    x, y = (1 - side / width) / 2, (1 - side / height) / 2  # of the photo, cut off on each side
    if config.aspect == "crop":
        return View(photo=(x, y, 1 - x, 1 - y), square=whole)
    x, y = (1 - width / side) / 2, (1 - height / side) / 2  # of the square, filled on each side
    return View(photo=whole, square=(x, y, 1 - x, 1 - y))


def augment(image: Image.Image, config: PreprocessConfig, *, flip: bool, seed: int) -> Tensor:
    """A random view of an image as pixels (3, size, size): resized crop, mirror (if ``flip``), colour jitter.

    The same ``seed`` gives the same view, whatever was drawn before: a resumed run sees what the unbroken one saw.
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
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reset the GPU's dropout as well
        return _normalise(v2.Compose(steps)(image), config)


def may_flip(captions: Iterable[str]) -> bool:
    """Whether the mirrored photo still fits its captions: none of them says left or right."""
    return not any(_SIDES.search(caption) for caption in captions)


def _normalise(image: Image.Image, config: PreprocessConfig) -> Tensor:
    """By numpy: torch would keep threads of its own for every thread that loads, and with more of them than cores all
    parallel loops of the process, the model's too, wait asleep instead of awake (photos a second: 32 for 48)."""
    import numpy as np
    import torch

    pixels = np.array(image, dtype=np.float32)  # (size, size, 3)
    rows = pixels.reshape(len(pixels), -1)  # (size, size * 3): numpy is slow at last axes of three (1.1 ms for 0.3)
    rows /= np.float32(255)
    rows -= _of_row(config.mean, pixels.shape[1])
    rows /= _of_row(config.std, pixels.shape[1])
    return torch.from_numpy(pixels).permute(2, 0, 1)  # (3, size, size)


@lru_cache(maxsize=4)
def _of_row(channels: tuple[float, ...], width: int) -> Any:
    """A value of each channel, over and over for a row of pixels."""
    import numpy as np

    return np.tile(np.asarray(channels, dtype=np.float32), width)
