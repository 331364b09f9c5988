"""Code that evaluate and compare share: options, loading the images, evaluating a model or a prediction file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.cli.arguments import argument
from captioner.cli.options import Compute, Reading
from captioner.cli.output import tell
from captioner.config import GenerationConfig, Words

if TYPE_CHECKING:
    from captioner.config.vision import Aspect
    from captioner.data.samples import Sample
    from captioner.evaluation.evaluate import Evaluation
    from captioner.evaluation.probe import Probe
    from captioner.inference import PreparedCheckpoint


@dataclass(frozen=True, kw_only=True)
class Judging:
    """The data and the scores of an evaluation."""

    data: str = field(metadata=argument(help="folder or file of captioned images", metavar="DATA"))
    reading: Reading
    split: str = field(default="dev", metadata=argument(help="train, dev, test or all (default: %(default)s)"))
    words: Words | None = field(
        default=None,
        metadata=argument(
            help="word splitting: as in the COCO tools, or for languages without spaces (default: the model's)"
        ),
    )
    java: bool = field(default=True, metadata=argument(flag="--no-java", help="leave out METEOR, which needs Java"))
    spice: bool = field(
        default=False, metadata=argument(help="add SPICE: needs Java, downloads a parser, not verified")
    )
    drop_leaks: bool = field(
        default=False, metadata=argument(help="leakage: leave out images that are also in training")
    )


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images of an evaluation."""

    judged: tuple[Sample, ...]  # the images to evaluate
    training: tuple[Sample, ...] | None  # the training images; None without a training split
    others: tuple[Sample, ...]  # all images but ``judged``
    notes: tuple[str, ...]  # remarks for the report


def images_of(judging: Judging) -> Images:
    """Read the data. Raises ``UsageError`` for an empty split, ``DataError`` for one that contains training images."""
    from captioner.data.messages import counted, some
    from captioner.data.sources import read_splits
    from captioner.data.splits import ALL, SPLIT_NAMES
    from captioner.errors import DataError, UsageError, require
    from captioner.evaluation.leaks import leaked
    from captioner.metrics.bleu import check_bleu
    from captioner.metrics.spice import check_spice

    check_bleu()
    if judging.words == "jieba":
        require("jieba", "chinese", "--words jieba")
    if judging.spice:
        check_spice()
    reading = judging.reading
    dataset = read_splits(judging.data, outside=reading.outside, sidecars=reading.sidecars)
    samples = dataset.split(judging.split)
    if not samples:
        raise UsageError(f"the split {judging.split} of {judging.data} is empty; choose another one with --split")
    for sentence in (*dataset.problems, *dataset.notes):
        tell(sentence)
    everything = dataset.split(ALL)
    notes: list[str] = []
    training: Sequence[Sample] | None = None
    if dataset.splits.keys() & {"train", ALL}:
        training = dataset.split("train")
        if SPLIT_NAMES.get(judging.split) == "train" or judging.split == ALL:
            notes.append("these are training images of this data, so the scores do not apply to unseen images")
        elif leaks := leaked(samples, training):
            if not judging.drop_leaks:
                raise DataError(
                    f"leakage: {len(leaks)} of the {counted(len(samples), 'image')} of {judging.split} "
                    f"{'is also a training image' if len(leaks) == 1 else 'are also training images'}, which inflates "
                    f"the scores: {some(leaks, 10)}; remove them from one of the splits, or use --drop-leaks"
                )
            they = "it is also a training image" if len(leaks) == 1 else "they are also training images"
            notes.append(f"{counted(len(leaks), 'image', 'were')} left out because {they}")
            samples = [sample for sample in samples if sample.name not in set(leaks)]
            if not samples:
                raise DataError(f"every image of {judging.split} is also a training image; evaluate on other images")
    chosen = {(sample.path, sample.span) for sample in samples}
    return Images(
        judged=tuple(samples),
        training=None if training is None else tuple(training),
        others=tuple(sample for sample in everything if (sample.path, sample.span) not in chosen),
        notes=tuple(notes),
    )


