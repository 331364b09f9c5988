"""Image-text matching: the probability that a caption is true of an image, by a captioner's matching head."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from captioner.errors import UsageError
from captioner.generation.likelihood import LOGITS_AT_ONCE
from captioner.inference import AnyCheckpoint
from captioner.models.decoder import ImageMemory
from captioner.models.heads import end_states, pad_and_close


def require_matching(checkpoint: AnyCheckpoint) -> None:
    """Raise ``UsageError`` for a captioner without a matching head."""
    heads = checkpoint.config.heads
    if heads is None or not heads.matching:
        raise UsageError(
            f"{checkpoint.source or 'this captioner'} has no matching head, so it cannot judge whether a caption is "
            "true of a photo; add one with `captioner finetune --recipe multitask`"
        )


@torch.inference_mode()
def match_captions(
    checkpoint: AnyCheckpoint, memory: ImageMemory, captions: Sequence[Sequence[Sequence[int]]]
) -> list[list[float]]:
    """Return the probability, 0 to 1, that each caption is true of its image, for all images in ``memory``.

    The head is trained on equally frequent true captions and similar false ones. Captions are token ids without start
    and end; a caption longer than the decoder's context is truncated. The model must have a matching head.
    """
    model, config = checkpoint.model, checkpoint.config
    assert model.heads is not None
    most = max(map(len, captions), default=0)
    if not most:
        return [[] for _ in captions]
    device = memory.centres.device
    padded = [ids for group in captions for ids in (*group, *[()] * (most - len(group)))]
    starts = [checkpoint.tokenizer.start_of_ids(ids) for ids in padded]
    tokens, ends = (part.to(device) for part in pad_and_close(padded, config.text, config.decoder.context, starts))
    width = config.decoder.mlp_width or 4 * config.decoder.width
    at_once = max(1, LOGITS_AT_ONCE // (len(captions) * tokens.shape[1] * width))  # captions per image
    probabilities = []
    for k in range(0, most, at_once):
        part = [
            values.unflatten(0, (len(captions), most))[:, k : k + at_once].flatten(0, 1) for values in (tokens, ends)
        ]
        odds = model.heads.matches(end_states(model.decoder, part[0], part[1], memory))  # (B * K',)
        probabilities.append(odds.sigmoid().unflatten(0, (len(captions), -1)))
    table = torch.cat(probabilities, dim=1).tolist()  # (B, K)
    return [row[: len(group)] for row, group in zip(table, captions, strict=True)]
