"""How probable a model finds captions."""

from __future__ import annotations

import math

import pytest
import torch

from captioner.config import DecoderConfig, TextConfig
from captioner.evaluation.perplexity import log_probs
from captioner.models.decoder import Decoder
from captioner.models.vision import EncodedImage

TEXT = TextConfig(bos_id=0, eos_id=1, pad_id=2)


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    return Decoder(DecoderConfig(vocab_size=5, context=4, width=8, layers=1, heads=2)).eval()


def test_two_word_captions_are_a_distribution(decoder: Decoder) -> None:
    """Over all continuations the probabilities of an image sum to one: nothing is left out or counted twice."""
    memory = decoder.remember(EncodedImage(torch.randn(2, 4, 8), (2, 2)))
    words = (0, 2, 3, 4)  # anything but the end
    captions = [(), *((a,) for a in words), *((a, b) for a in words for b in words)]
    found = log_probs(decoder, memory, [captions, captions], TEXT)
    three = [(a, b, c) for a in words for b in words for c in words]
    tokens = torch.tensor([[0, *caption] for caption in three])
    for image in range(2):
        one = memory.select(torch.tensor([image]))
        with torch.no_grad():
            steps = decoder(tokens, one)[:, :3].log_softmax(-1)
        longer = steps.gather(2, torch.tensor(three)[..., None]).sum((1, 2))  # begins with three words, ends later
        assert sum(map(math.exp, found[image])) + float(longer.exp().sum()) == pytest.approx(1, abs=1e-5)
    assert found[0] != pytest.approx(found[1])


def test_company_changes_nothing(decoder: Decoder) -> None:
    memory = decoder.remember(EncodedImage(torch.randn(2, 4, 8), (2, 2)))
    together = log_probs(decoder, memory, [[(3,), (4, 3, 3)], [(2, 4)]], TEXT)
    assert [len(row) for row in together] == [2, 1]
    alone = log_probs(decoder, memory.select(torch.tensor([0])), [[(3,)]], TEXT)
    assert together[0][0] == pytest.approx(alone[0][0], abs=1e-5)


def test_a_caption_beyond_the_context_is_judged_on_its_beginning(decoder: Decoder) -> None:
    memory = decoder.remember(EncodedImage(torch.randn(1, 4, 8), (2, 2)))
    (found,) = log_probs(decoder, memory, [[(3, 4, 3), (3, 4, 3, 4, 4)]], TEXT)
    assert found[0] == pytest.approx(found[1])
