"""Settings of the model: preprocessing, backbone, decoder, tokenizer, heads, labels, adapter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from captioner.config.schema import at_least_one
from captioner.errors import ConfigError, quoted

Aspect = Literal["squash", "crop", "pad"]
Activation = Literal["gelu_tanh", "gelu", "relu"]
Words = Literal["ptb", "characters", "jieba"]
LARGEST_INPUT = 2048  # pixels, side of a backbone's input
_MOST_ZOOM = 8
MOST_WEIGHTS = 10**11  # in a decoder; a larger number is a typing error
LARGEST_COUNT = 10**9  # of words or units, where a larger number would change nothing


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """The preprocessing that the backbone was trained with; saved with the weights.

    size: Side of the square input, in pixels.
    aspect: ``squash`` resizes both sides, ``crop`` keeps the centre square, ``pad`` pads with the mean colour.
    zoom: Enlargement of that square, whose centre is the input; an imported DeiT resizes to 256 and keeps 224.
    mean, std: Normalisation per channel, for values from 0 to 1.
    """

    size: int = 288
    aspect: Aspect = "squash"
    zoom: float = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        at_least_one(self, "preprocess", "size")
        if self.size > LARGEST_INPUT:
            raise ConfigError(f"preprocess.size must be at most {LARGEST_INPUT} pixels, not {self.size}")
        if not 1 <= self.zoom <= _MOST_ZOOM or (self.aspect == "pad" and self.zoom != 1):
            raise ConfigError(
                f"preprocess.zoom must be from 1 to {_MOST_ZOOM}, and 1 with aspect pad, not {self.zoom:g}"
            )
        if min(self.std) <= 0:
            raise ConfigError(f"preprocess.std must be above 0, not {self.std}")


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """A timm backbone, and the layers that turn its features into patch tokens of the decoder's width.

    backbone: The timm model name.
    backbone_args: Arguments for ``timm.create_model``.
    norm, positions, project: LayerNorm over the features, learned positions over the grid, linear projection to the
        decoder's width. Each is off if an imported checkpoint lacks it.
    norm_eps: Epsilon of the backbone's LayerNorms, instead of its own (Hugging Face ViT: 1e-12).
    """

    backbone: str = "tf_efficientnet_lite2"
    backbone_args: Mapping[str, Any] = field(default_factory=dict)
    norm: bool = True
    positions: bool = True
    project: bool = True
    norm_eps: float | None = None


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
    causal: bool = True

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "context", "width", "layers", "heads", "local_words")
        optional = [name for name in ("mlp_width", "memory_width") if getattr(self, name) is not None]
        at_least_one(self, "decoder", *sizes, *optional)
        if self.prefix < 0:
            raise ConfigError(f"decoder.prefix must be at least 0, not {self.prefix}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"decoder.dropout must be at least 0 and below 1, not {self.dropout}")
        if self.width % self.heads:
            raise ConfigError(f"decoder.width {self.width} is not a multiple of decoder.heads {self.heads}")
        if self.local_words > LARGEST_COUNT:
            raise ConfigError(f"decoder.local_words must be at most {LARGEST_COUNT}, not {quoted(self.local_words)}")
        if not 0 < self.embedding_scale <= self.width:
            raise ConfigError(f"decoder.embedding_scale must be above 0 and at most {self.width}, the width")
        if not self.causal and (self.self_pattern.strip("G") or self.prefix):
            raise ConfigError("a decoder that is not causal needs decoder.self_pattern G and no prefix")
        layer = 6 * self.width + 2 * self.patch_width + self.prefix
        weights = self.width * (self.vocab_size + self.context + self.layers * layer)
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


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The special tokens, the case of text and the languages of a captioner.

    bos_id, eos_id, pad_id: Ids of the start, end and padding token.
    lowercase: Lowercase text before encoding.
    words: The words that metrics count (``captioner.metrics.words``).
    gap_id: Token for masked words, in checkpoints trained to fill them in; no caption contains it.
    question_id: Token before a question, in a captioner that answers questions.
    languages: Start token of each language, the default one first; empty for a captioner of one language, whose
        captions start with ``bos_id``.
    """

    bos_id: int
    eos_id: int
    pad_id: int
    lowercase: bool = True
    words: Words = "ptb"
    gap_id: int | None = None
    question_id: int | None = None
    languages: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, start in self.languages.items():
            if isinstance(start, bool) or not isinstance(start, int) or start < 0:
                raise ConfigError(f"text.languages.{name} must be the id of a start token, not {start!r}")
        if self.languages and self.bos_id not in self.languages.values():
            raise ConfigError(f"text.bos_id {self.bos_id} must be the start token of one of text.languages")

    def words_in(self, language: str) -> Words:
        """Return the word splitter for captions in ``language``, by default the first: ``ptb`` for English.

        ``characters`` splits English alike, but METEOR and the COCO tools know ``ptb`` alone.
        """
        spoken = language or next((name for name, start in self.languages.items() if start == self.bos_id), "")
        return "ptb" if spoken == "en" else self.words

    def speaking(self, language: str) -> TextConfig:
        """Return this config with the start token of ``language``; an empty name keeps the default language.

        Raises ``ConfigError`` for a language that the captioner does not write.
        """
        if not language:
            return self
        if language not in self.languages:
            known = ", ".join(self.languages) or "one language only, without a name"
            raise ConfigError(f"this captioner does not write {language!r}; it writes {known}")
        return dataclasses.replace(self, bos_id=self.languages[language])


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """Heads for tasks other than captioning: retrieval, matching, tagging.

    width: Size of the shared embedding of images and texts.
    pooling: Pooling of the patch tokens: learned ``attention``, or the ``mean``.
    matching: Add a head that judges whether a caption matches an image.
    tags: The words that the tagging head predicts.
    """

    width: int = 256
    pooling: Literal["attention", "mean"] = "attention"
    matching: bool = True
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at_least_one(self, "heads", "width")
        if len(set(self.tags)) < len(self.tags):
            raise ConfigError("heads.tags must name each word once")


