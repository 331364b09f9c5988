"""Decoders with fewer attention heads and hidden units, the same number in every layer.

Within a layer the units of the highest score stay. How many heads and how many hidden units go is a greedy choice:
always the step that costs the least score for each parameter it saves. Self- and cross-attention keep the same number
of heads, since one setting describes both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from captioner.checkpoint import Checkpoint
from captioner.checkpoint.card import PrunedNote, noted
from captioner.compression.scores import Scores, require_no_question
from captioner.config import DecoderConfig, to_dict
from captioner.errors import UsageError
from captioner.models.captioner import Captioner
from captioner.models.decoder import Block

STEP = 32  # hidden units that are dropped together: a group of 4-bit weights, and whole registers of every CPU
FEW = 8 * STEP  # hidden units; with fewer, an eighth of them is a step


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The number of heads and hidden units of every layer."""

    heads: int
    hidden: int


def sizes_of(config: DecoderConfig) -> Sizes:
    """Return the present sizes of a decoder."""
    return Sizes(heads=config.heads, hidden=config.mlp_width or 4 * config.width)


def choose_sizes(scores: Scores, config: DecoderConfig, share: float, *, heads: bool = True) -> Sizes:
    """Return sizes with at most ``share`` of the parameters of the decoder's layers; without ``heads`` all stay.

    Raises ``UsageError`` for a share that no sizes reach.
    """
    sizes, of_head, of_unit = sizes_of(config), head_parameters(config), 2 * config.width + 1
    whole = layer_parameters(config, sizes)
    step = STEP if sizes.hidden >= FEW else max(1, sizes.hidden // 8)
    in_order = [values.sort(dim=1).values for values in (scores.words, scores.image, scores.hidden)]
    first = sizes
    while layer_parameters(config, sizes) > share * whole:
        options: list[tuple[float, Sizes]] = []
        if heads and sizes.heads > 1:
            gone = first.heads - sizes.heads
            lost = float(in_order[0][:, gone].sum() + in_order[1][:, gone].sum())
            options.append((lost / of_head, replace(sizes, heads=sizes.heads - 1)))
        if sizes.hidden > step:
            gone = first.hidden - sizes.hidden
            lost = float(in_order[2][:, gone : gone + step].sum())
            options.append((lost / (step * of_unit), replace(sizes, hidden=sizes.hidden - step)))
        if not options:
            least = layer_parameters(config, sizes) / whole
            raise UsageError(
                f"--prune {share:g} is too small: with one head and {sizes.hidden} hidden units, {least:.2f} of the "
                "parameters of the decoder's layers remain; ask for more"
            )
        sizes = min(options, key=lambda option: option[0])[1]
    return sizes


def head_parameters(config: DecoderConfig) -> int:
    """Return the number of parameters of a head of self-attention and one of cross-attention, in one layer."""
    width, one = config.width, config.one_head_width
    gates = (3 if "L" in config.cross_pattern or "M" in config.cross_pattern else 0) + 2
    return one * (6 * width + 2 * config.patch_width + 6) + gates * (width + 1)


def layer_parameters(config: DecoderConfig, sizes: Sizes) -> int:
    """Return about the number of parameters of a layer of these sizes; what is never pruned is not counted."""
    return sizes.heads * head_parameters(config) + sizes.hidden * (2 * config.width + 1)


@torch.no_grad()
def prune(checkpoint: Checkpoint, scores: Scores, share: float) -> Checkpoint:
    """Return the captioner with about ``share`` of the parameters of its decoder's layers, the most important ones.

    Heads stay if the captioner's own heads for search pool by attention, which has as many. Raises ``UsageError`` for a
    share that is not between 0 and 1, or that cannot be reached, and for a captioner that answers questions.
    """
    require_no_question(checkpoint)
    if not 0 < share < 1:
        raise UsageError(f"--prune {share:g} must be the share of parameters that stay, above 0 and below 1")
    config = checkpoint.config
    pooled = config.heads is not None and config.heads.pooling == "attention"
    sizes = choose_sizes(scores, config.decoder, share, heads=not pooled)
    width = config.decoder.one_head_width if sizes.heads < config.decoder.heads else config.decoder.head_width
    smaller = replace(config.decoder, heads=sizes.heads, head_width=width, mlp_width=sizes.hidden)
    model = Captioner(replace(config, decoder=smaller)).eval()
    weights = dict(checkpoint.model.state_dict())
    for layer, block in enumerate(checkpoint.model.decoder.blocks):
        kept = Kept(
            words=best(scores.words[layer], sizes.heads),
            image=best(scores.image[layer], sizes.heads),
            hidden=best(scores.hidden[layer], sizes.hidden),
        )
        cut = pruned_block(cast(Block, block), config.decoder.heads, kept)
        weights |= {f"decoder.blocks.{layer}.{name}": value for name, value in cut.items()}
    model.load_state_dict(weights)
    model.to(next(checkpoint.model.parameters()).device)
    before, after = (sum(p.numel() for p in m.decoder.blocks.parameters()) for m in (checkpoint.model, model))
    first = sizes_of(config.decoder)
    note = PrunedNote(
        heads=(first.heads, sizes.heads),
        hidden=(first.hidden, sizes.hidden),
        parameters=(before, after),
        images=scores.images,
        epochs=0,
    )
    return replace(checkpoint, model=model, training=noted(checkpoint.training, pruned=to_dict(note)), source="")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The indices of what a layer keeps, in ascending order."""

    words: Tensor
    image: Tensor
    hidden: Tensor


def best(scores: Tensor, count: int) -> Tensor:
    """Return the indices of the ``count`` highest of ``scores`` (N,), in ascending order."""
    return scores.topk(count).indices.sort().values


def pruned_block(block: Block, heads: int, kept: Kept) -> dict[str, Tensor]:
    """Return the tensors of a block that pruning changes, by name."""
    state = block.state_dict()

    def cut(name: str, of_head: int, rows: Tensor) -> None:
        """Keep the heads ``rows`` of an output axis that holds ``of_head`` parts, each with one piece a head."""
        for part in (f"{name}.weight", f"{name}.bias"):
            value = state[part]
            parts = value.view(of_head, heads, -1, *value.shape[1:])  # (parts, H, Dh, ...)
            out[part] = parts[:, rows.to(value.device)].flatten(0, 2)

    def cut_inputs(name: str, columns: Tensor, groups: int) -> None:
        value = state[name]  # (D, H x Dh)
        out[name] = value.view(value.shape[0], groups, -1)[:, columns.to(value.device)].flatten(1)

    out: dict[str, Tensor] = {}
    cut("self_attn.qkv_proj", 3, kept.words)
    cut_inputs("self_attn.out_proj.weight", kept.words, heads)
    cut("cross_attn.q_proj", 1, kept.image)
    cut("cross_attn.kv_proj", 2, kept.image)
    cut_inputs("cross_attn.out_proj.weight", kept.image, heads)
    for attention, rows in (("self_attn", kept.words), ("cross_attn", kept.image)):
        if f"{attention}.read.gate.weight" in state:
            cut(f"{attention}.read.gate", 1, rows)
    if "cross_attn.focus.point.weight" in state:
        cut("cross_attn.focus.point", 1, kept.image)
        cut("cross_attn.focus.spread", 1, kept.image)
    for name in ("self_attn.prefix.keys", "self_attn.prefix.values"):
        if name in state:
            out[name] = state[name][kept.words.to(state[name].device)]
    for part in ("fc1.weight", "fc1.bias"):
        out[part] = state[part][kept.hidden.to(state[part].device)]
    cut_inputs("fc2.weight", kept.hidden, state["fc2.weight"].shape[1])
    return out
