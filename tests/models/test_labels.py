"""Label tokens that the decoder can read."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from captioner.config import DecoderConfig, LabelsConfig
from captioner.models.decoder import Decoder
from captioner.models.labels import LENGTH, Labeller

CONFIG = DecoderConfig(vocab_size=40, width=32, layers=2, heads=4)
EVERY = torch.arange(12)[None]  # (1, G)


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(2)
    return Decoder(CONFIG).requires_grad_(False).eval()


def labeller_of(decoder: Decoder, *, scaled: bool) -> Labeller:
    words = tuple(f"word {n}" for n in range(12))
    config = LabelsConfig(words=words, tokens=tuple((n, n + 12) for n in range(12)), scaled=scaled)
    return Labeller(config, 8, decoder.config).requires_grad_(False).eval()


def words_alone(labeller: Labeller, decoder: Decoder, log_odds: float) -> torch.Tensor:
    """Return the label tokens (G, D) without the embeddings of their probability."""
    chances = torch.full(EVERY.shape, log_odds)
    buckets = torch.bucketize(chances, labeller.borders)
    return (labeller.tokens(EVERY, chances, decoder.token_embedding) - labeller.confidence(buckets))[0]


def test_cross_attention_writes_the_word_of_a_label(decoder: Decoder) -> None:
    labeller = labeller_of(decoder, scaled=True)
    before = agreement(labeller, decoder)
    labeller.align(decoder)
    assert agreement(labeller, decoder) > 0.8 > 0.3 > before
    assert labeller.proj.weight.norm(dim=1).mean() == pytest.approx(LENGTH)


def agreement(labeller: Labeller, decoder: Decoder) -> float:
    """Return the mean cosine between what all layers write for a label and the embedding of its word."""
    tokens = words_alone(labeller, decoder, 20.0)
    written = sum(
        block.cross_attn.out_proj(block.cross_attn.kv_proj(tokens)[:, CONFIG.width :])  # type: ignore[union-attr, operator]
        - block.cross_attn.out_proj(block.cross_attn.kv_proj(0 * tokens)[:, CONFIG.width :])  # type: ignore[union-attr, operator]
        for block in decoder.blocks
    )
    pieces = decoder.token_embedding.weight
    words = torch.stack([(pieces[n] + pieces[n + 12]) / 2 for n in range(12)])
    return float(F.cosine_similarity(written, words).mean())


def test_a_label_counts_by_its_probability(decoder: Decoder) -> None:
    labeller = labeller_of(decoder, scaled=True)
    certain, half, never = (words_alone(labeller, decoder, x) for x in (20.0, 0.0, -20.0))
    torch.testing.assert_close(half, certain / 2)
    assert never.abs().max() < 1e-6
    # Embeddings have a standard deviation of 0.02, and a token of a label the size of its projection all the same.
    expected = (labeller.proj.weight.norm(dim=1).square().sum() + labeller.proj.bias.square().sum()).sqrt()
    assert certain.norm(dim=1).mean() == pytest.approx(float(expected), rel=0.3)


def test_old_checkpoints_keep_their_tokens(decoder: Decoder) -> None:
    labeller = labeller_of(decoder, scaled=False)
    pieces = decoder.token_embedding.weight
    expected = labeller.proj((pieces[3] + pieces[15]) / 2)
    torch.testing.assert_close(words_alone(labeller, decoder, -3.0)[3], expected)
