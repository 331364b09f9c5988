"""Captioning, searching and matching learnt together, from one pass over encodings that all of them share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.checkpoint import Checkpoint
from captioner.config import HeadsConfig
from captioner.data.samples import Sample
from captioner.errors import ConfigError, DataError, UsageError
from captioner.metrics.retrieval import retrieval
from captioner.metrics.words import Split, splitter
from captioner.models.captioner import Captioner
from captioner.models.decoder import ImageMemory
from captioner.models.heads import LOSSES, closed, end_states
from captioner.models.together import Ask, Together, caption_keys, own_captions, owners
from captioner.models.vision import EncodedImage
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch
from captioner.training.features import FeatureStore
from captioner.training.pairs import (
    Pairs,
    combined,
    matching_accuracy,
    matching_loss,
    of_all_processes,
)
from captioner.training.ranks import gathered
from captioner.training.recipe import Recipe, Stage
from captioner.training.tasks.base import Data, named_by_captions, weighted_cross_entropy
from captioner.training.tasks.cross_entropy import CrossEntropy

_FUNCTION_WORDS = """
a an the this that these those some any each every all both other another no not and or but as if than while when where
who which what there here of in on at by for with from to into onto over under up down out off near behind between
through across along around against about after before during is are was were be been being has have having had do does
doing can will his her its their he she it they them him himself herself itself themselves one 's n't
"""
RAREST = 3  # images that a tag's word has to stand in


@dataclass(frozen=True, kw_only=True)
class Options:
    """``width``, ``pooling``, ``matching`` and ``tags`` (how many) are of heads that the captioner has yet to get;
    those that it has stay as they are.

    ``weights``: of the losses caption, contrastive, matching and tags, 1 where not named; learned where left out.
    ``negatives``: false captions per image, and false images for as many captions of it.
    """

    width: int = 256
    pooling: Literal["attention", "mean"] = "attention"
    matching: bool = True
    tags: int = 0
    negatives: int = 2
    weights: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.negatives < 1 or self.width < 1 or self.tags < 0:
            raise ConfigError("options.negatives and options.width must be at least 1, options.tags at least 0")
        for name, weight in self.weights.items():
            if name not in LOSSES:
                raise ConfigError(f"options.weights.{name} is no loss; there are {', '.join(LOSSES)}")
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
                raise ConfigError(f"options.weights.{name} must be a number of at least 0, not {weight!r}")


class Multitask(CrossEntropy):
    """Cross-entropy of captions, contrast of images and captions (Radford et al. 2021; Yu et al. 2022), matching with
    hard negatives (Li et al. 2021, 2022), and where wanted the words of an image one by one.

    Negatives of the contrast come from all processes, hard ones for matching from the process's own images. The score
    is that of the captions plus the mean of both recalls at 1 among the held-out images.
    """

    yardstick = "captions and pairs"
    Options = Options

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        super().__init__(recipe, stage, data, tokenizer)
        self.options: Options = self.options_of(stage)
        self.seen: list[_Seen] = []

    @classmethod
    def check(cls, data: Data) -> None:
        if len(data.train) < 2:
            raise DataError("multitask tells images apart, and there is but one to train on; add images")

    @classmethod
    def equip(cls, recipe: Recipe, stage: Stage, data: Data, checkpoint: Checkpoint) -> bool:
        """Heads, where the captioner has none."""
        if recipe.adapter is not None:
            raise UsageError(
                "multitask trains heads and an adapter trains itself alone; leave the adapter out, or train it by "
                "another task"
            )
        if checkpoint.model.heads is not None:
            return False
        options = cls.options_of(stage)
        tags = frequent_words(data.train, options.tags, splitter(checkpoint.config.text.words))
        torch.manual_seed(recipe.seed)
        checkpoint.model.add_heads(
            HeadsConfig(width=options.width, pooling=options.pooling, matching=options.matching, tags=tags)
        )
        return True

    def trained(self, name: str) -> bool:
        if name.startswith("labeller.classify."):
            return False
        return not (self.options.weights and name == "heads._log_variances")

    def prepare(self, model: Captioner, batch: Batch) -> Batch:
        """With what the tags of each image should be."""
        tags = model.config.heads.tags if model.config.heads is not None else ()
        if not tags:
            return batch
        place = {tag: n for n, tag in enumerate(tags)}
        split = splitter(self.tokenizer.config.words)
        labels = named_by_captions(
            batch, len(tags), lambda caption: [place[word] for word in split(caption) if word in place]
        )
        return replace(batch, extra={**batch.extra, "labels": labels.to(batch.tokens.device)})

    def loss(self, wrapped: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Sums as if every word of the batch had the loss of its batch, so that the loop's mean is theirs."""
        lengths = (batch.weights > 0).sum(-1)  # (B, K)
        found: Together = wrapped(batch.tokens, batch.image, Ask(lengths=lengths, negatives=self.options.negatives))
        smoothed, nll = weighted_cross_entropy(
            found.logits, batch.targets, batch.weights, label_smoothing=self.stage.label_smoothing
        )
        count = batch.weights.sum()
        real, owner = lengths.flatten() > 0, owners(batch.tokens)
        keys = caption_keys(batch.tokens, lengths).flatten()[real]
        pairs = of_all_processes(
            Pairs(found.images, found.texts.flatten(0, 1)[real], keys, owner[real], count, len(lengths))
        )
        losses = {"caption": smoothed, "contrastive": pairs.contrast(found.steepness) * pairs.words}
        figures = {"nll": nll}
        if found.true is not None and found.false is not None and found.valid is not None:
            true, false = found.true[lengths > 0], found.false[found.valid]
            losses["matching"] = matching_loss(true, false) * count
            figures["matching_accuracy"] = matching_accuracy(true, false) * count
        if found.tags is not None:
            labels = batch.extra["labels"]
            each = F.binary_cross_entropy_with_logits(found.tags.float(), labels, reduction="none").mean(1)  # (B,)
            losses["tags"] = each.sum() / pairs.each * pairs.words
        learned = None if self.options.weights else found.log_variances
        total = combined({name: value / count for name, value in losses.items()}, learned, self.options.weights) * count
        if learned is not None:
            figures |= {f"weight_{n}": (-learned[LOSSES.index(n)]).exp().detach() * count for n in losses}
        return {"loss": total, **{name: value.detach() for name, value in losses.items()}, **figures}

    def look(self, model: Captioner, encoded: EncodedImage, memory: ImageMemory, batch: Batch) -> None:
        """Held-out images and captions by their directions; whether a true caption, and the one most like it of those
        that are false of an image, are told apart."""
        assert model.heads is not None
        lengths = (batch.weights > 0).sum(-1)
        text = model.config.text
        tokens, ends = closed(batch.tokens, lengths, text.eos_id, model.decoder.config.context)
        images = model.heads.of_images(model.heads.pooled(encoded))
        texts = model.heads.of_texts(end_states(model.decoder, tokens.flatten(0, 1), ends.flatten()))  # (B * K, W)
        real, owner = lengths.flatten() > 0, owners(tokens)
        true = false = images.new_zeros(0)
        if model.heads.match is not None:
            own = own_captions(caption_keys(batch.tokens, lengths).flatten(), owner, real, len(images))
            value, likest = (images @ texts.T).masked_fill(own | ~real, -torch.inf).max(dim=1)  # (B,)
            true = model.heads.matches(end_states(model.decoder, tokens[:, 0], ends[:, 0], memory))
            chosen = tokens.flatten(0, 1)[likest], ends.flatten()[likest]
            false = model.heads.matches(end_states(model.decoder, *chosen, memory))[value.isfinite()]
        parts = (images, texts[real], owner[real], true, false)
        self.seen.append(_Seen(*(part.cpu() for part in parts)))  # processes tell each other from there

    @torch.inference_mode()
    def validate(self, model: Captioner, store: FeatureStore | None, device: torch.device) -> dict[str, float]:
        self.seen = []
        figures = super().validate(model, store, device)
        seen, self.seen = [part for of_process in gathered(self.seen) for part in of_process], []
        found = _joined(seen)
        images, texts = found.images.numpy(), found.texts.numpy()  # in fp32, where torch may not be
        recall = retrieval(images @ texts.T, found.owner.numpy())
        return {
            **figures,
            "score": figures["score"] + (recall.captions[0] + recall.images[0]) / 2,
            "caption_recall1": recall.captions[0],
            "caption_recall5": recall.captions[1],
            "image_recall1": recall.images[0],
            "image_recall5": recall.images[1],
            **({"matching_accuracy": float(matching_accuracy(found.true, found.false))} if len(found.true) else {}),
        }


@dataclass(frozen=True)
class _Seen:
    """Held-out images and captions as the heads see them: directions, whose each is, log-odds of true and false."""

    images: Tensor
    texts: Tensor
    owner: Tensor
    true: Tensor
    false: Tensor


def _joined(seen: Sequence[_Seen]) -> _Seen:
    starts = [0]
    for part in seen:
        starts.append(starts[-1] + len(part.images))
    return _Seen(
        torch.cat([part.images for part in seen]),
        torch.cat([part.texts for part in seen]),
        torch.cat([part.owner + start for part, start in zip(seen, starts, strict=False)]),
        torch.cat([part.true for part in seen]),
        torch.cat([part.false for part in seen]),
    )


def frequent_words(samples: Sequence[Sample], count: int, split: Split) -> tuple[str, ...]:
    """The ``count`` words that captions of most images say, function words aside; at least ``RAREST`` images each."""
    images = Counter(word for sample in samples for word in {w for c in sample.captions for w in split(c)})
    function = set(_FUNCTION_WORDS.split())
    kept = [(n, word) for word, n in images.items() if n >= RAREST and word not in function]
    return tuple(word for _, word in sorted(kept, key=lambda pair: (-pair[0], pair[1]))[:count])
