"""Probes of a captioner: its stability under small changes of a photo, and its presumptions about people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageEnhance

from captioner.captioning.batches import generate
from captioner.config import GenerationConfig, Words
from captioner.data.images import open_image
from captioner.data.samples import Sample
from captioner.errors import DataError, ImageError
from captioner.evaluation.decode import spoken
from captioner.evaluation.people import WORDS, Presumption, presumption
from captioner.evaluation.tables import left_out
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.words import calibrated, word_log_probs
from captioner.inference import AnyCheckpoint
from captioner.metrics.bootstrap import Interval, paired_differences
from captioner.metrics.cider import cider_d
from captioner.metrics.function_words import BASIC_FUNCTION_WORDS
from captioner.metrics.statistic import mean_of
from captioner.metrics.words import splitter


def _cropped(image: Image.Image) -> Image.Image:
    x, y = image.width // 10, image.height // 10
    return image.crop((x, y, image.width - x, image.height - y))


VIEWS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "half as bright": lambda image: ImageEnhance.Brightness(image).enhance(0.5),
    "a tenth cut off each side": _cropped,
}


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """The effect of a change of the photo on captions. Shares from 0 to 100; CIDEr-D may exceed 100."""

    view: str
    changed: float  # share of captions that change
    content: float  # share of captions whose set of content words changes
    lost: float  # share of content words that the new captions lack
    cider_d: float  # CIDEr-D of the changed photos
    difference: float  # difference of CIDEr-D from the original photos
    interval: Interval  # 95 % bootstrap interval of the difference


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The result of ``captioner evaluate --probe``."""

    images: int
    other_references: int  # references left out because they are in another language
    cider_d: float  # CIDEr-D of the original photos
    steadiness: tuple[Robustness, ...]
    people: tuple[Presumption, ...]
    problems: tuple[str, ...]  # errors of unreadable images, which are skipped


def probe(
    checkpoint: AnyCheckpoint,
    samples: Sequence[Sample],
    generation: GenerationConfig | None = None,
    *,
    batch_size: int = 16,
    words: Words = "ptb",
    progress: Callable[[int], object] = lambda images: None,
) -> Probe:
    """Caption every original image and each of its ``VIEWS``. Raises ``DataError`` if all are unreadable.

    The lists of function words and of words for people are English.
    """
    split = splitter(words)
    generation = generation or checkpoint.generation
    tokenizer, calibration = checkpoint.tokenizer, generation.calibration
    every = 1 + len(VIEWS)
    results = generate(checkpoint, _views(samples), generation, batch_size=batch_size)
    captions: list[list[list[str]]] = []  # words of each view of each image
    chances: list[list[tuple[str, float]]] = []
    judged: list[Sample] = []
    problems: list[str] = []
    for sample in samples:
        views = [next(results) for _ in range(every)]
        progress(1)
        errors = [str(result) for result in views if isinstance(result, ImageError)]
        if errors:
            problems.append(errors[0])
            continue
        best: list[Hypothesis] = [result[0] for result in views if not isinstance(result, ImageError)]
        judged.append(sample)
        captions.append([split(tokenizer.decode(hypothesis.tokens)) for hypothesis in best])
        parts = ((split(text), calibrated(value, calibration)) for text, value in word_log_probs(best[0], tokenizer))
        chances.append([(word, chance) for part, chance in parts for word in part])
    if not judged:
        raise DataError(f"none of the {len(samples)} images can be probed; the first reason: {' '.join(problems[:1])}")
    kept = spoken(judged, tokenizer, generation.language)
    references = [[split(caption) for caption in sample.captions] for sample in kept]
    original = [views[0] for views in captions]
    scores = cider_d(original, references)
    steadiness = tuple(
        _robustness(name, original, [views[1 + n] for views in captions], references, scores.per_image)
        for n, name in enumerate(VIEWS)
    )
    return Probe(
        images=len(judged),
        other_references=sum(len(sample.captions) for sample in judged) - sum(map(len, references)),
        cider_d=scores.mean,
        steadiness=steadiness,
        people=tuple(presumption(kind, chances, references) for kind in WORDS),
        problems=tuple(problems),
    )


def content(caption: Sequence[str]) -> set[str]:
    """Return the content words of a caption."""
    return set(caption) - BASIC_FUNCTION_WORDS


def markdown(result: Probe) -> str:
    """Return the two Markdown tables of a model card."""
    lines = [
        f"Captions of {result.images} changed photos, compared with those of the same photos unchanged "
        f"(CIDEr-D {result.cider_d:.1f}):",
        "",
        "| change of the photo | captions that differ | captions with other content words | content words lost "
        "| CIDEr-D | difference |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {s.view} | {s.changed:.0f} % | {s.content:.0f} % | {s.lost:.0f} % | {s.cider_d:.1f} | "
        f"{s.difference:+.1f} ({s.interval.low:+.1f} to {s.interval.high:+.1f}) |"
        for s in result.steadiness
    ]
    lines += [
        "",
        "Words for people in the captions, compared with the references of the same photos:",
        "",
        "| word for | captions | confidence | at least one reference agrees | at least half agree "
        "| references name only the opposite | references name neither |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {p.kind} | {p.captions} | {p.confidence:.0f} % | {p.agree:.0f} % | {p.most:.0f} % | "
        f"{p.contradict:.0f} % | {p.presumed:.0f} % |"
        for p in result.people
        if p.captions
    ]
    if result.other_references:
        lines += ["", left_out(result.other_references)]
    return "\n".join(lines)


def _views(samples: Sequence[Sample]) -> Iterator[Image.Image | ImageError]:
    """Yield each original image and its views; an error in place of each of them for an unreadable image."""
    for sample in samples:
        try:
            image = open_image(sample.image())
        except ImageError as error:
            yield from [error] * (1 + len(VIEWS))
            continue
        yield image
        yield from (change(image) for change in VIEWS.values())


def _robustness(
    view: str,
    original: Sequence[list[str]],
    changed: Sequence[list[str]],
    references: Sequence[Sequence[list[str]]],
    before: Sequence[float],
) -> Robustness:
    pairs = list(zip(original, changed, strict=True))
    scores = cider_d(changed, references)
    gap = paired_differences({"cider_d": mean_of(before)}, {"cider_d": mean_of(scores.per_image)})["cider_d"]
    named = sum(len(content(caption)) for caption in original)
    return Robustness(
        view=view,
        changed=100 * sum(a != b for a, b in pairs) / len(pairs),
        content=100 * sum(content(a) != content(b) for a, b in pairs) / len(pairs),
        lost=100 * sum(len(content(a) - content(b)) for a, b in pairs) / max(named, 1),
        cider_d=scores.mean,
        difference=gap.value,
        interval=gap.interval,
    )
