"""An evaluation as a Markdown table and as plain values, with the settings that the scores depend on."""

from __future__ import annotations

import math
from typing import Any

from captioner.config import GenerationConfig, Words, to_dict
from captioner.data.messages import counted
from captioner.evaluation.evaluate import Evaluation
from captioner.evaluation.judge import Judgement, Scores

TITLES = {
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
    "bleu4": "BLEU-4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider_d": "CIDEr-D",
    "spice": "SPICE (not verified)",
}
WORDS: dict[Words, str] = {
    "ptb": "words: lower case, Penn Treebank, no punctuation",
    "characters": "words: single characters of unspaced scripts, else Penn Treebank, no punctuation",
    "jieba": "words: by jieba, no punctuation; not comparable with scores by other segmenters",
}


def rows(judgement: Judgement, title: str) -> dict[str, Scores]:
    """Return the rows of the table by their names: the captions first, then the rows for comparison."""
    fewer = min(len(sample.captions) for sample in judgement.samples) - 1
    table = {
        title: judgement.model,
        "one caption for all images (floor)": judgement.floor,
        "captions of other images (control)": judgement.shuffled,
    }
    if judgement.human is not None and judgement.model_like_human is not None:
        others = f"{fewer} reference{'s' * (fewer > 1)}"
        table[f"people, one against the others ({others})"] = judgement.human
        table[f"{title}, against the same {others}"] = judgement.model_like_human
    return table


def columns(judgement: Judgement) -> list[str]:
    """Return the metrics of the table in their order, including those that could not be computed."""
    return [name for name in TITLES if name in judgement.model.values or name in judgement.missing]


