"""Features of an image for finding duplicates: size, digest of its bytes, and perceptual hashes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from captioner.data.images import image_size, open_image
from captioner.data.items import MAX_BYTES, Refused, digest_of, open_file, refusal, system_reason
from captioner.data.samples import Sample
from captioner.errors import ImageError

Array = np.ndarray[Any, Any]
SMALL = 32  # the side of ``Picture.small``, in pixels


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The features of an image."""

    size: tuple[int, int]  # (width, height), upright
    digest: bytes  # of the file
    hash: int  # ``difference_hash``
    mirrored: int  # ``difference_hash`` of the mirror image
    small: Array  # (32, 32) uint8, grey, to verify candidates


def read_picture(image_of: Path | Sample) -> Picture | ImageError:
    """Read an image and return its features, or the ``ImageError`` if it cannot be read."""
    path = image_of if isinstance(image_of, Path) else image_of.path
    try:
        source = image_of if isinstance(image_of, Path) else image_of.image()
        with open_file(source, most=MAX_BYTES) if isinstance(source, Path) else source as file:
            size = image_size(file)
            image = open_image(file, min_side=2 * SMALL).convert("L")
            digest = digest_of(file)
    except ImageError as error:
        return error
    except Refused as refused:
        return ImageError(refusal(path, refused))
    except OSError as error:
        return ImageError(refusal(path, system_reason(error)))
    small = image.resize((SMALL, SMALL), Image.Resampling.BOX)
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return Picture(
        size=size,
        digest=digest,
        hash=difference_hash(image),
        mirrored=difference_hash(mirrored),
        small=np.asarray(small),
    )


def read_all_pictures(images: Sequence[Path | Sample], *, workers: int | None = None) -> Iterator[Picture | ImageError]:
    """Yield ``read_picture`` of each image, in order, with threads: Pillow releases the GIL."""
    pool = ThreadPoolExecutor(max_workers=workers or min(16, 2 * (os.cpu_count() or 1)))
    try:
        yield from pool.map(read_picture, images)
    finally:  # Ctrl-C does not wait for the rest
        pool.shutdown(cancel_futures=True)


def difference_hash(image: Image.Image) -> int:
    """Return 64 bits: is each of 8 x 9 pixels brighter than its left neighbour.

    This is dHash (Krawetz 2013, "Kind of like that"). These lines replace the package ``imagehash``, which needs scipy
    and PyWavelets for its other hashes.
    """
    values = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX)).astype(np.int16)
    bits = (values[:, 1:] > values[:, :-1]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
