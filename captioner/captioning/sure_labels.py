"""Captions that name what the labeller is sure of: a constrained beam search for a label that the caption omits.

A decoder rarely writes a word that its training captions lacked, even if the labeller sees the thing. Constrained beams
make it write the word (Anderson et al. 2017, arXiv 1612.00576). Here they run only for the images whose caption omits a
sure label. The result replaces the caption if it is as probable, with the labeller's probability in place of the
decoder's for the word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import compress
from statistics import fmean

import torch
from torch import Tensor

from captioner.captioning.labels import LEAST_PROBABLE, Label, captions_may_name_labels, labels_of
from captioner.config import GenerationConfig
from captioner.config.generation import REQUIRING_BEAMS
from captioner.errors import UsageError
from captioner.generation.constrained import Phrase
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.processors import phrase_bias
from captioner.generation.rules import Rules, required
from captioner.generation.search import search
from captioner.inference import AnyCheckpoint
from captioner.metrics.kinds import Kinds
from captioner.metrics.nouns import plural
from captioner.models.decoder import ImageMemory
from captioner.text import CaptionTokenizer

MOST_SURE = 0.99  # of a label: a caption without it has a finite score


@dataclass(frozen=True)
class Omission:
    """A sure label that a caption omits."""

    label: Label
    phrase: Phrase  # the label or its plural
    excluded: frozenset[str] = frozenset()  # names in the caption that contradict the label
    named: tuple[Label, ...] = ()  # labels in the caption that are more probable than not


def name_sure_labels(
    checkpoint: AnyCheckpoint,
    memory: ImageMemory,
    hypotheses: Sequence[Sequence[Hypothesis]],
    labels: Tensor,
    config: GenerationConfig,
    *,
    rules: Rules,
) -> list[list[Hypothesis]]:
    """Return the captions of each image, the first one replaced where it omits a sure label and a good caption has it.

    A label is sure from the probability ``config.name_sure_labels`` on. With a classifier, only the labels that it
    knows count: captions teach the decoder when to name the others. If a caption omits several, the most probable one
    counts. The new caption satisfies all rules of ``config``, and replaces the old one if it ``is_better``.
    ``hypotheses``: the captions of B images, best first; ``labels`` (B, G) the log-odds.
    """
    named = [list(candidates) for candidates in hypotheses]
    together: dict[frozenset[str], dict[int, Omission]] = {}  # images that are searched with the same rules
    for image, omitted in enumerate(omissions(checkpoint, hypotheses, labels, config)):
        if omitted is not None:
            together.setdefault(omitted.excluded, {})[image] = omitted
    for excluded, members in together.items():
        images = torch.tensor(list(members), device=memory.centres.device)
        phrases = [omitted.phrase for omitted in members.values()]
        own = rules.of_images(images)
        found = captions_with(phrases, checkpoint, memory.select(images), config, excluded=excluded, rules=own)
        for (image, omitted), new in zip(members.items(), found, strict=True):
            if new and is_better(checkpoint, new[0], named[image][0], omitted):
                named[image][0] = new[0]
    return named


def omissions(
    checkpoint: AnyCheckpoint, hypotheses: Sequence[Sequence[Hypothesis]], labels: Tensor, config: GenerationConfig
) -> list[Omission | None]:
    """Return for each image the most probable sure label that its best caption omits.

    Another name of the same thing counts as the label (``Kinds``). None also for an image without a caption, and for
    all images if the captions are in another language than the labels.
    """
    words = checkpoint.config.labels
    if words is None or not captions_may_name_labels(checkpoint, config):
        return [None] * len(hypotheses)
    kinds, least = _kinds(words.words), min(config.name_sure_labels, LEAST_PROBABLE)
    classifier = words.classifier
    eligible = set(words.words if classifier is None else compress(words.words, classifier.classes))
    found: list[Omission | None] = []
    for candidates, log_odds in zip(hypotheses, labels.cpu(), strict=True):
        probable = labels_of(words, log_odds, neutral=config.rules.neutral, least=least) if candidates else ()
        caption = checkpoint.tokenizer.decode(candidates[0].tokens) if candidates else ""
        sure = [x for x in probable if x.probability >= config.name_sure_labels and x.text in eligible]
        label = next((x for x in sure if not kinds.names(x.text, caption)), None)
        phrase = _phrase(label.text, checkpoint.tokenizer) if label is not None else None
        if label is None or phrase is None:
            found.append(None)
            continue
        seen = [x.text for x in probable if x.probability >= LEAST_PROBABLE]
        named = tuple(x for x in probable if x.probability > 0.5 and kinds.names(x.text, caption))
        excluded = kinds.excluded(label.text, caption, seen)
        found.append(Omission(label, phrase, frozenset(excluded), named))
    return found


def captions_with(
    phrases: Sequence[Phrase],
    checkpoint: AnyCheckpoint,
    memory: ImageMemory,
    config: GenerationConfig,
    *,
    excluded: frozenset[str],
    rules: Rules,
) -> list[list[Hypothesis]]:
    """Return captions of each image in ``memory`` with its phrase, without ``excluded`` names, best first."""
    processors = rules.processors
    if excluded:
        forms = sorted({form for name in excluded for form in (name, plural(name))})
        processors = (*processors, phrase_bias(dict.fromkeys(forms, float("-inf")), checkpoint.tokenizer))
    plain = replace(
        config,
        beams=max(config.beams, REQUIRING_BEAMS),
        groups=1,
        diversity=0.0,
        candidates=1,
        rerank="score",
        refine=0,
        name_sure_labels=0.0,
    )
    own = replace(rules, processors=processors)
    return search(checkpoint.model.decoder, memory, checkpoint.config.text, plain, rules=own, required=phrases)


def is_better(checkpoint: AnyCheckpoint, new: Hypothesis, old: Hypothesis, omitted: Omission) -> bool:
    """Return whether a caption with an omitted label is at least as good as the one without it.

    Both are judged by the mean of log-probabilities. The decoder may never have written the label's word for a photo,
    so the labeller's probability p takes the place of the decoder's: log p in the new caption, log(1 - p) in the old
    one. Labels that only the old caption names lower the new one's sum by their log-odds.
    """
    assert checkpoint.config.labels is not None
    kinds, span = _kinds(checkpoint.config.labels.words), omitted.phrase.span_in(new.tokens)
    if span is None:
        return False
    caption = checkpoint.tokenizer.decode(new.tokens)
    lost = sum(_log_odds(label) for label in omitted.named if not kinds.names(label.text, caption))
    chance = min(omitted.label.probability, MOST_SURE)
    others = (*new.log_probs[: span[0]], *new.log_probs[span[1] :])
    return fmean((*others, math.log(chance) - lost)) >= fmean((*old.log_probs, math.log(1 - chance)))


def _log_odds(label: Label) -> float:
    chance = min(label.probability, MOST_SURE)
    return math.log(chance / (1 - chance))


def _phrase(label: str, tokenizer: CaptionTokenizer) -> Phrase | None:
    """Return the label or its plural as a phrase; None if the tokenizer cannot write it."""
    try:
        return required(f"{label}|{plural(label)}", tokenizer)
    except UsageError:
        return None


@lru_cache(maxsize=8)
def _kinds(labels: tuple[str, ...]) -> Kinds:
    return Kinds(labels)
