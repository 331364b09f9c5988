"""A short distillation that teaches a pruned captioner what the whole one predicts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from captioner.checkpoint import Checkpoint, load
from captioner.checkpoint.card import noted
from captioner.compression.scores import require_no_question
from captioner.errors import CheckpointError
from captioner.training.recipe import Recipe, Stage
from captioner.training.run import train
from captioner.training.state import STATE
from captioner.training.tasks import Data


def recovery_recipe(teacher: str, epochs: int) -> Recipe:
    """Return the recipe of a distillation from the checkpoint ``teacher``, on the frozen backbone of both."""
    stage = Stage(
        task="distillation",
        epochs=epochs,
        batch_size=16,
        lr=3e-4,
        label_smoothing=0.0,
        vision="frozen",
        cache_features=True,
        ema=0.99,
        options={"teacher": teacher, "share": 0.7, "temperature": 1.0},
    )
    return Recipe(captions_per_image=3, validation_images=200, stages=(stage,))


def recover(
    pruned: Checkpoint, teacher: str, data: Data, folder: Path, *, epochs: int, report: Callable[[str], None]
) -> Checkpoint:
    """Return ``pruned`` after ``epochs`` of distillation from ``teacher``, a directory, hub id or ``shipped``.

    The run lies in ``folder``; one that was interrupted is resumed, and the folder of a finished one removed. Raises
    ``CheckpointError`` for a teacher that exists in memory only, ``UsageError`` for one that answers questions.
    """
    require_no_question(pruned)
    if not teacher:
        raise CheckpointError("the captioner to distil from must be saved in a directory; save it, then load it")
    own = pruned.training
    best = train(
        recovery_recipe(teacher, epochs), data, folder, start=pruned, resume=(folder / STATE).exists(), report=report
    )
    recovered = load(best)
    training = noted(own, pruned={**own["compressed"]["pruned"], "epochs": epochs})
    shutil.rmtree(folder)
    return replace(recovered, training=training, card=pruned.card, source="")
