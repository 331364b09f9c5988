"""``captioner.pipeline`` on a model of transformers gives the captions of generate with the same options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import captioner
from captioner.data.transforms import preprocess

Make = Callable[..., tuple[Any, Path]]
START, END = 0, 1


@pytest.fixture(scope="module")
def made(vit_gpt2: Make) -> tuple[Any, captioner.pipelines.image_to_text.ImageToTextPipeline]:
    model, directory = vit_gpt2(3, decoder={"vocab_size": 270, "n_positions": 24})
    return model, captioner.pipeline("image-to-text", model=str(directory), device="cpu")


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    return [Image.fromarray(image) for image in pixels]


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 7},
        {"max_length": 7},
        {"max_new_tokens": 9, "num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.5},
        {"max_new_tokens": 9, "num_beams": 2, "no_repeat_ngram_size": 2},
        {"max_new_tokens": 12, "min_new_tokens": 6},
        {"max_length": 13, "min_length": 7},
    ],
    ids=str,
)
def test_the_same_options_the_same_captions(made: Any, images: list[Image.Image], options: dict[str, Any]) -> None:
    model, pipe = made
    checkpoint = pipe.pipe.checkpoint
    pixels = torch.stack([preprocess(image, checkpoint.config.preprocess) for image in images])
    stopping = {"early_stopping": "never"} if "num_beams" in options else {}
    rows = model.generate(pixel_values=pixels, **options, **stopping)[:, 1:].tolist()
    texts = [checkpoint.tokenizer.decode(row[: row.index(END)] if END in row else row) for row in rows]
    found = pipe(images, generate_kwargs=options)
    assert [record["generated_text"] for records in found for record in records] == texts


def test_new_tokens_follow_the_prompt(made: Any, images: list[Image.Image]) -> None:
    model, pipe = made
    checkpoint = pipe.pipe.checkpoint
    prompt = checkpoint.tokenizer.encode("two dogs")
    pixels = preprocess(images[0], checkpoint.config.preprocess)[None]
    begun = torch.tensor([[START, *prompt]])
    row = model.generate(pixel_values=pixels, decoder_input_ids=begun, max_new_tokens=4, min_new_tokens=4)[0, 1:]
    assert len(row) == len(prompt) + 4
    found = pipe(images[0], prompt="two dogs", generate_kwargs={"max_new_tokens": 4, "min_new_tokens": 4})
    assert found == [{"generated_text": checkpoint.tokenizer.decode(row.tolist())}]
