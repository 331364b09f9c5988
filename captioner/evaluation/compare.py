"""The comparison of two systems on the same images, with intervals and the images that differ most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from captioner.data.messages import some
from captioner.errors import DataError
from captioner.evaluation.judge import Judge, Judgement
from captioner.evaluation.tables import TITLES
from captioner.metrics.bootstrap import Difference, paired_differences

MOST = 5  # images shown on each side
LEVEL = 1e-9  # the largest difference of CIDEr-D that is a tie


@dataclass(frozen=True, kw_only=True)
class ChangedImage:
    """An image with a different CIDEr-D in the two systems."""

    image: str
    gain: float  # second minus first
    first: str  # caption
    second: str  # caption


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The differences between two systems on the same images."""

    first: Judgement = field(repr=False)
    second: Judgement = field(repr=False)
    differences: Mapping[str, Difference]  # second minus first, by paired bootstrap, for every metric of both
    wins: int  # images on which the second has the higher CIDEr-D
    losses: int
    ties: int
    better: tuple[ChangedImage, ...]  # the images with the largest gains
    worse: tuple[ChangedImage, ...]  # the images with the largest losses


def compare(first: Judgement, second: Judgement) -> Comparison:
    """Compare two judgements of the same images. Raises ``DataError`` for different images.

    A captioner of several languages leaves out references, so both are scored against those that both have.
    """
    images = [[replace(sample, captions=()) for sample in one.samples] for one in (first, second)]
    if images[0] != images[1] or first.words != second.words:
        raise DataError(
            "the two results are not of the same images; caption every image with both systems, then compare again"
        )
    if first.samples != second.samples:
        first, second = _against_the_same(first, second)
    gains = second.model.metrics["cider_d"].per_image - first.model.metrics["cider_d"].per_image
    moved = sorted(
        (
            ChangedImage(image=sample.name, gain=float(gain), first=first_caption, second=second_caption)
            for sample, gain, first_caption, second_caption in zip(
                first.samples, gains, first.captions, second.captions, strict=True
            )
        ),
        key=lambda image: -image.gain,
    )
    return Comparison(
        first=first,
        second=second,
        differences=paired_differences(first.model.metrics, second.model.metrics),
        wins=int((gains > LEVEL).sum()),
        losses=int((gains < -LEVEL).sum()),
        ties=int((abs(gains) <= LEVEL).sum()),
        better=tuple(image for image in moved[:MOST] if image.gain > LEVEL),
        worse=tuple(image for image in moved[::-1][:MOST] if image.gain < -LEVEL),
    )


def _against_the_same(first: Judgement, second: Judgement) -> tuple[Judgement, Judgement]:
    """Return both judgements against the references that both have. Raises ``DataError`` for an image without any."""
    samples = [
        replace(one, captions=tuple(caption for caption in one.captions if caption in other.captions))
        for one, other in zip(first.samples, second.samples, strict=True)
    ]
    if bare := [sample.name for sample in samples if not sample.captions]:
        raise DataError(
            f"the two results have no reference of {some(bare)} in common; compare captions in the same language"
        )
    java, spice = (name in first.model.values and name in second.model.values for name in ("meteor", "spice"))
    with Judge(samples, first.words, java=java, want_spice=spice) as judge:
        return judge.judge(first.captions), judge.judge(second.captions)


def markdown(comparison: Comparison, first: str, second: str) -> str:
    """Return Markdown tables of the metrics and of the images that differ most."""
    lines = [f"| | {first} | {second} | difference | 95 % interval | p |", "|---|---|---|---|---|---|"]
    for name in (name for name in TITLES if name in comparison.differences):
        before, after, gap = comparison.first.model[name], comparison.second.model[name], comparison.differences[name]
        lines.append(
            f"| {TITLES[name]} | {before:.2f} | {after:.2f} | {gap.value:+.2f} "
            f"| [{gap.interval.low:+.2f}, {gap.interval.high:+.2f}] | {gap.p:.3f} |"
        )
    images = len(comparison.first.samples)
    lines += [
        "",
        f"image by image, by CIDEr-D: {second} is better on {comparison.wins}, worse on {comparison.losses}, level on "
        f"{comparison.ties} of {images} images, data {comparison.first.fingerprint}",
        f"paired bootstrap over images; p is two-sided; words: {comparison.first.words}",
    ]
    for title, moved in ((f"{second} gains most", comparison.better), (f"{second} loses most", comparison.worse)):
        if moved:
            lines += ["", f"| {title} | CIDEr-D | {first} | {second} |", "|---|---|---|---|"]
            lines += [f"| {image.image} | {image.gain:+.1f} | {image.first} | {image.second} |" for image in moved]
    return "\n".join(lines)


def figures(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain values for JSON."""
    return {
        "first": dict(comparison.first.model.values),
        "second": dict(comparison.second.model.values),
        "differences": {
            name: {"value": gap.value, "interval": [gap.interval.low, gap.interval.high], "p": gap.p}
            for name, gap in comparison.differences.items()
        },
        "wins": comparison.wins,
        "losses": comparison.losses,
        "ties": comparison.ties,
        "better": [vars(image) for image in comparison.better],
        "worse": [vars(image) for image in comparison.worse],
        "images": len(comparison.first.samples),
        "data": comparison.first.fingerprint,
        "words": comparison.first.words,
    }
