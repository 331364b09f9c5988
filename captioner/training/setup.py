"""From what a user names (data, recipe, checkpoint) to what the loop wants."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from captioner.checkpoint import Checkpoint
from captioner.config import CaptionerConfig
from captioner.data.samples import Sample
from captioner.data.sources import read_splits
from captioner.data.splits import hold_out, hold_out_named
from captioner.errors import DataError
from captioner.models.captioner import Captioner
from captioner.text import tidy, train_tokenizer
from captioner.training.pretrained import load_backbone
from captioner.training.recipe import Recipe
from captioner.training.tasks import Data

Report = Callable[[str], None]


def read_data(
    data: Sequence[str],
    *,
    text: Sequence[str] = (),
    held_out: str | None = None,
    validation_images: int,
    report: Report,
) -> Data:
    """Training and validation data of a run.

    The training split of every dataset in ``data`` trains. Validation images are never dev or test: they are the ones
    that the file ``held_out`` names, or else a tenth of the first dataset's training split, at most
    ``validation_images`` of either. Lines of the ``text`` files that stand among the held-out captions are left out;
    a hundredth of the rest, at most 1,000 lines, judges the language model.
    """
    train: list[Sample] = []
    validation: list[Sample] = []
    for place, source in enumerate(data):
        dataset = read_splits(source)
        for problem in dataset.problems:
            report(problem)
        samples = list(dataset.splits["train"] if "train" in dataset.splits else dataset.split("all"))
        if place == 0:
            kept, away = hold_out_named(samples, held_out) if held_out else hold_out(samples)
            validation = away[:validation_images]
            samples = kept
        train += samples
    if not train or not validation:
        raise DataError(f"{', '.join(map(str, data))} has too few images to train on and hold some out; add images")
    held = {tidy(caption, lowercase=True) for sample in validation for caption in sample.captions}
    lines = [line for name in text for line in _lines(name) if tidy(line, lowercase=True) not in held]
    judged = min(1000, len(lines) // 100)
    order = sorted(range(len(lines)), key=lambda i: hashlib.sha256(f"{i} {lines[i]}".encode()).digest())
    return Data(
        train=tuple(train),
        validation=tuple(validation),
        text=tuple(lines[i] for i in sorted(order[judged:])),
        validation_text=tuple(lines[i] for i in sorted(order[:judged])),
    )


def new_captioner(recipe: Recipe, data: Data) -> Checkpoint:
    """A fresh captioner: a tokenizer learnt on the training captions and text, a decoder at random, a backbone from
    where the recipe says."""
    torch.manual_seed(recipe.seed)
    captions = [caption for sample in data.train for caption in sample.captions]
    tokenizer = train_tokenizer(
        [*captions, *data.text], recipe.tokenizer.vocab_size, lowercase=recipe.tokenizer.lowercase
    )
    config = CaptionerConfig(
        vision=recipe.vision,
        decoder=recipe.decoder_config(tokenizer.vocab_size),
        text=tokenizer.config,
        preprocess=recipe.preprocess,
    )
    model = Captioner(config)
    load_backbone(model.vision.backbone, recipe.vision.backbone, recipe.vision_weights, recipe.vision.backbone_args)
    return Checkpoint(model, tokenizer, recipe.generation)


def _lines(name: str) -> list[str]:
    try:
        lines = Path(name).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the text file {name} cannot be read ({error}); give a UTF-8 file of one caption a line"
        ) from error
    found = [line for line in lines if line.strip()]
    if not found:
        raise DataError(f"the text file {name} is empty; give a UTF-8 file of one caption a line")
    return found