@dataclass(frozen=True, kw_only=True)
class LabelsConfig:
    """Labels that name what an image shows.

    words: The labels.
    tokens: Tokens of each label in the decoder's vocabulary.
    count: Number of labels of an image, the most probable ones, that the decoder attends to.
    """

    words: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    count: int = 8

    def __post_init__(self) -> None:
        at_least_one(self, "labels", "count")
        if not self.words or len(set(self.words)) < len(self.words):
            raise ConfigError("labels.words must name each word once, and one at least")
        if len(self.words) != len(self.tokens) or not all(self.tokens):
            raise ConfigError("labels.tokens must hold the tokens of each of labels.words")


@dataclass(frozen=True, kw_only=True)
class CaptionerConfig:
    """Everything needed to build the model of a checkpoint, except its weights.

    Without ``heads`` it only captions; without ``labels`` the decoder attends to patches only. With ``question``, the
    encoder of questions, it answers questions: the decoder attends to the question, which attends to the image (BLIP,
    Li et al. 2022, arXiv 2201.12086, section 5.3).
    """

    vision: VisionConfig
    decoder: DecoderConfig
    text: TextConfig
    preprocess: PreprocessConfig
    heads: HeadsConfig | None = None
    labels: LabelsConfig | None = None
    question: DecoderConfig | None = None

    def __post_init__(self) -> None:
        vocabulary = self.decoder.vocab_size
        if self.question is not None and (
            self.question.causal
            or self.question.head != "none"
            or self.question.width != self.decoder.patch_width
            or self.question.vocab_size != vocabulary
            or (self.heads, self.labels) != (None, None)
            or self.decoder.cross_pattern.strip("G")
        ):
            raise ConfigError(
                "question must be an encoder without head, of the decoder's vocabulary and the width that its "
                "cross-attention reads; it excludes heads, labels and local cross-attention"
            )
        if (self.question is None) != (self.text.question_id is None):
            raise ConfigError("question and text.question_id require each other; set both or neither")
        if self.decoder.head == "none" or not self.decoder.causal:
            raise ConfigError("the decoder of a captioner must be causal and have a head")
        if self.labels is not None and not all(
            0 <= token < vocabulary for tokens in self.labels.tokens for token in tokens
        ):
            raise ConfigError(f"labels.tokens must lie in the vocabulary of {vocabulary} tokens")
        if self.labels is not None and max(map(len, self.labels.tokens)) > self.decoder.context:
            raise ConfigError(f"labels.tokens must name each word with at most {self.decoder.context} tokens")
        starts = {f"languages.{name}": token for name, token in self.text.languages.items()}
        ids = {name: getattr(self.text, name) for name in ("bos_id", "eos_id", "pad_id", "gap_id", "question_id")}
        for name, token in (ids | starts).items():
            if token is not None and not 0 <= token < vocabulary:
                raise ConfigError(
                    f"text.{name} must be the id of one of the {vocabulary} tokens, 0 to {vocabulary - 1}, not {token}"
                )

    @property
    def patch_width(self) -> int:
        """The width of patch tokens: what the first module that attends to them reads."""
        return (self.question or self.decoder).patch_width


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """An adapter: a few weights trained on top of a frozen captioner.

    method: ``lora`` (Hu et al. 2022) adds ``alpha`` / ``rank`` times a product of two thin matrices to each target.
        ``adalora`` (Zhang et al. 2023) starts with 1.5 times ``rank`` and prunes the least important ones to ``rank``
        on average. ``prefix`` (Li and Liang 2021) learns ``length`` keys and values in every layer.
    targets: Linear layers of the decoder, by name or by the end of their path (``cross_attn.out_proj``).
    """

    method: Literal["lora", "adalora", "prefix"]
    rank: int = 8
    alpha: int = 16
    targets: tuple[str, ...] = ("q_proj", "qkv_proj", "kv_proj", "out_proj", "fc1", "fc2")
    length: int = 8

    def __post_init__(self) -> None:
        at_least_one(self, "adapter", "rank", "alpha", "length")
        if self.alpha > LARGEST_COUNT:
            raise ConfigError(f"adapter.alpha must be at most {LARGEST_COUNT}, not {quoted(self.alpha)}")
        if not self.targets or not all(self.targets):
            raise ConfigError("adapter.targets must name linear layers of the decoder, such as q_proj")
