"""``generate`` of a captioner in transformers: the captions of our own searches, under transformers' names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.checkpoint import Checkpoint
from captioner.config import GenerationConfig, with_options
from captioner.errors import UsageError
from captioner.generation.rules import compile_rules
from captioner.generation.search import search
from captioner.transformers import CaptionerForConditionalGeneration

Exported = tuple[Checkpoint, Path]


@pytest.fixture(scope="module")
def model(exported: Exported) -> Any:
    return CaptionerForConditionalGeneration.from_pretrained(exported[1])


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 3


def ours(checkpoint: Checkpoint, pixels: torch.Tensor, config: GenerationConfig) -> list[list[tuple[int, ...]]]:
    rules = compile_rules(config, checkpoint.tokenizer)
    memory = checkpoint.model.remember(checkpoint.model.encode_image(pixels))
    found = search(checkpoint.model.decoder, memory, checkpoint.config.text, config, rules=rules)
    return [[one.tokens for one in group] for group in found]


def stripped(row: torch.Tensor, start: int = 1) -> tuple[int, ...]:
    tokens = row.tolist()
    assert tokens[0] == start
    return tuple(tokens[1 : tokens.index(2)] if 2 in tokens else tokens[1:])


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({}, {}),
        ({"num_beams": 1, "no_repeat_ngram_size": 0}, {"beams": 1, "no_repeat_ngram": 0}),
        ({"max_new_tokens": 4}, {"max_tokens": 4}),
        ({"max_length": 5}, {"max_tokens": 4}),
        ({"num_beams": 4, "length_penalty": 1.5}, {"beams": 4, "length_penalty": 1.5}),
        ({"min_new_tokens": 5, "repetition_penalty": 1.4}, {"min_tokens": 6, "repetition_penalty": 1.4}),
        ({"language": "zh"}, {"language": "zh"}),
    ],
)
def test_captions_of_our_search(
    given: dict[str, Any], same: dict[str, Any], model: Any, pixels: torch.Tensor, exported: Exported
) -> None:
    checkpoint = exported[0]
    wanted = ours(checkpoint, pixels, with_options(checkpoint.generation, same))
    found = model.generate(pixel_values=pixels, attention_mask=None, labels=None, use_cache=True, **given)
    start = 3 if "language" in given else 1
    assert [stripped(row, start) for row in found] == [group[0] for group in wanted]
    assert len({group[0] for group in wanted}) > 1


def test_several_captions_per_image(model: Any, pixels: torch.Tensor, exported: Exported) -> None:
    wanted = ours(exported[0], pixels, exported[0].generation)
    found = model.generate(pixels, num_return_sequences=2)
    assert [stripped(row) for row in found] == [one for group in wanted for one in group[:2]]


@pytest.mark.parametrize("texts", [["a", "a blue square on a", "a"], ["two dogs", "two dogs", "two"]])
@pytest.mark.parametrize("least", [0, 4])
def test_beginnings_may_differ(
    texts: list[str], least: int, model: Any, pixels: torch.Tensor, exported: Exported
) -> None:
    """New tokens are counted after each image's own beginning."""
    checkpoint = exported[0]
    ids = [[1, *checkpoint.tokenizer.encode(text)] for text in texts]
    longest = max(map(len, ids))
    start = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    given = {"input_ids": start, "max_new_tokens": 5, "min_new_tokens": least}
    found = model.generate(pixel_values=pixels, **given, attention_mask=start != 0)
    for n, (text, row) in enumerate(zip(texts, found, strict=True)):
        before = len(ids[n]) - 1
        same = {"prefix": text, "max_tokens": before + 5, "min_tokens": before + least + 1 if least else 0}
        config = with_options(checkpoint.generation, same)
        tokens, wanted = stripped(row), ours(checkpoint, pixels[n : n + 1], config)[0][0]
        assert tokens == (*wanted, *[0] * (len(tokens) - len(wanted)))


def test_a_batch_for_training_is_captioned_anew(model: Any, pixels: torch.Tensor) -> None:
    taught = {"labels": torch.tensor([[7, 2]] * 3), "decoder_input_ids": torch.tensor([[1, 7]] * 3)}
    assert torch.equal(model.generate(pixels, **taught), model.generate(pixels))


def test_the_start_token_chooses_the_language(model: Any, pixels: torch.Tensor, exported: Exported) -> None:
    start = torch.full((3, 1), 3)
    found = model.generate(pixel_values=pixels, decoder_input_ids=start)
    wanted = ours(exported[0], pixels, with_options(exported[0].generation, {"language": "zh"}))
    assert [stripped(row, 3) for row in found] == [group[0] for group in wanted]


def test_samples_follow_torchs_seed(model: Any, pixels: torch.Tensor) -> None:
    def draw() -> list[list[int]]:
        return model.generate(pixels, do_sample=True, num_beams=1, temperature=1.5, top_p=0.9).tolist()

    torch.manual_seed(0)
    first, second = draw(), draw()
    torch.manual_seed(0)
    assert draw() == first != second


def test_defaults_are_those_of_generation_config(model: Any, pixels: torch.Tensor, exported: Exported) -> None:
    import copy

    changed = copy.deepcopy(model.generation_config)
    changed.num_beams, changed.max_new_tokens = 2, 3
    wanted = ours(exported[0], pixels, with_options(exported[0].generation, {"beams": 2, "max_tokens": 3}))
    found = model.generate(pixels, generation_config=changed)
    assert [stripped(row) for row in found] == [group[0] for group in wanted]


def test_keeps_the_training_mode(model: Any, pixels: torch.Tensor) -> None:
    model.train()
    try:
        model.generate(pixels)
        assert model.training
    finally:
        model.eval()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_beans": 2}, "did you mean num_beams"),
        ({"forbid": ["dog"]}, r"no tokenizer for 'forbid'; use captioner\.load"),
        ({"output_scores": True}, "omit output_scores"),
        ({"logits_processor": [1]}, "has no counterpart in captioner"),
        ({"input_ids": torch.zeros(2, 1)}, r"must be \(3, T\)"),
    ],
)
def test_refuses_with_one_sentence(options: dict[str, Any], words: str, model: Any, pixels: torch.Tensor) -> None:
    with pytest.raises(UsageError, match=words):
        model.generate(pixels, **options)
    with pytest.raises(UsageError, match="needs pixel_values"):
        model.generate()


def test_sampling_of_a_checkpoint_is_the_default(exported: Exported, pixels: torch.Tensor) -> None:
    import dataclasses

    from captioner.config import SamplingConfig
    from captioner.transformers import pretrained_model

    checkpoint = exported[0]
    config = with_options(checkpoint.generation, {"temperature": 1.3, "typical_p": 0.9})
    assert config.sampling == SamplingConfig(temperature=1.3, typical_p=0.9)
    model = pretrained_model(dataclasses.replace(checkpoint, generation=config))
    settings = model.generation_config
    assert (settings.do_sample, settings.temperature, settings.typical_p, settings.top_k) == (True, 1.3, 0.9, 0)
    torch.manual_seed(0)
    first = model.generate(pixels)
    assert not torch.equal(first, model.generate(pixels))
