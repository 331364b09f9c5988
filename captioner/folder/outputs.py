"""All outputs of a run and its journal: what a photo still needs, and the writing of it in an order that survives."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from captioner.config import from_dict
from captioner.data.paths import shown
from captioner.errors import ConfigError, OutputError, UsageError
from captioner.folder.atomic import refused, sweep
from captioner.folder.confines import Confines
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
    """The writers of a plan over one journal. ``resumed``: the journal has been at work with this plan before.

    ``elsewhere``: keys of photos whose captions the journal holds for files outside the folders that the command names.
    Whoever meets such a photo takes its key out: a journal alone is no reason to write there.
    """

    def __init__(self, plan: Plan, journal: Journal, *, resumed: bool = False) -> None:
        self.plan, self.journal, self.neighbours = plan, journal, Neighbours(plan.place)
        self.elsewhere: set[str] = set()
        self._confines = Confines(plan)
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
        problems = self.catch_up()
        for table in self._tables:
            try:
                table.finish()
            except OutputError as error:
                problems.append(str(error))
        return problems

    def look(self) -> None:
        """Look at what a run that was stopped was about to write, and remove its unfinished files.

        Raises ``OutputError`` for a journal that wants files written which no run of this plan would write.
        """
        folders = {self.plan.place.out}
        for entry, names in self.journal.waiting():
            for file in self._files_of(entry, names):
                if self._confines.holds(file):
                    folders.add(os.path.dirname(file))
                else:
                    self.elsewhere.add(entry.key)
        for folder in folders:
            with contextlib.suppress(OSError):
                sweep(folder, self.journal.tokens)

    def catch_up(self) -> list[str]:
        """Write the captions that the journal holds and no file does; what is wrong comes back."""
        problems = []
        for entry, names in self.journal.waiting():
            if entry.key not in self.elsewhere:
                problems += self.write([(entry, names)])[entry.key]
        return problems

    def kept(self) -> list[str]:
        """Sentences for the captions that stay in the journal, since no photo of this command is theirs."""
        return [
            f"{shown(self.plan.place.whole(key))} was captioned by a run that was stopped, and this one does not name "
            f"it; name it too, or remove {shown(self.journal.path or '')} to drop its caption"
            for key in sorted(self.elsewhere)
        ]

    def close(self) -> None:
        for table in self._tables:
            table.close()
        self.journal.close()

    def _files_of(self, entry: Entry, names: set[str]) -> list[str]:
        """The files that the journal names for a photo: each is one that the photo's key gives too."""
        place, key = self.plan.place, entry.key
        writers = {writer.name: writer for writer in self._files}
        tables = {table.name for table in self._tables}
        found = []
        for name in sorted({*names, *entry.slots}):
            slot = entry.slots.get(name)
            if slot is not None and not slot.file and name in tables:
                continue
            file = os.path.abspath(slot.file) if slot is not None and slot.file else ""
            may_be = {_spelled(path) for path in writers[name].places(key)} if name in writers else set()
            if _spelled(file) not in may_be or place.key(place.whole(key)) != key:
                raise OutputError(
                    f"{shown(self.journal.path or '')} belongs to no run here: it wants the caption of {shown(key)} in "
                    f"{shown(file or name)}; move it away, and start afresh"
                )
            found.append(file)
        return found


def _spelled(path: str) -> tuple[str, str]:
    """A path whose last part counts the same in capitals or not: ``A.TXT`` may hold the caption of ``A.JPG``."""
    folder, name = os.path.split(path)
    return folder, name.casefold()


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
        wanted = json.loads(json.dumps({"plan": plan.identity(), **settings}))
        before = journal.get("run")
        problems: list[str] = []
        if before not in (None, wanted):
            problems = _brought_to_end(journal, before, plan)
            journal = Journal(journal_of(plan))
        resumed = before == wanted
        outputs = Outputs(plan, journal, resumed=resumed)
        if resumed:
            outputs.look()
        journal.put(run=wanted, tokens=[*(journal.tokens if resumed else []), journal.token], **outputs.settings)
        if resumed:  # what was about to be written when the run was stopped
            problems += outputs.catch_up()
        return lock, outputs, problems
    except BaseException:
        if journal is not None:
            journal.close()
        lock.release()
        raise


def _brought_to_end(journal: Journal, before: Any, now: Plan) -> list[str]:
    """Write what another command has left in the journal; what is wrong comes back.

    The plan comes out of the journal, so it may say no more than where this command's own files may go.
    """
    named = shown(journal.path or "")
    try:
        plan = from_dict(Plan, before["plan"])
    except (ConfigError, UsageError, KeyError, TypeError) as error:
        raise OutputError(f"{named} is of another version ({error}); remove it") from None
    if (
        plan.place.out != now.place.out
        or plan.part != now.part
        or (plan.place.beside and plan.place.root != now.place.out)
    ):
        raise OutputError(
            f"{named} belongs to a run in {shown(plan.place.out)}; move it back there, or remove it to start afresh"
        )
    place = replace(plan.place, named=now.place.named)
    outputs = Outputs(replace(plan, place=place, follow_links=now.follow_links), journal, resumed=True)
    outputs.look()
    if outputs.elsewhere:
        some = shown(place.whole(min(outputs.elsewhere)))
        raise OutputError(
            f"{named} holds captions of another command for photos that this one does not name, such as {some}; give "
            "that command again, or remove the journal to drop them"
        )
    problems = outputs.finish()
    outputs.close()
    journal.remove()
    return problems
