"""The best captions by enumeration of all captions, each scored by a whole forward pass."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from captioner.models.decoder import Decoder, ImageMemory


@dataclass(frozen=True)
class Scored:
    """A caption without start and end, and its log-probability, including the end token if it has one."""

    tokens: tuple[int, ...]
    log_prob: float
    length: int


def all_captions(decoder: Decoder, memory: ImageMemory, *, bos: int, eos: int, most: int) -> list[Scored]:
    """Return every caption of at most ``most`` tokens for the image in ``memory``: ended by ``eos``, or cut."""
    words = [token for token in range(decoder.config.vocab_size) if token != eos]
    ended = [[(*body, eos) for body in itertools.product(words, repeat=length)] for length in range(most)]
    cut_off = list(itertools.product(words, repeat=most))
    return [found for alike in (*ended, cut_off) for found in score(decoder, memory, alike, bos=bos, eos=eos)]


@torch.inference_mode()
def score(
    decoder: Decoder, memory: ImageMemory, captions: Sequence[tuple[int, ...]], *, bos: int, eos: int
) -> list[Scored]:
    """Return captions of one length, given with their end tokens, scored by one forward pass."""
    log_probs = decoder(torch.tensor([[bos, *written[:-1]] for written in captions]), memory).double().log_softmax(-1)
    found = []
    for caption, written in enumerate(captions):
        total = sum(float(log_probs[caption, place, token]) for place, token in enumerate(written))
        found.append(Scored(written[:-1] if written[-1] == eos else written, total, len(written)))
    return found
