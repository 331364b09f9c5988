"""Code that evaluate and compare share: options, loading the images, evaluating a model or a prediction file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.cli.options import add_outside, add_sidecars, require
from captioner.cli.output import tell

if TYPE_CHECKING:
    from captioner.checkpoint import Checkpoint
    from captioner.config import Words
    from captioner.data.samples import Sample
    from captioner.evaluation.evaluate import Evaluation
    from captioner.evaluation.probe import Probe


def add_judging(parser: argparse.ArgumentParser) -> None:
    """Add --data, --split and the options for scores."""
    parser.add_argument("--data", required=True, metavar="DATA", help="folder or file of captioned images")
    add_outside(parser)
    add_sidecars(parser)
    parser.add_argument("--split", default="dev", help="train, dev, test or all (default: dev)")
    parser.add_argument(
        "--words",
        choices=("ptb", "characters", "jieba"),
        help="word splitting: as in the COCO tools, or for languages without spaces (default: the model's)",
    )
    parser.add_argument("--no-java", action="store_true", help="leave out METEOR, which needs Java")
    parser.add_argument("--spice", action="store_true", help="add SPICE: needs Java, downloads a parser, not verified")
    parser.add_argument("--drop-leaks", action="store_true", help="leakage: leave out images that are also in training")


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images of an evaluation."""

    judged: tuple[Sample, ...]  # the images to evaluate
    training: tuple[Sample, ...] | None  # the training images; None without a training split
    others: tuple[Sample, ...]  # all images but ``judged``
    notes: tuple[str, ...]  # remarks for the report


def images_of(args: argparse.Namespace) -> Images:
    """Read the data. Raises ``UsageError`` for an empty split, ``DataError`` for one that contains training images."""
    from captioner.data.messages import counted, some
    from captioner.data.sources import read_splits
    from captioner.data.splits import ALL, SPLIT_NAMES
    from captioner.errors import DataError, UsageError
    from captioner.evaluation.leaks import leaked
    from captioner.metrics.spice import check_spice

    if args.words == "jieba":
        require("jieba", "chinese", "--words jieba")
    if args.spice:
        check_spice()
    dataset = read_splits(args.data, outside=args.outside, sidecars=args.sidecars)
    samples = dataset.split(args.split)
    if not samples:
        raise UsageError(f"the split {args.split} of {args.data} is empty; choose another one with --split")
    for sentence in (*dataset.problems, *dataset.notes):
        tell(sentence)
    everything = dataset.split(ALL)
    notes: list[str] = []
    training: Sequence[Sample] | None = None
    if dataset.splits.keys() & {"train", ALL}:
        training = dataset.split("train")
        if SPLIT_NAMES.get(args.split) == "train" or args.split == ALL:
            notes.append("these are training images of this data, so the scores do not apply to unseen images")
        elif leaks := leaked(samples, training):
            if not args.drop_leaks:
                raise DataError(
                    f"leakage: {len(leaks)} of the {counted(len(samples), 'image')} of {args.split} "
                    f"{'is also a training image' if len(leaks) == 1 else 'are also training images'}, which inflates "
                    f"the scores: {some(leaks, 10)}; remove them from one of the splits, or use --drop-leaks"
                )
            they = "it is also a training image" if len(leaks) == 1 else "they are also training images"
            notes.append(f"{counted(len(leaks), 'image', 'were')} left out because {they}")
            samples = [sample for sample in samples if sample.name not in set(leaks)]
            if not samples:
                raise DataError(f"every image of {args.split} is also a training image; evaluate on other images")
    chosen = {(sample.path, sample.span) for sample in samples}
    return Images(
        judged=tuple(samples),
        training=None if training is None else tuple(training),
        others=tuple(sample for sample in everything if (sample.path, sample.span) not in chosen),
        notes=tuple(notes),
    )


