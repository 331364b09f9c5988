"""Batches, and the plan of the items in each step.

The images, captions and views of a step are a pure function of (seed, stage, epoch, place). A resumed run therefore
needs no loader state, and two processes together take the same items as one process alone.
"""

from __future__ import annotations

import hashlib
import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from PIL import ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from captioner.config import PreprocessConfig
from captioner.data.samples import Sample
from captioner.data.transforms import augment, may_flip, preprocess
from captioner.errors import DataError
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
        return Batch(tokens, targets, weights, image, self.names, advantages, figures, extra, self.captions)


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


WHOLE = 1 << 17  # items that one permutation covers: a megabyte of places
RUN, RUNS = 256, 64  # with more items: neighbours in a run, and runs whose items are shuffled together


@dataclass(frozen=True)
class Plan:
    """The items of every step of an epoch, on one of ``processes`` processes.

    Every step takes ``batch_size`` items of a permutation drawn from the seed; process r takes every
    ``processes``-th from r on, in ``accumulate`` parts. An epoch skips the remainder that does not fill a step. With
    ``lengths``, the items of a step have about the same length, so a batch has less padding. With ``most_steps``, an
    epoch ends early, and the next one draws another permutation. With ``repeats``, an epoch takes each item that many
    times on average, by systematic resampling (Kitagawa 1996): 2.5 is two or three times, 0.3 mostly not at all.

    With more than ``WHOLE`` items the plan permutes runs of neighbours, and then the items of some runs at a time. That
    takes little memory, starts at once, and reads a file nearly in its order. A shuffle buffer would do the same, but a
    run would have to save its content.
    """

    items: int
    batch_size: int
    accumulate: int
    seed: str
    process: int = 0
    processes: int = 1
    lengths: Sequence[int] | None = None
    most_steps: int = 0
    repeats: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if min(self.taken, self.batch_size) < self.accumulate * self.processes:
            raise DataError(
                f"{self.taken} items in steps of {self.batch_size} cannot feed {self.processes} processes with "
                f"{self.accumulate} parts each; raise batch_size, lower accumulate, or add data"
            )

    @cached_property
    def _ends(self) -> Sequence[int]:
        """The sums of the first 0, 1, ... repeats, in thousandths."""
        return array("q", accumulate((round(1000 * times) for times in self.repeats or ()), initial=0))

    @property
    def taken(self) -> int:
        """The number of items of an epoch, repeats included; some epochs have one more."""
        return self.items if self.repeats is None else self._ends[-1] // 1000

    @property
    def steps(self) -> int:
        """The number of optimizer steps per epoch."""
        steps = max(1, self.taken // self.batch_size)
        return min(steps, self.most_steps) if self.most_steps else steps

    def keys(self, epoch: int, first_step: int = 0) -> Iterator[list[tuple[int, int]]]:
        """Yield the micro-batches of an epoch from ``first_step`` on, ``accumulate`` of them per step."""
        draw = random.Random(_seed(self.seed, epoch))
        steps = self._steps(draw) if self.items <= WHOLE else self._steps_of_runs(draw)
        for step in islice(steps, first_step, self.steps):
            mine = step[self.process :: self.processes]
            for part in range(self.accumulate):
                yield [self._key(epoch, item) for item in mine[part :: self.accumulate]]

    def _key(self, epoch: int, item: int) -> tuple[int, int]:
        copy, place = divmod(item, self.items)
        return place, _seed(self.seed, epoch, place, copy) if copy else _seed(self.seed, epoch, place)

    def _offset(self, draw: random.Random) -> int:
        return 0 if self.repeats is None else draw.randrange(1000)

    def _copies(self, places: range, offset: int) -> list[int]:
        """Return the items at ``places`` that an epoch of this ``offset`` takes: copy x ``items`` + place."""
        if self.repeats is None:
            return list(places)
        counts = ((self._ends[n + 1] + offset) // 1000 - (self._ends[n] + offset) // 1000 for n in places)
        return [copy * self.items + place for place, count in zip(places, counts, strict=True) for copy in range(count)]

    def _steps(self, draw: random.Random) -> Iterable[list[int]]:
        order = self._copies(range(self.items), self._offset(draw))
        draw.shuffle(order)
        return self._cut(order, draw)[0]

    def _steps_of_runs(self, draw: random.Random) -> Iterator[list[int]]:
        offset = self._offset(draw)
        starts = list(range(0, self.items, RUN))
        draw.shuffle(starts)
        rest: list[int] = []
        for runs in (starts[at : at + RUNS] for at in range(0, len(starts), RUNS)):
            spans = (range(start, min(start + RUN, self.items)) for start in runs)
            places = [item for span in spans for item in self._copies(span, offset)]
            draw.shuffle(places)
            steps, rest = self._cut(rest + places, draw)
            yield from steps

    def _cut(self, order: list[int], draw: random.Random) -> tuple[list[list[int]], list[int]]:
        """Return the steps of an order of places, and the remaining places; too few places for a step are one step.

        The cut comes before the sort: after a sort, the remaining places would be the longest ones in every epoch.
        """
        whole = max(1, len(order) // self.batch_size) * self.batch_size
        kept, rest = order[:whole], order[whole:]
        if self.lengths is not None:
            lengths, pool = self.lengths, 64 * self.batch_size
            pools = (kept[start : start + pool] for start in range(0, len(kept), pool))
            kept = [place for places in pools for place in sorted(places, key=lambda item: lengths[item % self.items])]
        steps = [kept[start : start + self.batch_size] for start in range(0, len(kept), self.batch_size)]
        if self.lengths is not None:
            draw.shuffle(steps)
        return steps, rest


def _seed(*parts: object) -> int:
    """Return a seed from any values, the same on every machine (Python's own hash is salted)."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


def batches(
    items: Items, keys: Iterable[Sequence[tuple[int, int]]], collate: Collate, *, workers: int
) -> Iterator[Batch]:
    """Load the given micro-batches in order, ahead of the loop, in ``workers`` processes (0: in this one).

    Raises ``ImageError`` for an unreadable image.
    """
    return load_ahead(items, keys, collate, workers=workers)
