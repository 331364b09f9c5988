"""Captions against references: every metric with its interval, beside a floor, a control and what people reach.

Needs no model: captions made elsewhere are judged alike. A ``Judge`` is made before there are captions, so that the
program of METEOR can read its tables, and compare people with each other, while a model writes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from captioner.config import Words
from captioner.data.samples import Sample, Samples
from captioner.errors import CaptionerError
from captioner.metrics.bleu import BleuScore, bleu_counts, bleu_of, bleu_score, bleu_statistics
from captioner.metrics.bootstrap import Interval, intervals
from captioner.metrics.cider import cider_d_of
from captioner.metrics.diversity import Diversity, diversity, repeats
from captioner.metrics.meteor import Meteor, best_of, meteor_of, what_meteor_needs
from captioner.metrics.ngrams import Floats, Ints, Ngrams, References, Row
from captioner.metrics.rouge import common_subsequence, rouge_l_of
from captioner.metrics.spice import spice
from captioner.metrics.statistic import Statistic, averaged, mean_of
from captioner.metrics.words import splitter

Caption: TypeAlias = list[str]
FREQUENT = 20  # captions that compete to be the floor


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One row: each metric as a ``Statistic``, from 0 to 100 (CIDEr-D may pass it), and its 95 % interval."""

    metrics: Mapping[str, Statistic] = field(repr=False, compare=False)
    values: Mapping[str, float]
    intervals: Mapping[str, Interval]

    def __getitem__(self, metric: str) -> float:
        return self.values[metric]

    @property
    def bleu(self) -> BleuScore:
        """BLEU-1 to 4, those of ``values``, with its precisions and lengths."""
        found = bleu_score(self.metrics["bleu4"].values.sum(axis=0))
        bleu1, bleu2, bleu3, bleu4 = (self.values[f"bleu{n}"] for n in (1, 2, 3, 4))
        return replace(found, bleu1=bleu1, bleu2=bleu2, bleu3=bleu3, bleu4=bleu4)

    @property
    def cider_d(self) -> float:
        """CIDEr-D of the corpus."""
        return self.values["cider_d"]

    @property
    def per_image(self) -> tuple[float, ...]:
        """CIDEr-D of each image."""
        return tuple(self.metrics["cider_d"].per_image.tolist())


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What captions of ``samples`` are worth.

    ``floor``: one caption said of every image, the best by BLEU-4 of the twenty that were said most often.
    ``shuffled``: each image judged by the caption of the next one, a single image by its own. ``human``: one reference
    against the others of its image, the mean over every choice of the one that all images have, such as the first (in
    METEOR the first alone); ``model_like_human``: the captions against the same references as these; both None where an
    image has a single reference. ``missing``: metrics that could not be computed, and what they need.
    ``length_ratio``: words said per word of the closest references. ``of_captions``: means over the captions that have
    intervals too. ``fingerprint`` is of the images' names and captions.
    """

    samples: tuple[Sample, ...] = field(repr=False)
    captions: tuple[str, ...] = field(repr=False)
    words: Words
    fingerprint: str
    model: Scores
    floor: Scores
    floor_caption: str
    shuffled: Scores
    human: Scores | None
    model_like_human: Scores | None
    missing: Mapping[str, str]
    length_ratio: float
    diversity: Diversity
    of_captions: Scores

    @property
    def references(self) -> int:
        """How many references there are in all."""
        return sum(len(sample.captions) for sample in self.samples)


class Judge:
    """Knows the references of ``samples``; ``judge`` takes captions of all of them, or of some.

    A context manager: METEOR's program ends with it. ``java`` asks for METEOR where it can be computed, ``want_spice``
    for SPICE.
    """

    def __init__(
        self, samples: Sequence[Sample], words: Words = "ptb", *, java: bool = False, want_spice: bool = False
    ) -> None:
        self.samples, self.words, self.want_spice = tuple(samples), words, want_spice
        self.split: Callable[[str], Caption] = splitter(words)
        self.references = [[self.split(caption) for caption in sample.captions] for sample in samples]
        needs = "not asked for" if not java else "knows English words only" if words != "ptb" else what_meteor_needs()
        self.missing = {"meteor": needs} if needs else {}
        self.meteor = None if needs else Meteor()
        self.pool = ThreadPoolExecutor(max_workers=1)
        self.people: Future[Floats] | None = None
        if self.meteor is not None and min(map(len, self.references)) > 1:
            ones, others = [group[0] for group in self.references], [group[1:] for group in self.references]
            self.people = self.pool.submit(self.meteor.counts, ones, others)

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        if self.meteor is not None:
            self.meteor.close()
        self.pool.shutdown(cancel_futures=True)

    def judge(
        self, captions: Sequence[str], places: Sequence[int] | None = None, *, training: Sequence[Sample] | None = None
    ) -> Judgement:
        """Judge one caption for each of the samples, or for those at ``places``.

        ``training``: the samples whose captions a novel caption is not among.
        """
        chosen = list(range(len(self.samples))) if places is None else list(places)
        samples = tuple(self.samples[place] for place in chosen)
        said = [self.split(caption) for caption in captions]
        groups = [self.references[place] for place in chosen]
        corpus = _Corpus(said, groups)
        frequent = [place for place, _ in Counter(_firsts(said)).most_common(FREQUENT)]
        floor = max(frequent, key=lambda place: corpus.bleu4(np.full(len(said), place)))
        everyone = np.arange(len(said))
        rows = {"model": everyone, "floor": np.full(len(said), floor), "shuffled": np.roll(everyone, -1)}
        metrics = {name: corpus.metrics(candidates, corpus.references) for name, candidates in rows.items()}
        if min(map(len, groups)) > 1:
            metrics["human"], metrics["model_like_human"] = corpus.people()
        if self.meteor is not None:
            self._add("meteor", metrics, lambda: self._meteor(corpus, rows, chosen))
        if self.want_spice:
            self._add("spice", metrics, lambda: self._spice(corpus, rows))
        metrics["of_captions"] = {
            "length": mean_of([len(caption) for caption in said]),
            "repetitive": mean_of([100.0 * repeats(caption) for caption in said]),
            "empty": mean_of([100.0 * (not caption) for caption in said]),
        }
        scores = _scored(metrics)
        known = None if training is None else [self.split(caption) for s in training for caption in s.captions]
        return Judgement(
            samples=samples,
            captions=tuple(captions),
            words=self.words,
            fingerprint=fingerprint(samples),
            model=scores["model"],
            floor=scores["floor"],
            floor_caption=captions[floor],
            shuffled=scores["shuffled"],
            human=scores.get("human"),
            model_like_human=scores.get("model_like_human"),
            missing=dict(self.missing),
            length_ratio=scores["model"].bleu.length_ratio,
            diversity=diversity(said, known),
            of_captions=scores["of_captions"],
        )

    def _add(
        self, name: str, metrics: dict[str, dict[str, Statistic]], made: Callable[[], dict[str, Statistic]]
    ) -> None:
        """Put a metric of another program into the rows; where that fails, say so: the captions are still judged."""
        try:
            for row, statistic in made().items():
                metrics[row][name] = statistic
        except CaptionerError as error:
            self.missing[name] = str(error)

    def _meteor(self, corpus: _Corpus, rows: Mapping[str, Ints], chosen: Sequence[int]) -> dict[str, Statistic]:
        """METEOR of every row; it takes long, so people are compared over the first choice alone.

        The captions are aligned with each reference apart: both rows of them are chosen from these pairs.
        """
        assert self.meteor is not None
        image = corpus.references.image
        said = [one for one, group in zip(corpus.said, corpus.groups, strict=True) for _ in group]
        references = [reference for group in corpus.groups for reference in group]
        pairs = self.pool.submit(self.meteor.pairs, said, references).result()
        counts = {"model": best_of(pairs, image)}
        for name in ("floor", "shuffled"):
            candidates = [corpus.said[place] for place in rows[name]]
            counts[name] = self.pool.submit(self.meteor.counts, candidates, corpus.groups).result()
        if self.people is not None:
            others = corpus.references.reference != corpus.starts[image]
            counts["human"] = self.people.result()[chosen]
            counts["model_like_human"] = best_of(pairs[others], image[others])
        return {name: Statistic(values=values, score=meteor_of) for name, values in counts.items()}

    def _spice(self, corpus: _Corpus, rows: Mapping[str, Ints]) -> dict[str, Statistic]:
        """SPICE of the rows that all references judge."""
        said = {name: [corpus.said[place] for place in candidates] for name, candidates in rows.items()}
        return {name: mean_of(spice(captions, corpus.groups)) for name, captions in said.items()}


class _Corpus:
    """Captions and references as one table of n-grams: first what was said, then the references, image by image."""

    def __init__(self, said: list[Caption], groups: list[list[Caption]]) -> None:
        self.said, self.groups = said, groups
        self.subsequences: dict[tuple[int, int], int] = {}
        sizes = np.array([len(group) for group in groups], dtype=np.int64)
        self.table = Ngrams.of([*said, *(reference for group in groups for reference in group)])
        self.starts: Ints = len(said) + np.cumsum(sizes) - sizes
        image = np.repeat(np.arange(len(said)), sizes)
        self.references = References(table=self.table, image=image, reference=len(said) + np.arange(len(image)))

    def others(self, fold: int) -> References:
        """All references but the one at this place of each image."""
        image, reference = self.references.image, self.references.reference
        kept = reference - self.starts[image] != fold
        return References(table=self.table, image=image[kept], reference=reference[kept])

    def people(self) -> list[dict[str, Statistic]]:
        """One reference against the others, and the captions against the same others, over choices that all have."""
        human: dict[str, list[Statistic]] = {}
        model: dict[str, list[Statistic]] = {}
        for fold in range(min(map(len, self.groups))):
            others = self.others(fold)
            for found, candidates in ((human, self.starts + fold), (model, np.arange(len(self.said)))):
                for name, statistic in self.metrics(candidates, others).items():
                    found.setdefault(name, []).append(statistic)
        return [{name: averaged(parts) for name, parts in found.items()} for found in (human, model)]

    def common(self, first: int, second: int) -> int:
        """Words of the longest common subsequence of two captions; people's are compared both ways."""
        key = (first, second) if first < second else (second, first)
        if key not in self.subsequences:
            self.subsequences[key] = common_subsequence(self.table.captions[first], self.table.captions[second])
        return self.subsequences[key]

    def bleu4(self, candidates: Ints) -> float:
        """BLEU-4 of candidates against all references."""
        return float(bleu_of(bleu_counts(Row(references=self.references, candidates=candidates)).sum(axis=0)))

    def metrics(self, candidates: Ints, references: References) -> dict[str, Statistic]:
        """What needs no Java, of candidates against references."""
        row = Row(references=references, candidates=candidates)
        candidate = candidates[references.image]
        common = [self.common(a, b) for a, b in zip(candidate.tolist(), references.reference.tolist(), strict=True)]
        lengths = self.table.lengths
        rouge = rouge_l_of(references.image, np.array(common), lengths[candidate], lengths[references.reference])
        return {
            **bleu_statistics(row),
            "rouge_l": mean_of(rouge),
            "cider_d": mean_of(cider_d_of(row)),
        }


def _scored(rows: Mapping[str, Mapping[str, Statistic]]) -> dict[str, Scores]:
    """Values and intervals of all rows, over the same draws."""
    found = intervals({f"{row} {name}": s for row, metrics in rows.items() for name, s in metrics.items()})
    return {
        row: Scores(
            metrics=metrics,
            values={name: statistic.value for name, statistic in metrics.items()},
            intervals={name: found[f"{row} {name}"] for name in metrics},
        )
        for row, metrics in rows.items()
    }


def _firsts(captions: Sequence[Caption]) -> list[int]:
    """For each caption the place where the same one was said first."""
    first: dict[tuple[str, ...], int] = {}
    return [first.setdefault(tuple(caption), place) for place, caption in enumerate(captions)]


def fingerprint(samples: Sequence[Sample]) -> str:
    """Twelve hex digits that change when an image's name or a caption does, whatever the order of the images.

    Of data too large for memory (``Samples``) they change with the order too.
    """
    if isinstance(samples, Samples):  # too many to sort: these know their own, in their order
        return samples.fingerprint[:12]
    lines = sorted(repr((sample.name, sample.captions)) for sample in samples)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:12]
