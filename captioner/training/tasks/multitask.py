"""Multitask training: captioning, contrastive retrieval and matching in one pass over shared encodings."""

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
from captioner.metrics.function_words import NEVER_TAGS
from captioner.metrics.retrieval import retrieval
from captioner.metrics.words import Split, splitter
from captioner.models.captioner import Captioner, Outputs
from captioner.models.decoder import ImageMemory
from captioner.models.heads import LOSSES, append_eos, end_states
from captioner.models.joint import JointQuery, caption_keys, own_captions, owners
from captioner.models.vision import EncodedImage
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch
from captioner.training.distributed import gather_objects
from captioner.training.features import FeatureStore
from captioner.training.pairs import (
    Pairs,
    combined,
    matching_accuracy,
    matching_loss,
    of_all_processes,
)
from captioner.training.recipe import Recipe, Stage
from captioner.training.tasks.base import Data, named_by_captions, weighted_cross_entropy
from captioner.training.tasks.cross_entropy import CrossEntropy

RAREST = 3  # a tag's word occurs in the captions of at least this many images


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the task multitask. The first four describe new heads; a captioner with heads keeps them."""

    width: int = 256  # width of the embeddings
    pooling: Literal["attention", "mean"] = "attention"
    matching: bool = True  # with a matching head
    tags: int = 0  # number of tags
    negatives: int = 2  # false captions per image, and false images for as many of its captions
    weights: Mapping[str, Any] = field(default_factory=dict)
    """Weights of the losses caption, contrastive, matching and tags, 1 by default; without any, they are learned."""

    def __post_init__(self) -> None:
        if self.negatives < 1 or self.width < 1 or self.tags < 0:
            raise ConfigError("options.negatives and options.width must be at least 1, options.tags at least 0")
        for name, weight in self.weights.items():
            if name not in LOSSES:
                raise ConfigError(f"options.weights.{name} is not a loss; choose from {', '.join(LOSSES)}")
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
                raise ConfigError(f"options.weights.{name} must be a number of at least 0, not {weight!r}")


class Multitask(CrossEntropy):
    """Cross-entropy of captions, a contrastive loss, matching with hard negatives, and tags.

    The contrastive loss is that of Radford et al. 2021 and Yu et al. 2022, with negatives from all processes; matching
    is that of Li et al. 2021 and 2022, with hard negatives from the process's own images. The score is that of the
    captions plus the mean of both recalls at 1 among the held-out images.
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
            raise DataError("multitask compares images, and there is only one to train on; add images")

    @classmethod
    def equip(cls, recipe: Recipe, stage: Stage, data: Data, checkpoint: Checkpoint) -> bool:
        """Add heads to a captioner without them."""
        if recipe.adapter is not None:
            raise UsageError(
                "multitask trains heads, which an adapter run cannot train; leave the adapter out, or choose another "
                "task"
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
        """Add the tags (B, G) that the captions of each image name, 0 or 1."""
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
        """Return each loss times the number of words, so that the loop's mean over words is the loss itself."""
        lengths = (batch.weights > 0).sum(-1)  # (B, K)
        outputs: Outputs = wrapped(
            batch.tokens, batch.image, JointQuery(lengths=lengths, negatives=self.options.negatives)
        )
        output = outputs.joint
        assert output is not None
        smoothed, nll = weighted_cross_entropy(
            outputs.logits, batch.targets, batch.weights, label_smoothing=self.stage.label_smoothing
        )
        count = batch.weights.sum()
        real, owner = lengths.flatten() > 0, owners(batch.tokens)
        keys = caption_keys(batch.tokens, lengths).flatten()[real]
        pairs = of_all_processes(
            Pairs(output.images, output.texts.flatten(0, 1)[real], keys, owner[real], count, len(lengths))
        )
        losses = {"caption": smoothed, "contrastive": pairs.contrast(output.logit_scale) * pairs.words}
        figures = {"nll": nll}
        if output.true is not None and output.false is not None and output.valid is not None:
            true, false = output.true[lengths > 0], output.false[output.valid]
            losses["matching"] = matching_loss(true, false) * count
            figures["matching_accuracy"] = matching_accuracy(true, false) * count
        if output.tags is not None:
            labels = batch.extra["labels"]
            each = F.binary_cross_entropy_with_logits(output.tags.float(), labels, reduction="none").mean(1)  # (B,)
            losses["tags"] = each.sum() / pairs.each * pairs.words
        learned = None if self.options.weights else output.log_variances
        total = combined({name: value / count for name, value in losses.items()}, learned, self.options.weights) * count
        if learned is not None:
            figures |= {f"weight_{n}": (-learned[LOSSES.index(n)]).exp().detach() * count for n in losses}
        return {"loss": total, **{name: value.detach() for name, value in losses.items()}, **figures}

    def collect_figures(self, model: Captioner, encoded: EncodedImage, memory: ImageMemory, batch: Batch) -> None:
        """Collect the embeddings of held-out images and captions, and the log-odds of true and hard false pairs."""
        assert model.heads is not None
        lengths = (batch.weights > 0).sum(-1)
        text = model.config.text
        tokens, ends = append_eos(batch.tokens, lengths, text.eos_id, model.decoder.config.context)
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
        self.seen.append(_Seen(*(part.cpu() for part in parts)))  # on the CPU, where processes exchange them

    @torch.inference_mode()
    def validate(self, model: Captioner, store: FeatureStore | None, device: torch.device) -> dict[str, float]:
        self.seen = []
        figures = super().validate(model, store, device)
        seen, self.seen = [part for parts in gather_objects(self.seen) for part in parts], []
        pairs = _joined(seen)
        images, texts = pairs.images.numpy(), pairs.texts.numpy()  # numpy multiplies in fp32, autocast would not
        recall = retrieval(images @ texts.T, pairs.owner.numpy())
        return {
            **figures,
            "score": figures["score"] + (recall.captions[0] + recall.images[0]) / 2,
            "caption_recall1": recall.captions[0],
            "caption_recall5": recall.captions[1],
            "image_recall1": recall.images[0],
            "image_recall5": recall.images[1],
            **({"matching_accuracy": float(matching_accuracy(pairs.true, pairs.false))} if len(pairs.true) else {}),
        }


@dataclass(frozen=True)
class _Seen:
    """The heads' output for held-out images and captions."""

    images: Tensor  # embeddings
    texts: Tensor  # embeddings
    owner: Tensor  # the image of each caption
    true: Tensor  # log-odds of true pairs
    false: Tensor  # log-odds of false pairs


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
    """Return the ``count`` words in the captions of most images, without function words; at least ``RAREST`` each."""
    images = Counter(word for sample in samples for word in {w for c in sample.captions for w in split(c)})
    kept = [(n, word) for word, n in images.items() if n >= RAREST and word not in NEVER_TAGS]
    return tuple(word for _, word in sorted(kept, key=lambda pair: (-pair[0], pair[1]))[:count])
