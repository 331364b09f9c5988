"""The two functions of tensors that become graphs: pixels to an image memory, and the next tokens to logits.

They call the captioner's own layers, so that every kind of attention, norm and head is in the graph without a second
definition.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from captioner.layers.cache import DecoderCache, LayerCache
from captioner.models.captioner import Captioner
from captioner.models.decoder import Block, Decoder, ImageMemory
from captioner.models.labels import Labeller
from captioner.models.norms import fold_all_norms
from captioner.models.vision import EncodedImage

IMAGES, TOKENS, PAST = 2, 2, 3  # while tracing: 0 and 1 would become constants of the graph


@dataclass(frozen=True, kw_only=True)
class Graphs:
    """The two functions of a captioner, and inputs to trace them with."""

    encoder: EncoderGraph
    decoder: DecoderGraph
    pixels: Tensor  # (IMAGES, 3, size, size), of the encoder
    step: tuple[Tensor, Tensor, list[Tensor]]  # of the decoder: tokens, states, past
    encoded: EncodedImage  # of ``pixels``


def graphs_of(model: Captioner) -> Graphs:
    """Return the graphs of a copy of ``model`` in fp32 on the CPU, with its norms folded."""
    model = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)
    size, config = model.config.preprocess.size, model.config.decoder
    fold_all_norms(model.vision, model.labeller, size)
    pixels = torch.zeros(IMAGES, 3, size, size)
    encoder = EncoderGraph(model).eval()
    with torch.no_grad():
        encoded = model.encode_image(pixels)
        memory, states = model.decoder.remember(encoded), encoder(pixels)[0]
    shape = IMAGES, config.heads, PAST, config.one_head_width
    past = [torch.zeros(shape) for _ in range(2 * config.layers)]
    return Graphs(
        encoder=encoder,
        decoder=DecoderGraph(model.decoder, memory.centres, memory.prefix).eval(),
        pixels=pixels,
        step=(torch.zeros(IMAGES, TOKENS, dtype=torch.long), states, past),
        encoded=encoded,
    )


class EncoderGraph(nn.Module):
    """Pixels (B, 3, size, size) to the keys and values of every layer, patch tokens and label log-odds."""

    def __init__(self, model: Captioner) -> None:
        super().__init__()
        self.vision, self.labels = model.vision, None
        if model.labeller is not None:
            self.labels = LabelTokens(model.labeller, model.decoder)
        self.kv_projs = nn.ModuleList(cast(Block, block).cross_attn.kv_proj for block in model.decoder.blocks)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Return the states (B, S, layers * 2 * D), tokens (B, S, D') and, with a labeller, log-odds (B, G)."""
        features = self.vision.features_at_once(pixel_values)  # `features` would divide a batch, and so fix its size
        encoded = self.vision.tokens(features)
        if self.labels is not None:
            encoded = self.labels(encoded, self.labels.labeller(features))
        states = torch.cat([project(encoded.tokens) for project in self.kv_projs], dim=-1)
        return (states, encoded.tokens) if encoded.labels is None else (states, encoded.tokens, encoded.labels)


class LabelTokens(nn.Module):
    """The labeller, with one row per label in place of the embeddings of its tokens: a tenth of the weights."""

    table: Tensor  # (G, D')

    def __init__(self, labeller: Labeller, decoder: Decoder) -> None:
        super().__init__()
        self.labeller = labeller
        every = torch.arange(len(labeller.pieces))[None]
        self.register_buffer("table", labeller.words(every, decoder.token_embedding)[0].contiguous())

    def forward(self, encoded: EncodedImage, log_odds: Tensor) -> EncodedImage:
        """Return ``encoded`` with the tokens of the most probable labels before the patches."""
        labeller = self.labeller
        best, labels = log_odds.topk(labeller.count, dim=1)  # (B, L)
        tokens = labeller.with_confidence(self.table[labels], best)  # (B, L, D')
        prefix = labeller.count + encoded.prefix
        return EncodedImage(torch.cat([tokens, encoded.tokens], dim=1), encoded.grid, prefix, log_odds)


class _Growing(LayerCache):
    """The cache of one layer as two tensors that grow, with a learned prefix before them."""

    def __init__(self, keys: Tensor, values: Tensor, before: tuple[Tensor, Tensor] | None) -> None:
        super().__init__(keys, values)
        self._before = before

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append ``k``, ``v`` (N, H, T, Dh); return all that the tokens may see."""
        self.keys, self.values = torch.cat([self.keys, k], dim=2), torch.cat([self.values, v], dim=2)
        if self._before is None:
            return self.keys, self.values
        return torch.cat([self._before[0], self.keys], dim=2), torch.cat([self._before[1], self.values], dim=2)


class DecoderGraph(nn.Module):
    """The next tokens (N, T), the image's states and past keys and values to logits (N, T, V) and the longer past."""

    centres: Tensor

    def __init__(self, decoder: Decoder, centres: Tensor, prefix: int) -> None:
        super().__init__()
        self.decoder, self.prefix = decoder, prefix
        self.register_buffer("centres", centres)

    def forward(self, input_ids: Tensor, encoder_hidden_states: Tensor, past: list[Tensor]) -> tuple[Tensor, ...]:
        """Run one step; ``past`` are keys and values (N, H, past, Dh) of each layer in turn."""
        decoder, config = self.decoder, self.decoder.config
        heads, count, done = config.heads, input_ids.shape[1], past[0].shape[2]
        parts = encoder_hidden_states.unflatten(-1, (config.layers, 2, heads, -1)).permute(2, 3, 0, 4, 1, 5)
        made = tuple((parts[layer, 0], parts[layer, 1]) for layer in range(config.layers))  # (N, H, S, Dh) each
        own, every = torch.arange(done, done + count), torch.arange(done + count)
        visible = every <= own[:, None]  # (T, past + T)
        near = visible & (every > own[:, None] - config.local_words)
        if before := config.prefix:  # every token sees the whole prefix
            ahead = torch.ones(count, before, dtype=torch.bool)
            visible, near = torch.cat([ahead, visible], dim=1), torch.cat([ahead, near], dim=1)
        caches: list[LayerCache] = []
        for layer, block in enumerate(decoder.blocks):
            prefix = cast(Block, block).self_attn.prefix
            learned = None if prefix is None else prefix.for_images(input_ids.shape[0])
            caches.append(_Growing(past[2 * layer], past[2 * layer + 1], learned))
        memory = ImageMemory(made, self.centres, self.prefix)
        x = decoder._embed(input_ids, own)
        x = decoder.through_blocks(x, memory, (visible, near), DecoderCache(caches, own))
        grown = [part for cache in caches for part in (cache.keys, cache.values)]
        return (decoder.logits(decoder.final_norm(x)), *grown)
