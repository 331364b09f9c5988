"""Items of training data, and the batches made of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from PIL import ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from captioner.config import PreprocessConfig
from captioner.data.samples import Sample
from captioner.data.transforms import augment, may_flip, preprocess
from captioner.models.vision import Features
from captioner.text import CaptionTokenizer
from captioner.training.loading import load_ahead, open_training_image

if TYPE_CHECKING:
    from captioner.training.features import FeatureStore


Views = Literal["plain", "mirrored", "augmented"]
Vary: TypeAlias = Callable[[tuple[int, ...], random.Random], tuple[int, ...]]
"""A random change of a caption's tokens, drawn anew each time that the caption is loaded."""


@dataclass(frozen=True)
class Batch:
    """A batch of B images with up to K captions each."""

    tokens: Tensor  # (B, K, T), start with BOS
    targets: Tensor  # (B, K, T), the tokens shifted by one; end with EOS
    weights: Tensor  # (B, K, T), 0 at places without a prediction
    image: Tensor | Features | None  # pixels (B, 3, size, size), stored features, or None for text alone
    names: tuple[str, ...]  # image names
    advantages: Tensor | None = None  # (B, K), factors of each caption's loss; None for 1
    figures: Mapping[str, Tensor] = field(default_factory=dict)  # figures of the task to log, sums over the images
    extra: Mapping[str, Tensor] = field(default_factory=dict)  # further tensors that the task's loss needs
    captions: tuple[tuple[str, ...], ...] = ()  # all captions of each image, in this batch or not
    seed: int = 0  # seed of the step for what its task draws, the same in all its parts and on all processes

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on another device."""
        image = self.image
        if isinstance(image, Features):
            image = replace(image, values=image.values.to(device, non_blocking=True))
        elif image is not None:
            image = image.to(device, non_blocking=True)
        tokens, targets, weights = (t.to(device) for t in (self.tokens, self.targets, self.weights))
        advantages = None if self.advantages is None else self.advantages.to(device)
        figures, extra = ({n: v.to(device) for n, v in part.items()} for part in (self.figures, self.extra))
        return Batch(tokens, targets, weights, image, self.names, advantages, figures, extra, self.captions, self.seed)


@dataclass(frozen=True)
class Item:
    """One image of a batch, with its encoded captions."""

    captions: tuple[tuple[int, ...], ...]  # tokens of the captions of this step
    image: Tensor | None  # pixels or stored features; None for text alone
    name: str
    starts: tuple[int, ...] = ()  # the start token of each caption, for a tokenizer of several languages
    texts: tuple[str, ...] = ()  # all captions of the image


class CaptionItems(Dataset[Item]):
    """Images with captions. A key is (place in the dataset, random seed).

    ``views``: the original photo (``plain``), mirrored at random (``mirrored``), or drawn by ``augment``
    (``augmented``). ``vary`` draws after all other draws of an image.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        tokenizer: CaptionTokenizer,
        preprocess: PreprocessConfig,
        *,
        captions_per_image: int,
        context: int,
        views: Views = "plain",
        store: FeatureStore | None = None,
        vary: Vary | None = None,
    ) -> None:
        self.samples, self.preprocess, self.views, self.store, self.vary = samples, preprocess, views, store, vary
        self.tokenizer, self.captions_per_image, self.context = tokenizer, captions_per_image, context

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        place, seed = key
        draw = random.Random(seed)
        sample = self.samples[place]
        texts = sample.captions
        if len(texts) > self.captions_per_image:
            texts = tuple(draw.sample(texts, self.captions_per_image))
        captions = tuple(tuple(self.tokenizer.encode(text)[: self.context - 1]) for text in texts)
        image = self._image(place, sample, draw)
        if self.vary is not None:
            captions = tuple(self.vary(ids, draw) for ids in captions)
        starts = tuple(map(self.tokenizer.start_of, texts)) if self.tokenizer.config.languages else ()
        return Item(captions, image, sample.name, starts, sample.captions)

    def _image(self, place: int, sample: Sample, draw: random.Random) -> Tensor:
        flip = self.views != "plain" and may_flip(sample.captions)
        if self.store is not None:
            return self.store.view(place, 0 if self.views == "plain" else self.store.draw(draw, flip=flip))
        image = open_training_image(sample)
        if self.views == "augmented":
            return augment(image, self.preprocess, flip=flip, seed=draw.getrandbits(32))
        if flip and draw.random() < 0.5:
            image = ImageOps.mirror(image)
        return preprocess(image, self.preprocess)


class TextItems(Dataset[Item]):
    """Lines of text without images."""

    def __init__(self, lines: Sequence[str], tokenizer: CaptionTokenizer, *, context: int) -> None:
        self.lines = lines
        self.encoded = [tuple(tokenizer.encode(line)[: context - 1]) for line in lines]
        self.starts = tuple(map(tokenizer.start_of, lines)) if tokenizer.config.languages else ()

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        place = key[0]
        texts = (self.lines[place],)
        return Item((self.encoded[place],), None, f"line {place + 1}", self.starts[place : place + 1], texts)


Items = CaptionItems | TextItems


@dataclass(frozen=True)
class Collate:
    """The step from items to a batch. ``kept``: an empty batch of the stored features; None for pixels."""

    bos_id: int
    eos_id: int
    pad_id: int
    kept: Features | None = None

    def __call__(self, items: Sequence[Item]) -> Batch:
        tokens, targets, weights = self.pad_captions(
            [item.captions for item in items], [item.starts for item in items] if items[0].starts else None
        )
        image: Any = None
        if items[0].image is not None:
            image = torch.stack([item.image for item in items if item.image is not None])
            if self.kept is not None:
                image = replace(self.kept, values=image)
        names, texts = tuple(item.name for item in items), tuple(item.texts for item in items)
        return Batch(tokens, targets, weights, image, names, captions=texts)

    def pad_captions(
        self, captions: Sequence[Sequence[Sequence[int]]], starts: Sequence[Sequence[int]] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens, targets and weights (B, K, T) of the captions of B images, padded to the longest.

        ``starts``: the start token of each caption; None for ``bos_id``.
        """
        length = 1 + max(len(ids) for group in captions for ids in group)
        shape = (len(captions), max(map(len, captions)), length)
        tokens = torch.full(shape, self.pad_id)  # (B, K, T)
        targets = torch.full(shape, self.pad_id)
        weights = torch.zeros(shape)
        for b, group in enumerate(captions):
            for k, ids in enumerate(group):
                start = self.bos_id if starts is None else starts[b][k]
                tokens[b, k, : len(ids) + 1] = torch.tensor((start, *ids))
                targets[b, k, : len(ids) + 1] = torch.tensor((*ids, self.eos_id))
                weights[b, k, : len(ids) + 1] = 1
        return tokens, targets, weights


def batches(
    items: Items, keys: Iterable[Sequence[tuple[int, int]]], collate: Collate, *, workers: int
) -> Iterator[Batch]:
    """Load the given micro-batches in order, ahead of the loop, in ``workers`` processes (0: in this one).

    Raises ``ImageError`` for an unreadable image.
    """
    return load_ahead(items, keys, collate, workers=workers)
