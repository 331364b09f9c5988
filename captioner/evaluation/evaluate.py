"""A model on a dataset: what it says, how that scores, and what the scores mean beside a floor and a control."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from captioner.checkpoint import Checkpoint
from captioner.config import Calibration, GenerationConfig
from captioner.data.loader import load_pixels
from captioner.data.samples import Sample
from captioner.errors import DataError, ImageError
from captioner.generation.generate import caption_pixels, in_batches
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.likelihood import score_captions
from captioner.generation.words import calibrated, confidence, word_log_probs
from captioner.metrics.bleu import BleuScore, bleu
from captioner.metrics.calibration import calibration_error, rank_correlation
from captioner.metrics.cider import cider_d
from captioner.metrics.diversity import Diversity, diversity
from captioner.metrics.words import words
from captioner.text import CaptionTokenizer


@dataclass(frozen=True, kw_only=True)
class Scores:
    """BLEU-1 to 4 with its length ratio, and CIDEr-D with that of each image, from 0 to 100 (CIDEr-D may pass it)."""

    bleu: BleuScore
    cider_d: float
    per_image: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that ``captioner evaluate`` prints.

    ``perplexity`` per word: exp(-log p(captions and their ends) / (words + captions)) over all human captions, words
    as the metrics count them. ``floor``: one caption said of every image, the best of the model's twenty most frequent.
    ``shuffled``: each image judged by the caption of another one. ``fingerprint`` is of the images' names and captions.
    ``seconds``: from files to captions, without the time for perplexity. ``confidence_rank``: Spearman's correlation of
    the captions' confidences with their CIDEr-D, -1 to 1. ``word_chances``: of each word written, how probable it was
    called and whether a reference of its image says it; ``calibration_error`` is the gap between the two, 0 to 100.
    """

    images: int
    references: int
    fingerprint: str
    generation: GenerationConfig
    model: Scores
    floor: Scores
    shuffled: Scores
    perplexity: float
    diversity: Diversity
    confidence_rank: float
    calibration_error: float
    word_chances: tuple[tuple[float, bool], ...]
    seconds: float
    captions: tuple[str, ...]
    problems: tuple[str, ...]


def evaluate(
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    generation: GenerationConfig | None = None,
    *,
    batch_size: int = 16,
    progress: Callable[[int], object] = lambda images: None,
) -> Evaluation:
    """Caption every image and judge the captions by all its references.

    An image that cannot be read is left out and named in ``problems``. Raises ``DataError`` when none can be read.
    """
    if not samples:
        raise DataError("there are no images to evaluate on; name data that holds some")
    generation = generation or checkpoint.generation
    decoder, text, tokenizer = checkpoint.model.decoder, checkpoint.config.text, checkpoint.tokenizer
    said: list[str] = []
    sure: list[float] = []
    chances: list[tuple[float, bool]] = []
    seconds = 0.0
    judged: list[Sample] = []
    problems: list[str] = []
    total = 0.0
    pixels = load_pixels((s.path for s in samples), checkpoint.config.preprocess, ahead=2 * batch_size)
    batches = in_batches(zip(samples, pixels, strict=True), batch_size)
    began = time.perf_counter()
    for batch in batches:
        problems += [str(found) for _, found in batch if isinstance(found, ImageError)]
        kept = [(sample, found) for sample, found in batch if isinstance(found, Tensor)]
        if kept:
            found, memory = caption_pixels(checkpoint, [found for _, found in kept], generation)
            best = [of_image[0] if of_image else NO_CAPTION for of_image in found]  # rules may forbid all
            said += [tokenizer.decode(h.tokens) for h in best]
            seconds += time.perf_counter() - began
            sure += [confidence(h, tokenizer, generation.calibration) for h in best]
            for hypothesis, (sample, _) in zip(best, kept, strict=True):
                chances += word_chances(hypothesis, sample, tokenizer, generation.calibration)
            captions = [[tokenizer.encode(caption) for caption in sample.captions] for sample, _ in kept]
            total += math.fsum(h.log_prob for row in score_captions(decoder, memory, captions, text) for h in row)
            judged += [sample for sample, _ in kept]
        progress(len(batch))
        began = time.perf_counter()
    if not judged:
        raise DataError(f"none of the {len(samples)} images can be read; the first reason: {problems[0]}")

    candidates = [words(caption) for caption in said]
    references = [[words(caption) for caption in sample.captions] for sample in judged]
    ends = sum(len(of_image) for of_image in references)
    count = sum(len(caption) for of_image in references for caption in of_image)
    scores = score(candidates, references)
    return Evaluation(
        images=len(judged),
        references=ends,
        fingerprint=fingerprint(judged),
        generation=generation,
        model=scores,
        floor=constant_floor(candidates, references),
        shuffled=score([*candidates[1:], *candidates[:1]], references),
        perplexity=math.exp(-total / (count + ends)),
        diversity=diversity(candidates),
        confidence_rank=rank_correlation(sure, scores.per_image),
        calibration_error=calibration_error(*zip(*chances, strict=True)) if chances else 0.0,
        word_chances=tuple(chances),
        seconds=seconds,
        captions=tuple(said),
        problems=tuple(problems),
    )


NO_CAPTION = Hypothesis((), (-math.inf,), -math.inf)


def word_chances(
    hypothesis: Hypothesis, sample: Sample, tokenizer: CaptionTokenizer, calibration: Calibration
) -> list[tuple[float, bool]]:
    """Of each word of a caption: how probable it was called, and whether a human caption of the image says it too."""
    people = {word for caption in sample.captions for word in words(caption)}
    return [
        (calibrated(log_prob, calibration), people.issuperset(words(word)))
        for word, log_prob in word_log_probs(hypothesis, tokenizer)
    ]


def score(candidates: Sequence[list[str]], references: Sequence[Sequence[list[str]]]) -> Scores:
    """BLEU and CIDEr-D of tokenised captions."""
    cider = cider_d(candidates, references)
    return Scores(bleu=bleu(candidates, references), cider_d=cider.mean, per_image=cider.per_image)


def constant_floor(candidates: Sequence[list[str]], references: Sequence[Sequence[list[str]]]) -> Scores:
    """What one caption for every image reaches: the best by BLEU-4 of the twenty that were said most often."""
    frequent = [list(caption) for caption, _ in Counter(map(tuple, candidates)).most_common(20)]
    best = max(frequent, key=lambda caption: bleu([caption] * len(references), references).bleu4)
    return score([best] * len(references), references)


def fingerprint(samples: Sequence[Sample]) -> str:
    """Twelve hex digits that change when an image's name or a caption does, whatever the order of the images."""
    lines = sorted(repr((sample.name, sample.captions)) for sample in samples)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:12]
