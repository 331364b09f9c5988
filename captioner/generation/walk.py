"""Greedy decoding and sampling: one token after the other, without backtracking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from captioner.config import TextConfig
from captioner.generation.hypothesis import Hypothesis, hypothesis_of
from captioner.generation.step import Writing, to_sum_precision

Choose = Callable[[Tensor, Tensor], Tensor]
"""A function from log-probabilities (B, 1 or K, V) and image indices (B,) to the next tokens (B, K)."""


@dataclass(frozen=True)
class Step:
    """The state after one more token. A caption whose rules forbid every token stops without an end."""

    images: Tensor  # (B,), indices of unfinished images
    ends: Tensor  # (B, K), True for captions that just ended
    ranked: Tensor  # (B, K), sums of the log-probabilities that the search saw


def greedy_choice(log_probs: Tensor, images: Tensor) -> Tensor:
    """Choose greedily."""
    return log_probs.argmax(dim=-1)


def walk(writing: Writing, text: TextConfig, steps: int, choose: Choose) -> Iterator[Step]:
    """Generate up to ``steps`` tokens of each caption in ``writing``; drop an image when all its captions have ended.

    Captions that ended before others of their image are padded with end tokens.
    """
    images = torch.arange(writing.images, device=writing.tokens.device)
    over: Tensor | None = None  # (B, K) captions that have ended
    ranked: Tensor | None = None
    for step in range(1, steps + 1):
        log_probs = writing.next()  # (B, 1 or K, V)
        tokens = choose(log_probs, images)  # (B, K)
        if over is None or ranked is None:
            over, ranked = torch.zeros_like(tokens, dtype=torch.bool), to_sum_precision(writing.log_probs.sum(-1))
        tokens = tokens.masked_fill(over, text.eos_id)
        parents = torch.arange(log_probs.shape[1], device=tokens.device).expand(len(tokens), -1)
        parents = parents.expand_as(tokens)
        chosen = log_probs.flatten(1).gather(1, parents * log_probs.shape[-1] + tokens)  # (B, K)
        over = over | (chosen == -torch.inf)
        tokens = tokens.masked_fill(over, text.eos_id)
        ranked = ranked + to_sum_precision(chosen)
        writing.advance(parents, tokens)
        ends = ~over & ((tokens == text.eos_id) | (step == steps))
        yield Step(images, ends, ranked)
        over = over | ends
        going = (~over).any(dim=1).nonzero().flatten()
        if not len(going):
            return
        if len(going) < len(images):
            images, over, ranked = images[going], over[going], ranked[going]
            writing.keep(going)


def write(
    writing: Writing, text: TextConfig, steps: int, choose: Choose, *, length_penalty: float
) -> list[list[Hypothesis]]:
    """Return the captions of each image by ``choose``, best first, without those that rules left unfinished."""
    hypotheses: list[list[Hypothesis]] = [[] for _ in range(writing.images)]
    for step in walk(writing, text, steps, choose):
        for row, caption in step.ends.nonzero().tolist():
            hypothesis = hypothesis_of(
                writing.tokens[row, caption].tolist(),
                writing.log_probs[row, caption].tolist(),
                text,
                ranked=float(step.ranked[row, caption]),
                length_penalty=length_penalty,
            )
            hypotheses[int(step.images[row])].append(hypothesis)
    return [sorted(group, key=lambda h: -h.score) for group in hypotheses]
