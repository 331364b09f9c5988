"""Evaluate a captioner, or a prediction file, on a dataset: scores with intervals, a baseline and a control."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from captioner.cli.arguments import argument
from captioner.cli.judging import Judging, ModelChoice, images_of, judge_file, judge_model, load_run, probe_model
from captioner.cli.options import GENERATION, JSON_SCORES, MODEL, Compute
from captioner.cli.output import print_text


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner evaluate`."""

    judging: Judging
    predictions: str | None = field(
        default=None,
        metadata=argument(
            help="captions to evaluate instead of a model: COCO results, JSON lines, CSV", metavar="FILE"
        ),
    )
    partial: bool = field(
        default=False,
        metadata=argument(help="with --predictions: evaluate only the images with a prediction"),
    )
    aspect: Literal["squash", "crop", "pad"] | None = field(
        default=None, metadata=argument(help="aspect rule instead of the model's")
    )
    json: bool = field(default=False, metadata=JSON_SCORES)
    per_image: str | None = field(
        default=None, metadata=argument(help="JSON lines file: caption and scores of every image", metavar="FILE")
    )
    report: str | None = field(
        default=None, metadata=argument(help="HTML report: photos, plots and confusions", metavar="FILE.html")
    )
    probe: bool = field(
        default=False,
        metadata=argument(
            help="probes instead of scores: robustness to small changes of photos, and bias about people"
        ),
    )
    model: str | None = field(default=None, metadata=MODEL)
    compute: Compute
    generation: Mapping[str, Any] = field(metadata=GENERATION)


def run(options: Options) -> int:
    from captioner.errors import UsageError

    judging = options.judging
    if options.predictions and (options.model or options.aspect or options.generation):
        raise UsageError("--predictions needs no model; leave out --model, --aspect and the options for generation")
    if options.partial and not options.predictions:
        raise UsageError("--partial applies to a prediction file; add --predictions FILE")
    if options.probe and (options.predictions or options.per_image or options.report):
        raise UsageError("--probe needs a model and prints tables; leave out --predictions, --per-image and --report")
    images = images_of(judging)
    model = ModelChoice(
        source=options.model, compute=options.compute, generation=options.generation, aspect=options.aspect
    )
    if options.probe:
        from captioner.config import to_dict
        from captioner.evaluation import probe

        probed = probe_model(load_run(model, images, judging))
        print_text(json.dumps(to_dict(probed)) if options.json else probe.markdown(probed))
        return 1 if probed.problems else 0
    for path in (options.per_image, options.report):
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)  # an error before the long work
    if options.predictions:
        evaluation = judge_file(options.predictions, images, judging, partial=options.partial)
    else:
        evaluation = judge_model(load_run(model, images, judging))

    from captioner.evaluation.tables import figures, markdown, per_image

    title = f"{options.predictions or options.model or 'shipped model'} on {judging.split}"
    print_text(json.dumps(figures(evaluation)) if options.json else markdown(evaluation, title))
    if options.per_image:
        records = (json.dumps(record, ensure_ascii=False) for record in per_image(evaluation))
        _write(options.per_image, "\n".join(records) + "\n")
    if options.report:
        from captioner.evaluation.report.curves import log_of
        from captioner.evaluation.report.page import page

        _write(options.report, page(evaluation, title, log=log_of(options.model)))
    return 1 if evaluation.problems else 0


def _write(path: str, text: str) -> None:
    """Write ``text`` in UTF-8, with lone surrogates (from file names) escaped."""
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write(text)
