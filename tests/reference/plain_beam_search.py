"""Beam search for one image as a list of captions, with no cache, no early end and nothing folded."""

from __future__ import annotations

import torch

from captioner.models.decoder import Decoder, ImageMemory

Caption = tuple[tuple[int, ...], float]


@torch.inference_mode()
def beam_search(
    decoder: Decoder, memory: ImageMemory, *, bos: int, eos: int, beams: int, most: int, penalty: float
) -> list[Caption]:
    """The ``beams`` best (tokens without the end, score), best first. Each step looks at every continuation: those
    among the best ``beams`` that end are finished, the best ``beams`` that do not end go on."""
    running: list[Caption] = [((), 0.0)]
    finished: list[Caption] = []
    for length in range(1, most + 1):
        continuations: list[Caption] = []
        logits = decoder(torch.tensor([[bos, *words] for words, _ in running]), memory)[:, -1]
        for (words, total), row in zip(running, logits.double().log_softmax(-1).tolist(), strict=True):
            continuations += [((*words, token), total + log_prob) for token, log_prob in enumerate(row)]
        continuations.sort(key=lambda caption: -caption[1])
        for words, total in continuations[:beams]:
            if words[-1] == eos or length == most:
                finished.append((words[:-1] if words[-1] == eos else words, total / length**penalty))
        running = [caption for caption in continuations if caption[0][-1] != eos][:beams]
    return sorted(finished, key=lambda caption: -caption[1])[:beams]
