"""All steps of a compression, in the order in which each serves the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from captioner.checkpoint import Checkpoint, merged
from captioner.checkpoint.card import with_compression, write_card
from captioner.checkpoint.packing import Dtype
from captioner.compression.vocabulary import trim_vocabulary


@dataclass(frozen=True, kw_only=True)
class Compression:
    """The steps of a compression.

    captions: Texts whose words stay; None keeps the whole vocabulary.
    least: Number of times that these texts use a word that stays.
    weights: The form of the weights in the file.
    """

    captions: Sequence[str] | None = None
    least: int = 1
    weights: Dtype = "int8"


def compress(checkpoint: Checkpoint, steps: Compression) -> Checkpoint:
    """Return a smaller captioner, to be saved with ``steps.weights``; its training.json and card say what was done."""
    checkpoint = merged(checkpoint)
    if steps.captions is not None:
        checkpoint = trim_vocabulary(checkpoint, steps.captions, least=steps.least)
    done = {**checkpoint.training.get("compressed", {}), "weights": steps.weights}
    card = checkpoint.card or write_card(checkpoint.config, checkpoint.training)
    training = {**checkpoint.training, "compressed": done}
    return replace(checkpoint, training=training, card=with_compression(card, done), source="")
