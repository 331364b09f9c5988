"""How probable a model finds human captions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.config import TextConfig
from captioner.models.decoder import Decoder, ImageMemory


@torch.inference_mode()
def log_probs(
    decoder: Decoder, memory: ImageMemory, captions: Sequence[Sequence[Sequence[int]]], text: TextConfig
) -> list[list[float]]:
    """log p(caption, end | image) of every caption, as token ids without start and end, of every image in ``memory``.

    Natural logarithm. Captions longer than the decoder's context are judged on their beginning.
    """
    most = decoder.config.context - 1
    count = max(len(of_image) for of_image in captions)
    length = 1 + min(most, max((len(ids) for of_image in captions for ids in of_image), default=0))
    device = memory.centres.device
    tokens = torch.full((len(captions), count, length), text.pad_id, device=device)  # (B, K, T)
    targets = torch.full_like(tokens, -100)
    for b, of_image in enumerate(captions):
        for k, ids in enumerate(of_image):
            kept = list(ids[:most])
            tokens[b, k, : len(kept) + 1] = torch.tensor([text.bos_id, *kept])
            targets[b, k, : len(kept) + 1] = torch.tensor([*kept, text.eos_id])
    logits: Tensor = decoder(tokens.flatten(0, 1), memory)  # (B * K, T, V)
    losses = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    sums = losses.view(tokens.shape).sum(-1).double().neg().tolist()  # (B, K)
    return [row[: len(of_image)] for row, of_image in zip(sums, captions, strict=True)]
