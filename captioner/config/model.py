"""Settings of the model: tokenizer, heads, labels, adapter, and the model of them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from captioner.config.decoder import LARGEST_COUNT, DecoderConfig
from captioner.config.schema import at_least_one
from captioner.config.vision import PreprocessConfig, VisionConfig
from captioner.errors import ConfigError, quoted

Words = Literal["ptb", "characters", "jieba"]


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
class ClassifierConfig:
    """A classifier of many classes that labels are read from too, with upper blocks of the backbone of its own.

    blocks: Number of the backbone's lower blocks that the captioner and the classifier share.
    count: Number of classes.
    classes: The classes of each label; none for a label that the classifier does not know.
    """

    blocks: int
    count: int
    classes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        at_least_one(self, "labels.classifier", "blocks", "count")
        if not all(0 <= number < self.count for group in self.classes for number in group):
            raise ConfigError(f"labels.classifier.classes must hold numbers from 0 to {self.count - 1}")


@dataclass(frozen=True, kw_only=True)
class LabelsConfig:
    """Labels that name what an image shows.

    words: The labels.
    tokens: Tokens of each label in the decoder's vocabulary.
    count: Number of labels of an image, the most probable ones, that the decoder attends to.
    scaled: Label tokens are as large as patch tokens, and a label's word counts by its probability. Without it they are
        too small for the decoder to read: it is off only for checkpoints that were trained so.
    classifier: A classifier whose classes count as labels too; None for none.
    """

    words: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    count: int = 8
    scaled: bool = False
    classifier: ClassifierConfig | None = None

    def __post_init__(self) -> None:
        at_least_one(self, "labels", "count")
        if not self.words or len(set(self.words)) < len(self.words):
            raise ConfigError("labels.words must name each word once, and one at least")
        if len(self.words) != len(self.tokens) or not all(self.tokens):
            raise ConfigError("labels.tokens must hold the tokens of each of labels.words")
        if self.classifier is not None and len(self.classifier.classes) != len(self.words):
            raise ConfigError("labels.classifier.classes must hold the classes of each of labels.words")


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
