"""All blocks of a prepared decoder as one call of the compiled library, for decoding with a KV cache."""

from __future__ import annotations

import ctypes
from typing import Any, cast

import torch
from torch import Tensor, nn

from captioner.inference.linears import PackedLinear
from captioner.layers.attention import MixedRead
from captioner.layers.cache import DecoderCache, ReadMasks
from captioner.models.decoder import Block, Decoder, ImageMemory
from captioner.native.addresses import address, address_of_lines, require
from captioner.native.library import checked, level, library
from captioner.native.plans import (
    ACTIVATIONS,
    GridPlan,
    LayerPlan,
    MaskPlan,
    NormPlan,
    PairPlan,
    ProductPlan,
    StepPlan,
)

KINDS = "GLM"  # enum kind of src/plan.h
WIDE, HALF = torch.float32, torch.float16


class NativeSteps:
    """The blocks' forward pass with a KV cache, as one library call that reads the blocks' own weights."""

    def __init__(self, decoder: Decoder) -> None:
        self.config = decoder.config
        self._blocks = [cast(Block, block) for block in decoder.blocks]  # the plan has addresses of their weights
        self._kept: list[Tensor] = []
        self._layers = (LayerPlan * len(self._blocks))(*map(self._plan, self._blocks))

    @staticmethod
    def of(decoder: Decoder) -> NativeSteps | None:
        """Return the steps of ``decoder``; None if the library cannot run one of its layers, as in bf16."""
        linears = [
            layer
            for name, layer in decoder.blocks.named_modules()
            if isinstance(layer, (nn.Linear, PackedLinear)) and not name.endswith(".kv_proj")
        ]
        if not all(isinstance(layer, PackedLinear) and layer.native is not None for layer in linears):
            return None
        return NativeSteps(decoder)

    def __call__(self, x: Tensor, memory: ImageMemory | None, masks: ReadMasks, cache: DecoderCache) -> Tensor:
        """Run all blocks on ``x`` (N, T, D) and return a new tensor (N, T, D)."""
        compiled = library()
        assert compiled is not None
        config, layers = self.config, len(self._blocks)
        images, past, capacity = cache.images, cache.layers[0].length, cache.layers[0].keys.shape[2]
        queries = x.shape[0] * x.shape[1] // images
        require(
            x.shape[0] * x.shape[1] == images * queries,
            f"{tuple(x.shape)} is not a multiple of {images} images",
        )
        require(past + queries <= capacity, f"{past} + {queries} tokens exceed {capacity} slots of the cache")
        require(len(cache.layers) == layers, f"the cache has {len(cache.layers)} layers, not {layers}")
        out = x.clone(memory_format=torch.contiguous_format)
        kept: list[Tensor] = []  # alive until the call returns
        shape = config.heads, capacity, config.one_head_width
        plan = StepPlan(
            images=images,
            queries=queries,
            width=config.width,
            heads=config.heads,
            heads_width=config.heads_width,
            hidden=config.mlp_width or 4 * config.width,
            layer_count=layers,
            past=past,
            capacity=capacity,
            post_norm=config.norm == "post",
            activation=ACTIVATIONS.index(config.activation),
            level=level(),
            layers=self._layers,
            caches=_pairs([(layer.keys, layer.values) for layer in cache.layers], kept, WIDE, images, *shape),
            x=address(out, WIDE, *x.shape[:2], config.width),
        )
        plan.global_mask, plan.local_mask = (_mask(m, images, queries, past + queries, kept) for m in masks)
        if memory is not None:
            require(memory.images == images, f"the memory has {memory.images} images, not {images}")
            require(len(memory.made) == layers, f"the memory has {len(memory.made)} layers, not {layers}")
            (made, _, patches, _), dtype = memory.made[0][0].shape, memory.made[0][0].dtype
            pairs = [(k.contiguous(), v.contiguous()) for k, v in memory.made]
            shape = config.heads, patches, config.one_head_width
            plan.patches = patches
            plan.memories = _pairs(pairs, kept, HALF if dtype == HALF else WIDE, made, *shape)
            plan.halves = dtype == HALF
            plan.rows = _rows(memory.rows, made, kept)
            plan.grid = _grid(memory, patches, kept)
        checked(compiled.captioner_step(plan, torch.get_num_threads()))
        for layer in cache.layers:
            layer.length += queries
        return out

    def __deepcopy__(self, memo: dict[int, Any]) -> NativeSteps:
        return self  # immutable

    def _plan(self, block: Block) -> LayerPlan:
        words, image = block.self_attn, block.cross_attn
        mixed, focused = image.kind == "M", image.kind != "G"
        gate = block.cross_gate
        return LayerPlan(
            self_norm=self._norm(block.self_norm),
            cross_norm=self._norm(block.cross_norm),
            mlp_norm=self._norm(block.mlp_norm),
            qkv=_product(words.qkv_proj),
            self_gate=_gate(words.read),
            self_out=_product(words.out_proj),
            q=_product(image.q_proj),
            cross_gate=_gate(image.read) if mixed else None,
            point=_product(image.focus.point) if focused else None,
            spread=_product(image.focus.spread) if focused else None,
            cross_out=_product(image.out_proj),
            fc1=_product(block.fc1),
            fc2=_product(block.fc2),
            self_kind=KINDS.index(words.read.kind),
            cross_kind=KINDS.index(image.kind),
            cross_factor=1.0 if gate is None else float(torch.tanh(gate)),
            eps=block.self_norm.eps,
        )

    def _norm(self, norm: nn.LayerNorm) -> NormPlan:
        kept = norm.weight.detach().contiguous(), norm.bias.detach().contiguous()
        self._kept += kept
        return NormPlan(*(address(value, WIDE, self.config.width) for value in kept))


