"""The one loop: stages of a recipe, steps of a stage; logging, validating, saving and resuming.

It runs on Hugging Face accelerate, so ``torchrun`` and ``accelerate launch`` work as well as a plain ``python``.

What it leaves in its directory::

    best/        checkpoint of the best validation score: what people use
    last/        checkpoint of the end
    state.pt     optimizer, position, random state: for resuming, never needed to caption
    log.jsonl    a record per interval and validation; tensorboard/ the same as curves
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor

from captioner.checkpoint import Checkpoint, save
from captioner.config import to_dict
from captioner.errors import TrainingError
from captioner.evaluation.evaluate import fingerprint
from captioner.training.adapting import RankBudget
from captioner.training.batches import Batch, Plan, batches
from captioner.training.features import FeatureStore, build_store
from captioner.training.interrupt import Interrupt
from captioner.training.log import RunLog
from captioner.training.optim import choose_trained, make_optimizer, set_checkpointing, set_rate, update_average
from captioner.training.recipe import Recipe, Stage
from captioner.training.setup import accelerator
from captioner.training.state import (
    Position,
    random_state,
    read_state,
    refuse_another,
    run_identity,
    set_random_state,
    write_state,
)
from captioner.training.tasks import TASKS, Data, Task

SAVE_SECONDS = 600  # a state is saved at every validation, and this often between them


class Trainer:
    """Trains ``checkpoint`` in place through the stages of ``recipe`` and leaves the results in ``directory``."""

    def __init__(self, recipe: Recipe, data: Data, checkpoint: Checkpoint, directory: Path, *, log_every: int = 50):
        self.recipe, self.data, self.checkpoint, self.directory = recipe, data, checkpoint, directory
        self.log_every = log_every
        self.accelerator = accelerator(recipe)
        self.model = checkpoint.model.to(self.accelerator.device)
        self.average = copy.deepcopy(self.model)  # what is validated and saved; follows the model where ema is 0
        self.ranks = RankBudget(self.model, self.average)
        self.best: dict[str, Tensor] = {}
        self.position = Position()
        self.log = RunLog(directory, active=self.accelerator.is_main_process)
        self.last_save = time.monotonic()
        self.interrupt = Interrupt()
        captions = fingerprint([*data.train, *data.validation])
        text = [*data.text, *data.validation_text, checkpoint.tokenizer.to_json()]
        learnt = captions + hashlib.sha256("\n".join(text).encode()).hexdigest()[:12]
        self.identity = run_identity(recipe, learnt, base=checkpoint.base.fingerprint if checkpoint.base else "")

    def run(self, *, resume: bool = False, judge_start: bool = False) -> Path:
        """Train to the end and return the directory of the best checkpoint.

        With ``judge_start`` the weights of the start compete too, so the result is never worse than they are. The
        first Ctrl-C saves the state after the step under way and raises ``KeyboardInterrupt`` with the remedy.
        """
        torch.manual_seed(self.recipe.seed)
        state = self._read_state() if resume else None
        first = self.position.stage
        if judge_start and not resume:
            stage = self.recipe.stages[0]
            self._validate(TASKS[stage.task](self.recipe, stage, self.data, self.checkpoint.tokenizer), None)
        for index in range(first, len(self.recipe.stages)):
            self._stage(index, state if index == first else None)
            state = None
        if self.best:
            self.average.load_state_dict(self.best)
        best = self.directory / "best"
        if self.accelerator.is_main_process and not best.is_dir():  # no stage looked at images
            self._save({}, "best")
        self.accelerator.wait_for_everyone()
        self.log.close()
        return best

    def _stage(self, index: int, state: dict[str, Any] | None) -> None:
        stage = self.recipe.stages[index]
        task = TASKS[stage.task](self.recipe, stage, self.data, self.checkpoint.tokenizer)
        where = self.position
        if state is None:
            # A new stage starts from the best weights so far, and from an average that equals them.
            if self.best:
                self.model.load_state_dict(self.best)
            self.average.load_state_dict(self.model.state_dict())
            if index and TASKS[self.recipe.stages[index - 1].task].yardstick != task.yardstick:
                where.best_score = float("-inf")
            where.stage, where.epoch, where.step, where.since_best = index, 0, 0, 0
        for done in self.recipe.stages[: index + 1]:
            self.model.config = self.average.config = TASKS[done.task].taught(self.model.config)
        choose_trained(self.model, stage, task.trained)
        store = self._store(stage)
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
        )
        set_checkpointing(self.model, stage)
        optimizer = make_optimizer(self.model, stage)
        wrapped, optimizer = self.accelerator.prepare(self.model, optimizer)
        self.ranks.begin(stage.epochs * plan.steps, first=index == 0)
        if state is not None:
            optimizer.load_state_dict(state["optimizer"])
            set_random_state(state["random"])
        else:
            self._save_state(optimizer)
        self.log.say(
            f"stage {index + 1} of {len(self.recipe.stages)}: {stage.task}, {stage.epochs} epochs of "
            f"{plan.steps} steps, {len(items)} items"
        )

        # Several processes cannot stop between the same two steps; theirs is the state that was saved last.
        with self.interrupt if self.accelerator.num_processes == 1 else contextlib.nullcontext():
            while where.epoch < stage.epochs:
                keys = list(plan.keys(where.epoch, where.step))
                workers = self.recipe.workers if task.wants_images and store is None else 0
                parts = batches(items, keys, task.collate(store), workers=workers)
                self._epoch(task, wrapped, optimizer, parts, plan.steps)
                where.epoch, where.step = where.epoch + 1, 0
                if where.epoch % stage.validate_every == 0 or where.epoch == stage.epochs:
                    self._validate(task, store)
                    over = bool(stage.patience) and where.since_best >= stage.patience
                    if over:
                        self.log.say(f"no better score in {where.since_best} validations: the stage ends early")
                        where.epoch = stage.epochs
                    self._save_state(optimizer)
                    self._stop_if_asked()
        self.accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
        self.accelerator.free_memory()

    def _epoch(self, task: Task, wrapped: Any, optimizer: Any, parts: Iterator[Batch], steps: int) -> None:
        stage, where, device = task.stage, self.position, self.accelerator.device
        wrapped.train()
        sums: dict[str, Tensor] = {}
        words = images = 0.0
        began = time.monotonic()
        while step := [batch.to(device) for batch in islice(parts, stage.accumulate)]:
            rate = set_rate(optimizer, stage, where.epoch * steps + where.step, stage.epochs * steps)
            with self.accelerator.autocast(), torch.no_grad():
                step = [task.prepare(self.model, batch) for batch in step]
            # The mean is over the words of the global batch: a part with fewer words must not weigh as much.
            count = self.accelerator.reduce(sum((b.weights.sum() for b in step), torch.zeros((), device=device)))
            scale = self.accelerator.num_processes / count  # DDP averages gradients over processes
            for batch in step:
                with self.accelerator.autocast():  # accelerate wraps a model's forward for its first stage only
                    losses = task.loss(wrapped, batch)
                self._refuse_broken(losses["loss"], batch)
                self.accelerator.backward(losses["loss"] * scale + self.ranks.penalty() / len(step))
                for name, value in {**losses, **batch.figures}.items():
                    sums[name] = sums.get(name, torch.zeros((), device=device)) + value.detach()
                images += len(batch.names) * self.accelerator.num_processes
            norm = self.accelerator.clip_grad_norm_(
                [p for p in self.model.parameters() if p.requires_grad], stage.clip or float("inf")
            )
            optimizer.step()
            self.ranks.step(where.epoch * steps + where.step + 1)
            optimizer.zero_grad(set_to_none=True)
            where.step, where.total_step = where.step + 1, where.total_step + 1
            update_average(self.average, self.model, stage.ema, where.epoch * steps + where.step)
            words += float(count)
            if where.total_step % self.log_every == 0:
                seconds = time.monotonic() - began
                figures = {name: float(self.accelerator.reduce(value)) / words for name, value in sums.items()}
                self.log.record(
                    "train",
                    total_step=where.total_step,
                    stage=where.stage,
                    epoch=where.epoch,
                    **figures,
                    lr=rate,
                    gradient_norm=float(norm),
                    images_per_second=images / seconds,
                )
                sums, words, images, began = {}, 0.0, 0.0, time.monotonic()
            if self.interrupt.asked or time.monotonic() - self.last_save > SAVE_SECONDS:
                self._save_state(optimizer)
                self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self.interrupt.asked:
            raise KeyboardInterrupt(f"stopped after step {self.position.total_step}; go on with --resume")

    def _refuse_broken(self, loss: Tensor, batch: Batch) -> None:
        if not torch.isfinite(loss):
            good = self.directory / "best"
            raise TrainingError(
                f"the loss became {float(loss.detach())} at step {self.position.total_step} (first images of the "
                f"batch: {', '.join(batch.names[:4])}); lower the rate with --set, "
                + (f"the last good checkpoint is {good}" if good.exists() else "nothing was saved yet")
            )

    def _validate(self, task: Task, store: FeatureStore | None) -> None:
        where, accelerator = self.position, self.accelerator
        validation = self._validation_store(store)
        result: list[Any] = [None]
        if accelerator.is_main_process:
            self.average.eval()
            with accelerator.autocast():
                result = [task.validate(self.average, validation, accelerator.device)]
        broadcast_object_list(result)
        figures = dict(result[0])
        score = figures.pop("score")
        self.log.record("validation", total_step=where.total_step, stage=where.stage, epoch=where.epoch, **figures)
        where.since_best += 1
        better = score > where.best_score
        if better:
            where.best_score, where.since_best = score, 0
            self.best = {name: value.detach().cpu().clone() for name, value in self.average.state_dict().items()}
        if accelerator.is_main_process and task.wants_images:
            self._save(figures, *(("last", "best") if better else ("last",)))
        accelerator.wait_for_everyone()

    def _save(self, figures: dict[str, float], *names: str) -> None:
        provenance = {
            **self.checkpoint.training,
            "recipe": to_dict(self.recipe),
            "images": len(self.data.train),
            "held_out_images": len(self.data.validation),
            "text_lines": len(self.data.text),
            "data": fingerprint(self.data.train),
            "held_out": figures,
            "position": asdict(self.position),
        }
        # The card is written anew: that of the checkpoint a run began with tells of other weights.
        snapshot = replace(self.checkpoint, model=self.average, training=provenance, card="")
        for name in names:
            save(snapshot, self.directory / name)

    def _store(self, stage: Stage) -> FeatureStore | None:
        return self._kept_features(self.data.train) if stage.cache_features else None

    def _validation_store(self, store: FeatureStore | None) -> FeatureStore | None:
        return self._kept_features(self.data.validation) if store is not None else None

    def _kept_features(self, samples: Any) -> FeatureStore:
        with self.accelerator.main_process_first(), self.accelerator.autocast():
            return build_store(
                self.model,
                samples,
                self.directory / "features",
                workers=self.recipe.workers,
                device=self.accelerator.device,
                report=self.log.say,
            )

    def _save_state(self, optimizer: Any) -> None:
        self.last_save = time.monotonic()
        if self.accelerator.is_main_process:
            state = {
                "identity": self.identity,
                "position": asdict(self.position),
                "stages": len(self.recipe.stages),
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "best": self.best,
                "optimizer": optimizer.state_dict(),
                "random": random_state(),
                "ranks": self.ranks.state(),
            }
            write_state(state, self.directory)

    def _read_state(self) -> dict[str, Any]:
        state = read_state(self.directory)
        refuse_another(state, self.identity, self.directory)
        try:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
        except RuntimeError as error:
            raise TrainingError(f"the run in {self.directory} is of another model; choose another --out") from error
        self.best, self.position = state["best"], state["position"]
        self.ranks.load(state.get("ranks", {}))
        return state
