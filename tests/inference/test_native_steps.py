"""The compiled step equals the blocks in torch, for all kinds, widths and sets of captions."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from captioner.checkpoint import Checkpoint
from captioner.config import DecoderConfig
from captioner.errors import UsageError
from captioner.inference import linears
from captioner.inference.decoder import PreparedDecoder
from captioner.inference.linears import Precision
from captioner.inference.prepared import prepare_model
from captioner.layers.cache import DecoderCache
from captioner.models.decoder import Decoder, ImageMemory
from captioner.models.vision import EncodedImage
from captioner.native.library import library

pytestmark = pytest.mark.skipif(library() is None, reason="the library is not built, or this CPU cannot run it")
BASE = DecoderConfig(vocab_size=60, context=40, width=48, layers=2, heads=3, local_words=3)
KINDS = {
    "G": replace(BASE, self_pattern="G", cross_pattern="G"),
    "L": replace(BASE, self_pattern="L", cross_pattern="L"),
    "M": replace(BASE, self_pattern="M", cross_pattern="M"),
    "all of them": replace(BASE, layers=3, self_pattern="GLM", cross_pattern="MGL"),
    "gated": replace(BASE, self_pattern="M", cross_pattern="M", cross_gate=True),
    "prefix": replace(BASE, self_pattern="M", cross_pattern="G", prefix=5),
    "one head": replace(BASE, heads=1, self_pattern="M", cross_pattern="M"),
    "heads of 20": replace(BASE, width=40, heads=2, self_pattern="M", cross_pattern="M"),
    "heads of 64": replace(BASE, width=128, heads=2, self_pattern="M", cross_pattern="M"),
    "heads of 76": replace(BASE, width=152, heads=2, self_pattern="M", cross_pattern="M"),
    "odd hidden": replace(BASE, self_pattern="M", cross_pattern="M", mlp_width=100),
    "BERT": replace(BASE, norm="post", activation="gelu", embedding_norm=True, final_norm=False, head="bert"),
    "BART": replace(BASE, norm="post", activation="relu", embedding_scale=7.0, head="untied", memory_width=40),
    "mixed post-norm": replace(BASE, norm="post", layers=3, self_pattern="GLM", cross_pattern="MGL", cross_gate=True),
}


def make(
    config: DecoderConfig, precision: Precision = "fp32", *, images: int = 3
) -> tuple[PreparedDecoder, ImageMemory]:
    """Return a prepared decoder with confident predictions, and its memory of random images."""
    decoder = Decoder(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(len(config.self_pattern) + config.width)
    for name, parameter in decoder.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        size = 1.5 * config.width**-0.5 if parameter.ndim == 2 else 0.5 if "gate" in name else 0.2
        parameter.copy_(noise * size + (1.0 if name.endswith("norm.weight") else 0.0))
    prepared = PreparedDecoder(decoder, precision)
    prepared.memory_dtype = None  # its fp16 is tested by itself
    tokens = torch.randn(images, 9 * 4 + 1, config.patch_width, generator=generator)
    return prepared, prepared.remember(EncodedImage(tokens, (9, 4), 1))


def in_torch(decoder: PreparedDecoder) -> PreparedDecoder:
    """Return the same decoder with torch's operators."""
    plain = copy.copy(decoder)
    plain.steps = None
    return plain


def search(decoder: Decoder, memory: ImageMemory, *, begun: int = 1) -> list[Tensor]:
    """Return the outputs of a search that uses the whole cache: forks, several words at once, images that leave."""
    chance = torch.Generator().manual_seed(1)
    cache = decoder.new_cache(memory.images, 40)
    found = [decoder(words(memory.images, begun, chance), memory, cache)]
    for step, captions in enumerate((3, 3, 2, 4, 4, 1, 3)):
        parents = torch.randint(cache.captions, (memory.images, captions), generator=chance)
        cache.fork(parents)
        found.append(decoder(words(memory.images * captions, 2 if step == 4 else 1, chance), memory, cache))
        if step == 2:
            kept = torch.tensor([0, 2])
            memory = memory.select(kept)
            cache.keep(kept)
    return found