def judge_file(path: str, images: Images, args: argparse.Namespace) -> Evaluation:
    """Evaluate the predictions in a file."""
    from captioner.data.messages import agreeing, counted
    from captioner.evaluation.evaluate import judge_captions
    from captioner.evaluation.predictions import matched_captions, read_predictions

    words: Words = args.words or "ptb"
    _hint(words, images)
    partial = getattr(args, "partial", False)
    matched = matched_captions(read_predictions(path, partial=partial), images.judged, images.others, partial=partial)
    judged = [(caption, sample) for caption, sample in zip(matched, images.judged, strict=True) if caption is not None]
    notes = images.notes
    if len(judged) < len(matched):
        share = f"{len(judged)} of the {counted(len(matched), 'image')} {agreeing(len(judged), 'have')} a prediction"
        notes = (f"only a part of the images was evaluated: {share}", *notes)
    evaluation = judge_captions(
        [caption for caption, _ in judged],
        [sample for _, sample in judged],
        words=words,
        training=images.training,
        java=not args.no_java,
        spice=args.spice,
    )
    return replace(evaluation, notes=notes)


def judge_model(source: str | None, images: Images, args: argparse.Namespace) -> Evaluation:
    """Caption the images with a model and evaluate the captions."""
    from captioner.cli.options import generation_options
    from captioner.config import with_options

    options = generation_options(args)

    from tqdm import tqdm

    from captioner.evaluation.evaluate import evaluate

    checkpoint = _ready(source, images, args)
    words: Words = args.words or checkpoint.config.text.words
    _hint(words, images)
    with tqdm(total=len(images.judged), unit=" images", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        evaluation = evaluate(
            checkpoint,
            images.judged,
            with_options(checkpoint.generation, options),
            batch_size=args.batch_size,
            words=words,
            training=images.training,
            java=not args.no_java,
            spice=args.spice,
            progress=bar.update,
        )
    for problem in evaluation.problems:
        tell(problem)
    return replace(evaluation, notes=images.notes)


def probe_model(source: str | None, images: Images, args: argparse.Namespace) -> Probe:
    """Caption the images and changed copies of them with a model, and compare the captions."""
    from captioner.cli.options import generation_options
    from captioner.config import with_options

    options = generation_options(args)

    from tqdm import tqdm

    from captioner.evaluation.probe import probe

    checkpoint = _ready(source, images, args)
    with tqdm(total=len(images.judged), unit=" images", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        result = probe(
            checkpoint,
            images.judged,
            with_options(checkpoint.generation, options),
            batch_size=args.batch_size,
            words=args.words or checkpoint.config.text.words,
            progress=bar.update,
        )
    for problem in result.problems:
        tell(problem)
    return result


def _ready(source: str | None, images: Images, args: argparse.Namespace) -> Checkpoint:
    """Load and prepare the model. Raises ``DataError`` if it was trained on exactly these images."""
    from captioner.checkpoint import load
    from captioner.errors import DataError
    from captioner.evaluation.judge import fingerprint
    from captioner.models.precision import for_inference
    from captioner.pipelines import choose_device

    checkpoint = load(source, device=choose_device(args.device))
    if args.split != "train" and checkpoint.training.get("data") == fingerprint(images.judged):
        raise DataError(
            f"the model was trained on these images of {args.data} (fingerprint {checkpoint.training['data']}); "
            "evaluate it on others, or use --split train to score it on its training images"
        )
    for_inference(checkpoint.model, args.precision)
    if getattr(args, "aspect", None):
        config = checkpoint.model.config
        checkpoint.model.config = replace(config, preprocess=replace(config.preprocess, aspect=args.aspect))
    return checkpoint


def is_predictions(name: str) -> bool:
    """Return whether ``name`` is a file; a checkpoint is a directory or a hub id."""
    return Path(name).is_file()


def _hint(words: Words, images: Images) -> None:
    from captioner.metrics.words import unspaced

    if words == "ptb" and unspaced(caption for sample in images.judged for caption in sample.captions):
        tell(
            "these captions have no spaces between words, so a clause counts as one word; evaluate them with --words "
            "characters"
        )
