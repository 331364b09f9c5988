"""Settings of the decoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from captioner.config.schema import at_least_one
from captioner.errors import ConfigError, quoted

Activation = Literal["gelu_tanh", "gelu", "relu"]
MOST_WEIGHTS = 10**11  # in a decoder; a larger number is a typing error
LARGEST_COUNT = 10**9  # of words or units, where a larger number would change nothing


@dataclass(frozen=True, kw_only=True)
class MixedInit:
    """The initial values of mixed attention, before training.

    gate: Share of global attention.
    spread: Width of local attention over the image: standard deviation above the minimum, in sides of the image.
    points: Centres of the heads: all in the ``middle``, or ``apart`` on a grid over the image.
    """

    gate: float = 0.5
    spread: float = 0.25
    points: Literal["middle", "apart"] = "middle"

    def __post_init__(self) -> None:
        if not 0 < self.gate < 1:
            raise ConfigError(f"decoder.init.gate must be above 0 and below 1, not {self.gate:g}")
        if not 0 < self.spread <= 10:
            raise ConfigError(f"decoder.init.spread must be above 0 and at most 10, not {self.spread:g}")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A transformer decoder with cross-attention; the defaults are GPT-2's (Radford et al. 2019).

    The settings from ``norm`` on make the same block BERT (Devlin et al. 2019) or BART (Lewis et al. 2020)::

        bert = DecoderConfig(
            vocab_size=30524, norm="post", activation="gelu", embedding_norm=True, final_norm=False, head="bert"
        )

    context: Longest caption, in tokens.
    mlp_width: Width of the MLP; None is 4 times ``width``.
    self_pattern, cross_pattern: Attention per layer, tiled over the layers: G global, L local, M a learned mix of both.
    local_words: Width of the local window, in tokens, including the current one.
    cross_gate: Multiply the cross block by tanh of a scalar that starts at zero (Alayrac et al. 2022, Flamingo).
    prefix: Number of learned keys and values in front of every word's past (Li and Liang 2021).
    init: Initial values of L and M.
    norm: LayerNorm before each attention and MLP (``pre``), or after its residual sum (``post``).
    activation: Activation of the MLP: GELU by its tanh approximation, GELU by erf, or ReLU.
    embedding_norm: LayerNorm over the sum of token and position embedding.
    embedding_scale: Factor on token embeddings (BART: sqrt(width)).
    final_norm: LayerNorm after the last block.
    head: Weights of the logits: ``tied`` to the token embedding, ``untied``, ``bert``, tied after a linear layer,
        activation and LayerNorm, with a bias, or ``none`` for an encoder.
    memory_width: Width of the tokens that cross-attention reads; None is ``width``.
    head_width: Width of an attention head; None is ``width`` / ``heads``, which a captioner with pruned heads exceeds.
    causal: A token attends to itself and earlier tokens; without it, to all tokens (an encoder of questions).
    """

    vocab_size: int
    context: int = 64
    width: int = 384
    layers: int = 4
    heads: int = 6
    mlp_width: int | None = None
    dropout: float = 0.1
    self_pattern: str = "G"
    cross_pattern: str = "G"
    local_words: int = 4
    cross_gate: bool = False
    norm_eps: float = 1e-5
    prefix: int = 0
    init: MixedInit = field(default_factory=MixedInit)
    norm: Literal["pre", "post"] = "pre"
    activation: Activation = "gelu_tanh"
    embedding_norm: bool = False
    embedding_scale: float = 1.0
    final_norm: bool = True
    head: Literal["tied", "untied", "bert", "none"] = "tied"
    memory_width: int | None = None
    head_width: int | None = None
    causal: bool = True

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "context", "width", "layers", "heads", "local_words")
        optional = [name for name in ("mlp_width", "memory_width", "head_width") if getattr(self, name) is not None]
        at_least_one(self, "decoder", *sizes, *optional)
        if self.prefix < 0:
            raise ConfigError(f"decoder.prefix must be at least 0, not {self.prefix}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"decoder.dropout must be at least 0 and below 1, not {self.dropout}")
        if self.head_width is None and self.width % self.heads:
            raise ConfigError(f"decoder.width {self.width} is not a multiple of decoder.heads {self.heads}")
        if self.local_words > LARGEST_COUNT:
            raise ConfigError(f"decoder.local_words must be at most {LARGEST_COUNT}, not {quoted(self.local_words)}")
        if not 0 < self.embedding_scale <= self.width:
            raise ConfigError(f"decoder.embedding_scale must be above 0 and at most {self.width}, the width")
        if not self.causal and (self.self_pattern.strip("G") or self.prefix):
            raise ConfigError("a decoder that is not causal needs decoder.self_pattern G and no prefix")
        layer = self.heads_width * (6 * self.width + 2 * self.patch_width + self.prefix)
        weights = self.width * (self.vocab_size + self.context) + self.layers * layer
        if weights + 2 * self.layers * self.width * (self.mlp_width or 0) > MOST_WEIGHTS:
            raise ConfigError(
                f"a decoder of vocab_size {self.vocab_size}, context {self.context}, width {self.width} and "
                f"{self.layers} layers has more than {MOST_WEIGHTS:.0e} weights; lower one of them"
            )
        for name in ("self_pattern", "cross_pattern"):
            pattern = getattr(self, name)
            if not pattern or set(pattern) - set("GLM"):
                raise ConfigError(f"decoder.{name} {pattern!r} must be made of the letters G, L and M")

    @property
    def patch_width(self) -> int:
        """The width of the tokens that cross-attention reads."""
        return self.memory_width or self.width

    @property
    def one_head_width(self) -> int:
        """The width of one attention head."""
        return self.head_width or self.width // self.heads

    @property
    def heads_width(self) -> int:
        """The width of all attention heads together, which is ``width`` unless heads were pruned."""
        return self.heads * self.one_head_width
