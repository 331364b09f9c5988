"""Greedy and beam search over one decoding step.

The beams of an image fold into the query axis of its cross-attention, so the image memory exists once however many
beams there are, and an image leaves the batch when its search has ended.

A caption is ranked by log-probability / length ** length_penalty, the end token counted in both. Beam search ends for
an image when no running beam can still overtake the worst of its finished captions; that is Hugging Face's
``early_stopping="never"`` and exact for any length penalty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from captioner.config import GenerationConfig, TextConfig
from captioner.models.decoder import Decoder, ImageMemory


@dataclass(frozen=True)
class Hypothesis:
    """A caption as tokens, without start and end. ``log_prob`` sums the words and the end; ``score`` ranks.

    ``length`` counts what ``log_prob`` sums: the end too, unless the caption was cut before it.
    """

    tokens: tuple[int, ...]
    length: int
    log_prob: float
    score: float


@torch.inference_mode()
def search(decoder: Decoder, memory: ImageMemory, text: TextConfig, config: GenerationConfig) -> list[list[Hypothesis]]:
    """The captions of each image in ``memory``, best first: ``config.beams`` of them, or one where beams is 1."""
    steps = min(config.max_tokens, decoder.config.context - 1)
    if config.beams == 1:
        return [[found] for found in _greedy(decoder, memory, text, steps, config.length_penalty)]
    return _beam(decoder, memory, text, steps, config)


def _greedy(
    decoder: Decoder, memory: ImageMemory, text: TextConfig, steps: int, length_penalty: float
) -> list[Hypothesis]:
    device = memory.centres.device
    images = memory.images
    tokens = torch.full((images, 1), text.bos_id, device=device)
    cache = decoder.new_cache(images, steps)
    alive = torch.arange(images, device=device)  # images still being written
    written: list[list[int]] = [[] for _ in range(images)]
    log_probs = torch.zeros(images, dtype=torch.float64, device=device)
    for _ in range(steps):
        step = _next_log_probs(decoder, tokens, memory, cache)  # (B', V)
        best, token = step.max(dim=-1)  # (B',)
        log_probs[alive] += best.double()
        for image, word in zip(alive.tolist(), token.tolist(), strict=True):
            written[image].append(word)
        going = (token != text.eos_id).nonzero().flatten()
        if not len(going):
            break
        if len(going) < len(token):
            alive, token, memory = alive[going], token[going], memory.select(going)
            cache.select(going)
        tokens = token[:, None]
    return [_hypothesis(w, p, text, length_penalty) for w, p in zip(written, log_probs.tolist(), strict=True)]


def _beam(
    decoder: Decoder, memory: ImageMemory, text: TextConfig, steps: int, config: GenerationConfig
) -> list[list[Hypothesis]]:
    beams, penalty = config.beams, config.length_penalty
    device = memory.centres.device
    images = memory.images
    alive = list(range(images))  # images still being written; row b of the tensors below is image alive[b]
    finished: list[list[Hypothesis]] = [[] for _ in range(images)]
    history = torch.empty(images, 1, 0, dtype=torch.long, device=device)  # (B', K', tokens)
    sums = torch.zeros(images, 1, dtype=torch.float64, device=device)  # (B', K') log-probabilities so far
    tokens = torch.full((images, 1), text.bos_id, device=device)
    cache = decoder.new_cache(images, steps)

    for step in range(1, steps + 1):
        rows, width = sums.shape
        log_probs = _next_log_probs(decoder, tokens, memory, cache).double()  # (B' * K', V)
        vocab = log_probs.shape[-1]
        totals = sums[..., None] + log_probs.view(rows, width, vocab)  # (B', K', V)
        # At most one continuation of each beam ends here, so 2K candidates always hold K that go on.
        best, place = totals.flatten(1).topk(min(2 * beams, width * vocab))  # (B', 2K)
        parent, token = place // vocab, place % vocab
        ends = token == text.eos_id
        if step == steps:
            ends = torch.ones_like(ends)
        done = ends[:, :beams] & (best[:, :beams] != -torch.inf)  # an end ranked below K competes with better beams
        for row, rank in done.nonzero().tolist():
            words = [*history[row, parent[row, rank]].tolist(), int(token[row, rank])]
            finished[alive[row]].append(_hypothesis(words, float(best[row, rank]), text, penalty))
        for row in set(done.nonzero()[:, 0].tolist()):
            finished[alive[row]] = sorted(finished[alive[row]], key=lambda h: -h.score)[:beams]
        if step == steps:
            break

        order = torch.where(ends, -torch.inf, best).topk(min(beams, best.shape[1])).indices  # (B', K)
        sums = torch.where(ends, -torch.inf, best).gather(1, order)
        parent, token = parent.gather(1, order), token.gather(1, order)
        going = [r for r in range(rows) if _may_improve(finished[alive[r]], float(sums[r, 0]), (step, steps), config)]
        if not going:
            break
        keep = torch.tensor(going, device=device)
        if len(going) < rows:
            alive = [alive[r] for r in going]
            memory, sums, token = memory.select(keep), sums[keep], token[keep]
        chosen = keep[:, None] * width + parent[keep]  # rows of (B' * K') that go on
        history = torch.cat([history.flatten(0, 1)[chosen], token[..., None]], dim=-1)
        cache.select(chosen.flatten())
        tokens = token.flatten()[:, None]
    return finished


def _may_improve(finished: list[Hypothesis], best: float, steps: tuple[int, int], config: GenerationConfig) -> bool:
    """Whether a running beam of log-probability ``best`` could still enter the ``finished`` captions of its image."""
    if len(finished) < config.beams:
        return best != -math.inf  # a tiny vocabulary may have no caption left to write
    done, most = steps
    # Log-probabilities only fall; where longer captions are favoured the bound is the longest one.
    length = most if config.length_penalty > 0 else done + 1
    return best / length**config.length_penalty > finished[-1].score


def _next_log_probs(decoder: Decoder, tokens: Tensor, memory: ImageMemory, cache: object) -> Tensor:
    """(N, 1) tokens -> log-probabilities (N, V) of the next one, in fp32."""
    return decoder(tokens, memory, cache, last=True)[:, -1].float().log_softmax(dim=-1)


def _hypothesis(written: list[int], log_prob: float, text: TextConfig, length_penalty: float) -> Hypothesis:
    tokens = tuple(written[:-1] if written[-1] == text.eos_id else written)
    return Hypothesis(tokens, len(written), log_prob, log_prob / len(written) ** length_penalty)
