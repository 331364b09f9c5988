"""Iterative refinement: find a caption's least probable words, rewrite them, keep rewrites with a better score.

There are two ways to rewrite. ``recut`` truncates the caption before an improbable word, forbids that word's first
token there, and continues the search. ``infill``, if the checkpoint was trained for it, removes improbable words and
lets the decoder write the middle given both sides, as BOS left GAP right GAP middle EOS (Donahue et al. 2020, arXiv
2005.05339, section 3; Bavarian et al. 2022, arXiv 2207.14255).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from captioner.config import GenerationConfig
from captioner.generation.beam import beam_search
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.likelihood import score_captions
from captioner.generation.processors import Processor
from captioner.generation.rules import NO_RULES, Rules
from captioner.generation.step import Start, Writing
from captioner.generation.walk import greedy_choice, write
from captioner.generation.words import word_spans
from captioner.models.decoder import Decoder, ImageMemory
from captioner.text import CaptionTokenizer

PLACES = 3  # positions per caption and round at which ``recut`` truncates
WIDEST = 4  # most words of a gap

Tokens = tuple[int, ...]
Beginning = tuple[int, Tokens]  # image index, and the first tokens of its caption


@torch.inference_mode()
def refine(
    decoder: Decoder,
    memory: ImageMemory,
    drafts: Sequence[Sequence[Hypothesis]],
    tokenizer: CaptionTokenizer,
    config: GenerationConfig,
    *,
    rules: Rules = NO_RULES,
) -> list[list[Hypothesis]]:
    """Return the best captions among each image's ``drafts`` and their rewrites, best first, as many as drafts.

    Up to ``config.refine`` rounds rewrite the best caption of each image; a round without an improvement is the last.
    All captions compete by the score of a search under ``config`` and its compiled ``rules``, so the first caption
    never scores worse than the best draft. A round costs up to ``PLACES`` searches, each from the middle of a caption.
    """
    tokens = [[h.tokens for h in group] for group in drafts]
    hypotheses = [
        sorted(group, key=lambda h: -h.score)
        for group in score_captions(decoder, memory, tokens, tokenizer.config, config, rules=rules)
    ]
    going = [image for image, group in enumerate(hypotheses) if group]
    for _ in range(config.refine):
        if not going:
            break
        images = torch.tensor(going, device=memory.centres.device)
        part, own = memory.select(images), rules.of_images(images)
        best = [hypotheses[image][0] for image in going]
        rewritten = recut(decoder, part, best, tokenizer, config, rules=own)
        if tokenizer.config.gap_id is not None:
            infilled = infill(decoder, part, best, tokenizer, config, rules=own)
            rewritten = [cut + filled for cut, filled in zip(rewritten, infilled, strict=True)]
        better = []
        new = score_captions(decoder, part, rewritten, tokenizer.config, config, rules=own)
        for image, group in zip(going, new, strict=True):
            old = hypotheses[image]
            known = {h.tokens for h in old}
            fresh = {h.tokens: h for h in group if h.tokens not in known and h.score > old[-1].score}
            pool = sorted([*old, *fresh.values()], key=lambda h: -h.score)[: len(old)]
            if pool[0] is not old[0]:
                better.append(image)
            hypotheses[image] = pool
        going = better
    return hypotheses


@torch.inference_mode()
def recut(
    decoder: Decoder,
    memory: ImageMemory,
    captions: Sequence[Hypothesis],
    tokenizer: CaptionTokenizer,
    config: GenerationConfig,
    *,
    rules: Rules = NO_RULES,
) -> list[list[Tokens]]:
    """Return rewrites of each image's caption: the same up to an improbable word, then another token."""
    most = min(config.max_tokens, decoder.config.context - 1)
    begun: list[Beginning] = []
    banned: list[int] = []
    for image, caption in enumerate(captions):
        written = (*caption.tokens, tokenizer.config.eos_id)
        for place in doubtful_places(caption, tokenizer, len(rules.prefix))[:PLACES]:
            begun.append((image, written[:place]))
            banned.append(written[place])

    def processors(chosen: Sequence[int]) -> Sequence[Processor]:
        return never_first([banned[i] for i in chosen], len(begun[chosen[0]][1])), *rules.processors

    continued = _continued(
        decoder,
        memory,
        begun,
        tokenizer,
        config,
        budget=lambda length: most - length,
        processors=processors,
        rules=rules,
    )
    rewritten: list[list[Tokens]] = [[] for _ in captions]
    for (image, _), best in zip(begun, continued, strict=True):
        rewritten[image] += [h.tokens for h in best[:1]]
    return rewritten


