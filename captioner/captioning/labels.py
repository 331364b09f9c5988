"""Labels beside captions: names of objects in a photo."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from captioner.config import GenerationConfig, LabelsConfig
from captioner.errors import UsageError
from captioner.generation.label_bias import LabelBias, label_words
from captioner.inference import AnyCheckpoint
from captioner.text.neutral import every_language

LANGUAGE = "en"  # labels are English nouns
OPTIONS = ("label_weight", "name_sure_labels")  # of generation, which need a labeller
LEAST_PROBABLE = 0.25  # a label below it is more often wrong than right


@dataclass(frozen=True)
class Label:
    """A name of something in the photo, with its probability."""

    text: str
    probability: float  # 0 to 1, that people would name it


def labels_of(
    config: LabelsConfig | None, log_odds: Tensor | None, *, neutral: bool = False, least: float = LEAST_PROBABLE
) -> tuple[Label, ...]:
    """Return the labels with a probability of at least ``least``, most probable first.

    ``log_odds`` (G,). ``neutral`` leaves out labels that presume the gender or age of people. Without a labeller,
    ``config`` and ``log_odds`` are None and the result is empty.
    """
    if config is None or log_odds is None:
        return ()
    probabilities = log_odds.sigmoid().tolist()
    named = [Label(word, p) for word, p in zip(config.words, probabilities, strict=True) if p >= least]
    if neutral:
        presuming = set(every_language().presuming)
        named = [label for label in named if label.text not in presuming]
    return tuple(sorted(named, key=lambda label: -label.probability))


def require_labels(checkpoint: AnyCheckpoint, config: GenerationConfig) -> None:
    """Raise ``UsageError`` for a captioner without a labeller if ``config`` needs one."""
    used = [option for option in OPTIONS if getattr(config, option)]
    if used and checkpoint.config.labels is None:
        raise UsageError(
            f"{checkpoint.source or 'this captioner'} predicts no labels; leave {' and '.join(used)} out, or train a "
            "labeller with the task labels"
        )


def captions_may_name_labels(checkpoint: AnyCheckpoint, config: GenerationConfig) -> bool:
    """Return whether the captions of ``config`` are in the language of the captioner's labels."""
    spoken = config.language or next(iter(checkpoint.tokenizer.config.languages), LANGUAGE)
    return checkpoint.config.labels is not None and spoken == LANGUAGE


def label_bias(checkpoint: AnyCheckpoint, log_odds: Tensor | None, config: GenerationConfig) -> LabelBias | None:
    """Return the bias of a search by the ``log_odds`` (B, G) of the labels; None if ``config`` wants none."""
    labels = checkpoint.config.labels
    if labels is None or log_odds is None or not (config.label_weight and captions_may_name_labels(checkpoint, config)):
        return None
    return LabelBias.of(label_words(labels.words, checkpoint.tokenizer), log_odds, config.label_weight)
