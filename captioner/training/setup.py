"""The setup of a run: training data, a new captioner, and the accelerator."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from captioner.checkpoint import Checkpoint
from captioner.checkpoint.hugging_face import gpt2_tokenizer, load_gpt2
from captioner.config import CaptionerConfig
from captioner.data.decisions import read_accepted
from captioner.data.messages import counted
from captioner.data.samples import Joined, Part, Sample, Samples
from captioner.data.sources import read_splits
from captioner.data.sources.sidecars import Reading
from captioner.data.splits import ALL, hold_out, hold_out_named
from captioner.errors import ConfigError, DataError, reason_of
from captioner.models.backbones import backbone_args
from captioner.models.captioner import Captioner
from captioner.text import CaptionTokenizer, tidy, train_tokenizer
from captioner.training.pretrained import load_backbone
from captioner.training.recipe import Recipe
from captioner.training.tasks import Data

if TYPE_CHECKING:
    from accelerate import Accelerator

Report = Callable[[str], None]
LEAST_REPEATS, MOST_REPEATS = 0.001, 1000  # a plan counts in thousandths


def read_data(
    data: Sequence[str],
    *,
    text: Sequence[str] = (),
    repeats: Sequence[float] = (),
    held_out: str | None = None,
    sidecars: Reading = "lines",
    validation_images: int,
    outside: bool = False,
    accepted: bool = False,
    report: Report,
) -> Data:
    """Read the training and validation data of a run.

    The run trains on the training split of every dataset in ``data``. Validation images never come from a dev or test
    split. They are the images in the file ``held_out``, or a tenth of the first dataset's training split (of all its
    images if it has no splits: the same tenth that ``captioner evaluate`` calls dev), at most ``validation_images``.
    Lines of the ``text`` files that equal a held-out caption are skipped; a hundredth of the others, at least one and
    at most 1,000 lines, validates the language model. ``outside``: the datasets may name images outside their folders.
    ``accepted``: use only the captions that people accepted or edited in `captioner review`.
    ``repeats``: the times that an epoch shows the images of each dataset, on average; empty for once. An image in
    several datasets counts for the first.
    """
    _check_repeats(repeats, data)
    parts: list[Sequence[Sample]] = []
    for source in data:
        if accepted:
            dataset = read_accepted(source, outside=outside)
        else:
            dataset = read_splits(source, outside=outside, sidecars=sidecars)
        for sentence in (*dataset.problems, *dataset.notes):
            report(sentence)
        if not dataset.splits.keys() & {"train", ALL}:
            raise DataError(f"{source} holds only {' and '.join(dataset.splits)}; give data with a training split")
        whole = held_out or not parts  # hold_out splits the first dataset here, a file splits all of them below
        parts.append(dataset.splits.get("train") or dataset.splits.get(ALL, ()) if whole else dataset.split("train"))
    if held_out:
        train, validation = hold_out_named(_joined(parts), held_out)
    else:
        parts[0], validation = hold_out(parts[0])
        train = _without(_joined(parts), validation) if len(parts) > 1 else parts[0]
    validation = validation[:validation_images]
    if not train or not validation:
        raise DataError(f"{', '.join(map(str, data))} has too few images for training and validation; add images")
    held = {tidy(caption, lowercase=True) for sample in validation for caption in sample.captions}
    lines = [line for name in text for line in read_lines(name) if tidy(line, lowercase=True) not in held]
    judged = max(min(1, len(lines)), min(1000, len(lines) // 100))
    order = sorted(range(len(lines)), key=lambda i: hashlib.sha256(f"{i} {lines[i]}".encode()).digest())
    return Data(
        train=train,
        validation=tuple(validation),
        text=tuple(lines[i] for i in sorted(order[judged:])),
        validation_text=tuple(lines[i] for i in sorted(order[:judged])),
        repeats=_repeats_of(train, parts, repeats) if repeats else None,
    )


def _check_repeats(repeats: Sequence[float], data: Sequence[str]) -> None:
    if repeats and len(repeats) != len(data):
        raise ConfigError(
            f"--repeat has {counted(len(repeats), 'number')} for {counted(len(data), 'dataset')}; give one for each"
        )
    for repeat in repeats:
        if not LEAST_REPEATS <= repeat <= MOST_REPEATS:
            raise ConfigError(f"--repeat must be at least {LEAST_REPEATS} and at most {MOST_REPEATS}, not {repeat:g}")


def _repeats_of(
    train: Sequence[Sample], parts: Sequence[Sequence[Sample]], repeats: Sequence[float]
) -> Sequence[float]:
    """Return the repeats of each training image. ``train`` holds images of ``parts`` in their order."""
    known = ((sample, repeat) for part, repeat in zip(parts, repeats, strict=True) for sample in part)
    found = array("f")
    for sample in train:
        place = sample.path, sample.span
        found.append(next(repeat for other, repeat in known if (other.path, other.span) == place))
    return found


def _joined(parts: Sequence[Sequence[Sample]]) -> Sequence[Sample]:
    """Return the samples of all parts; an image in several parts gets the captions of all.

    Parts larger than memory are joined without a comparison of their images.
    """
    if len(parts) == 1:
        return parts[0]
    if any(isinstance(part, Samples) for part in parts):
        return Joined(parts)
    by_image: dict[tuple[Path, tuple[int, int] | None], Sample] = {}
    for sample in chain.from_iterable(parts):
        image = (sample.path.resolve(), sample.span)
        known = by_image.get(image)
        by_image[image] = sample if known is None else replace(known, captions=known.captions + sample.captions)
    return tuple(by_image.values())


def _without(samples: Sequence[Sample], away: Sequence[Sample]) -> Sequence[Sample]:
    """Return the samples whose image is not in ``away``."""
    images = {(sample.path.resolve(), sample.span) for sample in away}
    resolved = lru_cache(maxsize=1024)(Path.resolve)
    kept = (n for n, sample in enumerate(samples) if (resolved(sample.path), sample.span) not in images)
    return Part(samples, kept) if isinstance(samples, Samples) else tuple(samples[n] for n in kept)


def new_captioner(recipe: Recipe, data: Data) -> Checkpoint:
    """Return a new captioner: tokenizer, decoder and backbone from the sources in the recipe."""
    torch.manual_seed(recipe.seed)
    tokenizer = _tokenizer(recipe, data)
    config = CaptionerConfig(
        vision=recipe.vision,
        decoder=recipe.decoder_config(tokenizer.vocab_size),
        text=tokenizer.config,
        preprocess=recipe.preprocess,
    )
    try:
        model = Captioner(config)
    except (MemoryError, RuntimeError) as error:  # torch raises RuntimeError when memory runs out
        raise ConfigError(f"a captioner of these sizes cannot be built ({reason_of(error)}); lower them") from error
    args = backbone_args(recipe.vision, recipe.preprocess)
    load_backbone(model.vision.backbone, recipe.vision.backbone, recipe.vision_weights, args)
    if recipe.decoder_weights != "random":
        load_gpt2(model.decoder, recipe.decoder_weights)
    return Checkpoint(model, tokenizer, recipe.generation)


def _tokenizer(recipe: Recipe, data: Data) -> CaptionTokenizer:
    settings = recipe.tokenizer
    if settings.source is not None:
        tokenizer = gpt2_tokenizer(settings.source, lowercase=settings.lowercase)
        return tokenizer.with_config(replace(tokenizer.config, words=settings.words))
    captions = (caption for sample in data.train for caption in sample.captions)
    return train_tokenizer(
        chain(captions, data.text),
        settings.vocab_size,
        lowercase=settings.lowercase,
        words=settings.words,
        languages=settings.languages,
    )


def accelerator(recipe: Recipe) -> Accelerator:
    """Return the accelerator: device and precision of the run.

    Raises ``ConfigError`` for a precision that the device does not support.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # else a second run in one process must have the precision of the first
    precision = _precision(recipe)
    if precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("precision fp16 needs a GPU; set precision to auto, bf16 or fp32")
    try:
        # Without cpu=True, accelerate lets every process of torchrun train alone on a machine without a GPU.
        return Accelerator(mixed_precision=precision, cpu=not torch.accelerator.is_available())
    except ValueError as error:
        raise ConfigError(f"precision {recipe.precision} does not work here ({error}); set another one") from error


def _precision(recipe: Recipe) -> str:
    if recipe.precision == "auto":
        if torch.cuda.is_available():
            fast = torch.cuda.is_bf16_supported()
        else:
            fast = bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
        return "bf16" if fast else "no"
    return "no" if recipe.precision == "fp32" else recipe.precision


def read_lines(name: str) -> list[str]:
    """Return the lines of a text file that are not blank. Raises ``DataError`` for a file without any."""
    try:
        lines = Path(name).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the text file {name} cannot be read ({error}); give a UTF-8 file of one caption a line"
        ) from error
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise DataError(f"the text file {name} is empty; give a UTF-8 file of one caption a line")
    return lines
