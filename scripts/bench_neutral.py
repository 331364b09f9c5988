"""A benchmark: the effect of --neutral on captions, as a Markdown table.

    python scripts/bench_neutral.py ../shared/flickr8k [--split dev] [--held-out FILE] [--images N] [--model M]

Three rows: plain captions, captions with ``neutral``, and plain captions whose words are replaced afterwards. Scores
are against the human captions as they are, and against the same captions made neutral by that replacement. With
``--unsure`` also a table of thresholds of confidence: the wrong captions that each marks, and how good the marked
captions and the others are. ``--held-out`` takes the images that a file names out of the training split.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.captioning.batches import generate
from captioner.captioning.captions import Caption, caption_of
from captioner.checkpoint import load
from captioner.config import with_options
from captioner.data.samples import Sample
from captioner.data.sources import read_splits
from captioner.errors import ImageError
from captioner.inference import prepare
from captioner.metrics.bleu import bleu
from captioner.metrics.cider import cider_d
from captioner.metrics.words import words
from captioner.text.neutral import lexicons

ENGLISH = lexicons()["en"]
_PRESUMING = re.compile(rf"\b({'|'.join(map(re.escape, (*ENGLISH.words, *ENGLISH.age)))})\b")
_AGE = re.compile(
    rf"\b({'|'.join((*ENGLISH.age, *ENGLISH.age_of_people))}) (?=(?:\w+ )?(?:{'|'.join(ENGLISH.people)})\b)"
)
_PAIR = re.compile(r"\b(?:an?|one) (person|child) and (?:an?|one|another) \1\b")
_VERBS = {"is": "are", "was": "were", "has": "have", "does": "do"}
THRESHOLDS = (0.5, 0.55, 0.58, 0.6, 0.62, 0.64, 0.66)
WRONG = 20.0  # CIDEr-D of a caption that shares hardly a phrase with five human ones


def presumes(caption: str) -> bool:
    """Return whether an English caption has a word that presumes gender or age."""
    return bool(_PRESUMING.search(caption.lower()))


def neutralised(caption: str) -> str:
    """Return an English caption with its words that presume replaced, and with articles, pairs and verbs that agree."""
    text = re.sub(r"\bher (?=(?:in|on|to|at|with|and|from|as|while)\b)|\bher$", "them ", caption.lower())
    text = re.sub(
        r"\b(?:he|she) (\w+)",
        lambda match: f"they {_VERBS.get(match[1], re.sub('(?<=[^s])s$', '', match[1]))}",
        text,
    )
    text = _PRESUMING.sub(lambda match: ENGLISH.words.get(match[1], match[1]), text)
    text = re.sub(r"\bchild child\b", "child", _AGE.sub("", text))
    text = re.sub(r"\ban (?=[^aeiou\W])", "a ", _PAIR.sub(lambda match: f"two {_two(match[1])}", text))
    return re.sub(rf"\b({'|'.join(ENGLISH.age)}) ", "", text).strip()


def _two(noun: str) -> str:
    return {"person": "people", "child": "children"}[noun]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Captions of all images, and their scores."""

    name: str
    presuming: float  # share of captions, 0 to 100
    bleu4: tuple[float, float]  # against the human captions as they are, and made neutral
    cider_d: tuple[float, float]
    confidence: float | None  # mean


def scored(name: str, captions: Sequence[str], references: Sequence[Sequence[str]], confidence: float | None) -> Row:
    """Return the row of ``captions`` of images with human ``references``."""
    split = [words(caption) for caption in captions]
    both = [[[words(form(c)) for c in group] for group in references] for form in (str, neutralised)]
    return Row(
        name=name,
        presuming=100 * sum(map(presumes, captions)) / len(captions),
        bleu4=(bleu(split, both[0]).bleu4, bleu(split, both[1]).bleu4),
        cider_d=(cider_d(split, both[0]).mean, cider_d(split, both[1]).mean),
        confidence=confidence,
    )


