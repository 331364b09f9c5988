"""The caption decoder: transformer blocks with cross-attention to the image in the middle of each.

By default they are those of GPT-2 (Radford et al. 2019): with pattern ``G`` everywhere and no gate, this is GPT-2 of
Hugging Face with ``add_cross_attention``, weight for weight. Other settings of ``DecoderConfig`` make the same block
that of BERT (Devlin et al. 2019, the decoder of BLIP) or of BART (Lewis et al. 2020, the decoder of TrOCR).
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

from captioner.config import Activation, DecoderConfig
from captioner.layers.attention import CrossAttention, Focus, ImageRead, MixedRead, SelfAttention, causal_mask
from captioner.layers.cache import DecoderCache, LayerCache, ReadMasks, empty_cache
from captioner.models.vision import EncodedImage

Pairs: TypeAlias = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values of every layer."""


@dataclass(frozen=True)
class ImageMemory:
    """The cross-attention keys and values (B, H, S, Dh) of every decoder layer, computed once per image.

    made: Keys and values of all encoded images.
    centres: (h * w, 2), the patches' centres as (row, column) from 0 to 1.
    prefix: Number of tokens before the patches, which have no position on the grid.
    rows: (B,) indices of the selected images in ``made``; None selects all.
    """

    made: Pairs
    centres: Tensor
    prefix: int
    rows: Tensor | None = None

    @property
    def images(self) -> int:
        """The number of selected images, B."""
        return self.made[0][0].shape[0] if self.rows is None else len(self.rows)

    @cached_property
    def layers(self) -> Pairs:
        """The keys and values of the selected images, converted to fp32 if stored in fp16.

        This may make a copy, once; ``inference/native_steps.py`` reads ``made`` directly.
        """
        return tuple((self._read(k), self._read(v)) for k, v in self.made)

    def _read(self, made: Tensor) -> Tensor:
        chosen = made if self.rows is None else made.index_select(0, self.rows)
        return chosen.float() if made.dtype == torch.float16 else chosen

    def select(self, rows: Tensor) -> ImageMemory:
        """Return the memory of the images ``rows`` (B',)."""
        return replace(self, rows=rows if self.rows is None else self.rows[rows])


def activation_of(name: Activation) -> nn.Module:
    """Return the activation of that name."""
    return nn.ReLU() if name == "relu" else nn.GELU(approximate="tanh" if name == "gelu_tanh" else "none")


class Block(nn.Module):
    """A transformer block: self-attention, cross-attention to the image and an MLP, each residual.

    LayerNorm comes before each of them (pre-norm, GPT-2) or after each sum (post-norm, Vaswani et al. 2017, 5.4).
    """

    def __init__(self, config: DecoderConfig, self_kind: str, cross_kind: str) -> None:
        super().__init__()
        width, heads, eps = config.width, config.heads, config.norm_eps
        hidden = config.mlp_width or 4 * width
        self.post_norm = config.norm == "post"
        self.self_norm = nn.LayerNorm(width, eps=eps)
        self.self_attn = SelfAttention(width, heads, self_kind, config.prefix, heads_width=config.heads_width)
        self.cross_norm = nn.LayerNorm(width, eps=eps)
        self.cross_attn = CrossAttention(width, heads, cross_kind, config.memory_width, heads_width=config.heads_width)
        self.cross_gate = nn.Parameter(torch.zeros(())) if config.cross_gate else None
        self.mlp_norm = nn.LayerNorm(width, eps=eps)
        self.fc1 = nn.Linear(width, hidden)
        self.act = activation_of(config.activation)
        self.fc2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        layer: int,
        memory: ImageMemory | None,
        masks: ReadMasks,
        cache: LayerCache | None,
        *,
        reads: list[ImageRead] | None = None,
    ) -> Tensor:
        """Return the block's output (N, T, D) for ``x`` (N, T, D); no ``memory`` skips the cross-attention."""
        x = self._residual(x, self.self_norm, lambda x: self.self_attn(x, masks, cache))
        if memory is not None:
            image, centres, prefix = memory.layers[layer], memory.centres, memory.prefix
            x = self._residual(x, self.cross_norm, lambda x: self._read(x, image, centres, prefix, reads))
        return self._residual(x, self.mlp_norm, lambda x: self.fc2(self.act(self.fc1(x))))

    def _residual(self, x: Tensor, norm: nn.LayerNorm, branch: Callable[[Tensor], Tensor]) -> Tensor:
        if self.post_norm:
            return norm(x + self.dropout(branch(x)))
        return x + self.dropout(branch(norm(x)))

    def _read(
        self, x: Tensor, image: tuple[Tensor, Tensor], centres: Tensor, prefix: int, reads: list[ImageRead] | None
    ) -> Tensor:
        read: Tensor = self.cross_attn(x, image, centres, prefix, reads=reads)
        return read if self.cross_gate is None else torch.tanh(self.cross_gate) * read


class HeadTransform(nn.Module):
    """The layers before BERT's logits: linear, activation, LayerNorm (Devlin et al. 2019, masked language model)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.act = activation_of(config.activation)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, T, D) for ``x`` (N, T, D)."""
        return self.norm(self.act(self.dense(x)))


