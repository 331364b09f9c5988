"""The report of a fine-tuning run: scores on held-out images before and after, and warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from captioner.checkpoint import Checkpoint
from captioner.data.messages import counted
from captioner.data.samples import Sample
from captioner.errors import DataError
from captioner.evaluation.evaluate import Evaluation, evaluate
from captioner.metrics.bleu import bleu
from captioner.metrics.bootstrap import Difference, paired_differences
from captioner.metrics.words import words
from captioner.training.tasks import Data

FEW_HELD_OUT = 30
"""The number of images below which a difference of scores is mostly chance: CIDEr-D of one image has a standard
deviation of 49 (the shipped model, greedy, 120 images of Flickr8k dev)."""
FEW_TO_TRAIN = 100
ALIKE = 60.0
"""BLEU-4 of captions against those of other images; photos of everyday life have 5 to 10, drawn shapes 30 to 40."""
SHOWN = 10  # images in the report


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two captioners on the same held-out images."""

    samples: tuple[Sample, ...]
    before: Evaluation
    after: Evaluation
    gain: Difference  # gain in CIDEr-D, with its interval over images (none for a single image)


def compare(
    before: Checkpoint,
    after: Checkpoint,
    samples: Sequence[Sample],
    *,
    progress: Callable[[int], object] = lambda images: None,
) -> Comparison:
    """Caption the images with both checkpoints, each with its own decoding settings, and compare them.

    Raises ``DataError`` for an unreadable image.
    """
    first, second = (evaluate(checkpoint, samples, progress=progress) for checkpoint in (before, after))
    if problems := first.problems + second.problems:
        raise DataError(f"before and after cannot be compared: {problems[0]}")
    cider = ({"cider_d": evaluation.model.metrics["cider_d"]} for evaluation in (first, second))
    gain = paired_differences(*cider)["cider_d"]
    return Comparison(samples=tuple(samples), before=first, after=second, gain=gain)


def data_warnings(data: Data) -> list[str]:
    """Return warnings about a training set before hours go into it; none for a good one."""
    warnings = []
    train, held_out = len(data.train), len(data.validation)
    if train < FEW_TO_TRAIN:
        warnings.append(
            f"{train} training images are few: the captioner will learn the style of your captions but hardly any new "
            "subjects; add images, a few hundred help most"
        )
    if held_out < FEW_HELD_OUT:
        warnings.append(
            f"only {held_out} images are held out, and scores on fewer than {FEW_HELD_OUT} are unreliable: the choice "
            "of the best weights is partly chance, so look at the captions; add images, or give --held-out FILE"
        )
    warnings += _similar_captions(data.train)
    return warnings


def _similar_captions(samples: Sequence[Sample], most: int = 500) -> list[str]:
    """Return a warning if the captions fit any of the images, so that they teach nothing about the images."""
    chosen = samples[:: max(1, len(samples) // most)]
    captions = [[words(caption) for caption in sample.captions] for sample in chosen]
    captions = [kept for group in captions if (kept := [caption for caption in group if caption])]
    if len(captions) < 2:
        return []
    first = [group[0] for group in captions]
    commonest, times = Counter(map(tuple, first)).most_common(1)[0]
    if 2 * times > len(first):
        caption = " ".join(commonest)
        return [
            f'{100 * times / len(first):.0f} % of the images have the caption "{caption}": the captioner will write it '
            "for every image"
        ]
    half = len(first) // 2  # neighbours may be of one burst
    similarity = bleu([*first[half:], *first[:half]], captions).bleu4
    if similarity < ALIKE:
        return []
    return [
        f"the captions are very similar: captions of other images have BLEU-4 {similarity:.0f} of 100 (everyday photos "
        "5 to 10), so high scores will mean little"
    ]


def result_warnings(comparison: Comparison, *, improved: bool) -> list[str]:
    """Return warnings about the fine-tuned model that the figures alone do not show."""
    warnings = []
    captions = [tuple(words(caption)) for caption in comparison.after.captions]
    people = {tuple(words(caption)) for sample in comparison.samples for caption in sample.captions[:1]}
    distinct = len(set(captions))
    if len(captions) > 1 and distinct == 1:
        warnings.append(
            f"the fine-tuned captioner gives all {len(captions)} held-out images the same caption, "
            f'"{comparison.after.captions[0]}", so it ignores the images; check the captions of the training set, or '
            "lower the learning rate"
        )
    elif 4 * distinct < len(people):
        warnings.append(
            f"the fine-tuned captioner has {distinct} different captions for {len(captions)} held-out images, people "
            f"have {len(people)}: its captions vary too little; use more images, or fewer epochs"
        )
    if not improved:
        warnings.append(
            "no weights of this run did better on the held-out images than the initial model, which was kept; try a "
            "lower learning rate (--set stages.0.lr=...), --recipe lora, or more images"
        )
    elif len(captions) < 2:
        warnings.append("one held-out image cannot distinguish a gain from chance; hold out more")
    elif comparison.gain.interval.low <= 0:
        warnings.append(f"the gain may be chance: {_gain(comparison.gain)}")
    return warnings


def text(comparison: Comparison) -> str:
    """Return the comparison in Markdown: scores, then the captions of ten images beside a reference caption."""
    heads = [counted(len(comparison.samples), "held-out image"), *(f"BLEU-{n}" for n in range(1, 5))]
    heads += ["CIDEr-D", "perplexity", "distinct"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, evaluation in (("before", comparison.before), ("after", comparison.after)):
        scores, cider = evaluation.model.bleu, evaluation.model.cider_d
        values = [scores.bleu1, scores.bleu2, scores.bleu3, scores.bleu4, cider, evaluation.perplexity]
        cells = [f"{value:.1f}" for value in values] + [f"{evaluation.diversity.distinct_captions:.0f} %"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if len(comparison.samples) > 1:
        lines += ["", _gain(comparison.gain)]
    places = range(len(comparison.samples))
    for place in [len(places) * n // SHOWN for n in range(SHOWN)] if len(places) > SHOWN else places:
        sample = comparison.samples[place]
        lines += [
            "",
            f"{sample.name}",
            f"    reference  {sample.captions[0]}",
            f"    before     {comparison.before.captions[place]}",
            f"    after      {comparison.after.captions[place]}",
        ]
    return "\n".join(lines)


def _gain(gain: Difference) -> str:
    low, high = gain.interval.low, gain.interval.high
    return f"CIDEr-D {gain.value:+.1f}, 95 % interval over images {low:+.1f} to {high:+.1f}"
