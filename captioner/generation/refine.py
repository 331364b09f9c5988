"""Iterative generation: find the words that the model doubts, rewrite there, keep what scores better.

A caption is rewritten in two ways. ``recut``: cut it before a doubted word, forbid that word's first token there, and
search on from what stands before it. ``infill``, where the checkpoint has learnt it: leave doubted words out and let
the decoder write the middle with both sides known, as BOS left GAP right GAP middle EOS (Donahue et al. 2020, arXiv
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
from captioner.generation.step import Writing
from captioner.generation.walk import likeliest, write
from captioner.generation.words import word_spans
from captioner.models.decoder import Decoder, ImageMemory
from captioner.text import CaptionTokenizer

PLACES = 3  # where a round cuts a caption
WIDEST = 4  # words of a gap

Tokens = tuple[int, ...]
Beginning = tuple[int, Tokens]  # the number of an image, and what has been written of its caption


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
    """As many captions of each image as it has ``drafts``, best first: the best of these and of what they led to.

    Up to ``config.refine`` rounds rewrite the best caption of each image; one that brings nothing better is the last.
    All compete by the score that a search under ``config`` and its compiled ``rules`` would rank them by, so the first
    caption never scores worse than the best draft. A round costs up to ``PLACES`` searches, each from the middle on.
    """
    given = [[h.tokens for h in of_image] for of_image in drafts]
    found = [
        sorted(of_image, key=lambda h: -h.score)
        for of_image in score_captions(decoder, memory, given, tokenizer.config, config, rules=rules)
    ]
    going = [image for image, of_image in enumerate(found) if of_image]
    for _ in range(config.refine):
        if not going:
            break
        part = memory.select(torch.tensor(going, device=memory.centres.device))
        best = [found[image][0] for image in going]
        rewritten = recut(decoder, part, best, tokenizer, config, rules=rules)
        if tokenizer.config.gap_id is not None:
            filled = infill(decoder, part, best, tokenizer, config, rules=rules)
            rewritten = [one + other for one, other in zip(rewritten, filled, strict=True)]
        better = []
        new = score_captions(decoder, part, rewritten, tokenizer.config, config, rules=rules)
        for image, of_image in zip(going, new, strict=True):
            known = {h.tokens for h in found[image]}
            fresh = {h.tokens: h for h in of_image if h.tokens not in known and h.score > found[image][-1].score}
            pool = sorted([*found[image], *fresh.values()], key=lambda h: -h.score)[: len(found[image])]
            if pool[0] is not found[image][0]:
                better.append(image)
            found[image] = pool
        going = better
    return found


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
    """Of each image's caption: the best that begin like it up to a doubted word, and go on with another token."""
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

    found = _search_on(decoder, memory, begun, tokenizer, config, room=lambda said: most - said, processors=processors)
    rewritten: list[list[Tokens]] = [[] for _ in captions]
    for (image, _), best in zip(begun, found, strict=True):
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
    """Of each image's caption: what stands there when its most doubted words are written anew between the others.

    The rules do not see both sides of a gap: who calls judges the captions by them. ``tokenizer.config.gap_id`` is set.
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
    found = _search_on(
        decoder,
        memory,
        begun,
        tokenizer,
        config,
        room=lambda said: min(most - (said - 2), context - said),  # the two gaps are no words of the caption
        processors=lambda chosen: (),
    )
    rewritten: list[list[Tokens]] = [[] for _ in captions]
    for (image, prefix), (left, right), middles in zip(begun, sides, found, strict=True):
        written = [h.tokens[len(prefix) :] for h in middles if h.ended]
        rewritten[image] += [left + middle + right for middle in written if gap not in middle]
    return rewritten


def gapped(left: Tokens, right: Tokens, gap_id: int) -> Tokens:
    """What stands before the middle: ``left`` GAP ``right`` GAP."""
    return (*left, gap_id, *right, gap_id)


def doubtful_places(caption: Hypothesis, tokenizer: CaptionTokenizer, first: int = 0) -> list[int]:
    """Where the words of ``caption`` from token ``first`` on begin, the least probable word first.

    The end is one of them: it may stand too early.
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
    """The least probable word from token ``first`` on, the least probable two words in a row, and so on up to
    ``WIDEST``: where each begins and ends."""
    words = [span for span in word_spans(caption.tokens, tokenizer) if span[0] >= first]
    spans = []
    for width in range(1, min(WIDEST, len(words)) + 1):
        places = [(words[i][0], words[i + width - 1][1]) for i in range(len(words) - width + 1)]
        spans.append(min(places, key=lambda span: sum(caption.log_probs[span[0] : span[1]])))
    return spans


def never_first(tokens: Sequence[int], place: int) -> Processor:
    """Caption n does not say ``tokens[n]`` as its token number ``place``, the first that is searched for."""

    def process(log_probs: Tensor, said: Tensor) -> Tensor:
        if said.shape[1] != place:
            return log_probs
        return log_probs.scatter(1, torch.tensor(tokens, device=log_probs.device)[:, None], -torch.inf)

    return process


def _search_on(
    decoder: Decoder,
    memory: ImageMemory,
    begun: Sequence[Beginning],
    tokenizer: CaptionTokenizer,
    config: GenerationConfig,
    *,
    room: Callable[[int], int],
    processors: Callable[[Sequence[int]], Sequence[Processor]],
) -> list[list[Hypothesis]]:
    """The captions that the search of ``config`` finds behind each beginning, best first; drawn ones go on greedily.

    Beginnings of one length are searched together. ``room`` says how many tokens may follow so many; ``processors``
    are for the beginnings of the given numbers.
    """
    plain = replace(config, groups=1, diversity=0.0)
    text = tokenizer.config
    found: list[list[Hypothesis]] = [[] for _ in begun]
    for said in sorted({len(tokens) for _, tokens in begun}):
        steps = room(said)
        if steps < 1:
            continue
        chosen = [i for i, (_, tokens) in enumerate(begun) if len(tokens) == said]
        images = torch.tensor([begun[i][0] for i in chosen], device=memory.centres.device)
        writing = Writing(
            decoder,
            memory.select(images),
            text,
            steps=steps,
            captions=plain.beams,
            processors=processors(chosen),
            prefix=[begun[i][1] for i in chosen],
        )
        if plain.beams > 1:
            captions = beam_search(writing, text, plain, steps)
        else:
            captions = write(writing, text, steps, likeliest, length_penalty=plain.length_penalty)
        for i, of_beginning in zip(chosen, captions, strict=True):
            found[i] = of_beginning
    return found
