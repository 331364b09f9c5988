"""A captioner with fewer words gives the same logits for them, and the same greedy captions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captioner.captioning.batches import generate
from captioner.checkpoint import Checkpoint, load, save
from captioner.compression import trim_vocabulary
from captioner.config import (
    CaptionerConfig,
    DecoderConfig,
    GenerationConfig,
    PreprocessConfig,
    TextConfig,
    VisionConfig,
)
from captioner.errors import ImageError, UsageError
from captioner.models.captioner import Captioner
from captioner.text import train_tokenizer
from captioner.training.tasks import Data

TEXTS = ["a dog on a beach", "a cat in a box", "several elephants under umbrellas"]


def random_captioner(head: str = "tied", *, spare: int = 0, question: bool = False) -> Checkpoint:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS, 320)
    count = tokenizer.vocab_size + spare
    text = tokenizer.config if not question else replace(tokenizer.config, question_id=count - 1)
    decoder = DecoderConfig(vocab_size=count, width=32, layers=2, heads=2, head=head, context=16)  # type: ignore[arg-type]
    asks = replace(decoder, causal=False, head="none") if question else None
    config = CaptionerConfig(
        vision=VisionConfig(backbone="test_efficientnet"),
        decoder=decoder,
        text=text,
        preprocess=PreprocessConfig(size=32),
        question=asks,
    )
    return Checkpoint(Captioner(config).eval(), tokenizer.with_config(text), GenerationConfig())


@torch.inference_mode()
def logits(checkpoint: Checkpoint, ids: list[int]) -> torch.Tensor:
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return checkpoint.model(torch.tensor([[[checkpoint.config.text.bos_id, *ids]]]), pixels).logits[0, 0]


@pytest.mark.parametrize("head", ["tied", "untied", "bert"])
@pytest.mark.parametrize("spare", [0, 3])
def test_the_logits_of_kept_words_are_equal(head: str, spare: int, tmp_path: Path) -> None:
    whole = random_captioner(head, spare=spare)
    small = trim_vocabulary(whole, TEXTS[:1])
    assert small.config.decoder.vocab_size < whole.config.decoder.vocab_size
    before, after = logits(whole, whole.tokenizer.encode(TEXTS[0])), logits(small, small.tokenizer.encode(TEXTS[0]))
    same = [whole.tokenizer.model.token_to_id(small.tokenizer.model.id_to_token(i)) for i in range(after.shape[-1])]
    torch.testing.assert_close(after, before[:, same])
    loaded = load(save(small, tmp_path / "small", dtype="int8"))
    assert loaded.tokenizer.encode(TEXTS[0]) == small.tokenizer.encode(TEXTS[0])
    assert json.loads((tmp_path / "small" / "training.json").read_text())["compressed"]["vocabulary"]["before"]


def test_a_question_keeps_its_words_too() -> None:
    whole = random_captioner("bert", spare=1, question=True)
    small = trim_vocabulary(whole, TEXTS[:1])
    assert small.model.question is not None
    assert small.model.question.token_embedding.num_embeddings == small.config.decoder.vocab_size
    assert small.config.text.question_id == small.config.decoder.vocab_size - 1


def test_greedy_captions_are_equal(checkpoint: Checkpoint, data: Data) -> None:
    """The captions of a trained captioner, with the captions that it learnt as the corpus."""
    greedy = GenerationConfig(beams=1)
    paths = [sample.path for sample in data.train]

    def captions(of: Checkpoint) -> list[str]:
        found = []
        for result in generate(of, paths, greedy):
            assert not isinstance(result, ImageError)
            found.append(of.tokenizer.decode(result[0].tokens))
        return found

    whole = captions(checkpoint)
    assert captions(trim_vocabulary(checkpoint, whole)) == whole


def test_labels_keep_their_words(bilingual: Path) -> None:
    whole = load(bilingual / "best")
    small = trim_vocabulary(whole, ["a red circle"])
    assert whole.config.labels is not None
    assert small.config.labels is not None
    for word, before, after in zip(
        small.config.labels.words, whole.config.labels.tokens, small.config.labels.tokens, strict=True
    ):
        assert small.tokenizer.decode(after) == whole.tokenizer.decode(before) == word


def test_no_captions_are_an_error() -> None:
    with pytest.raises(UsageError, match="no captions whose words to keep"):
        trim_vocabulary(random_captioner(), [])


def test_special_tokens_move() -> None:
    tokenizer = train_tokenizer(TEXTS, 320)
    moved = replace(tokenizer.config, eos_id=tokenizer.vocab_size - 1)
    whole = random_captioner()
    whole = replace(whole, tokenizer=whole.tokenizer.with_config(moved))
    whole.model.config = replace(whole.config, text=moved)
    small = trim_vocabulary(whole, TEXTS[:1])
    assert isinstance(small.config.text, TextConfig)
    assert small.config.text.eos_id == small.config.decoder.vocab_size - 1
