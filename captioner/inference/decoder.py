"""A decoder prepared for a CPU: packed linear layers, all blocks in one native call, and a draft of itself."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from captioner.inference.linears import PackedHead, PackedLinear
from captioner.inference.native_steps import NativeSteps
from captioner.inference.precision import Precision
from captioner.layers.attention import Focus, ImageRead, MixedRead
from captioner.layers.cache import DecoderCache, ReadMasks
from captioner.models.decoder import Decoder, ImageMemory
from captioner.models.vision import EncodedImage
from captioner.native.library import library

MUCH = 50_000_000  # weights read per token, from which on reading them dominates a step's time


class PreparedDecoder(Decoder):
    """A ``Decoder`` that computes in a precision.

    draft: The decoder in int8, for speculative decoding (``generation/speculative_greedy.py``), if it saves time: with
        the native library, whose int8 products are faster at every level of CPU.
    steps: All blocks in one native call, if available.
    memory_dtype: The dtype of the image memory; None keeps the tokens' dtype.
    """

    def __init__(self, decoder: Decoder, precision: Precision) -> None:
        """Take over the modules of ``decoder`` and pack them; do not use ``decoder`` afterwards.

        Focus, gates and logits are not rounded. Focus and gates are small but sensitive: they stay fp32, packed so that
        a row does not depend on its batch, because in int8 their last bits would change words. Logits stay fp32 with
        bf16 too: bf16 steps of 1/16 around 10 would make many words equal. With int8 the largest logits are exact.
        """
        nn.Module.__init__(self)  # not the decoder's, which makes new weights
        self.config, self.reads_locally, self.checkpointing = decoder.config, decoder.reads_locally, False
        worthwhile = decoder.config.causal and _read_per_word(decoder) >= MUCH and library() is not None
        draft = _draft_of(decoder) if precision == "fp32" and worthwhile else None
        for name, module in decoder.named_children():
            self.add_module(name, module)
        self.draft = draft
        self._pack(precision)
        self.steps = NativeSteps.of(self)
        # Half the bytes that every token reads per image; torch's operators would convert it at every step.
        self.memory_dtype = torch.float16 if precision == "int8" and self.steps is not None else None

    def _pack(self, precision: Precision) -> None:
        deciding = [module for module in self.modules() if isinstance(module, (Focus, MixedRead))]
        small = {id(part) for module in deciding for part in module.modules()}
        for name, module in list(self.named_modules()):
            if type(module) is not nn.Linear:
                continue
            if name == "lm_head" and precision == "int8":
                self.set_submodule(name, PackedHead(module))
            else:
                exact = name == "lm_head" or id(module) in small
                self.set_submodule(name, PackedLinear(module, "fp32" if exact else precision))

    def remember(self, encoded: EncodedImage, dtype: torch.dtype | None = None) -> ImageMemory:
        """Return every layer's keys and values of the encoded images, by default in ``memory_dtype``."""
        return super().remember(encoded, dtype or self.memory_dtype)

    def through_blocks(
        self,
        x: Tensor,
        memory: ImageMemory | None,
        masks: ReadMasks,
        cache: DecoderCache | None,
        reads: list[ImageRead] | None = None,
    ) -> Tensor:
        """Run all blocks on ``x`` (N, T, D), in one native call unless it needs what torch's operators alone give."""
        if self.steps is not None and cache is not None and reads is None:
            return self.steps(x, memory, masks, cache)
        return super().through_blocks(x, memory, masks, cache, reads)


def _read_per_word(decoder: Decoder) -> int:
    return sum(
        module.weight.numel()
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Linear) and not name.endswith(".kv_proj")
    )


def _draft_of(decoder: Decoder) -> PreparedDecoder:
    """Return an int8 copy of ``decoder`` that shares all other weights and reads the decoder's image memory."""
    draft = copy.deepcopy(decoder, {id(parameter): parameter for parameter in decoder.parameters()})
    draft.set_submodule("lm_head", PackedLinear(cast(nn.Linear, draft.lm_head), "int8"))  # exact enough for a draft
    for i in range(len(draft.blocks)):
        draft.set_submodule(f"blocks.{i}.cross_attn.kv_proj", nn.Identity())
    return PreparedDecoder(draft, "int8")
