"""All attention of the captioner: one attention function, and self- and cross-attention modules that call it.

Shapes: ``B`` images, ``N`` sequences (B times captions per image), ``T`` tokens, ``Q`` queries, ``S`` patches, ``H``
heads, ``D`` width, ``Dh`` = D / H.

Mixed attention evaluates the same queries, keys and values under a global and under a local mask, and a gate mixes the
two reads per token and head. The local mask of self-attention is a window of tokens. The local mask of cross-attention
is a Gaussian around a point that each query predicts, added to the logits (Yang et al. 2018, arXiv 1810.10182, eq. 4 to
6; Luong et al. 2015, arXiv 1508.04025, eq. 9 and 10, predict the point but weight after the softmax): it is soft, so
the point gets a gradient from all patches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.layers.cache import LayerCache, ReadMasks
from captioner.layers.prefix import Prefix


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute scaled dot-product attention (Vaswani et al. 2017, eq. 1), without dropout.

    ``q`` (B, H, Q, Dh); ``k``, ``v`` (B, H, S, Dh). ``mask`` broadcasts to (B, H, Q, S): boolean, True where a key is
    visible, or float, added to the logits. Returns (B, H, Q, Dh). Fused, except for training on a CPU: its fused
    backward pass in bf16 took 84 ms, the plain products take 13 (256 x 8 heads, 16 tokens).
    """
    if q.device.type == "cpu" and torch.is_grad_enabled():
        return attend_explicitly(q, k, v, mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def attend_explicitly(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute ``attend`` unfused: softmax(q k^T / sqrt(Dh) + mask) v."""
    return attention_weights(q, k, mask) @ v


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the attention weights softmax(q k^T / sqrt(Dh) + mask), (B, H, Q, S)."""
    logits = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5  # (B, H, Q, S)
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    return logits.softmax(dim=-1)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Split ``x`` (B, T, D) into heads (B, H, T, Dh)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, H, T, Dh)


def merge_heads(x: Tensor) -> Tensor:
    """Merge the heads of ``x`` (B, H, T, Dh) -> (B, T, D)."""
    return x.transpose(1, 2).flatten(2)  # (B, T, D)


def causal_mask(tokens: int, *, window: int | None = None, device: torch.device) -> Tensor:
    """Return a (T, T) mask: True for a token itself and earlier tokens, optionally the last ``window`` of them."""
    query = torch.arange(tokens, device=device)[:, None]
    key = torch.arange(tokens, device=device)[None, :]
    visible = key <= query
    return visible & (key > query - window) if window else visible


@dataclass(frozen=True, kw_only=True)
class ImageRead:
    """The attention of one layer to the image, for Q queries of B images, H heads, S patches.

    The layer's weights are ``gate * global_weights + (1 - gate) * local_weights``. Fields that a layer lacks are None:
    kind M has all, G only ``global_weights``.
    """

    global_weights: Tensor | None  # (B, H, Q, S), each row sums to 1
    local_weights: Tensor | None  # (B, H, Q, S), each row sums to 1
    gate: Tensor | None  # (B, H, Q), the share of the global read
    point: Tensor | None  # (B, H, Q, 2), centre of the local read: (row, column) from 0 to 1
    spread: Tensor | None  # (B, H, Q), its standard deviation, in sides of the image


class MixedRead(nn.Module):
    """Attention under a global mask (G), a local one (L), or both mixed by a gate per token and head (M)."""

    def __init__(self, width: int, heads: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "M":
            self.gate = nn.Linear(width, heads)

    def begin(self, gate: float) -> None:
        """Set the gate's bias so that the share of the global read starts at ``gate``, 0 to 1."""
        if self.kind == "M":
            nn.init.constant_(self.gate.bias, math.log(gate / (1 - gate)))

    def forward(
        self, x: Tensor, qkv: tuple[Tensor, Tensor, Tensor], global_mask: Tensor | None, local_mask: Tensor | None
    ) -> Tensor:
        """Return the read (B, H, Q, Dh) of ``qkv``, as for ``attend``; ``x`` (B, Q, D) controls the gate."""
        if self.kind == "G" or global_mask is local_mask:  # same mask: the past fits in the local window
            return attend(*qkv, global_mask)
        local = attend(*qkv, local_mask)
        if self.kind == "L":
            return local
        return local + self.gate_share(x) * (attend(*qkv, global_mask) - local)

    def gate_share(self, x: Tensor) -> Tensor:
        """Return the share of the global read, 0 to 1: (B, H, Q, 1)."""
        return torch.sigmoid(self.gate(x)).transpose(1, 2)[..., None]  # (B, H, Q, 1)


class SelfAttention(nn.Module):
    """Self-attention over the caption, after an optional learned prefix."""

    def __init__(self, width: int, heads: int, kind: str, prefix: int = 0, *, heads_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        inner = heads_width or width  # narrower after heads were pruned
        self.qkv_proj = nn.Linear(width, 3 * inner)  # fused: with few rows it costs as much as one of three products
        self.read = MixedRead(width, heads, kind)
        self.out_proj = nn.Linear(inner, width)
        self.prefix: Prefix | None = None
        if prefix:
            self.add_prefix(prefix)

    def add_prefix(self, length: int) -> None:
        """Add a prefix of ``length`` learned keys and values."""
        weight = self.qkv_proj.weight
        self.prefix = Prefix(self.heads, length, weight.shape[0] // 3 // self.heads).to(weight)

    def forward(self, x: Tensor, masks: ReadMasks, cache: LayerCache | None = None) -> Tensor:
        """Return (N, T, D) for ``x`` (N, T, D), the tokens after those in ``cache``, under the ``masks``.

        With a cache, the captions of an image fold into one axis of queries, as its slots do; the cache includes the
        prefix.
        """
        folded = x if cache is None else x.reshape(cache.keys.shape[0], -1, x.shape[-1])  # (B, K * T, D)
        q, k, v = self.qkv_proj(folded).view(*folded.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if cache is not None:
            k, v = cache.append(k, v)
        elif self.prefix is not None:
            k, v = self.prefix.prepend(k, v)
        read = self.read(folded, (q, k, v), *masks)
        return self.out_proj(merge_heads(read)).view(x.shape)  # (N, T, D)


class Focus(nn.Module):
    """A Gaussian attention bias around a point that every query and head predicts.

    Coordinates run from 0 to 1 over the image, so the same weights work for any grid.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.point = nn.Linear(width, 2 * heads)
        self.spread = nn.Linear(width, heads)
        self.begin()

    def begin(self, spread: float = 0.25, *, apart: bool = False) -> None:
        """Set the biases to the image centre, or one point per head if ``apart``, ``spread`` above the minimum."""
        points = torch.full((self.heads, 2), 0.5)
        if apart:
            rows = math.isqrt(self.heads)
            columns = -(-self.heads // rows)
            head = torch.arange(self.heads)
            points = torch.stack([(head // columns + 0.5) / rows, (head % columns + 0.5) / columns], dim=-1)  # (H, 2)
        with torch.no_grad():
            self.point.bias.copy_(points.logit().flatten())
            self.spread.bias.fill_(math.log(math.expm1(spread)))  # softplus^-1

    def forward(self, x: Tensor, centres: Tensor, prefix: int) -> Tensor:
        """Return the bias -d^2 / 2 sigma^2, (B, H, Q, prefix + h * w), for ``x`` (B, Q, D), ``centres`` (h * w, 2).

        The ``prefix`` tokens (CLS, registers) have no position on the grid: bias 0, always visible.
        """
        point, spread = self.locate(x)
        offset = point[..., None, :] - centres.to(point)  # (B, H, Q, h * w, 2)
        bias = offset.square().sum(-1) / (-2 * spread.square())  # (B, H, Q, h * w)
        return F.pad(bias, (prefix, 0)).to(x.dtype)

    def locate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the point (B, H, Q, 2), (row, column) from 0 to 1, and its spread (B, H, Q, 1); fp32."""
        point = torch.sigmoid(split_heads(self.point(x), self.heads).float())
        spread = F.softplus(split_heads(self.spread(x), self.heads).float()) + 0.02  # avoids a division by 0
        return point, spread


class CrossAttention(nn.Module):
    """Cross-attention to the image; ``remember`` computes its keys and values once per image."""

    def __init__(
        self, width: int, heads: int, kind: str, memory_width: int | None = None, *, heads_width: int | None = None
    ) -> None:
        super().__init__()
        self.heads, self.kind = heads, kind
        inner = heads_width or width
        self.q_proj = nn.Linear(width, inner)
        self.kv_proj = nn.Linear(memory_width or width, 2 * inner)
        self.read = MixedRead(width, heads, kind)
        if kind != "G":
            self.focus = Focus(width, heads)
        self.out_proj = nn.Linear(inner, width)

    def remember(self, tokens: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, H, S, Dh) of patch tokens (B, S, D'), in ``dtype`` or the tokens' own.

        They are contiguous per head, since every step reads them (8 images of 197 patches: 0.67 ms a layer instead of
        0.92).
        """
        both = self.kv_proj(tokens).to(dtype)  # (B, S, 2 D)
        k, v = (split_heads(part, self.heads).contiguous() for part in both.chunk(2, dim=-1))
        return k, v

    def forward(
        self,
        x: Tensor,
        memory: tuple[Tensor, Tensor],
        centres: Tensor,
        prefix: int,
        *,
        reads: list[ImageRead] | None = None,
    ) -> Tensor:
        """Return (N, T, D) for ``x`` (N, T, D), with N a multiple of the B images in ``memory``.

        Tokens do not see each other here, so all captions of an image fold into one axis of queries, (B, K * T, D), and
        the memory is never copied. This layer's attention is appended to ``reads``.
        """
        k, v = memory
        folded = x.reshape(k.shape[0], -1, x.shape[-1])  # (B, K * T, D)
        q = split_heads(self.q_proj(folded), self.heads)  # (B, H, K * T, Dh)
        near = self.focus(folded, centres, prefix) if self.kind != "G" else None
        if reads is not None:
            reads.append(self._image_read(folded, q, k, near))
        read = self.read(folded, (q, k, v), None, near)  # (B, H, K * T, Dh)
        return self.out_proj(merge_heads(read)).view(x.shape)  # (N, T, D)

    def _image_read(self, x: Tensor, q: Tensor, k: Tensor, near: Tensor | None) -> ImageRead:
        point, spread = self.focus.locate(x) if near is not None else (None, None)
        return ImageRead(
            global_weights=attention_weights(q, k) if self.kind != "L" else None,
            local_weights=attention_weights(q, k, near) if near is not None else None,
            gate=self.read.gate_share(x).squeeze(-1) if self.kind == "M" else None,
            point=point,
            spread=spread.squeeze(-1) if spread is not None else None,
        )