def markdown(evaluation: Evaluation, title: str) -> str:
    """Return the table with intervals, and below it the settings that the scores depend on."""
    judgement = evaluation.judgement
    names = columns(judgement)
    lines = ["| | " + " | ".join(TITLES[name] for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for row, scores in rows(judgement, title).items():
        lines.append(f"| {row} | " + " | ".join(_cell(scores, name, judgement) for name in names) + " |")
    return "\n".join([*lines, "", *statements(evaluation)])


def statements(evaluation: Evaluation) -> list[str]:
    """Return the lines below the scores."""
    judgement, of_model = evaluation.judgement, evaluation.of_model
    variety, extra = judgement.diversity, judgement.of_captions
    images = len(judgement.samples)
    lines = []
    if of_model is not None:
        low, high = of_model.perplexity_interval.low, of_model.perplexity_interval.high
        lines.append(
            f"perplexity per word {of_model.perplexity:.2f} [{low:.2f}, {high:.2f}]; confidence: calibration error "
            f"{of_model.calibration_error:.1f}, rank correlation with CIDEr-D {of_model.confidence_rank:.2f}"
        )
        if of_model.cut_references:
            lines.append(
                f"perplexity: {of_model.cut_references} of {judgement.references} references are longer than the "
                f"model's context of {of_model.context} tokens and count with the words within it"
            )
        if of_model.other_references:
            lines.append(left_out(of_model.other_references))
    novel = "" if variety.novel is None else f", {variety.novel:.1f} % not among the training captions"
    speed = "" if of_model is None else f"; {images / of_model.seconds:.1f} images per second"
    length = extra.intervals["length"]
    lines += [
        f"captions: {variety.distinct_captions:.1f} % distinct{novel}, {variety.length:.1f} words each "
        f"[{length.low:.1f}, {length.high:.1f}] of {variety.vocabulary}, {variety.repetitive:.1f} % repeat themselves, "
        f"{variety.empty:.1f} % empty{speed}",
        f"variety: distinct-1 {variety.distinct_1:.1f}, distinct-2 {variety.distinct_2:.1f}, "
        f"self-BLEU {variety.self_bleu:.1f}",
        f"{counted(images, 'image')}, {judgement.references / images:.2f} references each, "
        f"data {judgement.fingerprint}; length ratio {judgement.length_ratio:.3f}",
    ]
    if of_model is not None:
        weights = f"; weights {of_model.fingerprint}" if of_model.fingerprint else ""
        lines.append(f"decoding: {decoding(of_model.generation)}{weights}")
    lines.append(f"{WORDS[judgement.words]}; no smoothing; scale 0 to 100; [95 % bootstrap interval over images]")
    return [*lines, *failures(judgement), *evaluation.notes]


def decoding(generation: GenerationConfig) -> str:
    """Return every setting that differs from greedy search, with the beams and the length."""
    greedy = to_dict(GenerationConfig())
    settings = {name: value for name, value in to_dict(generation).items() if name != "calibration"}
    shown = {n: value for n, value in settings.items() if value != greedy[n] or n in ("beams", "max_tokens")}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())


def left_out(references: int) -> str:
    """Return the sentence about references in another language than the captions."""
    return f"{counted(references, 'reference', 'are')} left out because the language is not that of the captions"


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """Return the evaluation as plain values for JSON: rows, their intervals, and settings."""
    judgement, of_model = evaluation.judgement, evaluation.of_model
    values: dict[str, Any] = {}
    for name in ("model", "floor", "shuffled", "human", "model_like_human"):
        scores: Scores | None = getattr(judgement, name)
        if scores is not None:
            values[name] = dict(scores.values)
            values[f"{name}_intervals"] = {m: [i.low, i.high] for m, i in scores.intervals.items()}
    values |= {
        "missing": dict(judgement.missing),
        "diversity": to_dict(judgement.diversity),
        "floor_caption": judgement.floor_caption,
        "images": len(judgement.samples),
        "references": judgement.references,
        "length_ratio": judgement.length_ratio,
        "words": judgement.words,
        "data": judgement.fingerprint,
        "notes": list(evaluation.notes),
        "unreadable": list(evaluation.problems),
    }
    if of_model is not None:
        values |= {
            "perplexity": _finite(of_model.perplexity),
            "perplexity_interval": [
                _finite(x) for x in (of_model.perplexity_interval.low, of_model.perplexity_interval.high)
            ],
            "cut_references": of_model.cut_references,
            "other_references": of_model.other_references,
            "context": of_model.context,
            "confidence_rank": of_model.confidence_rank,
            "calibration_error": of_model.calibration_error,
            "seconds": of_model.seconds,
            "generation": to_dict(of_model.generation),
            "weights": of_model.fingerprint,
        }
    return values


def per_image(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return a record for each image: its name, caption, references and scores."""
    judgement = evaluation.judgement
    scores = {name: statistic.per_image.tolist() for name, statistic in judgement.model.metrics.items()}
    records = []
    for place, (sample, caption) in enumerate(zip(judgement.samples, judgement.captions, strict=True)):
        record: dict[str, Any] = {"image": sample.name, "caption": caption, "references": list(sample.captions)}
        record |= {name: round(values[place], 4) for name, values in scores.items()}
        if evaluation.of_model is not None:
            record["confidence"] = round(evaluation.of_model.confidences[place], 4)
        records.append(record)
    return records


def absent(judgement: Judgement, name: str) -> str:
    """Return the cell of a score that could not be computed; a long reason goes below the table."""
    missing = judgement.missing.get(name, "")
    return "failed" if missing in failures(judgement) else missing


def failures(judgement: Judgement) -> list[str]:
    """Return the long reasons why requested metrics could not be computed."""
    return [reason for reason in judgement.missing.values() if len(reason) > 40]


def _finite(value: float) -> float | None:
    """Return the value, or None for infinity and NaN, which JSON lacks."""
    return value if math.isfinite(value) else None


def _cell(scores: Scores, name: str, judgement: Judgement) -> str:
    if name not in scores.values:
        return absent(judgement, name)
    interval = scores.intervals[name]
    return f"{scores[name]:.2f} [{interval.low:.1f}, {interval.high:.1f}]"
