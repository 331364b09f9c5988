"""Two systems on the same images: which is better, how sure that is, and on which images they part most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from captioner.errors import DataError
from captioner.evaluation.judge import Judgement
from captioner.evaluation.tables import TITLES
from captioner.metrics.bootstrap import Difference, paired_differences

MOST = 5  # images shown of each side
LEVEL = 1e-9  # CIDEr-D that differs by no more is a tie


@dataclass(frozen=True, kw_only=True)
class Moved:
    """An image whose CIDEr-D differs between the two; ``gain`` is second less first."""

    image: str
    gain: float
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """``differences``: second less first, by paired bootstrap, for every metric that both have.

    ``wins``, ``losses`` and ``ties`` of the second, image by image, by CIDEr-D; ``better`` and ``worse``: the images
    that moved most.
    """

    first: Judgement = field(repr=False)
    second: Judgement = field(repr=False)
    differences: Mapping[str, Difference]
    wins: int
    losses: int
    ties: int
    better: tuple[Moved, ...]
    worse: tuple[Moved, ...]


def compare(first: Judgement, second: Judgement) -> Comparison:
    """Compare two judgements of the same images. Raises ``DataError`` where they are of others."""
    if first.samples != second.samples or first.words != second.words:
        raise DataError("the two are not of the same images; caption every image with both, then compare again")
    gains = second.model.metrics["cider_d"].per_image - first.model.metrics["cider_d"].per_image
    moved = sorted(
        (
            Moved(image=sample.name, gain=float(gain), first=ours, second=theirs)
            for sample, gain, ours, theirs in zip(first.samples, gains, first.captions, second.captions, strict=True)
        ),
        key=lambda one: -one.gain,
    )
    return Comparison(
        first=first,
        second=second,
        differences=paired_differences(first.model.metrics, second.model.metrics),
        wins=int((gains > LEVEL).sum()),
        losses=int((gains < -LEVEL).sum()),
        ties=int((abs(gains) <= LEVEL).sum()),
        better=tuple(one for one in moved[:MOST] if one.gain > LEVEL),
        worse=tuple(one for one in moved[::-1][:MOST] if one.gain < -LEVEL),
    )


def markdown(found: Comparison, first: str, second: str) -> str:
    """Tables of metrics and of the images that moved most."""
    lines = [f"| | {first} | {second} | difference | 95 % interval | p |", "|---|---|---|---|---|---|"]
    for name in (name for name in TITLES if name in found.differences):
        gap = found.differences[name]
        lines.append(
            f"| {TITLES[name]} | {found.first.model[name]:.2f} | {found.second.model[name]:.2f} | {gap.value:+.2f} "
            f"| [{gap.interval.low:+.2f}, {gap.interval.high:+.2f}] | {gap.p:.3f} |"
        )
    images = len(found.first.samples)
    lines += [
        "",
        f"image by image, by CIDEr-D: {second} is better on {found.wins}, worse on {found.losses}, level on "
        f"{found.ties} of {images} images, data {found.first.fingerprint}",
        f"paired bootstrap over images; p is two-sided; words: {found.first.words}",
    ]
    for what, images_moved in ((f"{second} gains most", found.better), (f"{second} loses most", found.worse)):
        if images_moved:
            lines += ["", f"| {what} | CIDEr-D | {first} | {second} |", "|---|---|---|---|"]
            lines += [f"| {one.image} | {one.gain:+.1f} | {one.first} | {one.second} |" for one in images_moved]
    return "\n".join(lines)


def figures(found: Comparison) -> dict[str, Any]:
    """The comparison for machines."""
    return {
        "first": dict(found.first.model.values),
        "second": dict(found.second.model.values),
        "differences": {
            name: {"value": gap.value, "interval": [gap.interval.low, gap.interval.high], "p": gap.p}
            for name, gap in found.differences.items()
        },
        "wins": found.wins,
        "losses": found.losses,
        "ties": found.ties,
        "better": [vars(one) for one in found.better],
        "worse": [vars(one) for one in found.worse],
        "images": len(found.first.samples),
        "data": found.first.fingerprint,
        "words": found.first.words,
    }
