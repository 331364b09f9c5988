"""Compare two captioners, or two prediction files, on the same images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from captioner.cli.arguments import argument
from captioner.cli.judging import Judging, ModelChoice, images_of, is_predictions, judge_file, judge_model, load_run
from captioner.cli.options import GENERATION, JSON_SCORES, Compute
from captioner.cli.output import print_text


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner compare`."""

    first: str = field(
        metadata=argument(
            help="checkpoint directory, hub id, 'shipped', or prediction file", metavar="A", positional=True
        )
    )
    second: str = field(metadata=argument(help="the same; differences are B - A", metavar="B", positional=True))
    judging: Judging
    json: bool = field(default=False, metadata=JSON_SCORES)
    compute: Compute
    generation: Mapping[str, Any] = field(metadata=GENERATION)


def run(options: Options) -> int:
    from captioner.errors import DataError

    judging = options.judging
    images = images_of(judging)
    names = (options.first, options.second)
    evaluations = [
        judge_file(name, images, judging)
        if is_predictions(name)
        else judge_model(load_run(_choice(name, options), images, judging))
        for name in names
    ]
    if evaluations[0].judgement.words != evaluations[1].judgement.words:
        raise DataError("the two captioners split words differently; set --words to evaluate both alike")

    from captioner.evaluation.compare import compare, figures, markdown

    comparison = compare(evaluations[0].judgement, evaluations[1].judgement)
    print_text(json.dumps(figures(comparison)) if options.json else markdown(comparison, *names))
    return 1 if any(evaluation.problems for evaluation in evaluations) else 0


def _choice(name: str, options: Options) -> ModelChoice:
    from captioner.checkpoint.files import SHIPPED_NAME

    source = None if name == SHIPPED_NAME else name
    return ModelChoice(source=source, compute=options.compute, generation=options.generation)
