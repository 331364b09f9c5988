"""Processors: pure functions from log-probabilities (N, V) and the tokens (N, T) so far to log-probabilities.

They work on log-probabilities in every strategy and do not renormalise. Logits are defined only up to a constant, so a
penalty that multiplies them would depend on that constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from captioner.generation.spelling import Completions, folded, spellings
from captioner.text import CaptionTokenizer

Processor = Callable[[Tensor, Tensor], Tensor]


def minimum_length(tokens: int, eos_id: int) -> Processor:
    """Forbid the end before ``tokens`` tokens, counting the end."""

    def process(log_probs: Tensor, past: Tensor) -> Tensor:
        if past.shape[1] + 1 >= tokens:
            return log_probs
        return log_probs.index_fill(1, torch.tensor([eos_id], device=log_probs.device), -torch.inf)

    return process


def repetition_penalty(factor: float) -> Processor:
    """Multiply the log-probability of past tokens by ``factor`` (Keskar et al. 2019, arXiv 1909.05858, sec. 4)."""

    def process(log_probs: Tensor, past: Tensor) -> Tensor:
        return log_probs.scatter(1, past, log_probs.gather(1, past) * factor)

    return process


def no_repeat_ngram(size: int) -> Processor:
    """Forbid n-grams of ``size`` tokens that already occurred."""

    def process(log_probs: Tensor, past: Tensor) -> Tensor:
        if past.shape[1] < size:
            return log_probs
        grams = past.unfold(1, size, 1)  # (N, T - size + 1, size)
        tail = past[:, past.shape[1] - size + 1 :]  # (N, size - 1)
        again = (grams[..., :-1] == tail[:, None]).all(-1)  # (N, T - size + 1)
        banned = torch.zeros_like(log_probs, dtype=torch.bool)
        banned.scatter_reduce_(1, grams[..., -1], again, "amax")
        return log_probs.masked_fill(banned, -torch.inf)

    return process


def phrase_bias(phrases: Mapping[str, float], tokenizer: CaptionTokenizer, *, unless: Iterable[str] = ()) -> Processor:
    """Add a phrase's value to every token that completes it, in any spelling; -inf forbids the phrase.

    A phrase matches in any case, from the beginning of a word. So a longer word that begins with a forbidden one is
    possible only if none of its tokens ends where the forbidden word does. A token that completes one of the phrases
    ``unless`` gets no value.
    """
    return _phrase_bias(tuple(phrases.items()), tokenizer, tuple(unless))


@lru_cache(maxsize=16)  # the rules are compiled for every batch, and a word list takes a while
def _phrase_bias(
    phrases: tuple[tuple[str, float], ...], tokenizer: CaptionTokenizer, unless: tuple[str, ...]
) -> Processor:
    raw = ((tokenizer.raw(phrase).strip(), value) for phrase, value in phrases)
    sought = [(phrase, value) for phrase, value in raw if phrase]  # others never occur
    exceptions = [phrase for phrase in (tokenizer.raw(phrase).strip() for phrase in unless) if phrase]
    written = spellings([*(phrase for phrase, _ in sought), *exceptions], tokenizer.pieces)
    biased, excepted = Completions(written[: len(sought)]), Completions(written[len(sought) :])
    values = [value for _, value in sought]
    always = torch.zeros(tokenizer.vocab_size, dtype=torch.float32, device="cpu")  # (V,)
    for tokens, value in zip(biased.anywhere, values, strict=True):
        always[list(tokens)] += value
    spared = set().union(*excepted.anywhere)

    def process(log_probs: Tensor, past: Tensor) -> Tensor:
        device = log_probs.device
        rows: list[int] = []
        columns: list[int] = []
        added: list[float] = []
        free: list[tuple[int, int]] = [(row, token) for row in range(len(past)) for token in spared]
        for row, tokens in enumerate(past.tolist()):
            text = folded(b"".join(tokenizer.pieces[token] for token in tokens))
            for number, completing in biased.after(text).items():
                rows += [row] * len(completing)
                columns += completing
                added += [values[number]] * len(completing)
            free += [(row, token) for tokens in excepted.after(text).values() for token in tokens]
        places = tuple(torch.tensor(place, dtype=torch.long, device=device) for place in (rows, columns))
        add = torch.tensor(added, dtype=log_probs.dtype, device=device)
        result = (log_probs + always.to(device)).index_put(places, add, accumulate=True)
        if free:
            kept = tuple(torch.tensor(place, dtype=torch.long, device=device) for place in zip(*free, strict=True))
            result[kept] = log_probs[kept]
        return result

    return process
