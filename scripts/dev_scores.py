"""Scores of a captioner on several dev sets, and their tables (``run_experiments.py``, ``left_out.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from captioner.config import GenerationConfig
from captioner.data.samples import Sample
from captioner.evaluation.evaluate import Evaluation, evaluate
from captioner.evaluation.judge import Judgement, Scores
from captioner.inference import AnyCheckpoint
from captioner.metrics.mentions import mentions
from captioner.metrics.nouns import LabelFinder
from captioner.training.tasks.labels import read_words


def scores_on(checkpoint: AnyCheckpoint, samples: Sequence[Sample], config: GenerationConfig) -> dict[str, Any]:
    """Return the ``scores_of`` the captions of ``samples``."""
    return scores_of(evaluate(checkpoint, samples, config, batch_size=32))


def scores_of(evaluation: Evaluation) -> dict[str, Any]:
    """Return the captions with their scores, and the scores of floor, control and people, as JSON."""
    judgement = evaluation.judgement
    finder = LabelFinder(read_words("everyday"))
    false = mentions(
        [finder.find(caption) for caption in evaluation.captions],
        [[finder.find(caption) for caption in sample.captions] for sample in judgement.samples],
    ).false
    return {
        **_figures(judgement.model),
        "distinct": evaluation.diversity.distinct_captions,
        "false_mentions": false,
        "captions": list(evaluation.captions),
        "beside": _beside(judgement),
    }


def _figures(scores: Scores) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("bleu4", "cider_d"):
        interval = scores.intervals[name]
        found |= {name: scores[name], f"{name}_interval": [interval.low, interval.high]}
    return found


def _beside(judgement: Judgement) -> dict[str, dict[str, Any]]:
    rows = {"one caption for all photos": judgement.floor, "captions of other photos": judgement.shuffled}
    if judgement.human is not None:
        rows["people"] = judgement.human
    return {name: _figures(scores) for name, scores in rows.items()}


def table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of one dev set: a line per row of the experiment, then floor, control and people."""
    lines = [
        f"| {title} | BLEU-4 | CIDEr-D | distinct captions, % | false mentions, % of captions |",
        "|---|---|---|---|---|",
    ]
    beside = next(iter(rows.values()))["beside"]
    for name, row in {**rows, **beside}.items():
        shares = (f"{row[key]:.1f}" if key in row else "" for key in ("distinct", "false_mentions"))
        lines.append(
            f"| {name} | {_with_interval(row, 'bleu4')} | {_with_interval(row, 'cider_d')} | {' | '.join(shares)} |"
        )
    return "\n".join(lines)


def _with_interval(row: Mapping[str, Any], name: str) -> str:
    low, high = row[f"{name}_interval"]
    return f"{row[name]:.1f} ({low:.1f} to {high:.1f})"
