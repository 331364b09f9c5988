"""Every caption that the rules allow, with the score of a search, enumerated word by word without a cache."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from captioner.models.decoder import Decoder, ImageMemory

from .slow_rules import Rule


@dataclass(frozen=True)
class Written:
    """A caption.

    ``tokens``: with the end, if it has one. ``log_prob``: by the model. ``ranked``: by the model and the rules.
    """

    tokens: tuple[int, ...]
    log_prob: float
    ranked: float

    def said(self, eos: int) -> tuple[int, ...]:
        return self.tokens[:-1] if self.tokens and self.tokens[-1] == eos else self.tokens


@torch.inference_mode()
def rows(decoder: Decoder, memory: ImageMemory, captions: Sequence[tuple[int, ...]], bos: int) -> list[list[float]]:
    """Return log-probabilities of the next token of captions of one length, by a whole forward pass each."""
    logits = decoder(torch.tensor([[bos, *said] for said in captions]), memory)[:, -1]
    return logits.double().log_softmax(-1).tolist()


def begin(decoder: Decoder, memory: ImageMemory, prefix: tuple[int, ...], bos: int) -> Written:
    """Return the ``prefix``, which no rule changes."""
    given = [rows(decoder, memory, [prefix[:place]], bos)[0][token] for place, token in enumerate(prefix)]
    return Written(prefix, sum(given), sum(given))


def continuations(
    decoder: Decoder, memory: ImageMemory, captions: Sequence[Written], *, bos: int, rules: Sequence[Rule] = ()
) -> list[list[Written]]:
    """Return all continuations of each caption by one token, including impossible ones."""
    found = []
    for caption, row in zip(captions, rows(decoder, memory, [c.tokens for c in captions], bos), strict=True):
        ruled = row
        for rule in rules:
            ruled = rule(ruled, caption.tokens)
        found.append(
            [
                Written((*caption.tokens, token), caption.log_prob + given, caption.ranked + rank)
                for token, (given, rank) in enumerate(zip(row, ruled, strict=True))
            ]
        )
    return found


def all_captions(
    decoder: Decoder,
    memory: ImageMemory,
    *,
    bos: int,
    eos: int,
    most: int,
    rules: Sequence[Rule] = (),
    prefix: tuple[int, ...] = (),
) -> list[Written]:
    """Return every possible caption of at most ``most`` tokens, ended or cut, for the one image in ``memory``."""
    running = [begin(decoder, memory, prefix, bos)]
    finished: list[Written] = []
    for length in range(len(prefix) + 1, most + 1):
        spread = [c for each in continuations(decoder, memory, running, bos=bos, rules=rules) for c in each]
        spread = [c for c in spread if c.ranked != -math.inf]
        finished += [c for c in spread if c.tokens[-1] == eos or length == most]
        running = [c for c in spread if c.tokens[-1] != eos]
        if not running:
            break
    return finished
