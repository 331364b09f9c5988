"""A model's captions of a dataset's images, and its log-probabilities of the human captions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from captioner.captioning.batches import caption_pixels, check_learnt, in_batches, pixels_of
from captioner.config import Calibration, GenerationConfig
from captioner.data.samples import Sample, images_of
from captioner.errors import DataError, ImageError
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.likelihood import score_captions
from captioner.generation.words import calibrated, confidence, whole_words, word_log_probs
from captioner.inference import AnyCheckpoint
from captioner.metrics.words import Split
from captioner.text import CaptionTokenizer

NO_CAPTION = Hypothesis((), (-math.inf,), -math.inf)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The captions of all readable images."""

    places: tuple[int, ...]  # indices of these images among the samples
    captions: tuple[str, ...]
    confidences: tuple[float, ...]  # confidences of the captions
    log_probs: tuple[float, ...]  # per image, of all its human captions with their ends
    cut: tuple[Mapping[int, str], ...]
    """Per image, the human captions that exceed the model's context, by index: their whole words within it. Only these
    words count in ``log_probs``, without an end."""
    word_chances: tuple[tuple[float, bool], ...]
    """The calibrated probability of each written word, and whether a reference of its image contains the word."""
    seconds: float  # from files to captions, without the time for ``log_probs``
    problems: tuple[str, ...]  # errors of unreadable images


def spoken(samples: Sequence[Sample], tokenizer: CaptionTokenizer, language: str) -> Sequence[Sample]:
    """Return the samples with only their references in ``language``, as validation in training does.

    A sample without any keeps all of its references.
    """
    if not tokenizer.config.languages:
        return samples
    return [replace(sample, captions=tokenizer.captions_in(language, sample.captions)) for sample in samples]


def decode(
    checkpoint: AnyCheckpoint,
    samples: Sequence[Sample],
    generation: GenerationConfig,
    split: Split,
    *,
    batch_size: int = 16,
    progress: Callable[[int], object] = lambda images: None,
) -> Decoded:
    """Caption every image. Raises ``DataError`` if all are unreadable."""
    check_learnt(checkpoint, generation)
    decoder, tokenizer = checkpoint.model.decoder, checkpoint.tokenizer
    text = checkpoint.config.text.speaking(generation.language)
    places: list[int] = []
    written: list[str] = []
    confidences: list[float] = []
    log_probs: list[float] = []
    cut: list[Mapping[int, str]] = []
    chances: list[tuple[float, bool]] = []
    problems: list[str] = []
    seconds = 0.0
    pixels = pixels_of(checkpoint, images_of(samples), batch_size)
    batches = in_batches(zip(range(len(samples)), pixels, strict=True), batch_size)
    began = time.perf_counter()
    for batch in batches:
        problems += [str(result) for _, result in batch if isinstance(result, ImageError)]
        kept = [(place, result) for place, result in batch if isinstance(result, Tensor)]
        if kept:
            hypotheses, memory = caption_pixels(checkpoint, [tensor for _, tensor in kept], generation)
            best = [group[0] if group else NO_CAPTION for group in hypotheses]  # rules may forbid all
            written += [tokenizer.decode(h.tokens) for h in best]
            seconds += time.perf_counter() - began
            confidences += [confidence(h, tokenizer, generation.calibration) for h in best]
            for hypothesis, (place, _) in zip(best, kept, strict=True):
                chances += word_chances(hypothesis, samples[place], tokenizer, generation.calibration, split)
            captions = [[tokenizer.encode(caption) for caption in samples[place].captions] for place, _ in kept]
            for row, group in zip(score_captions(decoder, memory, captions, text), captions, strict=True):
                log_prob, shortened = judged(row, group, tokenizer)
                log_probs.append(log_prob)
                cut.append(shortened)
            places += [place for place, _ in kept]
        progress(len(batch))
        began = time.perf_counter()
    if not places:
        raise DataError(f"none of the {len(samples)} images can be read; the first reason: {problems[0]}")
    return Decoded(
        places=tuple(places),
        captions=tuple(written),
        confidences=tuple(confidences),
        log_probs=tuple(log_probs),
        cut=tuple(cut),
        word_chances=tuple(chances),
        seconds=seconds,
        problems=tuple(problems),
    )


def judged(
    scored: Sequence[Hypothesis], captions: Sequence[Sequence[int]], tokenizer: CaptionTokenizer
) -> tuple[float, dict[int, str]]:
    """Return the log-probability of an image's ``captions``, and the scored part of captions cut by the context."""
    log_probs: list[float] = []
    cut: dict[int, str] = {}
    for place, (hypothesis, tokens) in enumerate(zip(scored, captions, strict=True)):
        kept = len(hypothesis.log_probs)
        if not hypothesis.ended:
            kept = whole_words(tokens, len(hypothesis.tokens), tokenizer)
            cut[place] = tokenizer.decode(tokens[:kept])
        log_probs += hypothesis.log_probs[:kept]
    return math.fsum(log_probs), cut


def word_chances(
    hypothesis: Hypothesis, sample: Sample, tokenizer: CaptionTokenizer, calibration: Calibration, split: Split
) -> list[tuple[float, bool]]:
    """Return the calibrated probability of each word of a caption, and whether a human caption contains it."""
    people = {word for caption in sample.captions for word in split(caption)}
    return [
        (calibrated(log_prob, calibration), people.issuperset(split(word)))
        for word, log_prob in word_log_probs(hypothesis, tokenizer)
    ]
