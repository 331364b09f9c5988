"""Captions that the colours of a photo contradict: a colour photo that is called black and white.

A captioner that was rewarded for whole phrases writes "a black and white photo of" for dark and plain photos too. The
pixels tell which photos have colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.config import GenerationConfig, PreprocessConfig, contains_phrase

NOUNS = ("photo", "photograph", "picture", "image", "portrait", "shot")
CLAIMS = (
    *(f"{pair} {noun}" for pair in ("black and white", "black-and-white") for noun in NOUNS),
    *(f"{noun} in black and white" for noun in NOUNS),
    "黑白照片",
    "黑白照",
)
COLOURED = 8.0
"""Colourfulness from which on a photo has colours: 95 % of 352 photos that a reference calls black and white have less,
97 % of 788 other photos more."""
BLOCK = 8  # pixels a side; means over blocks leave out the noise of JPEG's colours


def colourfulness(pixels: Tensor, config: PreprocessConfig) -> float:
    """Return the spread of the colours of ``pixels`` (3, H, W), 0 for a grey or evenly tinted photo.

    It is the standard deviation in the plane of two opponent colours, red against green and yellow against blue, for
    colours from 0 to 255 (Hasler and Süsstrunk 2003, "Measuring colourfulness in natural images", section 7). Their
    second term, the mean, would count the tint of an old print.
    """
    std, mean = (pixels.new_tensor(values)[:, None, None] for values in (config.std, config.mean))
    red, green, blue = F.avg_pool2d(255 * (pixels * std + mean), min(BLOCK, *pixels.shape[1:]))  # (H / 8, W / 8) each
    opponents = torch.stack([red - green, (red + green) / 2 - blue])
    return float(opponents.flatten(1).var(1, correction=0).sum().sqrt())


def has_colours(pixels: Tensor, config: PreprocessConfig) -> bool:
    """Return whether the photo ``pixels`` (3, H, W) is neither grey nor evenly tinted."""
    return colourfulness(pixels, config) >= COLOURED


def miscoloured(captions: Sequence[Sequence[str]], pixels: Sequence[Tensor], config: PreprocessConfig) -> list[int]:
    """Return the places of the images with colours that any of their captions calls black and white."""
    return [
        place
        for place, (texts, image) in enumerate(zip(captions, pixels, strict=True))
        if any(contains_phrase(text, claim) for text in texts for claim in CLAIMS) and has_colours(image, config)
    ]


def without_claims(config: GenerationConfig) -> GenerationConfig | None:
    """Return ``config`` with ``CLAIMS`` forbidden, for photos with colours; None if photos are not to be checked.

    That is so without ``config.check_colour``, and if the rules themselves name a claim as a prefix, a required or a
    favoured phrase.
    """
    rules = config.rules
    wanted = (rules.prefix, *rules.require, *rules.bias)
    if not config.check_colour or any(contains_phrase(text, claim) for text in wanted for claim in CLAIMS):
        return None
    return replace(config, check_colour=False, rules=replace(rules, forbid=(*rules.forbid, *CLAIMS)))
