"""All outputs of a run and its journal: deciding what a photo needs, and writing it so that a crash loses nothing."""

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
from captioner.system.names import folded

REVIEW = "review"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The treatment of a photo."""

    slots: dict[str, Slot] = field(default_factory=dict)  # destinations of its caption, per output
    why: str = ""  # reason to skip it, else empty


class Outputs:
    """The writers of a plan, with one journal. ``resumed``: an earlier run of this plan used the journal.

    ``elsewhere``: keys of photos whose captions in the journal belong to files outside the folders of the command. The
    run removes the key when it encounters the photo: a journal alone must not cause writes there.
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
        """Return the destinations of a photo's caption. Raises ``OutputError`` if an output cannot hold it."""
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
        """Write entries of the journal to their outputs; return the problems of each, by its key.

        The journal keeps those that could not be written.
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
                    problems[entry.key].append(f"{shown(entry.id)} was not added to the table: {error}")
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
        """Retry failed writes and assemble tables; return the remaining problems."""
        problems = self.catch_up()
        for table in self._tables:
            try:
                table.finish()
            except OutputError as error:
                problems.append(str(error))
        return problems

    def check_interrupted(self) -> None:
        """Check what an interrupted run was about to write, and remove its temporary files.

        Raises ``OutputError`` if the journal names files that no run of this plan would write.
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

    def claim_captioned(self) -> None:
        """Reserve the files of photos that the interrupted part of this run has captioned."""
        if not self.plan.place.beside:
            for writer in self._files:
                for entry in self.journal.entries(writer.name):
                    self.neighbours.claim(entry.slots[writer.name].file, entry.key)

    def claim(self, photo: Photo) -> None:
        """Reserve the files of a photo that this process does not caption: it is done, or of another shard."""
        if not self.plan.place.beside:
            for writer in self._files:
                with contextlib.suppress(OutputError):
                    self.neighbours.file(photo, f".{writer.name}")

    def catch_up(self) -> list[str]:
        """Write the captions that are only in the journal; return the problems."""
        problems = []
        for entry, names in self.journal.waiting():
            if entry.key not in self.elsewhere:
                problems += self.write([(entry, names)])[entry.key]
        return problems

    def kept(self) -> list[str]:
        """Return a message for each caption that stays in the journal, since this command does not name its photo."""
        return [
            f"{shown(self.plan.place.whole(key))} was captioned by an interrupted run, but this command does not name "
            f"it; name it too, or remove {shown(self.journal.path or '')} to discard its caption"
            for key in sorted(self.elsewhere)
        ]

    def close(self) -> None:
        for table in self._tables:
            table.close()
        self.journal.close()

    def _files_of(self, entry: Entry, names: set[str]) -> list[str]:
        """Return the files that the journal names for a photo, after checking that they follow from its key."""
        place, key = self.plan.place, entry.key
        writers = {writer.name: writer for writer in self._files}
        tables = {table.name for table in self._tables}
        files = []
        for name in sorted({*names, *entry.slots}):
            slot = entry.slots.get(name)
            if slot is not None and not slot.file and name in tables:
                continue
            file = os.path.abspath(slot.file) if slot is not None and slot.file else ""
            allowed = {_folded(path) for path in writers[name].places(key)} if name in writers else set()
            if _folded(file) not in allowed or place.key(place.whole(key)) != key:
                raise OutputError(
                    f"{shown(self.journal.path or '')} does not belong to a run here: it assigns the caption of "
                    f"{shown(key)} to {shown(file or name)}; move it away to start a new run"
                )
            files.append(file)
        return files


def _folded(path: str) -> tuple[str, str]:
    """Return folder and folded name: ``A.TXT`` may hold the caption of ``A.JPG``."""
    folder, name = os.path.split(path)
    return folder, folded(name)


def journal_of(plan: Plan) -> str:
    """Return the path of the journal of a run in this folder."""
    return os.path.join(plan.place.out, f".captioner{plan.part}.journal")


def open_outputs(plan: Plan, settings: Mapping[str, Any]) -> tuple[Lock, Outputs, list[str]]:
    """Return the lock of the folder, the outputs of this run, and the problems of an earlier run.

    ``settings`` are the other settings that affect captions. An interrupted run with the same plan and settings is
    resumed; another one is finished with the captions that it has. Raises ``OutputError``.
    """
    try:
        os.makedirs(plan.place.out, exist_ok=True)
    except OSError as error:
        raise refused(plan.place.out, error) from error
    lock = Lock(os.path.join(plan.place.out, f".captioner{plan.part}.lock"))
    journal = None
    try:
        journal = Journal(journal_of(plan))
        current = json.loads(json.dumps({"plan": plan.identity(), **settings}))
        before = journal.get("run")
        problems: list[str] = []
        if before not in (None, current):
            _finish_earlier(journal, before, plan)
            journal = Journal(journal_of(plan))
        resumed = before == current
        outputs = Outputs(plan, journal, resumed=resumed)
        if resumed:
            outputs.check_interrupted()
            outputs.claim_captioned()
        journal.put(run=current, tokens=[*(journal.tokens if resumed else []), journal.token], **outputs.settings)
        if resumed:  # write what the interrupted run had committed
            problems += outputs.catch_up()
        return lock, outputs, problems
    except BaseException:
        if journal is not None:
            journal.close()
        lock.release()
        raise


def _finish_earlier(journal: Journal, before: Any, now: Plan) -> None:
    """Write what another command has left in the journal, and delete the journal.

    The plan comes from the journal, so it must not allow files that this command may not write. Raises ``OutputError``
    and keeps the journal if a caption cannot be written.
    """
    journal_name = shown(journal.path or "")
    try:
        plan = from_dict(Plan, before["plan"])
    except (ConfigError, UsageError, KeyError, TypeError) as error:
        raise OutputError(f"{journal_name} is from another version ({error}); remove it") from None
    if (
        plan.place.out != now.place.out
        or plan.part != now.part
        or (plan.place.beside and plan.place.root != now.place.out)
    ):
        raise OutputError(
            f"{journal_name} belongs to a run in {shown(plan.place.out)}; move it back there, or remove it to start a "
            "new run"
        )
    place = replace(plan.place, named=now.place.named)
    outputs = Outputs(replace(plan, place=place, follow_links=now.follow_links), journal, resumed=True)
    outputs.check_interrupted()
    if outputs.elsewhere:
        example = shown(place.whole(min(outputs.elsewhere)))
        raise OutputError(
            f"{journal_name} holds captions of another command for photos that this one does not name, such as "
            f"{example}; repeat that command, or remove the journal to discard them"
        )
    try:
        problems = outputs.finish()
    finally:
        outputs.close()
    if problems:
        more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
        raise OutputError(
            f"cannot finish an earlier command, whose captions {journal_name} keeps: {problems[0]}{more}; fix this and "
            "repeat the earlier command, or remove the journal to discard them"
        )
    journal.remove()