def words(rows: int, count: int, chance: torch.Generator) -> Tensor:
    return torch.randint(60, (rows, count), generator=chance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("begun", [1, 5])
@torch.inference_mode()
def test_it_gives_what_the_blocks_give(kind: str, precision: Precision, begun: int) -> None:
    decoder, memory = make(KINDS[kind], precision)
    assert decoder.steps is not None
    for found, wanted in zip(
        search(decoder, memory, begun=begun), search(in_torch(decoder), memory, begun=begun), strict=True
    ):
        off = (found - wanted).abs() / wanted.std()
        if precision == "fp32":
            assert off.max() < 2e-5
        else:  # a number near a half may round the other way, and later ones with it
            assert off.max() < 0.2
            assert off.mean() < 0.02


@pytest.mark.parametrize("kind", ["all of them", "heads of 20", "heads of 64", "heads of 76"])
@torch.inference_mode()
def test_an_image_may_be_remembered_in_halves(kind: str) -> None:
    decoder, memory = make(KINDS[kind])
    halves = replace(memory, made=tuple((k.half(), v.half()) for k, v in memory.made))
    as_read = replace(memory, made=halves.layers)
    for found, wanted in zip(search(decoder, halves), search(in_torch(decoder), as_read), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.equal(search(decoder, halves)[0], search(decoder, memory)[0])


@torch.inference_mode()
def test_one_caption_is_read_ahead_and_taken_back() -> None:
    decoder, memory = make(KINDS["M"], images=1)

    def ahead(decoder: Decoder) -> Tensor:
        chance = torch.Generator().manual_seed(1)
        cache = decoder.new_cache(1, 20)
        decoder(words(1, 1, chance), memory, cache)
        decoder(words(1, 6, chance), memory, cache)
        cache.rewind(4)
        return decoder(words(1, 3, chance), memory, cache)

    torch.testing.assert_close(ahead(decoder), ahead(in_torch(decoder)), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_without_an_image_it_is_a_language_model() -> None:
    decoder, _ = make(KINDS["M"])

    def say(decoder: Decoder, cache: DecoderCache) -> Tensor:
        decoder(torch.tensor([[1], [2]]), None, cache)
        return decoder(torch.tensor([[5, 6], [7, 8]]), None, cache)

    found, wanted = (say(one, one.new_cache(2, 8)) for one in (decoder, in_torch(decoder)))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("threads", [1, 2, 3])
@torch.inference_mode()
def test_a_row_has_the_same_bits_in_any_company(precision: Precision, threads: int) -> None:
    """The numbers of images, captions and threads vary: one row, a few, and the count that needs tiles."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        decoder, memory = make(KINDS["all of them"], precision, images=12)
        tokens = torch.randint(60, (12, 3, 6), generator=torch.Generator().manual_seed(3))

        def last(memory: ImageMemory, tokens: Tensor) -> Tensor:
            """Return states of the last words of (B, K, T) captions, written one word at a time."""
            cache = decoder.new_cache(memory.images, 40)
            x = decoder.states(tokens[:, :1, 0], memory, cache)
            for place in range(1, tokens.shape[2]):
                cache.fork(torch.arange(tokens.shape[1]).expand(memory.images, -1) * (place > 1))
                x = decoder.states(tokens[:, :, place].reshape(-1, 1), memory, cache)
            return x.view(memory.images, tokens.shape[1], -1)

        tokens[:, :, 0] = 7
        together = last(memory, tokens)
        for image in (0, 5, 11):
            alone = memory.select(torch.tensor([image]))
            assert torch.equal(last(alone, tokens[image : image + 1])[0], together[image])
            assert torch.equal(last(alone, tokens[image : image + 1, 1:2])[0, 0], together[image, 1])
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def test_many_threads_may_write_at_once() -> None:
    decoder, memory = make(KINDS["M"])
    wanted = search(decoder, memory)

    @torch.inference_mode()
    def again(_: int) -> list[Tensor]:
        return search(decoder, memory)

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(again, range(12)):
            assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@torch.inference_mode()
def test_who_asks_where_it_looked_is_told_by_the_blocks() -> None:
    decoder, memory = make(KINDS["M"], images=1)
    cache, reads = decoder.new_cache(1, 8), []
    found = decoder(torch.tensor([[3]]), memory, cache, reads=reads)
    assert len(reads) == 2
    torch.testing.assert_close(
        decoder(torch.tensor([[3]]), memory, decoder.new_cache(1, 8)), found, rtol=1e-4, atol=1e-4
    )


@torch.inference_mode()
def test_what_does_not_fit_never_reaches_the_library() -> None:
    decoder, memory = make(KINDS["M"])
    first = torch.ones(3, 1, dtype=torch.long)
    short = decoder.new_cache(3, 1)
    decoder(first, memory, short)
    with pytest.raises(UsageError, match="1 \\+ 1 tokens exceed 1 slots"):
        decoder.steps(decoder.token_embedding(first), memory, (None, None), short)  # type: ignore[misc]
    with pytest.raises(UsageError, match="images 0 to 3 are selected, of 3"):
        decoder(first, memory.select(torch.tensor([0, 1, 3])), decoder.new_cache(3, 8))
    with pytest.raises(UsageError, match="the memory has 2 images, not 3"):
        decoder(first, memory.select(torch.tensor([0, 1])), decoder.new_cache(3, 8))
    decoder.half()  # a change after its first use
    with pytest.raises(UsageError, match=r"not float16 of shape .* load the captioner again"):
        decoder(first, memory, decoder.new_cache(3, 8))


@pytest.mark.parametrize(("precision", "used"), [("fp32", True), ("int8", True), ("bf16", False)])
def test_a_prepared_model_has_it(precision: Precision, used: bool, checkpoint: Checkpoint) -> None:
    decoder = prepare_model(checkpoint.model, precision).decoder
    assert isinstance(decoder, PreparedDecoder)
    assert (decoder.steps is not None) == used
    assert decoder.memory_dtype == (torch.float16 if precision == "int8" else None)


def test_where_the_library_is_missing_a_model_is_prepared_as_ever(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linears, "library", lambda: None)
    decoder = prepare_model(checkpoint.model, "int8").decoder
    assert isinstance(decoder, PreparedDecoder)
    assert decoder.steps is None
    assert decoder.memory_dtype is None
