"""The training loop: stages of a recipe, steps of a stage; logging, validation, saving and resuming.

It runs on Hugging Face accelerate, so ``torchrun`` and ``accelerate launch`` work as well as plain ``python``.

The directory of a run::

    best/        checkpoint of the best validation score, for use
    last/        checkpoint of the last validation
    state.pt     optimizer, position, random state; only for resuming
    log.jsonl    a record per interval and validation; tensorboard/ holds the same as curves
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint import Checkpoint, save
from captioner.checkpoint.card import inherited
from captioner.config import to_dict
from captioner.errors import TrainingError
from captioner.evaluation.judge import fingerprint
from captioner.system.interrupt import Interrupt
from captioner.training.adapting import RankBudget
from captioner.training.batches import Batch, batches
from captioner.training.convolutions import folded
from captioner.training.distributed import explain_dead_process
from captioner.training.features import FeatureStore, build_store, cached_blocks
from captioner.training.log import RunLog
from captioner.training.optim import choose_trained, set_checkpointing, update_average
from captioner.training.plan import Plan
from captioner.training.recipe import Recipe, Stage
from captioner.training.setup import accelerator
from captioner.training.state import (
    Position,
    data_fingerprint,
    random_state,
    read_state,
    refuse_another,
    run_identity,
    set_random_state,
    write_state,
)
from captioner.training.step import Stepper, Sums, mean
from captioner.training.tasks import TASKS, Data, Task

SAVE_SECONDS = 600  # the loop saves a state at every validation, and this often between them


class Trainer:
    """A run that trains ``checkpoint`` in place through the stages of ``recipe`` and writes to ``directory``.

    ::

        best = Trainer(recipe, data, new_captioner(recipe, data), Path("runs/mine")).run()
    """

    def __init__(self, recipe: Recipe, data: Data, checkpoint: Checkpoint, directory: Path, *, log_every: int = 50):
        self.recipe, self.data, self.checkpoint, self.directory = recipe, data, checkpoint, directory
        self.log_every = log_every
        self.accelerator = accelerator(recipe)
        self.model = checkpoint.model.to(self.accelerator.device)
        self.average = copy.deepcopy(self.model)  # EMA of the weights, validated and saved; equals the model if ema = 0
        self.ranks = RankBudget(self.model, self.average)
        self.best: dict[str, Tensor] = {}
        self.position = Position()
        self.log = RunLog(directory, active=self.accelerator.is_main_process)
        self.last_save = time.monotonic()
        self.interrupt = Interrupt("stopping after this step; Ctrl-C again stops at once, without saving")
        self.identity = run_identity(
            recipe,
            data_fingerprint(data, checkpoint.tokenizer),
            base=checkpoint.base.fingerprint if checkpoint.base else "",
        )
        self.tasks = [TASKS[stage.task](recipe, stage, data, checkpoint.tokenizer) for stage in recipe.stages]

    def run(self, *, resume: bool = False, judge_start: bool = False) -> Path:
        """Train to the end and return the directory of the best checkpoint.

        With ``judge_start`` the initial weights compete too, so the result is never worse than them. The first Ctrl-C
        saves the state after the current step and raises ``KeyboardInterrupt`` with the remedy.
        """
        torch.manual_seed(self.recipe.seed)
        state = self._read_state() if resume else None
        first = self.position.stage
        if judge_start and not resume:
            self._begin(self.tasks[0])
            self._validate(self.tasks[0], None)
        with explain_dead_process():
            for index in range(first, len(self.recipe.stages)):
                self._stage(index, state if index == first else None)
                state = None
        if self.best:
            self.average.load_state_dict(self.best)
        best = self.directory / "best"
        if self.accelerator.is_main_process and not best.is_dir():  # no stage validated on images
            self._save({}, "best")
        self.accelerator.wait_for_everyone()
        self.log.close()
        return best

    def _stage(self, index: int, state: dict[str, Any] | None) -> None:
        stage, task, position = self.recipe.stages[index], self.tasks[index], self.position
        if state is None:
            # A new stage starts from the best weights so far; the average equals them.
            if self.best:
                self.model.load_state_dict(self.best)
            self.average.load_state_dict(self.model.state_dict())
            if index and self.tasks[index - 1].yardstick != task.yardstick:
                position.best_score = float("-inf")
            position.stage, position.epoch, position.step, position.since_best, position.over = index, 0, 0, 0, ""
        for done in self.recipe.stages[: index + 1]:
            self.model.config = self.average.config = TASKS[done.task].trained_config(self.model.config)
        choose_trained(self.model, stage, task.trained)
        store = self._kept_features(self.data.train, stage, stage.views) if stage.cache_features else None
        items = task.items(store)
        plan = Plan(
            len(items),
            stage.batch_size,
            stage.accumulate,
            f"{self.recipe.seed}/{index}",
            self.accelerator.process_index,
            self.accelerator.num_processes,
            task.lengths(),
            stage.epoch_steps,
            task.repeats(),
        )
        set_checkpointing(self.model, stage)
        self._begin(task)
        stepper = Stepper(self.accelerator, task, self.model, ranks=self.ranks, directory=self.directory)
        self.ranks.begin(stage.epochs * plan.steps, first=index == 0)
        if state is not None:
            stepper.load(state)
            set_random_state(state["random"])
        else:
            self._save_state(stepper)
        self.log.say(
            f"stage {index + 1} of {len(self.recipe.stages)}: {stage.task}, {stage.epochs} epochs of "
            f"{plan.steps} steps, {len(items)} items"
        )

        # Several processes cannot stop between the same two steps; they resume from the last saved state.
        with self.interrupt if self.accelerator.num_processes == 1 else contextlib.nullcontext():
            while position.epoch < stage.epochs:
                workers = self.recipe.workers if task.wants_images and store is None else 0
                parts = batches(items, plan.keys(position.epoch, position.step), task.collate(store), workers=workers)
                with folded(self.model.vision, self.model.config.preprocess.size):
                    self._epoch(stepper, parts, plan.steps)
                position.epoch, position.step = position.epoch + 1, 0
                if position.over or position.epoch % stage.validate_every == 0 or position.epoch == stage.epochs:
                    self._validate(task, store)
                    if stage.patience and position.since_best >= stage.patience:
                        position.over = position.over or f"no better score in {position.since_best} validations"
                    if position.over:
                        self.log.record(
                            "end", total_step=position.total_step, stage=position.stage, reason=position.over
                        )
                        position.epoch = stage.epochs
                    self._save_state(stepper)
                    self._stop_if_asked()
        stepper.copy_to(self.model)
        stepper.release()

    def _begin(self, task: Task) -> None:
        task.own = {}
        task.begin(self.model, self.average)
        for module in task.own.values():
            module.to(self.accelerator.device)

    def _epoch(self, stepper: Stepper, parts: Iterator[Batch], steps: int) -> None:
        task, position, device = stepper.task, self.position, self.accelerator.device
        stage = task.stage
        stepper.train()
        sums: list[Sums] = []
        images = 0
        began = time.monotonic()
        while not position.over and (step := [batch.to(device) for batch in islice(parts, stage.accumulate)]):
            at = position.epoch * steps + position.step
            sums.append(stepper.step(step, at=at, of=stage.epochs * steps, total=position.total_step))
            images += sum(len(part.names) for part in step) * self.accelerator.num_processes
            position.step, position.total_step = position.step + 1, position.total_step + 1
            update_average(self.average, stepper.model, stage.ema, at + 1)
            position.over = task.watch(mean(sums[-1:]))
            if position.total_step % self.log_every == 0:
                self.log.record(
                    "train",
                    total_step=position.total_step,
                    stage=position.stage,
                    epoch=position.epoch,
                    **mean(sums),
                    images_per_second=images / (time.monotonic() - began),
                )
                sums, images, began = [], 0, time.monotonic()
            due = time.monotonic() - self.last_save > SAVE_SECONDS
            # Processes of a sharded model could only save together.
            if self.interrupt.asked or (due and not stepper.divided):
                self._save_state(stepper)
                self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self.interrupt.asked:
            raise KeyboardInterrupt(f"stopped after step {self.position.total_step}; repeat the command with --resume")

    def _validate(self, task: Task, store: FeatureStore | None) -> None:
        from accelerate.utils import broadcast_object_list

        position, accelerator = self.position, self.accelerator
        validation = self._validation_store(task.stage, store)
        self.average.eval()
        with accelerator.autocast():
            result = [task.validate(self.average, validation, accelerator.device)]
        broadcast_object_list(result)  # all processes decide by the same figures
        figures = dict(result[0])
        score = figures.pop("score")
        self.log.record(
            "validation", total_step=position.total_step, stage=position.stage, epoch=position.epoch, **figures
        )
        position.since_best += 1
        better = score > position.best_score
        if better:
            position.best_score, position.since_best = score, 0
            self.best = {name: value.detach().cpu().clone() for name, value in self.average.state_dict().items()}
        if accelerator.is_main_process and task.wants_images:
            self._save(figures, *(("last", "best") if better else ("last",)))
        accelerator.wait_for_everyone()

    def _save(self, figures: dict[str, float], *names: str) -> None:
        provenance = {
            **inherited(self.checkpoint.training),
            "recipe": to_dict(self.recipe),
            "images": len(self.data.train),
            "held_out_images": len(self.data.validation),
            "text_lines": len(self.data.text),
            "data": fingerprint(self.data.train),
            "held_out": figures,
            "position": asdict(self.position),
        }
        # A new card: the initial checkpoint's describes other weights.
        snapshot = replace(self.checkpoint, model=self.average, training=provenance, card="")
        for name in names:
            save(snapshot, self.directory / name)

    def _validation_store(self, stage: Stage, store: FeatureStore | None) -> FeatureStore | None:
        return self._kept_features(self.data.validation, stage, 1) if store is not None else None

    def _kept_features(self, samples: Any, stage: Stage, views: int) -> FeatureStore:
        with self.accelerator.main_process_first(), self.accelerator.autocast():
            return build_store(
                self.model,
                samples,
                self.directory / "features",
                views=views,
                blocks=cached_blocks(self.model, frozen=stage.vision == "frozen"),
                workers=self.recipe.workers,
                device=self.accelerator.device,
                report=self.log.say,
            )

    def _save_state(self, stepper: Stepper) -> None:
        self.last_save = time.monotonic()
        stepper.copy_to(self.model)
        progress = stepper.state()
        if self.accelerator.is_main_process:
            state = {
                "identity": self.identity,
                "position": asdict(self.position),
                "stages": len(self.recipe.stages),
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "best": self.best,
                "random": random_state(),
                "ranks": self.ranks.state(),
                **progress,
            }
            write_state(state, self.directory)

    def _read_state(self) -> dict[str, Any]:
        state = read_state(self.directory)
        refuse_another(state, self.identity, self.directory)
        try:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
        except RuntimeError as error:
            raise TrainingError(f"the run in {self.directory} has another model; choose another --out") from error
        self.best, self.position = state["best"], state["position"]
        self.ranks.load(state.get("ranks", {}))
        return state