class Decoder(nn.Module):
    """A language model conditioned on an image memory: token ids in, logits of the next token out."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.reads_locally = {_tiled(config.self_pattern, i) for i in range(config.layers)} != {"G"}
        # Recompute blocks in the backward pass instead of keeping their activations; an attribute, as timm has one for
        # the backbone, because nothing that lies between training and the blocks knows of it.
        self.checkpointing = False
        self.draft: Decoder | None = None  # a cheaper copy for speculative decoding; a prepared decoder may have one
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Embedding(config.context, config.width)
        self.embedding_norm = _norm(config) if config.embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config, _tiled(config.self_pattern, i), _tiled(config.cross_pattern, i)) for i in range(config.layers)
        )
        self.final_norm: nn.Module = _norm(config) if config.final_norm else nn.Identity()
        self.head_transform = HeadTransform(config) if config.head == "bert" else nn.Identity()
        self.lm_head: nn.Module = nn.Identity()
        if config.head != "none":
            self.lm_head = nn.Linear(config.width, config.vocab_size, bias=config.head == "bert")
        self._initialise()
        if config.head in ("tied", "bert"):
            self.lm_head.weight = self.token_embedding.weight

    def _initialise(self) -> None:
        """Initialise as GPT-2 does (normal 0.02, residual projections scaled down by depth), then gates and focus."""
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

    def remember(self, encoded: EncodedImage, dtype: torch.dtype | None = None) -> ImageMemory:
        """Return every layer's keys and values of the encoded images, in ``dtype`` or the tokens' own."""
        h, w = encoded.grid
        device = encoded.tokens.device
        rows = (torch.arange(h, dtype=torch.float32, device=device) + 0.5) / h
        columns = (torch.arange(w, dtype=torch.float32, device=device) + 0.5) / w
        centres = torch.cartesian_prod(rows, columns)  # (h * w, 2)
        layers = tuple(cast(Block, block).cross_attn.remember(encoded.tokens, dtype) for block in self.blocks)
        return ImageMemory(layers, centres, encoded.prefix)

    def new_cache(self, images: int, slots: int) -> DecoderCache:
        """Return an empty cache for ``slots`` tokens per image, all its captions together."""
        config = self.config
        shape = (config.layers, config.heads, config.one_head_width)
        cache = empty_cache(images, config.prefix + slots, shape, self.token_embedding.weight)
        cache.places[: config.prefix] = -1
        for layer, block in zip(cache.layers, self.blocks, strict=True):
            if (prefix := cast(Block, block).self_attn.prefix) is not None:
                layer.append(*prefix.for_images(images))
        return cache

    def add_prefix(self, length: int) -> None:
        """Add ``length`` learned keys and values before the tokens of every layer."""
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
        """Return the final states (N, T, D) of ``tokens`` (N, T) that follow the cached ones.

        N is a multiple of the images in ``memory``: the captions (or beams) of an image are adjacent rows. ``last``:
        only the last token's state (N, 1, D). Each layer appends its image attention to ``reads``, if given.
        """
        count = tokens.shape[1]
        start = cache.words if cache is not None else 0
        window = self.config.local_words if self.reads_locally else None
        masks: ReadMasks = None, None
        if cache is not None:
            masks = cache.reserve(count, window=window)
        elif self.config.causal:
            everything = causal_mask(count, window=None, device=tokens.device)
            masks = everything, causal_mask(count, window=window, device=tokens.device) if window else None
            if before := self.config.prefix:  # every token sees the whole prefix
                masks = cast(ReadMasks, tuple(m if m is None else F.pad(m, (before, 0), value=True) for m in masks))
        places = torch.arange(start, start + count, device=tokens.device)
        x = self.dropout(self._embed(tokens, places))  # (N, T, D)
        x = self.through_blocks(x, memory, masks, cache, reads)
        if last:
            x = x[:, -1:]  # (N, 1, D)
        return self.final_norm(x)  # (N, T, D)

    def branches(
        self, tokens: Tensor, places: Tensor, visible: Tensor, memory: ImageMemory, cache: DecoderCache
    ) -> Tensor:
        """Return the logits (R, 1, V) after each token of a tree: ``tokens`` (R, 1) of one image, read in one pass.

        ``places`` (R,): the tokens' positions in their captions. ``visible`` (1, R, slots + R): the slots of each
        token's caption, the cached ones followed by one slot for each of these tokens, in order.
        """
        window = self.config.local_words if self.reads_locally else None
        masks = cache.reserve_tree(visible, places, window=window)
        x = self._embed(tokens, places[:, None])  # (R, 1, D)
        return self.logits(self.final_norm(self.through_blocks(x, memory, masks, cache)))

    def _embed(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Return the embeddings (N, T, D) of ``tokens`` (N, T) at ``places`` (T,) or (N, 1)."""
        words = self.token_embedding(tokens)
        if self.config.embedding_scale != 1:
            words = words * self.config.embedding_scale
        embedded: Tensor = self.embedding_norm(words + self.position_embedding(places))
        return embedded

    def logits(self, states: Tensor) -> Tensor:
        """Return the next-token logits (..., V) of final ``states`` (..., D)."""
        logits: Tensor = self.lm_head(self.head_transform(states))
        return logits

    def through_blocks(
        self,
        x: Tensor,
        memory: ImageMemory | None,
        masks: ReadMasks,
        cache: DecoderCache | None,
        reads: list[ImageRead] | None = None,
    ) -> Tensor:
        """Run all blocks on embedded tokens ``x`` (N, T, D), and append them to the cache; return (N, T, D)."""
        for i, block in enumerate(self.blocks):
            layer_cache = cache.layers[i] if cache is not None else None
            if self.checkpointing and self.training:
                x = checkpoint(block, x, i, memory, masks, layer_cache, use_reentrant=False)
            else:
                x = block(x, i, memory, masks, layer_cache, reads=reads)
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
        """Return the next-token logits (N, T, V), or (N, 1, V) with ``last``; arguments as for ``states``."""
        return self.logits(self.states(tokens, memory, cache, last=last, reads=reads))  # (N, T, V)


def _norm(config: DecoderConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.width, eps=config.norm_eps)


def _tiled(pattern: str, layer: int) -> str:
    return pattern[layer % len(pattern)]
