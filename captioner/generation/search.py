"""Every way to write captions from an image memory, behind one function.

Greedy and sampling walk (``walk.py``), beams search (``beam.py``), words that must appear are searched for
(``constrained.py``). All of them ask the same step (``step.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from captioner.config import GenerationConfig, TextConfig
from captioner.errors import UsageError
from captioner.generation.beam import beam_search
from captioner.generation.constrained import constrained_search
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.rules import NO_RULES, Rules
from captioner.generation.sample import draw
from captioner.generation.step import Writing
from captioner.generation.walk import likeliest, write
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
) -> list[list[Hypothesis]]:
    """The captions of each image in ``memory``, best first: as many as there are beams or draws.

    ``rules`` are those of ``config``, compiled for the checkpoint's tokens. Where ``config`` samples, ``seeds`` has one
    number per image. Raises ``UsageError`` where the decoder's context has no room for the prefix.
    """
    steps = min(config.max_tokens, decoder.config.context - 1) - len(rules.prefix)
    if steps < 1:
        raise UsageError(f"the prefix fills the decoder's {decoder.config.context} places; shorten it")
    captions = config.beams if config.sampling is None else config.candidates
    writing = Writing(
        decoder,
        memory,
        text,
        steps=steps,
        captions=captions,
        processors=rules.processors,
        prefix=rules.prefix,
    )
    if config.sampling is not None:
        if seeds is None:
            seeds = [config.sampling.seed] * memory.images
        choose = draw(config.sampling, seeds, captions)
        return write(writing, text, steps, choose, length_penalty=config.length_penalty)
    if rules.require:
        return constrained_search(writing, text, config, steps, rules.require)
    if config.beams == 1:
        return write(writing, text, steps, likeliest, length_penalty=config.length_penalty)
    return beam_search(writing, text, config, steps)
