"""The decoder: no word sees the future, cached steps equal the whole pass, and an image is encoded once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from captioner.config import DecoderConfig, MixedInit
from captioner.models.decoder import Decoder
from captioner.models.vision import EncodedImage

Make = Callable[..., Decoder]
PATTERNS = [*itertools.product("GLM", "GLM"), ("GM", "LG")]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def image(count: int, *, prefix: int = 1) -> EncodedImage:
    return EncodedImage(torch.randn(count, prefix + 6, 16), (2, 3), prefix)


@pytest.mark.parametrize(("self_pattern", "cross_pattern"), PATTERNS)
@torch.inference_mode()
def test_future_tokens_change_no_past_logits(self_pattern: str, cross_pattern: str, make_decoder: Make) -> None:
    decoder = make_decoder(self_pattern=self_pattern, cross_pattern=cross_pattern)
    memory = decoder.remember(image(2))
    tokens = torch.randint(0, 11, (2, 8))
    before = decoder(tokens, memory)
    for place in range(1, 8):
        changed = tokens.clone()
        changed[:, place] = (changed[:, place] + 1) % 11
        after = decoder(changed, memory)
        torch.testing.assert_close(after[:, :place], before[:, :place], atol=1e-6, rtol=0)
        assert (after[:, place] - before[:, place]).abs().max() > 1e-3


@pytest.mark.parametrize(("self_pattern", "cross_pattern"), PATTERNS)
@torch.inference_mode()
def test_cached_steps_are_the_whole_pass_also_after_reordering(
    self_pattern: str, cross_pattern: str, make_decoder: Make
) -> None:
    decoder = make_decoder(self_pattern=self_pattern, cross_pattern=cross_pattern)
    memory = decoder.remember(image(2))
    cache = decoder.new_cache(2, 30)
    cache.fork(torch.zeros(2, 3, dtype=torch.long))  # three captions of each image
    tokens = torch.randint(0, 11, (6, 2))
    logits = decoder(tokens, memory, cache)
    for step in range(2, 10):
        torch.testing.assert_close(logits, decoder(tokens, memory)[:, -logits.shape[1] :], atol=1e-5, rtol=1e-5)
        assert cache.words == step
        parents = torch.randint(0, 3, (2, 3))  # beams that survive, some twice
        rows = (parents + torch.tensor([[0], [3]])).flatten()
        cache.fork(parents)
        tokens = torch.cat([tokens[rows], torch.randint(0, 11, (6, 1))], dim=1)
        logits = decoder(tokens[:, -1:], memory, cache)


@pytest.mark.parametrize(("self_pattern", "cross_pattern"), [("G", "G"), ("L", "M"), ("M", "G"), ("GM", "LG")])
@torch.inference_mode()
def test_cached_steps_are_the_whole_pass_behind_a_prefix(
    self_pattern: str, cross_pattern: str, make_decoder: Make
) -> None:
    decoder = make_decoder(self_pattern=self_pattern, cross_pattern=cross_pattern, prefix=4)
    memory = decoder.remember(image(2))
    cache = decoder.new_cache(2, 30)
    tokens = torch.randint(0, 11, (2, 2))
    logits = decoder(tokens, memory, cache)  # one caption of each image, then three, then two, and one image less
    torch.testing.assert_close(logits, decoder(tokens, memory), atol=1e-5, rtol=1e-5)
    for captions in (3, 3, 2, 2, 3):
        before = len(tokens) // 2
        parents = torch.randint(0, before, (2, captions))
        cache.fork(parents)
        rows = (parents + torch.tensor([[0], [before]])).flatten()
        tokens = torch.cat([tokens[rows], torch.randint(0, 11, (len(rows), 1))], dim=1)
        logits = decoder(tokens[:, -1:], memory, cache)
        torch.testing.assert_close(logits, decoder(tokens, memory)[:, -1:], atol=1e-5, rtol=1e-5)
    assert cache.words == 7
    left = torch.tensor([1])
    cache.keep(left)
    memory, tokens = memory.select(left), torch.cat([tokens[3:], torch.randint(0, 11, (3, 1))], dim=1)
    step = decoder(tokens[:, -1:], memory, cache)
    torch.testing.assert_close(step, decoder(tokens, memory)[:, -1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("self_pattern", ["G", "L", "M"])
@torch.inference_mode()
def test_a_prefix_is_read_like_words_that_have_no_place(self_pattern: str, make_decoder: Make) -> None:
    """Keys and values of real words, moved in the cache before position 0, give the same logits."""
    plain = make_decoder(self_pattern=self_pattern)
    said, tokens = torch.randint(0, 11, (1, 3)), torch.randint(0, 11, (2, 7))
    cache = plain.new_cache(2, 20)
    plain(said.expand(2, -1), None, cache)
    cache.words = 0
    cache.places[:3] = -1
    by_hand = torch.cat([plain(tokens[:, i : i + 1], None, cache) for i in range(7)], dim=1)
    decoder = make_decoder(self_pattern=self_pattern)
    decoder.add_prefix(3)
    for layer, block in zip(cache.layers, decoder.blocks, strict=True):
        block.self_attn.prefix.keys.copy_(layer.keys[0, :, :3])
        block.self_attn.prefix.values.copy_(layer.values[0, :, :3])
    torch.testing.assert_close(decoder(tokens), by_hand, atol=1e-5, rtol=1e-5)
    assert (decoder(tokens) - plain(tokens)).abs().max() > 1e-2
    assert decoder.config.prefix == 3


@torch.inference_mode()
def test_images_that_end_leave_memory_and_cache_alike(make_decoder: Make) -> None:
    decoder = make_decoder(cross_pattern="M")
    encoded = image(3)
    memory, cache = decoder.remember(encoded), decoder.new_cache(3, 10)
    tokens = torch.randint(0, 11, (3, 4))
    decoder(tokens[:, :3], memory, cache)
    rows = torch.tensor([2, 0])
    cache.keep(rows)
    step = decoder(tokens[rows, 3:], memory.select(rows), cache)
    alone = decoder.remember(EncodedImage(encoded.tokens[rows], encoded.grid, encoded.prefix))
    torch.testing.assert_close(step, decoder(tokens[rows], alone)[:, -1:], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_captions_of_one_image_are_those_of_its_copies(make_decoder: Make) -> None:
    decoder = make_decoder(self_pattern="M", cross_pattern="M")
    encoded = image(2)
    copies = EncodedImage(encoded.tokens.repeat_interleave(3, dim=0), encoded.grid, encoded.prefix)
    tokens = torch.randint(0, 11, (6, 5))
    folded = decoder(tokens, decoder.remember(encoded))
    torch.testing.assert_close(folded, decoder(tokens, decoder.remember(copies)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pattern", ["G", "L", "M"])
@torch.inference_mode()
def test_every_token_of_the_image_counts(pattern: str, make_decoder: Make) -> None:
    decoder = make_decoder(cross_pattern=pattern)
    tokens, encoded = torch.randint(0, 11, (1, 3)), image(1, prefix=2)
    before = decoder(tokens, decoder.remember(encoded))
    for place in range(2 + 6):
        other = encoded.tokens.clone()
        other[:, place] += 2
        after = decoder(tokens, decoder.remember(EncodedImage(other, (2, 3), 2)))
        assert (after - before).abs().max() > 1e-3, place


def test_memory_knows_where_its_patches_lie(make_decoder: Make) -> None:
    memory = make_decoder().remember(image(1))
    sixth = 1 / 6
    wanted = [[row, column] for row in (0.25, 0.75) for column in (sixth, 0.5, 5 * sixth)]
    assert memory.centres.tolist() == [pytest.approx(place) for place in wanted]
    assert (memory.prefix, memory.images) == (1, 1)


@torch.inference_mode()
def test_a_gate_hides_the_image_until_it_opens(make_decoder: Make) -> None:
    decoder = make_decoder(cross_gate=True)
    tokens = torch.randint(0, 11, (2, 4))
    for block in decoder.blocks:
        block.cross_gate.zero_()
    memory = decoder.remember(image(2))
    torch.testing.assert_close(decoder(tokens, memory), decoder(tokens))
    decoder.blocks[0].cross_gate.fill_(0.5)
    assert (decoder(tokens, memory) - decoder(tokens)).abs().max() > 1e-3


def test_patterns_are_tiled_over_the_depth() -> None:
    config = DecoderConfig(vocab_size=5, width=8, layers=5, heads=2, self_pattern="GM", cross_pattern="LGG")
    blocks = Decoder(config).blocks
    assert "".join(block.self_attn.read.kind for block in blocks) == "GMGMG"
    assert "".join(block.cross_attn.kind for block in blocks) == "LGGLG"
    assert [hasattr(block.cross_attn, "focus") for block in blocks] == [True, False, False, True, False]


@torch.inference_mode()
def test_local_words_bound_the_past(make_decoder: Make) -> None:
    """Two layers that see three words each reach four words back."""
    decoder = make_decoder(self_pattern="L", local_words=3)
    tokens = torch.randint(0, 11, (1, 10))
    other = tokens.clone()
    other[:, 2] = (other[:, 2] + 1) % 11
    moved = (decoder(tokens) - decoder(other)).abs().amax(dim=(0, 2)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [2, 3, 4, 5, 6]


def test_a_fresh_decoder_expects_every_word_alike() -> None:
    decoder = Decoder(DecoderConfig(vocab_size=200, width=32, layers=2, heads=2, self_pattern="M", cross_pattern="M"))
    encoded = EncodedImage(torch.randn(2, 7, 32), (2, 3), 1)
    logits = decoder(torch.randint(0, 200, (2, 9)), decoder.remember(encoded))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.randint(0, 200, (18,)))
    assert loss.item() == pytest.approx(math.log(200), abs=0.1)
    spread = torch.nn.functional.softplus(decoder.blocks[0].cross_attn.focus.spread.bias)
    assert spread.tolist() == pytest.approx([0.25, 0.25])  # not undone by the initialisation of GPT-2


def test_a_decoder_begins_where_it_is_told() -> None:
    """The setting changes the constants of the gates and the focus, and no other weight."""
    config = DecoderConfig(vocab_size=20, width=32, layers=2, heads=4, self_pattern="GM", cross_pattern="LM")
    torch.manual_seed(0)
    plain = Decoder(config).state_dict()
    torch.manual_seed(0)
    told = Decoder(replace(config, init=MixedInit(gate=0.9, spread=1.0, points="apart"))).state_dict()
    moved = {name for name, weight in told.items() if not torch.equal(weight, plain[name])}
    gates = {"blocks.1.self_attn.read.gate.bias", "blocks.1.cross_attn.read.gate.bias"}
    assert moved == gates | {f"blocks.{i}.cross_attn.focus.{part}.bias" for i in (0, 1) for part in ("point", "spread")}
    for name in gates:
        assert told[name].sigmoid().tolist() == pytest.approx([0.9] * 4)


def test_the_head_is_the_embedding(make_decoder: Make) -> None:
    decoder = make_decoder()
    decoder(torch.tensor([[1, 2]])).sum().backward()
    assert decoder.lm_head.weight is decoder.token_embedding.weight
    assert decoder.token_embedding.weight.grad is not None
    assert decoder.token_embedding.weight.grad[5].abs().sum() > 0  # a word that was only predicted


def test_last_is_the_last_place(make_decoder: Make) -> None:
    decoder, tokens = make_decoder(), torch.randint(0, 11, (3, 6))
    with torch.inference_mode():
        torch.testing.assert_close(decoder(tokens, last=True), decoder(tokens)[:, -1:])


def test_recomputing_blocks_changes_no_gradient(make_decoder: Make) -> None:
    tokens, encoded = torch.randint(0, 11, (2, 5)), image(2)
    gradients = []
    for checkpointing in (False, True):
        decoder = make_decoder(self_pattern="M", cross_pattern="M", dropout=0.0).train()
        decoder.checkpointing = checkpointing
        decoder(tokens, decoder.remember(encoded)).square().sum().backward()
        gradients.append([p.grad for p in decoder.parameters()])
    assert all(g is not None for g in gradients[0])
    torch.testing.assert_close(gradients[0], gradients[1])
