"""One function for all search strategies on an image memory.

Greedy decoding and sampling (``walk.py``), beam search (``beam.py``) and constrained beam search for required words
(``constrained.py``) share one decoding step (``step.py``), optionally with speculative decoding
(``speculative_greedy.py``, ``speculative_beams.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from captioner.config import GenerationConfig, TextConfig
from captioner.errors import UsageError
from captioner.generation.beam import beam_search
from captioner.generation.constrained import Phrase, constrained_search
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.rules import NO_RULES, Rules
from captioner.generation.sample import draw
from captioner.generation.speculative_beams import SpeculativeBeams
from captioner.generation.speculative_greedy import SpeculativeGreedy
from captioner.generation.step import Start, Writing
from captioner.generation.walk import greedy_choice, walk, write
from captioner.models.decoder import Decoder, ImageMemory


@torch.inference_mode()
def search(
    decoder: Decoder,
    memory: ImageMemory,
    text: TextConfig,
    config: GenerationConfig,
    *,
    rules: Rules = NO_RULES,
    seeds: Sequence[int] | None = None,
    required: Sequence[Phrase] = (),
) -> list[list[Hypothesis]]:
    """Return the captions of each image in ``memory``, best first, one per beam or sample.

    ``rules``: the compiled rules of ``config``. ``seeds``: one random seed per image, if ``config`` samples.
    ``required``: a phrase per image that its captions contain beside those of the rules, for beam search alone. Raises
    ``UsageError`` if the prefix does not fit the decoder's context.
    """
    text = text.speaking(config.language)
    captions = config.beams if config.sampling is None else config.candidates
    phrases = [(*rules.require, own) for own in required] or [rules.require] * memory.images
    writing, steps = _begin(decoder, memory, text, config, rules, captions, constrained=any(phrases))
    if config.sampling is not None:
        choose = draw(config.sampling, seeds or [config.sampling.seed] * memory.images, captions)
        return write(writing, text, steps, choose, length_penalty=config.length_penalty)
    if any(phrases):
        return constrained_search(writing, text, config, steps, phrases)
    if config.beams == 1:
        return write(writing, text, steps, greedy_choice, length_penalty=config.length_penalty)
    return beam_search(writing, text, config, steps)


@torch.inference_mode()
def one_by_one(
    decoder: Decoder,
    memory: ImageMemory,
    text: TextConfig,
    config: GenerationConfig,
    *,
    rules: Rules = NO_RULES,
    seed: int = 0,
) -> Iterator[int]:
    """Yield the tokens of one image's greedy or sampled caption as they are generated, with the end token."""
    text = text.speaking(config.language)
    writing, steps = _begin(decoder, memory, text, config, rules, 1)
    yield from rules.prefix
    choose = greedy_choice if config.sampling is None else draw(config.sampling, [seed], 1)
    for _ in walk(writing, text, steps, choose):
        yield int(writing.tokens[0, 0, -1])


def caption_room(context: int, config: GenerationConfig, rules: Rules) -> int:
    """Return the most tokens of a caption after its prefix. Raises ``UsageError`` if that is none."""
    steps = min(config.max_tokens, context - 1) - len(rules.prefix)
    if steps < 1:
        raise UsageError(f"the prefix fills the decoder's context of {context} tokens; shorten it")
    return steps


def _begin(
    decoder: Decoder,
    memory: ImageMemory,
    text: TextConfig,
    config: GenerationConfig,
    rules: Rules,
    captions: int,
    *,
    constrained: bool = False,
) -> tuple[Writing, int]:
    """Start the captions; return them and the most tokens of each."""
    steps = caption_room(decoder.config.context, config, rules)
    start = Start(captions=captions, steps=steps, processors=rules.processors, prefix=rules.prefix, labels=rules.labels)
    draft = decoder.draft
    if draft is not None and memory.images == 1 and config.sampling is None:
        if captions == 1:
            return SpeculativeGreedy(decoder, memory, text, start, draft=draft), steps
        if config.groups == 1 and not constrained:
            return SpeculativeBeams(decoder, memory, text, start, draft=draft), steps
    return Writing(decoder, memory, text, start), steps
