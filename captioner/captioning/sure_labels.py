"""Captions that name what the labeller is sure of: a constrained beam search for a label that the caption omits.

A decoder rarely writes a word that its training captions lacked, even if the labeller sees the thing. Constrained beams
make it write the word (Anderson et al. 2017, arXiv 1612.00576). Here they run only for the images whose caption omits a
sure label, and the result has to be nearly as probable as the caption that it replaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from captioner.captioning.labels import LEAST_PROBABLE, Label, labels_of
from captioner.config import GenerationConfig
from captioner.config.generation import REQUIRING_BEAMS
from captioner.errors import UsageError
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.processors import phrase_bias
from captioner.generation.rules import Rules, required
from captioner.generation.search import search
from captioner.inference import AnyCheckpoint
from captioner.metrics.kinds import Kinds
from captioner.metrics.nouns import plural
from captioner.models.decoder import ImageMemory

LABEL_LANGUAGE = "en"  # labels are English nouns
MARGIN = 0.3  # how much lower the mean log-probability of the new caption may be, in nats per token


@dataclass(frozen=True)
class Omission:
    """A sure label that a caption omits."""

    label: Label
    excluded: frozenset[str]  # names in the caption that contradict the label


def require_labels(checkpoint: AnyCheckpoint) -> None:
    """Raise ``UsageError`` for a captioner without a labeller."""
    if checkpoint.config.labels is None:
        raise UsageError(
            f"{checkpoint.source or 'this captioner'} predicts no labels, so it cannot name sure ones; leave "
            "name_sure_labels out, or train a labeller with the task labels"
        )


def name_sure_labels(
    checkpoint: AnyCheckpoint,
    memory: ImageMemory,
    hypotheses: Sequence[Sequence[Hypothesis]],
    labels: Tensor,
    config: GenerationConfig,
    *,
    rules: Rules,
    margin: float = MARGIN,
) -> list[list[Hypothesis]]:
    """Return the captions of each image, the first one replaced where it omits a sure label and a good caption has it.

    A label is sure from the probability ``config.name_sure_labels`` on; if a caption omits several, the most probable
    one counts. The new caption satisfies all rules of ``config`` besides. It is accepted if its mean log-probability
    per token is at most ``margin`` lower. Images are searched one by one, since each has its own required word.
    ``hypotheses``: the captions of B images, best first; ``labels`` (B, G) the log-odds.
    """
    named = [list(candidates) for candidates in hypotheses]
    for image, omitted in enumerate(omissions(checkpoint, hypotheses, labels, config)):
        if omitted is None:
            continue
        part = memory.select(torch.tensor([image], device=memory.centres.device))
        best = rewrite_with_label(checkpoint, part, omitted, config, rules=rules)
        if best is not None and mean_log_prob(best) >= mean_log_prob(named[image][0]) - margin:
            named[image][0] = best
    return named


def omissions(
    checkpoint: AnyCheckpoint, hypotheses: Sequence[Sequence[Hypothesis]], labels: Tensor, config: GenerationConfig
) -> list[Omission | None]:
    """Return for each image the most probable sure label that its best caption omits.

    Another name of the same thing counts as the label (``Kinds``). None also for an image without a caption, and for
    all images if the captions are in another language than the labels.
    """
    words, languages = checkpoint.config.labels, checkpoint.tokenizer.config.languages
    spoken = config.language or next(iter(languages), LABEL_LANGUAGE)
    if words is None or spoken != LABEL_LANGUAGE:
        return [None] * len(hypotheses)
    kinds, least = _kinds(words.words), min(config.name_sure_labels, LEAST_PROBABLE)
    found: list[Omission | None] = []
    for candidates, log_odds in zip(hypotheses, labels.cpu(), strict=True):
        probable = labels_of(words, log_odds, neutral=config.rules.neutral, least=least) if candidates else ()
        caption = checkpoint.tokenizer.decode(candidates[0].tokens) if candidates else ""
        sure = [x for x in probable if x.probability >= config.name_sure_labels]
        label = next((x for x in sure if not kinds.names(x.text, caption)), None)
        seen = [x.text for x in probable if x.probability >= LEAST_PROBABLE]
        found.append(Omission(label, frozenset(kinds.excluded(label.text, caption, seen))) if label else None)
    return found


def rewrite_with_label(
    checkpoint: AnyCheckpoint, memory: ImageMemory, omitted: Omission, config: GenerationConfig, *, rules: Rules
) -> Hypothesis | None:
    """Return the best caption of the one image in ``memory`` that names the omitted label, or None if none fits."""
    tokenizer, label = checkpoint.tokenizer, omitted.label.text
    try:
        phrase = required(f"{label}|{plural(label)}", tokenizer)
    except UsageError:  # a label that the tokenizer cannot write
        return None
    processors = rules.processors
    if omitted.excluded:
        forms = sorted({form for name in omitted.excluded for form in (name, plural(name))})
        processors = (*processors, phrase_bias(dict.fromkeys(forms, float("-inf")), tokenizer))
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
    own = replace(rules, processors=processors, require=(*rules.require, phrase))
    [captions] = search(checkpoint.model.decoder, memory, checkpoint.config.text, plain, rules=own)
    return captions[0] if captions else None


def mean_log_prob(hypothesis: Hypothesis) -> float:
    """Return the mean log-probability of a caption's tokens, in nats; higher is better."""
    return hypothesis.log_prob / max(hypothesis.length, 1)


@lru_cache(maxsize=8)
def _kinds(labels: tuple[str, ...]) -> Kinds:
    return Kinds(labels)
