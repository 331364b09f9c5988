"""Arrays and tensors of one image are read as an image; all others raise one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.data.arrays import is_array
from captioner.data.images import image_size, open_image
from captioner.errors import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
GREY = PIXELS[..., 0]


@pytest.mark.parametrize(
    "given",
    [
        PIXELS,
        PIXELS.transpose(2, 0, 1),
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32),
        torch.from_numpy(PIXELS),
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
        (torch.from_numpy(PIXELS) / 255).requires_grad_(),
    ],
)
def test_every_form_of_one_image(given: Any) -> None:
    assert is_array(given)
    assert np.array_equal(np.asarray(open_image(given)), PIXELS)
    assert image_size(given) == (9, 7)


@pytest.mark.parametrize("given", [GREY, torch.from_numpy(GREY), GREY / 255])
def test_grey(given: Any) -> None:
    assert np.array_equal(np.asarray(open_image(given)), np.asarray(Image.fromarray(GREY).convert("RGB")))


def test_half_precision_and_colours_at_both_ends() -> None:
    assert open_image(torch.full((3, 4, 5), 0.5, dtype=torch.bfloat16)).getpixel((0, 0)) == (128, 128, 128)
    both = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    assert np.array_equal(np.asarray(open_image(both)), both)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((2, 7, 9, 3), np.uint8), "not 2 x 7 x 9 x 3; pass several images as a list, or convert"),
        (np.zeros((7, 9, 4), np.uint8), "not 7 x 9 x 4"),
        (torch.zeros(5), "not 5"),
        (torch.tensor(5), "not one number"),
        (PIXELS.astype(np.int64), "an array of pixels must be uint8 or floats from 0 to 1, not int64"),
        (GREY > 3, "not bool"),
        (GREY * 1.0 - GREY.min(), "floats must be from 0 to 1, not from 0 to "),
        (np.full((4, 4), np.nan), "not from nan to nan"),
        (torch.randn(3, 4, 4).clamp(-1, 1) - 1, "floats must be from 0 to 1"),
    ],
)
def test_any_other_is_one_sentence(given: Any, said: str) -> None:
    with pytest.raises(
        ImageError, match=r"cannot read an image \((ndarray|Tensor)\): .*PIL\.Image\.fromarray"
    ) as error:
        open_image(given)
    assert said in str(error.value)


def test_one_without_pixels() -> None:
    with pytest.raises(ImageError, match="it has no pixels"):
        open_image(np.zeros((0, 4, 3), np.uint8))


def test_names_of_files_are_no_pixels() -> None:
    assert not is_array(np.array(["a.jpg", "b.jpg"]))
    assert not is_array(np.array([None, "b.jpg"], dtype=object))
    assert not is_array([1, 2])