def table(plain: Sequence[Caption], neutral: Sequence[Caption], references: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of the table."""
    heads = ["captions", "presume gender or age", "BLEU-4", "CIDEr-D", "BLEU-4, neutral", "CIDEr-D, neutral"]
    yield f"| {' | '.join([*heads, 'confidence'])} |"
    yield f"|{'---|' * (len(heads) + 1)}"
    for row in (
        scored("plain", [c.text for c in plain], references, _mean(plain)),
        scored("`--neutral`", [c.text for c in neutral], references, _mean(neutral)),
        scored("plain, words replaced afterwards", [neutralised(c.text) for c in plain], references, None),
    ):
        cells = [f"{row.presuming:.1f} %", f"{row.bleu4[0]:.1f}", f"{row.cider_d[0]:.1f}"]
        cells += [f"{row.bleu4[1]:.1f}", f"{row.cider_d[1]:.1f}", f"{row.confidence:.2f}" if row.confidence else ""]
        yield f"| {row.name} | {' | '.join(cells)} |"


def thresholds(captions: Sequence[Caption], references: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of the table of thresholds; a caption is wrong with a CIDEr-D below ``WRONG``."""
    said = [words(caption.text) for caption in captions]
    human = [[words(text) for text in group] for group in references]
    scores = cider_d(said, human).per_image
    judged = [
        _Judged(
            sure=caption.confidence, score=score, people=len([word for word in own if word in used]), words=len(own)
        )
        for caption, score, own, used in zip(
            captions, scores, said, ({word for text in group for word in text} for group in human), strict=True
        )
    ]
    wrong = sum(each.score < WRONG for each in judged)
    yield f"{wrong} of {len(judged)} captions have a CIDEr-D below {WRONG:g}"
    heads = ["`--unsure`", "marked", "of the wrong captions", "wrong: marked", "others"]
    yield f"| {' | '.join([*heads, 'CIDEr-D: marked', 'others', 'words that people use: marked', 'others'])} |"
    yield f"|{'---|' * (len(heads) + 4)}"
    for threshold in THRESHOLDS:
        marked, others = ([each for each in judged if (each.sure < threshold) == low] for low in (True, False))
        found = sum(each.score < WRONG for each in marked)
        cells = [_percent(len(marked), len(judged)), _percent(found, wrong)]
        cells += [_percent(sum(each.score < WRONG for each in part), len(part)) for part in (marked, others)]
        cells += [f"{sum(each.score for each in part) / max(len(part), 1):.0f}" for part in (marked, others)]
        cells += [
            _percent(sum(each.people for each in part), sum(each.words for each in part)) for part in (marked, others)
        ]
        yield f"| {threshold:g} | {' | '.join(cells)} |"


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """The confidence of a caption, its CIDEr-D, and the number of its words that people use too."""

    sure: float
    score: float
    people: int
    words: int


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / max(whole, 1):.0f} %"


def _mean(captions: Sequence[Caption]) -> float:
    return sum(caption.confidence for caption in captions) / len(captions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder or file of captioned images")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--held-out", help="file that names images of the training split, which are used instead")
    parser.add_argument("--images", type=int, help="number of images (default: all)")
    parser.add_argument("--model", help="checkpoint directory or hub id (default: the shipped model)")
    parser.add_argument("--unsure", action="store_true", help="also the table of thresholds of confidence")
    args = parser.parse_args()
    samples = read_splits(args.data).split("train" if args.held_out else args.split)
    if args.held_out:
        names = set(Path(args.held_out).read_text(encoding="utf-8").split("\n"))
        samples = [sample for sample in samples if sample.name in names]
    samples = samples[: args.images]
    references = [sample.captions for sample in samples]
    plain = _captions(args.model, samples, neutral=False)
    print(f"{len(samples)} images of {args.held_out or args.split}\n")
    neutral = _captions(args.model, samples, neutral=True)
    print("\n".join(table(plain, neutral, references)))
    if args.unsure:
        print("\n" + "\n".join(thresholds(plain, references)))
        print("\nwith --neutral, against human captions made neutral:")
        print("\n".join(thresholds(neutral, [[neutralised(text) for text in group] for group in references])))


def _captions(model: str | None, samples: Sequence[Sample], *, neutral: bool) -> list[Caption]:
    checkpoint = prepare(load(model), "fp32", keep=False)
    config = with_options(checkpoint.generation, {"neutral": neutral})
    found: list[Caption] = []
    for result in generate(checkpoint, [sample.image() for sample in samples], config):
        if isinstance(result, ImageError):
            raise result
        found.append(caption_of(result[:1], checkpoint))
    return found


if __name__ == "__main__":
    main()
