"""What fine-tuning brought, on held-out images before and after, and what to distrust of it, in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from captioner.checkpoint import Checkpoint
from captioner.data.samples import Sample
from captioner.data.told import counted
from captioner.errors import DataError
from captioner.evaluation.evaluate import Evaluation, evaluate
from captioner.metrics.bleu import bleu
from captioner.metrics.bootstrap import Difference, paired_differences
from captioner.metrics.words import words
from captioner.training.tasks import Data

FEW_HELD_OUT = 30
"""Below this a difference of scores is mostly chance: CIDEr-D of one image has a standard deviation of 49 (the shipped
model, greedy, 120 images of Flickr8k dev)."""
FEW_TO_TRAIN = 100
ALIKE = 60.0
"""BLEU-4 of captions against those of other images; photos of everyday life have 5 to 10, drawn shapes 30 to 40."""
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two captioners on the same held-out images.

    ``gain``: of CIDEr-D, with its interval over images; of a single image there is none.
    """

    samples: tuple[Sample, ...]
    before: Evaluation
    after: Evaluation
    gain: Difference


def compare(
    before: Checkpoint,
    after: Checkpoint,
    samples: Sequence[Sample],
    *,
    progress: Callable[[int], object] = lambda images: None,
) -> Comparison:
    """Caption the images with both, each with its own way of decoding. Raises ``DataError`` for one that is lost."""
    one, other = (evaluate(checkpoint, samples, progress=progress) for checkpoint in (before, after))
    if problems := one.problems + other.problems:
        raise DataError(f"before and after cannot be compared: {problems[0]}")
    cider = ({"cider_d": of.model.metrics["cider_d"]} for of in (one, other))
    gain = paired_differences(*cider)["cider_d"]
    return Comparison(samples=tuple(samples), before=one, after=other, gain=gain)


def doubts_of_data(data: Data) -> list[str]:
    """What to know of a set before hours go into it; nothing, for a good one."""
    found = []
    train, held_out = len(data.train), len(data.validation)
    if train < FEW_TO_TRAIN:
        found.append(
            f"{train} images to train on are few: expect the wording of your captions, hardly new subjects; "
            "a few hundred help most"
        )
    if held_out < FEW_HELD_OUT:
        found.append(
            f"only {held_out} images are held out, and scores of fewer than {FEW_HELD_OUT} say little: the choice of "
            "the best weights is partly chance, so look at the captions; more images, or --held-out FILE, help"
        )
    found += _alike(data.train)
    return found


def _alike(samples: Sequence[Sample], most: int = 500) -> list[str]:
    """Captions that would do for any of the images teach nothing of what is seen."""
    some = samples[:: max(1, len(samples) // most)]
    spoken = [[words(caption) for caption in sample.captions] for sample in some]
    spoken = [kept for of_image in spoken if (kept := [caption for caption in of_image if caption])]
    if len(spoken) < 2:
        return []
    first = [of_image[0] for of_image in spoken]
    commonest, times = Counter(map(tuple, first)).most_common(1)[0]
    if 2 * times > len(first):
        said = " ".join(commonest)
        return [f'{100 * times / len(first):.0f} % of the images have the caption "{said}": that is what will be said']
    half = len(first) // 2  # neighbours may be of one burst
    likeness = bleu([*first[half:], *first[:half]], spoken).bleu4
    if likeness < ALIKE:
        return []
    return [
        f"the captions are much alike: those of other images have BLEU-4 {likeness:.0f} of 100 (everyday photos 5 to "
        "10), so high scores will mean little"
    ]


def doubts_of_result(found: Comparison, *, improved: bool) -> list[str]:
    """What the figures alone would not say of the fine-tuned model."""
    doubts = []
    said = [tuple(words(caption)) for caption in found.after.captions]
    people = {tuple(words(caption)) for sample in found.samples for caption in sample.captions[:1]}
    distinct = len(set(said))
    if len(said) > 1 and distinct == 1:
        doubts.append(
            f'the result says the same of all {len(said)} held-out images, "{found.after.captions[0]}": it does not '
            "look at them; check the captions of the training set, or lower the rate"
        )
    elif 4 * distinct < len(people):
        doubts.append(
            f"the result has {distinct} different captions for {len(said)} held-out images, people have {len(people)}: "
            "it says much the same of everything; more images, or fewer epochs, help"
        )
    if not improved:
        doubts.append(
            "no weights of this run did better on the held-out images than the model it began with, so that is what "
            "was kept; try a lower rate (--set stages.0.lr=...), --recipe lora, or more images"
        )
    elif len(said) < 2:
        doubts.append("of one held-out image nobody can tell a gain from chance")
    elif found.gain.interval.low <= 0:
        doubts.append(f"the gain may be chance: {_gain(found.gain)}")
    return doubts


def text(found: Comparison) -> str:
    """The comparison in Markdown: scores, then what was said of ten of the images, beside what a person said."""
    heads = [counted(len(found.samples), "held-out image"), *(f"BLEU-{n}" for n in range(1, 5))]
    heads += ["CIDEr-D", "perplexity", "distinct"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, of in (("before", found.before), ("after", found.after)):
        scores = of.model.bleu
        values = [scores.bleu1, scores.bleu2, scores.bleu3, scores.bleu4, of.model.cider_d, of.perplexity]
        cells = [f"{value:.1f}" for value in values] + [f"{of.diversity.distinct_captions:.0f} %"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if len(found.samples) > 1:
        lines += ["", _gain(found.gain)]
    places = range(len(found.samples))
    for place in [len(places) * n // SHOWN for n in range(SHOWN)] if len(places) > SHOWN else places:
        sample = found.samples[place]
        lines += [
            "",
            f"{sample.name}",
            f"    reference  {sample.captions[0]}",
            f"    before     {found.before.captions[place]}",
            f"    after      {found.after.captions[place]}",
        ]
    return "\n".join(lines)


def _gain(gain: Difference) -> str:
    low, high = gain.interval.low, gain.interval.high
    return f"CIDEr-D {gain.value:+.1f}, 95 % interval over images {low:+.1f} to {high:+.1f}"
