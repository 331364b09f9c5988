"""All outputs of a run and its journal: what a photo still needs, and the writing of it in an order that survives."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from captioner.config import from_dict, to_dict
from captioner.data.paths import shown
from captioner.errors import ConfigError, OutputError
from captioner.folder.atomic import refused, sweep
from captioner.folder.entry import Entry, Photo, Slot
from captioner.folder.journal import Journal
from captioner.folder.lock import Lock
from captioner.folder.plan import Plan
from captioner.folder.writers.base import FileWriter, Neighbours
from captioner.folder.writers.forms import FORMS
from captioner.folder.writers.sidecars import Sidecars
from captioner.folder.writers.tables import Table
from captioner.folder.writers.xmp import Xmp

REVIEW = "review"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """``slots``: where a photo's caption is to go; ``why`` it is left alone, else empty."""

    slots: dict[str, Slot] = field(default_factory=dict)
    why: str = ""


class Outputs:
    """The writers of a plan over one journal. ``resumed``: the journal has been at work with this plan before."""

    def __init__(self, plan: Plan, journal: Journal, *, resumed: bool = False) -> None:
        self.plan, self.journal, self.neighbours = plan, journal, Neighbours(plan.place)
        self._files: list[FileWriter] = []
        tables: list[str] = [REVIEW] if plan.min_confidence else []
        for name in plan.outputs:
            if name in FORMS:
                tables.append(name)
            else:
                self._files.append(
                    Xmp(plan, self.neighbours) if name == "xmp" else Sidecars(name, plan, self.neighbours)
                )
        self._tables = [Table(name, plan, journal, resumed=resumed) for name in tables]

    @property
    def settings(self) -> dict[str, int]:
        return {name: value for table in self._tables for name, value in table.settings.items()}

    def decide(self, photo: Photo) -> Decision:
        """What a photo's caption is to be written to. Raises ``OutputError`` where an output cannot take it."""
        slots = {}
        writers: list[FileWriter | Table] = [*self._files, *self._tables]
        for writer in writers:
            if writer.name != REVIEW:
                slot = writer.slot(photo)
                if self.plan.existing != "skip" or not slot.old.strip():
                    slots[writer.name] = slot
        if self.plan.outputs and not slots:
            return Decision(why=f"has its caption in {', '.join(self.plan.outputs)}")
        return Decision(slots=slots)

    def write(self, pairs: Sequence[tuple[Entry, set[str]]]) -> dict[str, list[str]]:
        """Write entries that the journal has to the outputs named with each; the problems of each, by its key.

        What could not be written stays in the journal as such.
        """
        problems: dict[str, list[str]] = {entry.key: [] for entry, _ in pairs}
        left = {entry.key: set(names) for entry, names in pairs}
        for table in self._tables:
            entries = [entry for entry, names in pairs if table.name in names]
            try:
                if entries:
                    table.append(entries)
                for entry in entries:
                    left[entry.key].discard(table.name)
            except OutputError as error:
                for entry in entries:
                    problems[entry.key].append(f"{shown(entry.id)} is not in the table: {error}")
        for writer in self._files:
            for entry, names in pairs:
                if writer.name in names:
                    try:
                        writer.write(entry, self.journal.token)
                        left[entry.key].discard(writer.name)
                    except OutputError as error:
                        problems[entry.key].append(str(error))
        self.journal.settle(left, self.settings)
        return problems

    def finish(self) -> list[str]:
        """Try again what could not be written, and put tables together; what is still wrong comes back."""
        problems = []
        for entry, names in self.journal.waiting():
            problems += self.write([(entry, names)])[entry.key]
        for table in self._tables:
            try:
                table.finish()
            except OutputError as error:
                problems.append(str(error))
        return problems

    def close(self) -> None:
        for table in self._tables:
            table.close()
        self.journal.close()


def journal_of(plan: Plan) -> str:
    """Where the journal of a run in this folder lies."""
    return os.path.join(plan.place.out, f".captioner{plan.part}.journal")


def open_outputs(plan: Plan, settings: Mapping[str, Any]) -> tuple[Lock, Outputs, list[str]]:
    """The lock of the folder, the outputs of this run, and what went wrong with an older run.

    ``settings`` besides the plan decide the captions. A run that was stopped goes on where it has the same of both;
    another one is brought to its end with the captions that it has. Raises ``OutputError``.
    """
    try:
        os.makedirs(plan.place.out, exist_ok=True)
    except OSError as error:
        raise refused(plan.place.out, error) from error
    lock = Lock(os.path.join(plan.place.out, f".captioner{plan.part}.lock"))
    journal = None
    try:
        journal = Journal(journal_of(plan))
        wanted = json.loads(json.dumps({"plan": to_dict(plan), **settings}))
        before = journal.get("run")
        problems: list[str] = []
        if before is not None:
            _sweep(journal, plan)
        if before not in (None, wanted):
            problems = _brought_to_end(journal, before)
            journal = Journal(journal_of(plan))
        resumed = before == wanted
        outputs = Outputs(plan, journal, resumed=resumed)
        tokens = [*(journal.get("tokens") or []), journal.token] if resumed else [journal.token]
        journal.put(run=wanted, tokens=tokens, **outputs.settings)
        if resumed:  # what was about to be written when the run was stopped
            for entry, names in journal.waiting():
                problems += outputs.write([(entry, names)])[entry.key]
        return lock, outputs, problems
    except BaseException:
        if journal is not None:
            journal.close()
        lock.release()
        raise


def _brought_to_end(journal: Journal, before: Mapping[str, Any]) -> list[str]:
    try:
        plan = from_dict(Plan, before["plan"])
    except (ConfigError, KeyError) as error:
        raise OutputError(f"{shown(journal.path or '')} is of another version ({error}); remove it") from None
    outputs = Outputs(plan, journal, resumed=True)
    problems = outputs.finish()
    outputs.close()
    journal.remove()
    return problems


def _sweep(journal: Journal, plan: Plan) -> None:
    """Remove the unfinished files of the run that was stopped: beside those that it was about to write."""
    folders = {plan.place.out}
    for entry, _ in journal.waiting():
        folders.update(os.path.dirname(os.path.realpath(slot.file)) for slot in entry.slots.values() if slot.file)
    for folder in folders:
        with contextlib.suppress(OSError):
            sweep(folder, journal.get("tokens") or [])
