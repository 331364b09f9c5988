"""ViT blocks for inference on a CPU, in bf16 or int8: one kernel for attention, GELU inside its product.

In bf16 the products, the attention and the MLP's hidden layer are bf16; in int8 the products quantize each token, and
the attention is bf16 on CPUs that multiply bf16, else fp32. LayerNorm and the residual stream are fp32: a ViT-B whose
residual stream is bf16 too differed from fp32 by 6.4, the one here by 0.02 (largest difference of features up to 4.7),
and was no faster.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.inference.linears import BF16Product, has_product, multiplies_bf16, native_int8
from captioner.native.library import library


class FusedBlock(nn.Module):
    """A pre-norm ViT block of timm, (B, S, C) -> (B, S, C), with packed weights; made by ``fuse_blocks``."""

    def __init__(self, block: Any, precision: Literal["bf16", "int8"]) -> None:
        super().__init__()
        self.norm1: nn.Module = block.norm1
        self.norm2: nn.Module = block.norm2
        self.ls1: nn.Module = block.ls1
        self.ls2: nn.Module = block.ls2
        self.heads: int = block.attn.num_heads
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32  # between the products
        self._read_dtype = torch.bfloat16 if precision == "bf16" or multiplies_bf16() else torch.float32
        layers = (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2)
        make = _bf16 if precision == "bf16" else _int8
        self._qkv, self._proj, self._fc1, self._fc2 = (make(layer) for layer in layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output (B, S, C) for ``x`` (B, S, C), fp32."""
        qkv = self._qkv(self.norm1(x).to(self._dtype)).to(self._read_dtype)  # (B, S, 3 C)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, S, Dh) each
        read = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, S, C)
        x = x + self.ls1(self._proj(read.to(self._dtype)))
        hidden = self._fc1(self.norm2(x).to(self._dtype), "gelu")  # (B, S, 4 C)
        return x.add_(self.ls2(self._fc2(hidden)))


def _bf16(layer: nn.Linear) -> Any:
    return BF16Product(layer.weight, layer.bias, pack=layer.out_features > layer.in_features).narrow


def _int8(layer: nn.Linear) -> Any:
    return native_int8(layer.weight, layer.bias)


def fuse_blocks(backbone: nn.Module, precision: Literal["bf16", "int8"]) -> tuple[str, ...]:
    """Replace the plain ViT blocks of a backbone by ``FusedBlock``s; return the prefixes of their layers' names.

    A block with more than a plain one has (masks, gates, norms of queries, another activation) stays, and all do
    without a product in bf16 or the library's in int8.
    """
    blocks = getattr(backbone, "blocks", None)
    available = library() is not None if precision == "int8" else has_product("bf16")
    if not isinstance(blocks, nn.Sequential) or not available:
        return ()
    plain = [name for name, block in blocks.named_children() if _is_plain(block)]
    for name in plain:
        blocks.set_submodule(name, FusedBlock(blocks.get_submodule(name), precision))
    return tuple(f"blocks.{name}." for name in plain)


def _is_plain(block: Any) -> bool:
    from timm.layers import Mlp
    from timm.layers.attention import Attention
    from timm.models.vision_transformer import Block

    if type(block) is not Block or type(block.attn) is not Attention or type(block.mlp) is not Mlp:
        return False
    attn, mlp = block.attn, block.mlp
    unused = (attn.q_norm, attn.k_norm, attn.norm, mlp.norm)
    exact = type(mlp.act) is nn.GELU and mlp.act.approximate == "none"
    linear = all(type(layer) is nn.Linear for layer in (attn.qkv, attn.proj, mlp.fc1, mlp.fc2))
    return exact and linear and attn.gate is None and all(isinstance(layer, nn.Identity) for layer in unused)
