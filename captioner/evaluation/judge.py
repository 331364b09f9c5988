"""Scores of captions against references: every metric with its interval, beside a baseline, a control and people.

Existing captions need no model. A ``Judge`` is made before the captions, so that METEOR's program can read its tables
and score people against each other while a model writes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from captioner.config import Words
from captioner.data.samples import Sample, Samples
from captioner.errors import CaptionerError
from captioner.metrics.bleu import BleuScore, bleu_counts, bleu_of, bleu_score, bleu_statistics
from captioner.metrics.bootstrap import Interval, intervals
from captioner.metrics.cider import cider_d_of
from captioner.metrics.diversity import Diversity, diversity, repeats
from captioner.metrics.meteor import Meteor, best_of, meteor_of, missing_for_meteor
from captioner.metrics.ngrams import Floats, Ints, Ngrams, References, Row
from captioner.metrics.rouge import common_subsequence, rouge_l_of
from captioner.metrics.spice import spice
from captioner.metrics.statistic import Statistic, averaged, mean_of
from captioner.metrics.words import splitter

Caption: TypeAlias = list[str]
FREQUENT = 20  # candidates for the floor


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A row of scores: each metric as a ``Statistic``, from 0 to 100 (CIDEr-D may exceed it), and its 95 % interval."""

    metrics: Mapping[str, Statistic] = field(repr=False, compare=False)
    values: Mapping[str, float]
    intervals: Mapping[str, Interval]

    def __getitem__(self, metric: str) -> float:
        return self.values[metric]

    @property
    def bleu(self) -> BleuScore:
        """The scores BLEU-1 to 4 with their precisions and lengths."""
        values = [self.values[f"bleu{n}"] for n in (1, 2, 3, 4)]
        return bleu_score(values, self.metrics["bleu4"].values.sum(axis=0).tolist())

    @property
    def cider_d(self) -> float:
        """The corpus CIDEr-D."""
        return self.values["cider_d"]

    @property
    def per_image(self) -> tuple[float, ...]:
        """The CIDEr-D of each image."""
        return tuple(self.metrics["cider_d"].per_image.tolist())


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The scores of captions of ``samples``."""

    samples: tuple[Sample, ...] = field(repr=False)
    captions: tuple[str, ...] = field(repr=False)
    words: Words
    fingerprint: str  # fingerprint of the images' names and captions
    model: Scores
    floor: Scores
    """One caption for every image: the one with the best BLEU-4 among the twenty most frequent captions."""
    floor_caption: str
    shuffled: Scores  # each image with the caption of the next one; a single image with its own
    human: Scores | None
    """One reference against the others of its image: the mean over every index that all images have (METEOR: the first
    index only). None if an image has a single reference."""
    model_like_human: Scores | None  # the captions against the same references as ``human``
    missing: Mapping[str, str]  # metrics that could not be computed, and their requirements
    length_ratio: float  # words of the captions per word of the closest references
    diversity: Diversity
    of_captions: Scores  # figures of the captions alone, with intervals

    @property
    def references(self) -> int:
        """The total number of references."""
        return sum(len(sample.captions) for sample in self.samples)


class Judge:
    """A judge of captions of ``samples``; ``java`` adds METEOR if it can be computed, ``want_spice`` SPICE.

    ::

        with Judge(samples, java=True) as judge:  # METEOR's program ends with it
            judgement = judge.judge(captions)
    """

    def __init__(
        self, samples: Sequence[Sample], words: Words = "ptb", *, java: bool = False, want_spice: bool = False
    ) -> None:
        self.samples, self.words, self.want_spice = tuple(samples), words, want_spice
        self.split: Callable[[str], Caption] = splitter(words)
        self.references = [[self.split(caption) for caption in sample.captions] for sample in samples]
        needs = "not asked for" if not java else "knows English words only" if words != "ptb" else missing_for_meteor()
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
        """Score one caption for each of the samples, or for those at ``places``.

        ``training``: the samples whose captions are not novel.
        """
        chosen = list(range(len(self.samples))) if places is None else list(places)
        samples = tuple(self.samples[place] for place in chosen)
        candidates = [self.split(caption) for caption in captions]
        groups = [self.references[place] for place in chosen]
        corpus = _Corpus(candidates, groups)
        frequent = [place for place, _ in Counter(_first_equal(candidates)).most_common(FREQUENT)]
        floor = max(frequent, key=lambda place: corpus.bleu4(np.full(len(candidates), place)))
        own = np.arange(len(candidates))
        rows = {"model": own, "floor": np.full(len(candidates), floor), "shuffled": np.roll(own, -1)}
        metrics = {name: corpus.metrics(places, corpus.references) for name, places in rows.items()}
        if min(map(len, groups)) > 1:
            metrics["human"], metrics["model_like_human"] = corpus.people()
        if self.meteor is not None:
            self._add("meteor", metrics, lambda: self._meteor(corpus, rows, chosen))
        if self.want_spice:
            self._add("spice", metrics, lambda: self._spice(corpus, rows))
        metrics["of_captions"] = {
            "length": mean_of([len(caption) for caption in candidates]),
            "repetitive": mean_of([100.0 * repeats(caption) for caption in candidates]),
            "empty": mean_of([100.0 * (not caption) for caption in candidates]),
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
            diversity=diversity(candidates, known),
            of_captions=scores["of_captions"],
        )

    def _add(
        self, name: str, metrics: dict[str, dict[str, Statistic]], made: Callable[[], dict[str, Statistic]]
    ) -> None:
        """Add an external metric to the rows; if it fails, record the reason and keep the other metrics."""
        try:
            for row, statistic in made().items():
                metrics[row][name] = statistic
        except CaptionerError as error:
            self.missing[name] = str(error)

    def _meteor(self, corpus: _Corpus, rows: Mapping[str, Ints], chosen: Sequence[int]) -> dict[str, Statistic]:
        """Return METEOR of every row; it is slow, so people are compared by their first reference only.

        The captions are aligned with each reference separately, and both rows of the captions choose from these pairs.
        """
        assert self.meteor is not None
        image = corpus.references.image
        repeated = [caption for caption, group in zip(corpus.captions, corpus.groups, strict=True) for _ in group]
        references = [reference for group in corpus.groups for reference in group]
        pairs = self.pool.submit(self.meteor.pairs, repeated, references).result()
        counts = {"model": best_of(pairs, image)}
        for name in ("floor", "shuffled"):
            candidates = [corpus.captions[place] for place in rows[name]]
            counts[name] = self.pool.submit(self.meteor.counts, candidates, corpus.groups).result()
        if self.people is not None:
            others = corpus.references.reference != corpus.starts[image]
            counts["human"] = self.people.result()[chosen]
            counts["model_like_human"] = best_of(pairs[others], image[others])
        return {name: Statistic(values=values, score=meteor_of) for name, values in counts.items()}

    def _spice(self, corpus: _Corpus, rows: Mapping[str, Ints]) -> dict[str, Statistic]:
        """Return SPICE of the rows with all references."""
        captions = {name: [corpus.captions[place] for place in places] for name, places in rows.items()}
        return {name: mean_of(spice(row, corpus.groups)) for name, row in captions.items()}


class _Corpus:
    """Captions and references as one table of n-grams: first the captions, then the references, image by image."""

    def __init__(self, captions: list[Caption], groups: list[list[Caption]]) -> None:
        self.captions, self.groups = captions, groups
        self.subsequences: dict[tuple[int, int], int] = {}
        sizes = np.array([len(group) for group in groups], dtype=np.int64)
        self.table = Ngrams.of([*captions, *(reference for group in groups for reference in group)])
        self.starts: Ints = len(captions) + np.cumsum(sizes) - sizes
        image = np.repeat(np.arange(len(captions)), sizes)
        self.references = References(table=self.table, image=image, reference=len(captions) + np.arange(len(image)))

    def others(self, fold: int) -> References:
        """Return all references except the one at index ``fold`` of each image."""
        image, reference = self.references.image, self.references.reference
        kept = reference - self.starts[image] != fold
        return References(table=self.table, image=image[kept], reference=reference[kept])

    def people(self) -> list[dict[str, Statistic]]:
        """Return metrics of one reference, and of the captions, against the other references, averaged over folds."""
        human: dict[str, list[Statistic]] = {}
        model: dict[str, list[Statistic]] = {}
        for fold in range(min(map(len, self.groups))):
            others = self.others(fold)
            for row, candidates in ((human, self.starts + fold), (model, np.arange(len(self.captions)))):
                for name, statistic in self.metrics(candidates, others).items():
                    row.setdefault(name, []).append(statistic)
        return [{name: averaged(parts) for name, parts in row.items()} for row in (human, model)]

    def common(self, first: int, second: int) -> int:
        """Return the length of the longest common subsequence of two captions, cached in both orders."""
        key = (first, second) if first < second else (second, first)
        if key not in self.subsequences:
            self.subsequences[key] = common_subsequence(self.table.captions[first], self.table.captions[second])
        return self.subsequences[key]

    def bleu4(self, candidates: Ints) -> float:
        """Return BLEU-4 of candidates against all references."""
        return float(bleu_of(bleu_counts(Row(references=self.references, candidates=candidates)).sum(axis=0)))

    def metrics(self, candidates: Ints, references: References) -> dict[str, Statistic]:
        """Return the metrics that need no Java, of candidates against references."""
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
    """Return values and intervals of all rows, over the same bootstrap draws."""
    bounds = intervals({f"{row} {name}": s for row, metrics in rows.items() for name, s in metrics.items()})
    return {
        row: Scores(
            metrics=metrics,
            values={name: statistic.value for name, statistic in metrics.items()},
            intervals={name: bounds[f"{row} {name}"] for name in metrics},
        )
        for row, metrics in rows.items()
    }


def _first_equal(captions: Sequence[Caption]) -> list[int]:
    """Return for each caption the index of the first equal one."""
    first: dict[tuple[str, ...], int] = {}
    return [first.setdefault(tuple(caption), place) for place, caption in enumerate(captions)]


def fingerprint(samples: Sequence[Sample]) -> str:
    """Return twelve hex digits that depend on the images' names and captions but not on their order.

    Those of data larger than memory (``Samples``) depend on the order too.
    """
    if isinstance(samples, Samples):  # too many to sort
        return samples.fingerprint[:12]
    lines = sorted(repr((sample.name, sample.captions)) for sample in samples)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:12]
