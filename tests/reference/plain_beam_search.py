"""Beam search for one image with lists of captions, without a cache, an early end or folding."""

from __future__ import annotations

import math
from collections.abc import Sequence

from captioner.models.decoder import Decoder, ImageMemory

from .every_caption import Written, begin, continuations
from .slow_rules import Rule

Caption = tuple[tuple[int, ...], float]


def beam_search(
    decoder: Decoder,
    memory: ImageMemory,
    *,
    bos: int,
    eos: int,
    beams: int,
    most: int,
    penalty: float,
    rules: Sequence[Rule] = (),
    prefix: tuple[int, ...] = (),
    groups: int = 1,
    diversity: float = 0.0,
) -> list[Caption]:
    """Return the best (tokens without the end, score), best first.

    Each step considers every continuation. Those among the best ``beams`` that end are finished; the best ``beams``
    that do not end continue. With ``groups``, each has its share of the ``beams``, one after the other; a token costs
    ``diversity`` for each beam of an earlier group with the same token in this step (Vijayakumar et al. 2018, alg. 1
    with the Hamming diversity).
    """
    width = beams // groups
    running = [[begin(decoder, memory, prefix, bos)] for _ in range(groups)]
    finished: list[list[Caption]] = [[] for _ in range(groups)]
    for length in range(len(prefix) + 1, most + 1):
        taken: list[int] = []
        for group in range(groups):
            if not running[group]:
                continue
            each = continuations(decoder, memory, running[group], bos=bos, rules=rules)
            all_of_them = [
                Written(c.tokens, c.log_prob, c.ranked - diversity * taken.count(c.tokens[-1]))
                for found in each
                for c in found
                if c.ranked != -math.inf
            ]
            all_of_them.sort(key=lambda c: -c.ranked)
            for c in all_of_them[:width]:
                if c.tokens[-1] == eos or length == most:
                    finished[group].append((c.said(eos), c.ranked / length**penalty))
            running[group] = [c for c in all_of_them if c.tokens[-1] != eos][:width]
            taken += [c.tokens[-1] for c in running[group]]
    best = [sorted(of_group, key=lambda c: -c[1])[:width] for of_group in finished]
    return sorted((c for of_group in best for c in of_group), key=lambda c: -c[1])