@torch.inference_mode()
def infill(
    decoder: Decoder,
    memory: ImageMemory,
    captions: Sequence[Hypothesis],
    tokenizer: CaptionTokenizer,
    config: GenerationConfig,
    *,
    rules: Rules = NO_RULES,
) -> list[list[Tokens]]:
    """Return rewrites of each image's caption, with its least probable words replaced given both sides.

    The rules do not apply here, since they do not see both sides of a gap: the caller must score the captions by them.
    ``tokenizer.config.gap_id`` must be set.
    """
    context = decoder.config.context
    most = min(config.max_tokens, context - 1)
    gap = tokenizer.config.gap_id
    assert gap is not None
    begun: list[Beginning] = []
    sides: list[tuple[Tokens, Tokens]] = []
    for image, caption in enumerate(captions):
        for start, end in doubtful_spans(caption, tokenizer, len(rules.prefix)):
            left, right = caption.tokens[:start], caption.tokens[end:]
            begun.append((image, gapped(left, right, gap)))
            sides.append((left, right))
    continued = _continued(
        decoder,
        memory,
        begun,
        tokenizer,
        config,
        budget=lambda length: min(most - (length - 2), context - length),  # the two gap tokens do not count
        processors=lambda chosen: (),
    )
    rewritten: list[list[Tokens]] = [[] for _ in captions]
    for (image, prefix), (left, right), middles in zip(begun, sides, continued, strict=True):
        written = [h.tokens[len(prefix) :] for h in middles if h.ended]
        rewritten[image] += [left + middle + right for middle in written if gap not in middle]
    return rewritten


def gapped(left: Tokens, right: Tokens, gap_id: int) -> Tokens:
    """Return the prompt for the middle: ``left`` GAP ``right`` GAP."""
    return (*left, gap_id, *right, gap_id)


def doubtful_places(caption: Hypothesis, tokenizer: CaptionTokenizer, first: int = 0) -> list[int]:
    """Return the start positions of the words from token ``first`` on, least probable word first.

    The end token counts as a word: it may come too early.
    """
    doubts = [
        (sum(caption.log_probs[start:end]), start)
        for start, end in word_spans(caption.tokens, tokenizer)
        if start >= first
    ]
    if caption.ended:
        doubts.append((caption.log_probs[-1], len(caption.tokens)))
    return [place for _, place in sorted(doubts)]


def doubtful_spans(caption: Hypothesis, tokenizer: CaptionTokenizer, first: int = 0) -> list[tuple[int, int]]:
    """Return the (start, end) of the least probable run of 1, 2, ... ``WIDEST`` words from token ``first`` on."""
    words = [span for span in word_spans(caption.tokens, tokenizer) if span[0] >= first]
    spans = []
    for width in range(1, min(WIDEST, len(words)) + 1):
        places = [(words[i][0], words[i + width - 1][1]) for i in range(len(words) - width + 1)]
        spans.append(min(places, key=lambda span: sum(caption.log_probs[span[0] : span[1]])))
    return spans


def never_first(tokens: Sequence[int], place: int) -> Processor:
    """Forbid ``tokens[n]`` in caption n at position ``place``, the first position of the search."""

    def process(log_probs: Tensor, past: Tensor) -> Tensor:
        if past.shape[1] != place:
            return log_probs
        return log_probs.scatter(1, torch.tensor(tokens, device=log_probs.device)[:, None], -torch.inf)

    return process


def _continued(
    decoder: Decoder,
    memory: ImageMemory,
    begun: Sequence[Beginning],
    tokenizer: CaptionTokenizer,
    config: GenerationConfig,
    *,
    budget: Callable[[int], int],
    processors: Callable[[Sequence[int]], Sequence[Processor]],
    rules: Rules = NO_RULES,
) -> list[list[Hypothesis]]:
    """Continue each beginning with the search of ``config`` (greedily if it samples); captions best first.

    Beginnings of equal length are searched together. ``budget``: from the length of a beginning to the most tokens
    after it. ``processors``: from the indices of beginnings to their processors. ``rules`` hold the labels' bias.
    """
    plain = replace(config, groups=1, diversity=0.0)
    text = tokenizer.config.speaking(config.language)
    hypotheses: list[list[Hypothesis]] = [[] for _ in begun]
    for length in sorted({len(tokens) for _, tokens in begun}):
        steps = budget(length)
        if steps < 1:
            continue
        chosen = [i for i, (_, tokens) in enumerate(begun) if len(tokens) == length]
        images = torch.tensor([begun[i][0] for i in chosen], device=memory.centres.device)
        writing = Writing(
            decoder,
            memory.select(images),
            text,
            Start(
                captions=plain.beams,
                steps=steps,
                processors=processors(chosen),
                prefix=[begun[i][1] for i in chosen],
                labels=rules.of_images(images).labels,
            ),
        )
        if plain.beams > 1:
            captions = beam_search(writing, text, plain, steps)
        else:
            captions = write(writing, text, steps, greedy_choice, length_penalty=plain.length_penalty)
        for i, group in zip(chosen, captions, strict=True):
            hypotheses[i] = group
    return hypotheses
