"""Captions that name another label than the photo shows, beside label tokens that say the same.

A decoder trusts the patches more than the token of a label that it never wrote for a photo. If caption and label token
change together while the photo stays, only the token explains the word, so the decoder learns to copy labels, also
those that no training caption names.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from captioner.errors import ConfigError
from captioner.metrics.kinds import Kinds
from captioner.metrics.nouns import LabelFinder, plural
from captioner.models.captioner import Captioner
from captioner.models.vision import Features
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch, Collate
from captioner.training.tasks.base import features_of
from captioner.training.tasks.policy import seed_of

LEAST_PROBABLE = 0.1  # the token of a label below it says too little to explain the word
LANGUAGE = "en"  # labels are English nouns


class LabelExchange:
    """The exchange of a label that the decoder reads for another one, in a ``share`` of the images.

    The other label is of the same kind if that has others (``Kinds``: another animal for a dog), else any. It takes the
    place of the first one in the captions that name it, and its probability among the label tokens, and gives its own
    in return. Labels that no caption names are exchanged as often, so that the decoder learns how often people name a
    label of such a probability. The image's captions in another language than the labels are left out. An image without
    a probable label stays as it is.
    """

    def __init__(self, labels: Sequence[str], tokenizer: CaptionTokenizer, collate: Collate, *, share: float) -> None:
        self.labels, self.tokenizer, self.collate, self.share = tuple(labels), tokenizer, collate, share
        self.finder = LabelFinder(labels)
        self.start = tokenizer.config.languages.get(LANGUAGE, tokenizer.config.bos_id)
        kinds, place = Kinds(labels), {label: number for number, label in enumerate(labels)}
        self.others = [
            sorted(place[name] for name in kinds.rivals(label) if name in place) or list(range(len(labels)))
            for label in labels
        ]

    @torch.no_grad()
    def __call__(self, model: Captioner, batch: Batch) -> Batch:
        """Return the batch with exchanged captions, and the log-odds ``given`` (B, G) that choose the label tokens."""
        assert model.labeller is not None
        draws = {image: random.Random(seed_of(batch.seed, name)) for image, name in enumerate(batch.names)}
        chosen = [image for image, draw in draws.items() if draw.random() < self.share]
        captions, starts = _captions_of(batch)
        given = torch.full((len(batch.names), len(self.labels)), float("nan"), device=batch.tokens.device)
        for image, log_odds in zip(chosen, self.log_odds(model, batch, chosen), strict=True):
            pairs = zip(captions[image], starts[image], strict=True)
            texts = [self.tokenizer.decode(ids) for ids, start in pairs if start == self.start]
            pair = self._drawn(texts, log_odds, model.labeller.count, draws[image])
            if pair is None:
                continue
            old, new = pair
            given[image] = log_odds
            given[image, [old, new]] = log_odds[[new, old]]
            room = model.config.decoder.context - 1
            captions[image] = [self.tokenizer.encode(self.renamed(text, old, new))[:room] for text in texts]
            starts[image] = [self.start] * len(texts)
        tokens, targets, weights = (part.to(given.device) for part in self.collate.pad_captions(captions, starts))
        return replace(batch, tokens=tokens, targets=targets, weights=weights, extra={**batch.extra, "given": given})

    def renamed(self, caption: str, old: int, new: int) -> str:
        """Return the caption with each mention of the label ``old`` as one of ``new``, plural for plural."""
        parts, at = [], 0
        for start, end, label in self.finder.spans(caption):
            if label != old:
                continue
            many = caption[start:end].lower() == plural(self.labels[old])
            name = plural(self.labels[new]) if many else self.labels[new]
            parts += [_with_article(caption[at:start], name), name]
            at = end
        return "".join([*parts, caption[at:]])

    def log_odds(self, model: Captioner, batch: Batch, images: Sequence[int]) -> Tensor:
        """Return the log-odds (N, G) of the labels of some images, without dropout."""
        assert model.labeller is not None
        if not images:
            return torch.empty(0, len(self.labels))
        image = cast(Tensor | Features, batch.image)
        part = image.rows(images) if isinstance(image, Features) else image[list(images)]
        training = model.training
        log_odds: Tensor = model.eval().labeller(features_of(model, replace(batch, image=part)))  # type: ignore[misc]
        model.train(training)
        return log_odds

    def _drawn(self, texts: Sequence[str], log_odds: Tensor, count: int, draw: random.Random) -> tuple[int, int] | None:
        """Return a label that the decoder would read, and another one that no text names; None without any."""
        best = log_odds.topk(count)
        shown = best.indices[best.values.sigmoid() >= LEAST_PROBABLE].tolist()
        if not shown or not texts:
            return None
        old = draw.choice(sorted(shown))
        named = {label for text in texts for label in self.finder.find(text)}
        others = [label for label in self.others[old] if label != old and label not in named]
        return (old, draw.choice(others)) if others else None


def exchange_for(model: Captioner, tokenizer: CaptionTokenizer, collate: Collate, share: float) -> LabelExchange:
    """Return the exchange of the captioner's labels. Raises ``ConfigError`` for a captioner without labels."""
    if model.config.labels is None:
        raise ConfigError("options.exchanged needs a captioner with labels; train them with the task labels first")
    return LabelExchange(model.config.labels.words, tokenizer, collate, share=share)


def _captions_of(batch: Batch) -> tuple[list[list[list[int]]], list[list[int]]]:
    """Return the tokens of each image's captions, without start and end, and their start tokens."""
    lengths = batch.weights.sum(-1).long().tolist()
    rows = list(zip(batch.targets.tolist(), batch.tokens[:, :, 0].tolist(), lengths, strict=True))
    captions = [[ids[: n - 1] for ids, n in zip(targets, counts, strict=True) if n] for targets, _, counts in rows]
    return captions, [firsts[: len(group)] for (_, firsts, _), group in zip(rows, captions, strict=True)]


def _with_article(before: str, name: str) -> str:
    """Return the text before ``name`` with its indefinite article, if it ends with one, in the form for ``name``."""
    words = before.split(" ")
    if before.endswith(" ") and words[-2].lower() in ("a", "an"):
        words[-2] = words[-2][0] + ("n" if name[0] in "aeiou" else "")
    return " ".join(words)
