"""The processor of a captioner in transformers: our pixels, our tokens; and transformers' own pipeline."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.checkpoint import Checkpoint
from captioner.data.loader import Transform
from captioner.errors import ImageError, UsageError
from captioner.models.captioner import Captioner
from captioner.pipelines import CaptionPipeline
from captioner.transformers import CaptionerImageProcessor, CaptionerProcessor, pretrained_processor

Exported = tuple[Checkpoint, Path]


@pytest.fixture(scope="module")
def processor(exported: Exported) -> CaptionerProcessor:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(exported[1])
    assert type(processor) is CaptionerProcessor
    assert type(processor.image_processor) is CaptionerImageProcessor
    return processor


def test_pixels_are_ours(processor: CaptionerProcessor, exported: Exported, photos: list[Image.Image]) -> None:
    transform = Transform(exported[0].config.preprocess)
    found = processor(images=photos)["pixel_values"]
    assert torch.equal(found, torch.stack([transform(photo) for photo in photos]))
    assert torch.equal(processor(images=photos[0])["pixel_values"], found[:1])


@pytest.mark.parametrize(
    "caption", ["a dog on a beach", "A  Dog,  on a beach .", " two dogs play", "a blue square .. ", "红色的圆。"]
)
def test_tokens_are_ours(caption: str, processor: CaptionerProcessor, exported: Exported) -> None:
    tokenizer = exported[0].tokenizer
    ids = processor.tokenizer(caption).input_ids
    assert ids == [*tokenizer.encode(caption), tokenizer.config.eos_id]
    assert processor.tokenizer.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)


def test_labels_and_beginnings(processor: CaptionerProcessor, exported: Exported) -> None:
    encode = exported[0].tokenizer.encode
    labels = processor(text_target=["a dog", "a blue square on a table"])["labels"]
    short = encode("a dog")
    assert labels[0].tolist() == [*short, 2, *[-100] * (labels.shape[1] - len(short) - 1)]
    assert processor(text=["a dog"])["input_ids"].tolist() == [[1, *short]]
    assert processor(text="")["input_ids"].tolist() == [[1]]
    assert processor(text_target="a blue square on a table", max_length=3)["labels"].shape == (1, 3)


@pytest.mark.parametrize("kind", ["pt", "np", None])
def test_each_caption_has_the_start_token_of_its_language(
    kind: str | None, processor: CaptionerProcessor, exported: Exported
) -> None:
    tokenizer = exported[0].tokenizer
    captions = ["a dog", "红色的圆", "a blue square on a table"]
    found = processor(text_target=captions, text=captions, return_tensors=kind)
    assert {type(found[name]) for name in found} == {{"pt": torch.Tensor, "np": np.ndarray, None: list}[kind]}
    for caption, labels, inputs in zip(captions, found["labels"], found["decoder_input_ids"], strict=True):
        ids = [*tokenizer.encode(caption), 2]
        padding = len(labels) - len(ids)
        assert list(labels) == [*ids, *[-100] * padding]
        assert list(inputs) == [tokenizer.start_of(caption), *ids, *[0] * padding][: len(labels)]
    assert [int(row[0]) for row in found["decoder_input_ids"]] == [1, 3, 1]


def test_one_language_needs_labels_alone(exported: Exported) -> None:
    checkpoint = exported[0]
    text = dataclasses.replace(checkpoint.config.text, languages={})
    model = Captioner(dataclasses.replace(checkpoint.config, text=text))
    alone = pretrained_processor(dataclasses.replace(checkpoint, model=model))
    assert set(alone(text_target="a dog")) == {"labels"}


def test_bad_input(processor: CaptionerProcessor, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError):
        processor(images=str(tmp_path / "broken.jpg"))
    with pytest.raises(UsageError, match="give images, text or text_target"):
        processor()
    with pytest.raises(UsageError, match="no images"):
        processor(images=[])


def test_pipeline_of_transformers(exported: Exported, photos: list[Image.Image], tmp_path: Path) -> None:
    """It passes 256 new tokens if nobody chose a length, but our defaults are in generation_config.json."""
    from transformers import pipeline

    checkpoint, folder = exported
    path = tmp_path / "photo.png"
    photos[1].save(path)
    pipe = pipeline("image-text-to-text", model=str(folder))
    wanted = CaptionPipeline(checkpoint).caption(str(path)).text
    assert pipe(images=str(path), text="") == [{"input_text": "", "generated_text": wanted}]
    assert pipe(images=photos[1], text="a dog")[0]["generated_text"].startswith("a dog")


def test_without_transformers(tmp_path: Path) -> None:
    """One sentence with the command, before any class is made."""
    program = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'transformers' else find(name, *a)\n"
        "import captioner.errors; captioner.errors.find_spec = u.find_spec\n"
        "import captioner.transformers"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "MissingExtraError: captioner.transformers needs transformers: pip install 'captioner[transformers]'" in (
        done.stderr
    )
