"""The caption decoder: GPT-2 blocks (Radford et al. 2019) with a cross-attention to the image between their two halves.

With pattern ``G`` everywhere and no gate this is Hugging Face's GPT-2 with ``add_cross_attention``, weight for weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from captioner.config import DecoderConfig
from captioner.layers.attention import CrossAttention, Focus, ImageRead, MixedRead, SelfAttention, causal_mask
from captioner.layers.cache import DecoderCache, LayerCache, Sight, empty_cache
from captioner.models.vision import EncodedImage

Pairs: TypeAlias = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values of every layer."""


@dataclass(frozen=True)
class ImageMemory:
    """Keys and values (B, H, S, Dh) that every decoder layer reads, made once from encoded images.

    ``made`` has those of all images, ``rows`` (B,) are the ones meant, in their order, and None is all of them.
    ``centres`` (h * w, 2): where the patches lie, as (row, column) from 0 to 1; ``prefix`` tokens before them lie
    nowhere.
    """

    made: Pairs
    centres: Tensor
    prefix: int
    rows: Tensor | None = None

    @property
    def images(self) -> int:
        """B."""
        return self.made[0][0].shape[0] if self.rows is None else len(self.rows)

    @cached_property
    def layers(self) -> Pairs:
        """Keys and values of the images meant, in fp32 where they are kept in fp16.

        That may be a copy, made once; ``native_steps`` reads what was made.
        """
        return tuple((self._read(k), self._read(v)) for k, v in self.made)

    def _read(self, made: Tensor) -> Tensor:
        chosen = made if self.rows is None else made.index_select(0, self.rows)
        return chosen.float() if made.dtype == torch.float16 else chosen

    def select(self, rows: Tensor) -> ImageMemory:
        """The memory of the given images (B',) only."""
        return replace(self, rows=rows if self.rows is None else self.rows[rows])


Steps: TypeAlias = Callable[[Tensor, ImageMemory | None, Sight, DecoderCache], Tensor]
"""Embedded words (N, T, D), which are appended to the cache, through all blocks: (N, T, D)."""


class Block(nn.Module):
    """Words read words, words read the image, and each word thinks: three residual steps, each behind its own norm."""

    def __init__(self, config: DecoderConfig, self_kind: str, cross_kind: str) -> None:
        super().__init__()
        width, heads, eps = config.width, config.heads, config.norm_eps
        hidden = config.mlp_width or 4 * width
        self.self_norm = nn.LayerNorm(width, eps=eps)
        self.self_attn = SelfAttention(width, heads, self_kind, config.prefix)
        self.cross_norm = nn.LayerNorm(width, eps=eps)
        self.cross_attn = CrossAttention(width, heads, cross_kind)
        self.cross_gate = nn.Parameter(torch.zeros(())) if config.cross_gate else None
        self.mlp_norm = nn.LayerNorm(width, eps=eps)
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU(approximate="tanh")  # "gelu_new"
        self.fc2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        layer: int,
        memory: ImageMemory | None,
        sight: Sight,
        cache: LayerCache | None,
        *,
        reads: list[ImageRead] | None = None,
    ) -> Tensor:
        """``x`` (N, T, D) -> (N, T, D). Without ``memory`` the image half is left out: a language model."""
        x = x + self.dropout(self.self_attn(self.self_norm(x), sight, cache))
        if memory is not None:
            image = memory.layers[layer]
            read = self.cross_attn(self.cross_norm(x), image, memory.centres, memory.prefix, reads=reads)
            if self.cross_gate is not None:
                read = torch.tanh(self.cross_gate) * read
            x = x + self.dropout(read)
        return x + self.dropout(self.fc2(self.act(self.fc1(self.mlp_norm(x)))))