def judge_file(path: str, images: Images, judging: Judging, *, partial: bool = False) -> Evaluation:
    """Evaluate the predictions in a file; ``partial`` allows images without a prediction."""
    from captioner.data.messages import agreeing, counted
    from captioner.evaluation.evaluate import judge_captions
    from captioner.evaluation.predictions import matched_captions, read_predictions

    words: Words = judging.words or "ptb"
    _warn_of_unspaced(words, images)
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
        java=judging.java,
        spice=judging.spice,
    )
    return replace(evaluation, notes=notes)


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """A model and the way it captions the images of an evaluation."""

    source: str | None  # checkpoint directory or hub id; None for the shipped model
    compute: Compute
    generation: Mapping[str, Any]  # options instead of the model's
    aspect: Aspect | None = None  # aspect rule instead of the model's


@dataclass(frozen=True, kw_only=True)
class ModelRun:
    """A loaded model, and the images that it captions for an evaluation."""

    checkpoint: PreparedCheckpoint
    generation: GenerationConfig
    words: Words
    batch_size: int
    images: Images
    judging: Judging


def load_run(model: ModelChoice, images: Images, judging: Judging) -> ModelRun:
    """Load and prepare a model to caption the images.

    Raises ``DataError`` if it was trained on exactly these images.
    """
    from captioner.config import with_options
    from captioner.errors import DataError
    from captioner.evaluation.judge import fingerprint
    from captioner.inference import load_prepared
    from captioner.pipelines import choose_device

    compute = model.compute
    precision = compute.checked_precision()
    prepared = load_prepared(model.source, precision, device=compute.device, choose=choose_device)
    if judging.split != "train" and prepared.training.get("data") == fingerprint(images.judged):
        raise DataError(
            f"the model was trained on these images of {judging.data} (fingerprint {prepared.training['data']}); "
            "evaluate it on others, or use --split train to score it on its training images"
        )
    if model.aspect is not None:
        config = prepared.model.config
        prepared.model.config = replace(config, preprocess=replace(config.preprocess, aspect=model.aspect, zoom=1.0))
    generation = with_options(prepared.generation, model.generation)
    return ModelRun(
        checkpoint=prepared,
        generation=generation,
        words=judging.words or prepared.config.text.words_in(generation.language),
        batch_size=model.compute.batch_size,
        images=images,
        judging=judging,
    )


def judge_model(run: ModelRun) -> Evaluation:
    """Caption the images and evaluate the captions."""
    from captioner.evaluation.evaluate import evaluate

    _warn_of_unspaced(run.words, run.images)
    with _bar(run.images) as progress:
        evaluation = evaluate(
            run.checkpoint,
            run.images.judged,
            run.generation,
            batch_size=run.batch_size,
            words=run.words,
            training=run.images.training,
            java=run.judging.java,
            spice=run.judging.spice,
            progress=progress,
        )
    for problem in evaluation.problems:
        tell(problem)
    return replace(evaluation, notes=run.images.notes)


def probe_model(run: ModelRun) -> Probe:
    """Caption the images and changed copies of them, and compare the captions."""
    from captioner.evaluation.probe import probe

    with _bar(run.images) as progress:
        result = probe(
            run.checkpoint,
            run.images.judged,
            run.generation,
            batch_size=run.batch_size,
            words=run.words,
            progress=progress,
        )
    for problem in result.problems:
        tell(problem)
    return result


@contextmanager
def _bar(images: Images) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on a terminal, and yield the function that advances it by a number of images."""
    from tqdm import tqdm

    with tqdm(total=len(images.judged), unit=" images", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        yield bar.update


def is_predictions(name: str) -> bool:
    """Return whether ``name`` is a file; a checkpoint is a directory or a hub id."""
    return Path(name).is_file()


def _warn_of_unspaced(words: Words, images: Images) -> None:
    from captioner.metrics.words import unspaced

    if words == "ptb" and unspaced(caption for sample in images.judged for caption in sample.captions):
        tell(
            "these captions have no spaces between words, so a clause counts as one word; evaluate them with --words "
            "characters"
        )
