"""What a model says of a dataset's images, and how probable it finds what people said."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from captioner.checkpoint import Checkpoint
from captioner.config import Calibration, GenerationConfig
from captioner.data.samples import Sample, images_of
from captioner.errors import DataError, ImageError
from captioner.generation.generate import caption_pixels, check_learnt, in_batches, pixels_of
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.likelihood import score_captions
from captioner.generation.words import calibrated, confidence, whole_words, word_log_probs
from captioner.metrics.words import Split
from captioner.text import CaptionTokenizer

NO_CAPTION = Hypothesis((), (-math.inf,), -math.inf)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A caption of every image that could be read.

    ``places``: which of the samples these are. ``log_probs``: per image, of all its human captions and their ends.
    ``cut``: per image, its human captions that are longer than the model's context, by their places: their whole words
    within it, which alone count in ``log_probs``, without an end. ``confidences`` of the captions; ``word_chances``: of
    each word written, how probable it was called and whether a reference of its image says it. ``seconds``: from files
    to captions, without the time for ``log_probs``. ``problems``: the images that could not be read.
    """

    places: tuple[int, ...]
    captions: tuple[str, ...]
    confidences: tuple[float, ...]
    log_probs: tuple[float, ...]
    cut: tuple[Mapping[int, str], ...]
    word_chances: tuple[tuple[float, bool], ...]
    seconds: float
    problems: tuple[str, ...]


def decode(
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    generation: GenerationConfig,
    split: Split,
    *,
    batch_size: int = 16,
    progress: Callable[[int], object] = lambda images: None,
) -> Decoded:
    """Caption every image. Raises ``DataError`` where none can be read."""
    check_learnt(checkpoint, generation)
    decoder, tokenizer = checkpoint.model.decoder, checkpoint.tokenizer
    text = checkpoint.config.text.speaking(generation.language)
    places: list[int] = []
    said: list[str] = []
    sure: list[float] = []
    log_probs: list[float] = []
    cut: list[Mapping[int, str]] = []
    chances: list[tuple[float, bool]] = []
    problems: list[str] = []
    seconds = 0.0
    pixels = pixels_of(checkpoint, images_of(samples), batch_size)
    batches = in_batches(zip(range(len(samples)), pixels, strict=True), batch_size)
    began = time.perf_counter()
    for batch in batches:
        problems += [str(found) for _, found in batch if isinstance(found, ImageError)]
        kept = [(place, found) for place, found in batch if isinstance(found, Tensor)]
        if kept:
            found, memory = caption_pixels(checkpoint, [found for _, found in kept], generation)
            best = [of_image[0] if of_image else NO_CAPTION for of_image in found]  # rules may forbid all
            said += [tokenizer.decode(h.tokens) for h in best]
            seconds += time.perf_counter() - began
            sure += [confidence(h, tokenizer, generation.calibration) for h in best]
            for hypothesis, (place, _) in zip(best, kept, strict=True):
                chances += word_chances(hypothesis, samples[place], tokenizer, generation.calibration, split)
            captions = [[tokenizer.encode(caption) for caption in samples[place].captions] for place, _ in kept]
            for row, of_image in zip(score_captions(decoder, memory, captions, text), captions, strict=True):
                log_prob, shortened = judged(row, of_image, tokenizer)
                log_probs.append(log_prob)
                cut.append(shortened)
            places += [place for place, _ in kept]
        progress(len(batch))
        began = time.perf_counter()
    if not places:
        raise DataError(f"none of the {len(samples)} images can be read; the first reason: {problems[0]}")
    return Decoded(
        places=tuple(places),
        captions=tuple(said),
        confidences=tuple(sure),
        log_probs=tuple(log_probs),
        cut=tuple(cut),
        word_chances=tuple(chances),
        seconds=seconds,
        problems=tuple(problems),
    )


def judged(
    scored: Sequence[Hypothesis], captions: Sequence[Sequence[int]], tokenizer: CaptionTokenizer
) -> tuple[float, dict[int, str]]:
    """The log-probability of an image's ``captions``, and what of those was judged that the context has cut."""
    log_probs: list[float] = []
    cut: dict[int, str] = {}
    for place, (found, whole) in enumerate(zip(scored, captions, strict=True)):
        kept = len(found.log_probs)
        if not found.ended:
            kept = whole_words(whole, len(found.tokens), tokenizer)
            cut[place] = tokenizer.decode(whole[:kept])
        log_probs += found.log_probs[:kept]
    return math.fsum(log_probs), cut


def word_chances(
    hypothesis: Hypothesis, sample: Sample, tokenizer: CaptionTokenizer, calibration: Calibration, split: Split
) -> list[tuple[float, bool]]:
    """Of each word of a caption: how probable it was called, and whether a human caption of the image says it too."""
    people = {word for caption in sample.captions for word in split(caption)}
    return [
        (calibrated(log_prob, calibration), people.issuperset(split(word)))
        for word, log_prob in word_log_probs(hypothesis, tokenizer)
    ]
