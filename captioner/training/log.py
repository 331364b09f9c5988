"""The log of a run: JSON lines in ``log.jsonl``, lines on stderr, and TensorBoard if it is installed."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from captioner.data.paths import plain
from captioner.errors import TrainingError


class RunLog:
    """A log that appends to ``directory/log.jsonl``; a resumed run appends to the same file.

    Only the main process has an ``active`` one; the calls of the others do nothing.
    """

    def __init__(self, directory: Path, *, active: bool = True) -> None:
        self.active = active
        self.directory = directory
        self.board: Any = None
        if active:
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise TrainingError(f"cannot write to {directory} ({error}); choose another --out") from error
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return  # the `train` extra is not installed; log.jsonl holds the same figures
            self.board = SummaryWriter(str(directory / "tensorboard"))

    def record(self, kind: str, *, total_step: int, **figures: Any) -> None:
        """Write one record; floats go to TensorBoard under ``kind/name`` at ``total_step``."""
        if not self.active:
            return
        record = {"kind": kind, "time": round(time.time(), 1), "step": total_step, **figures}
        try:
            with (self.directory / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        except OSError as error:
            raise TrainingError(
                f"cannot write the log of the run in {self.directory}: {error}; free some space and repeat the command "
                "with --resume"
            ) from error
        if self.board is not None:
            for name, value in figures.items():
                if isinstance(value, float):
                    self.board.add_scalar(f"{kind}/{name}", value, total_step)
        self.say(f"{kind} {total_step}: " + ", ".join(f"{name} {_short(value)}" for name, value in figures.items()))

    def say(self, text: str) -> None:
        """Write one line to stderr."""
        if self.active:
            print(plain(text), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Flush TensorBoard."""
        if self.board is not None:
            self.board.close()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
