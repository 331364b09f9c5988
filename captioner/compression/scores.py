"""Importance of a decoder's attention heads and hidden units, from gradients on captioned photos.

The score of a channel is how much the loss of a photo's captions changes, to first order, if the channel is set to
zero: ``|sum of activation x gradient|``, averaged over photos (Molchanov et al. 2019, arXiv 1906.10771, eq. 8). A
hidden unit is a channel. A head has the sum of its channels; Michel et al. 2019 (arXiv 1905.10650, eq. 2) take the
absolute value of the whole head, in which channels cancel, so that a head would seem cheap beside as many hidden units.
The sum over all tokens equals that of weight x gradient in the layer that reads the channel, so the gradients of the
weights are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from captioner.checkpoint import Checkpoint
from captioner.data.samples import Sample
from captioner.errors import DataError, ImageError, UsageError
from captioner.models.decoder import Block
from captioner.training.recipe import Recipe, Stage
from captioner.training.run import with_architecture
from captioner.training.tasks import Data
from captioner.training.tasks.base import weighted_cross_entropy
from captioner.training.tasks.cross_entropy import CrossEntropy


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The mean change of the loss, in nats a photo, by layer: the larger, the more important."""

    words: Tensor  # (L, H), heads of self-attention
    image: Tensor  # (L, H), heads of cross-attention
    hidden: Tensor  # (L, F), hidden units of the MLP
    images: int


def require_no_question(checkpoint: Checkpoint) -> None:
    """Raise ``UsageError`` for a captioner that answers questions: its decoder reads questions, not photos."""
    if checkpoint.config.question is not None:
        raise UsageError(
            "a captioner that answers questions cannot be pruned: captions score and teach what stays; leave out "
            "--prune"
        )


def score(checkpoint: Checkpoint, samples: Sequence[Sample]) -> Scores:
    """Score the heads and hidden units of ``checkpoint`` on captioned photos; photos that cannot be read are skipped.

    Raises ``DataError`` if none can be read, ``UsageError`` for a captioner that answers questions.
    """
    require_no_question(checkpoint)
    stage = Stage(task="cross_entropy")
    recipe = with_architecture(Recipe(captions_per_image=5, workers=0, stages=(stage,)), checkpoint)
    task = CrossEntropy(recipe, stage, Data(train=samples, validation=()), checkpoint.tokenizer)
    items, collate = task.captions(samples, None, views="plain"), task.collate()
    model, device = checkpoint.model, next(checkpoint.model.parameters()).device
    config, blocks = model.config.decoder, [cast(Block, block) for block in model.decoder.blocks]
    shape = len(blocks), config.heads
    words, image = torch.zeros(shape), torch.zeros(shape)
    hidden = torch.zeros(len(blocks), config.mlp_width or 4 * config.width)
    trained = [p.requires_grad for p in model.parameters()]
    model.eval().requires_grad_(False)
    read = 0
    readers = [layer.weight for b in blocks for layer in (b.self_attn.out_proj, b.cross_attn.out_proj, b.fc2)]
    for reader in readers:
        reader.requires_grad_(True)
    try:
        for place in range(len(samples)):
            try:
                batch = collate([items[(place, 0)]]).to(device)
            except ImageError:
                continue
            logits = model(batch.tokens, batch.image).logits
            loss, _ = weighted_cross_entropy(logits, batch.targets, batch.weights)
            gradients = torch.autograd.grad(loss / len(batch.captions[0]), readers)
            changes = [(w.detach() * g).sum(0).cpu() for w, g in zip(readers, gradients, strict=True)]
            for layer in range(len(blocks)):
                of_words, of_image, of_hidden = changes[3 * layer : 3 * layer + 3]
                words[layer] += of_words.abs().view(config.heads, -1).sum(1)
                image[layer] += of_image.abs().view(config.heads, -1).sum(1)
                hidden[layer] += of_hidden.abs()
            read += 1
    finally:
        for parameter, before in zip(model.parameters(), trained, strict=True):
            parameter.requires_grad_(before)
    if not read:
        raise DataError("none of the photos can be read, so nothing can be scored; give other --data")
    return Scores(words=words / read, image=image / read, hidden=hidden / read, images=read)
