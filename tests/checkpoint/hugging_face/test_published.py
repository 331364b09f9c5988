"""Published weights give published captions. Needs a network and 1 GB: ``pytest -m hub``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import captioner
from captioner.errors import CheckpointError, ImageError
from captioner.pipelines import CaptionPipeline

pytestmark = pytest.mark.hub
MODEL = "Salesforce/blip-image-captioning-base"
CATS = "http://images.cocodataset.org/val2017/000000039769.jpg"
BEACH = "https://storage.googleapis.com/sfr-vision-language-research/BLIP/demo.jpg"
WOMAN = [1037, 2450, 3564, 2006, 1996, 3509, 2007, 2014, 3899]  # from transformers' own tests
PROMPTED = [1037, 3861, 1997, 1037, 2450, 3564, 2006, 1996, 3509, 2007, 2014, 3899]


@pytest.fixture
def blip(monkeypatch: pytest.MonkeyPatch) -> CaptionPipeline:
    from huggingface_hub import constants

    home = Path(os.environ["CAPTIONER_HF_HOME"]).expanduser()  # the user's own cache, not that of the tests
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    try:
        return captioner.load(MODEL, device="cpu")
    except CheckpointError as error:
        pytest.skip(f"the hub cannot be reached: {error}")


@pytest.mark.parametrize(
    ("url", "prompt", "tokens"),
    [(BEACH, "", WOMAN), (BEACH, "a picture of", PROMPTED)],
)
def test_captions_of_the_demo_photo(blip: CaptionPipeline, url: str, prompt: str, tokens: list[int]) -> None:
    try:
        caption = blip.caption(url, prefix=prompt, beams=1)
    except ImageError as error:
        pytest.skip(f"the photo cannot be reached: {error}")
    assert caption.text == blip.checkpoint.tokenizer.decode(tokens)


def test_the_caption_of_the_cats(blip: CaptionPipeline) -> None:
    try:
        assert blip.caption(CATS, beams=1).text == "two cats sleeping on a couch"
    except ImageError as error:
        pytest.skip(f"the photo cannot be reached: {error}")