class Decoder(nn.Module):
    """tokens, image memory -> logits of the next token."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self._reads_locally = {_tiled(config.self_pattern, i) for i in range(config.layers)} != {"G"}
        self.draft: Decoder | None = None  # a cheap likeness that may write ahead (``generation/foresight.py``)
        self.steps: Steps | None = None  # all blocks in one call, where that can be (``native_steps.py``)
        self.memory_dtype: torch.dtype | None = None  # of what it remembers; None: as it comes
        self.checkpointing = False  # recompute blocks in the backward pass instead of keeping their activations
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Embedding(config.context, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config, _tiled(config.self_pattern, i), _tiled(config.cross_pattern, i)) for i in range(config.layers)
        )
        self.final_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.lm_head = nn.Linear(config.width, config.vocab_size, bias=False)
        self._initialise()
        self.lm_head.weight = self.token_embedding.weight

    def _initialise(self) -> None:
        """GPT-2's, normal 0.02, what writes to the residual stream scaled down by its depth; then gates and focus."""
        init = self.config.init
        for name, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                residual = name.endswith(("out_proj", "fc2"))
                std = 0.02 / math.sqrt(3 * self.config.layers) if residual else 0.02
                nn.init.normal_(module.weight, std=std)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, MixedRead):
                module.begin(init.gate)
            elif isinstance(module, Focus):
                module.begin(init.spread, apart=init.points == "apart")

    def remember(self, encoded: EncodedImage) -> ImageMemory:
        """Every layer's keys and values of the encoded images."""
        h, w = encoded.grid
        device = encoded.tokens.device
        rows = (torch.arange(h, dtype=torch.float32, device=device) + 0.5) / h
        columns = (torch.arange(w, dtype=torch.float32, device=device) + 0.5) / w
        centres = torch.cartesian_prod(rows, columns)  # (h * w, 2)
        layers = tuple(
            cast(Block, block).cross_attn.remember(encoded.tokens, self.memory_dtype) for block in self.blocks
        )
        return ImageMemory(layers, centres, encoded.prefix)

    def new_cache(self, images: int, slots: int) -> DecoderCache:
        """An empty cache with room for ``slots`` tokens per image, those of all its captions together."""
        config = self.config
        shape = (config.layers, config.heads, config.width // config.heads)
        cache = empty_cache(images, config.prefix + slots, shape, self.token_embedding.weight)
        cache.places[: config.prefix] = -1
        for layer, block in zip(cache.layers, self.blocks, strict=True):
            if (prefix := cast(Block, block).self_attn.prefix) is not None:
                layer.append(*prefix.of(images))
        return cache

    def add_prefix(self, length: int) -> None:
        """Let every layer read ``length`` more keys and values, new ones, before the words."""
        self.config = replace(self.config, prefix=length)
        for block in self.blocks:
            cast(Block, block).self_attn.add_prefix(length)

    def states(
        self,
        tokens: Tensor,
        memory: ImageMemory | None = None,
        cache: DecoderCache | None = None,
        *,
        last: bool = False,
        reads: list[ImageRead] | None = None,
    ) -> Tensor:
        """``tokens`` (N, T), those after the cached ones -> what it makes of each (N, T, D), or of the
        ``last`` one (N, 1, D).

        N is a multiple of the images in ``memory``: the captions (or beams) of an image lie next to each other. Where
        each layer looked in the image is appended to ``reads``, if there is such a list.
        """
        count = tokens.shape[1]
        start = cache.words if cache is not None else 0
        window = self.config.local_words if self._reads_locally else None
        if cache is not None:
            sight = cache.sight(count, window=window)
        else:
            everything = causal_mask(count, window=None, device=tokens.device)
            sight = everything, causal_mask(count, window=window, device=tokens.device) if window else None
            if before := self.config.prefix:  # every word sees all of it
                sight = cast(Sight, tuple(m if m is None else F.pad(m, (before, 0), value=True) for m in sight))
        places = torch.arange(start, start + count, device=tokens.device)
        x = self.dropout(self.token_embedding(tokens) + self.position_embedding(places))  # (N, T, D)
        x = self._through_blocks(x, memory, sight, cache, reads)
        if last:
            x = x[:, -1:]  # (N, 1, D)
        return self.final_norm(x)  # (N, T, D)

    def branches(
        self, tokens: Tensor, places: Tensor, visible: Tensor, memory: ImageMemory, cache: DecoderCache
    ) -> Tensor:
        """Logits (R, 1, V) after words that go on from each other: ``tokens`` (R, 1) of one image, read at once.

        They stand at ``places`` (R,) of their captions, and ``visible`` (1, R, slots + R) shows each the slots of its
        caption: those in the cache, and those that these words take behind them, in their order.
        """
        window = self.config.local_words if self._reads_locally else None
        sight = cache.sight_of(visible, places, window=window)
        x = self.token_embedding(tokens) + self.position_embedding(places)[:, None]  # (R, 1, D)
        return self.lm_head(self.final_norm(self._through_blocks(x, memory, sight, cache)))

    def _through_blocks(
        self,
        x: Tensor,
        memory: ImageMemory | None,
        sight: Sight,
        cache: DecoderCache | None,
        reads: list[ImageRead] | None = None,
    ) -> Tensor:
        if self.steps is not None and cache is not None and reads is None:
            return self.steps(x, memory, sight, cache)
        for i, block in enumerate(self.blocks):
            layer_cache = cache.layers[i] if cache is not None else None
            if self.checkpointing and self.training:
                x = checkpoint(block, x, i, memory, sight, layer_cache, use_reentrant=False)
            else:
                x = block(x, i, memory, sight, layer_cache, reads=reads)
        return x

    def forward(
        self,
        tokens: Tensor,
        memory: ImageMemory | None = None,
        cache: DecoderCache | None = None,
        *,
        last: bool = False,
        reads: list[ImageRead] | None = None,
    ) -> Tensor:
        """As ``states``, but the logits of the token after each (N, T, V), or after the ``last`` one (N, 1, V)."""
        return self.lm_head(self.states(tokens, memory, cache, last=last, reads=reads))  # (N, T, V)


def _tiled(pattern: str, layer: int) -> str:
    return pattern[layer % len(pattern)]
