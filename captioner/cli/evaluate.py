"""Judge a captioner, or captions made elsewhere, on a dataset: scores with intervals, beside a floor and a control."""

from __future__ import annotations

import argparse
import json

from captioner.cli.judging import add_judging, images_of, judge_file, judge_model, probe_model
from captioner.cli.options import add_generation, add_model, generation_options
from captioner.cli.output import print_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_judging(parser)
    parser.add_argument(
        "--predictions", metavar="FILE", help="judge these captions in place of a model: COCO results, JSON lines, CSV"
    )
    parser.add_argument(
        "--partial", action="store_true", help="with --predictions: judge the images that have one, and say how many"
    )
    parser.add_argument("--aspect", choices=("squash", "crop", "pad"), help="try another aspect rule than the model's")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    parser.add_argument("--per-image", metavar="FILE", help="write every image's caption and scores as JSON lines")
    parser.add_argument("--report", metavar="FILE.html", help="write a page with the photos, plots and confusions")
    parser.add_argument(
        "--probe",
        action="store_true",
        help="in place of scores: how steady captions are when photos change a little, what they presume about people",
    )
    add_model(parser)
    add_generation(parser)


def run(args: argparse.Namespace) -> int:
    from captioner.errors import UsageError

    if args.predictions and (args.model or args.aspect or generation_options(args)):
        raise UsageError("--predictions are captions already; leave out --model and how captions are written")
    if args.partial and not args.predictions:
        raise UsageError("--partial is about a file of captions; give --predictions FILE too")
    generation_options(args)  # options that contradict each other are told before anything is read
    if args.probe and (args.predictions or args.per_image or args.report):
        raise UsageError("--probe asks a model and prints tables; leave out --predictions, --per-image and --report")
    images = images_of(args)
    if args.probe:
        from captioner.config import to_dict
        from captioner.evaluation import probe

        probed = probe_model(args.model, images, args)
        print_text(json.dumps(to_dict(probed)) if args.json else probe.markdown(probed))
        return 1 if probed.problems else 0
    found = judge_file(args.predictions, images, args) if args.predictions else judge_model(args.model, images, args)

    from captioner.evaluation.tables import figures, markdown, per_image

    title = f"{args.predictions or args.model or 'shipped model'} on {args.split}"
    if args.per_image:
        _write(args.per_image, "\n".join(json.dumps(record, ensure_ascii=False) for record in per_image(found)) + "\n")
    if args.report:
        from captioner.evaluation.report.curves import log_of
        from captioner.evaluation.report.page import page

        _write(args.report, page(found, title, log=log_of(args.model)))
    print_text(json.dumps(figures(found)) if args.json else markdown(found, title))
    return 1 if found.problems else 0


def _write(path: str, text: str) -> None:
    """Write ``text`` in UTF-8; half surrogates, which file names can hold, are escaped."""
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write(text)