def _product(layer: nn.Module) -> Any:
    native = cast(PackedLinear, layer).native
    assert native is not None
    return ctypes.pointer(native.plan)


def _gate(read: MixedRead) -> Any:
    return _product(read.gate) if read.kind == "M" else ctypes.POINTER(ProductPlan)()


def _pairs(layers: Any, kept: list[Tensor], dtype: torch.dtype, *shape: int) -> Any:
    """Return the library's struct of every layer's keys and values, each of ``shape`` (B, H, slots, Dh)."""
    plans = (PairPlan * len(layers))()
    for plan, pair in zip(plans, layers, strict=True):
        plan.keys, plan.values = (address(part, dtype, *shape) for part in pair)
        kept += pair
    return plans


def _rows(rows: Tensor | None, made: int, kept: list[Tensor]) -> int | None:
    """Return the address of the selected images' indices; None selects all ``made`` images."""
    if rows is None:
        return None
    rows = rows.contiguous()
    kept.append(rows)
    where = address(rows, torch.int64, len(rows))
    least, most = (int(value) for value in rows.aminmax())
    require(0 <= least <= most < made, f"images {least} to {most} are selected, of {made}")
    return where


def _mask(mask: Tensor | None, images: int, queries: int, slots: int, kept: list[Tensor]) -> MaskPlan:
    """Return the library's struct of a mask that broadcasts to (B, 1, Q, slots)."""
    if mask is None:
        return MaskPlan()
    if mask.stride(-1) != 1:
        mask = mask.contiguous()
    mask = mask.expand(images, 1, queries, slots)
    kept.append(mask)
    return MaskPlan(address_of_lines(mask, torch.bool, images, 1, queries, slots), mask.stride(0), mask.stride(2))


def _grid(memory: ImageMemory, patches: int, kept: list[Tensor]) -> GridPlan:
    rows, columns = memory.centres.float().t().contiguous()
    kept += rows, columns
    count = patches - memory.prefix
    return GridPlan(address(rows, WIDE, count), address(columns, WIDE, count), memory.prefix)
