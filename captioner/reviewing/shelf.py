"""A folder under review: its photos, their captions with the decisions of people, and saving changes.

A save holds the lock of the folder, compares versions, appends the decisions to their file, and writes the captions
as a run of `caption --write --existing overwrite` does: through a journal, then to each file. After ``kill -9`` at any
moment the next start or save completes it from the journal or from the file of decisions.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from captioner.data.decisions import Decision
from captioner.data.find import find_items
from captioner.data.leftout import LeftOut
from captioner.data.paths import shown
from captioner.errors import OutputError, UsageError
from captioner.folder.confines import Confines
from captioner.folder.entry import CaptionRecord, Entry, Photo
from captioner.folder.job import photos_of
from captioner.folder.lock import Held, Lock
from captioner.folder.outputs import Outputs, journal_of, open_outputs
from captioner.folder.plan import Output, Plan, place_of
from captioner.reviewing.log import Log
from captioner.reviewing.seen import Change, Conflict, Seen
from captioner.reviewing.sources import Found, Sources
from captioner.reviewing.tables import Said

LONGEST, MOST = 20_000, 200  # characters of all captions of a photo, and captions
T = TypeVar("T")
PATIENCE = 10.0  # seconds to wait for another save in the folder


class Shelf:
    """The folder under review; threads may share it.

    Raises ``UsageError`` for a path that is not a folder with photos, ``OutputError`` if another run uses it.
    """

    def __init__(
        self, path: str, *, outputs: Sequence[Output] = (), out: str | None = None, everything: bool = False
    ) -> None:
        if not os.path.isdir(path):
            raise UsageError(f"{shown(path)} is not a folder; name a folder of photos")
        self.place = place_of([path], out)
        Plan(place=self.place, outputs=tuple(outputs))  # raises for an unknown output
        self._confines = Confines(Plan(place=self.place))
        self._mutex = threading.Lock()
        self._photos: dict[str, Photo] = {}
        left = LeftOut(everything=everything)
        for photo in photos_of(find_items([path], left=left), self.place):
            if photo.problem:
                raise UsageError(photo.problem)
            self._photos[_id(photo.key)] = photo
        os.makedirs(self.place.out, exist_ok=True)
        self.problems: list[str] = []
        self._finish_earlier()
        self.log = Log(self.place.out)
        self.sources = Sources(self.place, list(self._photos.values()), outputs)
        self._complete_last()
        self.notices = [*left.sentences(), *self.sources.notices, *self.problems]

    def __len__(self) -> int:
        return len(self._photos)

    def all(self) -> list[Seen]:
        """Return every photo, in the order of the folder."""
        with self._mutex:
            self._refresh()
            return [self._seen(id) for id in self._photos]

    def one(self, id: str) -> Seen | None:
        """Return a photo as it is now; None for an unknown one."""
        with self._mutex:
            self._refresh()
            return self._seen(id) if id in self._photos else None

    def photo(self, id: str) -> Photo | None:
        """Return a photo whose file may be shown; None for an unknown one, or a link out of the folder."""
        photo = self._photos.get(id)
        return photo if photo is not None and photo.path is not None and self._confines.holds(str(photo.path)) else None

    def save(self, changes: Sequence[Change]) -> list[Seen]:
        """Save all changes, or raise and save none; return the photos as they are then.

        Raises ``Conflict`` if one changed meanwhile, ``UsageError`` for a change that cannot be, ``OutputError`` if
        files cannot be written: what could not be is completed by a later save.
        """
        if len({change.id for change in changes}) < len(changes):
            raise UsageError("a photo has two changes in one save; send one for each")
        if self.sources.outputs[:1] == ("xmp",) and any(len(change.captions) > 1 for change in changes):
            raise UsageError("a photo's own description holds one caption; write it on one line")
        with self._mutex:
            for change in changes:
                _check(change, self._photos)
            before = {change.id: self._seen(change.id) for change in changes}
            writing = any(self._needs_writing(before[change.id], change) for change in changes)
            with self._held(writing=writing) as outputs:
                self._refresh()
                before = {change.id: self._seen(change.id) for change in changes}
                stale = [before[change.id] for change in changes if before[change.id].version != change.version]
                if stale:
                    raise Conflict(stale)
                save = secrets.token_hex(4)
                pairs = [(before[change.id], change) for change in changes]
                self.log.append([self._decision(seen, change, save) for seen, change in pairs])
                needed = [
                    (seen.photo, change.captions, seen.said)
                    for seen, change in pairs
                    if self._needs_writing(seen, change)
                ]
                if outputs is not None and needed:
                    self._write(outputs, needed)
            self._refresh()
            return [self._seen(change.id) for change in changes]

    def _needs_writing(self, seen: Seen, change: Change) -> bool:
        fresh = change.captions != seen.texts or (change.state in ("accepted", "edited") and not seen.kept)
        return bool(self.sources.outputs) and fresh and bool(change.captions or seen.texts)

    def _write(self, outputs: Outputs, needed: Iterable[tuple[Photo, tuple[str, ...], Said]]) -> None:
        entries = []
        for photo, captions, said in needed:
            slots = outputs.decide(photo).slots
            entries.append(Entry(id=photo.id, key=photo.key, captions=_records(captions or ("",), said), slots=slots))
        outputs.journal.add(entries)
        written = outputs.write([(entry, set(entry.slots)) for entry in entries])
        problems = [problem for found in written.values() for problem in found]
        problems += outputs.finish() if not problems else []
        if problems:
            more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
            raise OutputError(f"{problems[0]}{more}")

    @contextlib.contextmanager
    def _held(self, *, writing: bool) -> Iterator[Outputs | None]:
        """Hold the lock of the folder; with ``writing`` as a new run, which completes an interrupted one first."""
        if not writing and not os.path.exists(journal_of(self.sources.plan)):
            lock = _patiently(lambda: Lock(os.path.join(self.place.out, ".captioner.lock")))
            try:
                yield None
            finally:
                lock.release()
            return
        with self._run(self.sources.plan) as outputs:
            yield outputs

    @contextlib.contextmanager
    def _run(self, plan: Plan) -> Iterator[Outputs]:
        lock, outputs, problems = _patiently(lambda: open_outputs(plan, {"review": secrets.token_hex(8)}))
        self.problems = problems
        try:
            yield outputs
        finally:
            waits = next(outputs.journal.waiting(), None) is not None
            outputs.close()
            if not waits:
                outputs.journal.remove()
            lock.release()

    def _finish_earlier(self) -> None:
        """Complete a run that was interrupted, so that its captions are in their files."""
        plan = Plan(place=self.place, outputs=("txt",), existing="overwrite")
        if os.path.exists(journal_of(plan)):
            with self._run(plan):
                pass

    def _complete_last(self) -> None:
        """Write the captions of the last save if it was interrupted before its journal."""
        by_name = {self._name(photo): id for id, photo in self._photos.items()}
        changes = []
        for decision in self.log.newest:
            id = by_name.get(decision.path)
            if id is not None and self.log.last[decision.path] is decision:
                texts = tuple(record.text for record in self.sources.of(self._photos[id]).said)
                if texts == decision.was != decision.captions:
                    seen = self._seen(id)
                    change = Change(id=id, version=seen.version, captions=decision.captions, state=decision.state)
                    if self._needs_writing(seen, change):
                        changes.append(change)
        if changes:
            self.save(changes)

    def _decision(self, seen: Seen, change: Change, save: str) -> Decision:
        name = self._name(seen.photo)
        return Decision(path=name, state=change.state, captions=change.captions, was=seen.texts, save=save)

    def _name(self, photo: Photo) -> str:
        return self.place.name(self.place.whole(photo.key))

    def _refresh(self) -> None:
        self.sources.refresh()
        self.log.refresh()

    def _seen(self, id: str) -> Seen:
        photo = self._photos[id]
        found = self.sources.of(photo)
        texts = tuple(record.text for record in found.said)
        decision, state = self.log.last.get(self._name(photo)), ""
        if decision is not None and texts == decision.captions:
            state = decision.state
        elif decision is not None and not self.sources.outputs and texts == decision.was:
            found = Found(said=_records(decision.captions, found.said))  # the file of decisions is their only place
            state = decision.state
        problem = ""
        if sum(map(len, texts)) > LONGEST or len(texts) > MOST:
            problem = f"{shown(photo.key)} has more text than fits here; edit its file instead"
            found = Found(said=found.said[:1] and (CaptionRecord(texts[0][:200] + "...", math.nan, math.nan),))
        return Seen(
            id=id,
            photo=photo,
            said=found.said,
            state=state,  # type: ignore[arg-type]
            kept=found.kept,
            doubted=found.doubted,
            problem=problem,
        )


def _patiently(open_it: Callable[[], T]) -> T:
    """Return the result of a call that needs the folder's lock; wait for another save to end. Raises ``Held``."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return open_it()
        except Held:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def _id(key: str) -> str:
    return hashlib.sha256(os.fsencode(key)).hexdigest()[:20]


def _check(change: Change, photos: dict[str, Photo]) -> None:
    if change.id not in photos:
        raise UsageError("there is no such photo; load the page again")
    if change.state in ("accepted", "edited") and not change.captions:
        raise UsageError("an empty caption cannot be accepted; write one, or reject the photo")
    if sum(map(len, change.captions)) > LONGEST or len(change.captions) > MOST:
        raise UsageError(f"a caption has more than {LONGEST:,} characters or {MOST} lines; shorten it")


def _records(captions: Sequence[str], said: Said) -> Said:
    """Return captions to write: figures of those that were there, and full confidence of a person's own.

    An empty one takes a caption back: a blank file or row is none.
    """
    known = {record.text: record for record in said if not math.isnan(record.confidence)}
    records = [known.get(text, CaptionRecord(text, 0.0, 1.0)) for text in captions]
    return tuple(
        CaptionRecord(record.text, 0.0 if math.isnan(record.score) else record.score, record.confidence, record.labels)
        for record in records
    )
