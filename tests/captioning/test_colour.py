"""A colour photo is not called black and white; a grey one may be, and rules that ask for it hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image

from captioner.captioning.batches import generate
from captioner.captioning.colour import CLAIMS, COLOURED, colourfulness, miscoloured, without_claims
from captioner.checkpoint import Checkpoint
from captioner.config import GenerationConfig, PreprocessConfig, WordRules
from captioner.data.images import open_image
from captioner.data.transforms import preprocess
from captioner.errors import unwrap
from captioner.generation.hypothesis import Hypothesis
from captioner.pipelines import CaptionPipeline
from captioner.training.tasks import Data

CONFIG = PreprocessConfig(size=32)


def painted(left: tuple[int, int, int], right: tuple[int, int, int]) -> torch.Tensor:
    """Return the pixels of a photo of two halves."""
    image = Image.new("RGB", (32, 32), left)
    image.paste(right, (16, 0, 32, 32))
    return preprocess(image, CONFIG)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ((0, 0, 0), (255, 255, 255), 0),
        ((112, 66, 20), (112, 66, 20), 0),  # one tint
        ((255, 0, 0), (0, 255, 0), 255),  # red minus green: 255 and -255; yellow minus blue: the same
        ((0, 0, 255), (255, 255, 0), 255),
    ],
)
def test_colourfulness(left: tuple[int, int, int], right: tuple[int, int, int], expected: float) -> None:
    assert colourfulness(painted(left, right), CONFIG) == pytest.approx(expected, abs=12)


def test_only_claims_about_colour_photos_are_wrong() -> None:
    colour, grey = painted((200, 30, 30), (20, 60, 200)), painted((0, 0, 0), (200, 200, 200))
    texts = [
        ["a dog", "a Black and white photo of a dog"],
        ["a black and white photo of a dog"],
        ["a black and white dog in a photo"],
        ["一名男子的黑白照片"],
        [],
    ]
    assert miscoloured(texts, [colour, grey, colour, colour, colour], CONFIG) == [0, 3]


@pytest.mark.parametrize(
    "rules",
    [
        WordRules(prefix="a black and white photo of"),
        WordRules(require=("cat|black and white picture",)),
        WordRules(bias={"black and white image": 2.0}),
    ],
)
def test_rules_that_name_a_claim_hold(rules: WordRules) -> None:
    config = GenerationConfig(beams=3, check_colour=True)
    assert without_claims(replace(config, rules=rules)) is None
    assert without_claims(replace(config, check_colour=False)) is None
    checked = without_claims(replace(config, rules=WordRules(forbid=("cat",))))
    assert checked is not None
    assert checked.rules.forbid == ("cat", *CLAIMS)


def text_of(checkpoint: Checkpoint, image: Image.Image, config: GenerationConfig) -> list[str]:
    [candidates] = generate(checkpoint, [image], config)
    return [checkpoint.tokenizer.decode(h.tokens) for h in unwrap(candidates)]


@pytest.mark.parametrize("config", [GenerationConfig(), GenerationConfig(beams=3, candidates=3, length_penalty=1.0)])
def test_a_false_claim_is_replaced(
    checkpoint: Checkpoint, data: Data, config: GenerationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = open_image(data.train[0].path).convert("RGB")
    plain = text_of(checkpoint, photo, config)
    claim = " ".join(plain[0].split()[1:3])  # two words of the first caption, as if they said black and white
    monkeypatch.setattr("captioner.captioning.colour.CLAIMS", (claim,))
    assert colourfulness(preprocess(photo, checkpoint.config.preprocess), checkpoint.config.preprocess) >= COLOURED
    checked = replace(config, check_colour=True)
    again = text_of(checkpoint, photo, checked)
    assert len(again) == len(plain)
    assert all(claim not in text for text in again)
    assert again == text_of(checkpoint, photo, replace(config, rules=WordRules(forbid=(claim,))))
    grey = photo.convert("L").convert("RGB")
    assert text_of(checkpoint, grey, checked) == text_of(checkpoint, grey, config)
    pipe = CaptionPipeline(checkpoint)
    if config.beams == 1:
        streamed = ["".join(pipe.stream_words(photo, check_colour=check)) for check in (False, True)]
        assert streamed == [plain[0], again[0]]


def test_the_caption_stays_if_the_rules_allow_no_other(
    checkpoint: Checkpoint, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = open_image(data.train[0].path)
    found = iter([[[Hypothesis((1,), (-1.0, -1.0), 0.0)]], [[]]])
    monkeypatch.setattr("captioner.captioning.batches.caption_memory", lambda *args, **more: next(found))
    monkeypatch.setattr("captioner.captioning.batches.miscoloured", lambda *args: [0])
    [kept] = generate(checkpoint, [photo], GenerationConfig(check_colour=True))
    assert [h.tokens for h in unwrap(kept)] == [(1,)]


def test_beams_behind_the_candidates_do_not_count(
    checkpoint: Checkpoint, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (Hypothesis((token,), (-1.0, -1.0), 0.0) for token in checkpoint.tokenizer.encode("red circle")[:2])
    checked: list[list[list[str]]] = []
    monkeypatch.setattr("captioner.captioning.batches.caption_memory", lambda *args, **more: [[first, second]])
    monkeypatch.setattr("captioner.captioning.batches.miscoloured", lambda texts, *args: checked.append(texts))
    for candidates in (1, 2):
        config = GenerationConfig(beams=2, candidates=candidates, check_colour=True)
        list(generate(checkpoint, [open_image(data.train[0].path)], config))
    assert [len(texts[0]) for texts in checked] == [1, 2]
