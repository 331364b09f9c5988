"""A whole training run, for the command line and scripts."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from captioner.captioning.batches import check_learnt
from captioner.checkpoint import Checkpoint, Restorable, merged
from captioner.config import to_dict
from captioner.data.messages import counted
from captioner.errors import ConfigError, TrainingError, UsageError
from captioner.training.classifier import copy_trained_blocks
from captioner.training.lock import only_run
from captioner.training.optim import trained_layers
from captioner.training.packages import require_training
from captioner.training.pretrained import differing_pixels
from captioner.training.recipe import Recipe
from captioner.training.setup import accelerator, new_captioner
from captioner.training.state import STATE
from captioner.training.tasks import TASKS, Data


def train(
    recipe: Recipe,
    data: Data,
    out: Path,
    *,
    start: Restorable | None = None,
    resume: bool = False,
    report: Callable[[str], None] = lambda text: None,
) -> Path:
    """Train a new captioner, or fine-tune ``start``, and return the directory of the best checkpoint.

    ::

        best = train(load_recipe("toy"), data, Path("runs/toy"))
        captioner = load(best)

    The weights of ``start`` compete for the best checkpoint, unless a task has added untrained modules to them.
    ``resume`` continues the run in ``out`` from its last saved state; without it, an existing run is never overwritten.
    Raises a ``CaptionerError`` if the recipe, the data and the contents of ``out`` do not fit together, or if another
    run is writing to ``out``.
    """
    require_training()
    check_out(out, resume=resume)
    start = start.original() if start is not None else None
    _check(recipe, data, start)
    from captioner.training.adapting import with_adapter
    from captioner.training.trainer import Trainer  # accelerate and torch's loaders take seconds to import

    if start is not None and recipe.adapter is None:
        start = merged(start)
    if start is not None:
        recipe = with_architecture(recipe, start)
    elif recipe.vision_weights == "timm" and (warning := differing_pixels(recipe.vision.backbone, recipe.preprocess)):
        report(f"warning: {warning}")
    checkpoint = start or new_captioner(recipe, data)
    equipped = [TASKS[stage.task].equip(recipe, stage, data, checkpoint) for stage in recipe.stages]
    check_learnt(checkpoint, recipe.generation)
    if recipe.adapter is not None:
        recipe, checkpoint = with_adapter(recipe, checkpoint, recipe.adapter)
    elif checkpoint.model.vision.shared_blocks is not None:
        for stage in recipe.stages:
            copy_trained_blocks(checkpoint.model, trained_layers(checkpoint.model, stage))
    report(
        f"{counted(len(data.train), 'training image')}, {len(data.validation)} held out, "
        f"{counted(len(data.text), 'line')} of text; "
        f"{sum(p.numel() for p in checkpoint.model.parameters()) / 1e6:.1f}M parameters"
    )
    if recipe.adapter is not None:
        count = sum(p.numel() for p in checkpoint.model.parameters() if p.requires_grad)
        report(f"{recipe.adapter.method}: {count / 1e6:.2f}M parameters are trained, all others are frozen")
    main = accelerator(recipe).is_main_process
    with only_run(out, main=main, check=lambda: check_out(out, resume=resume)):
        return Trainer(recipe, data, checkpoint, out).run(
            resume=resume, judge_start=start is not None and not any(equipped)
        )


def _check(recipe: Recipe, data: Data, start: Checkpoint | None) -> None:
    """Raise the errors that would stop the run later, before hours go into it."""
    for stage in recipe.stages:
        if stage.task not in TASKS:
            near = difflib.get_close_matches(stage.task, TASKS, n=1, cutoff=0)
            raise ConfigError(f"there is no task {stage.task!r} for a stage; did you mean {near[0]}?")
        TASKS[stage.task].check(data)
        TASKS[stage.task].options_of(stage)
    if recipe.adapter is not None and start is None:
        raise UsageError("an adapter needs a captioner to train on; use `captioner finetune --model M`")


def check_out(out: Path, *, resume: bool) -> None:
    """Raise an error for ``resume`` without a run in ``out``, and for a new run over an existing one."""
    if resume and not (out / STATE).exists():
        raise TrainingError(f"there is no run to resume in {out}; start it without --resume")
    if not resume and (out / STATE).exists():
        raise UsageError(f"{out} already holds a run; repeat the command with --resume, or choose another --out")
    if not resume and any((out / name).exists() for name in ("best", "last", "config.json")):
        raise UsageError(f"{out} holds a trained captioner, which a new run would replace; choose another --out")


def with_architecture(recipe: Recipe, start: Checkpoint) -> Recipe:
    """Return the recipe with the architecture of the checkpoint that the run starts from."""
    decoder = to_dict(start.config.decoder)
    del decoder["vocab_size"]
    return replace(
        recipe,
        vision=start.config.vision,
        preprocess=start.config.preprocess,
        decoder=decoder,
        generation=start.generation,
    )
