"""All steps of a compression, in the order in which each serves the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from captioner.checkpoint import Checkpoint, merged
from captioner.checkpoint.card import noted, with_compression, write_card
from captioner.checkpoint.packing import Dtype
from captioner.compression.pruning import prune
from captioner.compression.recovery import recover
from captioner.compression.scores import score
from captioner.compression.vocabulary import trim_vocabulary
from captioner.data.messages import counted
from captioner.data.samples import Sample
from captioner.training.tasks import Data

SCORED = 128  # photos, spread evenly over the training photos


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """The pruning of a decoder.

    share: Share of the parameters of its layers that stay.
    data: Captioned photos: the first kind chooses what stays and teaches it, the second chooses the best weights.
    epochs: Epochs of distillation from the whole captioner; 0 for none.
    folder: Folder of that training run, so that it can be resumed.
    """

    share: float
    data: Data
    epochs: int
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Compression:
    """The steps of a compression.

    pruning: The decoder's layers; None keeps them.
    captions: Texts whose words stay; None keeps the whole vocabulary.
    least: Number of times that these texts use a word that stays.
    weights: The form of the weights in the file.
    """

    pruning: Pruning | None = None
    captions: Sequence[str] | None = None
    least: int = 1
    weights: Dtype = "int8"


def compress(
    checkpoint: Checkpoint, steps: Compression, *, report: Callable[[str], None] = lambda text: None
) -> Checkpoint:
    """Return a smaller captioner, to be saved with ``steps.weights``; its training.json and card say what was done.

    The vocabulary is trimmed after the distillation, whose teacher knows all words. An adapter is merged.
    """
    teacher, checkpoint = checkpoint.source, merged(checkpoint)
    if steps.pruning is not None:
        checkpoint = _pruned(checkpoint, steps.pruning, teacher, report)
    if steps.captions is not None:
        checkpoint = trim_vocabulary(checkpoint, steps.captions, least=steps.least)
        report(f"{checkpoint.config.decoder.vocab_size} tokens stay")
    card = checkpoint.card or write_card(checkpoint.config, checkpoint.training)
    training = noted(checkpoint.training, weights=steps.weights)
    return replace(checkpoint, training=training, card=with_compression(card, training["compressed"]), source="")


def _pruned(checkpoint: Checkpoint, pruning: Pruning, teacher: str, report: Callable[[str], None]) -> Checkpoint:
    samples = spread(pruning.data.train, SCORED)
    report(f"scoring heads and hidden units on {counted(len(samples), 'photo')}")
    pruned = prune(checkpoint, score(checkpoint, samples), pruning.share)
    done = pruned.training["compressed"]["pruned"]
    report(
        f"{done['heads'][1]} of {done['heads'][0]} heads and {done['hidden'][1]} of {done['hidden'][0]} hidden units "
        f"stay in each layer of the decoder, {done['parameters'][1]:,} of {done['parameters'][0]:,} parameters"
    )
    if not pruning.epochs:
        return pruned
    return recover(pruned, teacher, pruning.data, pruning.folder, epochs=pruning.epochs, report=report)


def spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return at most ``count`` of the ``samples``, evenly spaced."""
    count = min(count, len(samples))
    return [samples[place * len(samples) // count] for place in range(count)]
