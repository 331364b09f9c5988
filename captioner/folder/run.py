"""A run over photos: captions go to the journal, then to the outputs, and each photo gives an outcome."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from captioner.data.images import ImageSource
from captioner.errors import ImageError, OutputError
from captioner.folder.entry import CaptionRecord, Entry, Photo, Slot
from captioner.folder.journal import Journal
from captioner.folder.lock import Lock
from captioner.folder.outputs import REVIEW, Decision, Outputs, open_outputs
from captioner.folder.plan import Plan

if TYPE_CHECKING:
    from captioner.captioning.captions import Caption  # a run with nothing to do loads neither a model nor torch

Captions = Callable[[Iterable[ImageSource | ImageError]], "Iterator[Caption | ImageError]"]
"""The type of ``CaptionPipeline.stream`` with its options: one caption or error per image or error."""
State = Literal["captioned", "doubtful", "failed"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome for a photo."""

    photo: Photo
    state: State
    caption: Caption | None = None
    problems: tuple[str, ...] = ()  # messages: why it has no caption, what could not be written


@dataclass(kw_only=True)
class Counts:
    """Numbers of photos by outcome."""

    captioned: int = 0
    doubtful: int = 0  # below ``Plan.min_confidence``
    failed: int = 0
    skipped: int = 0  # with existing captions
    before: int = 0  # captioned by the interrupted part of this run


class Run:
    """A new or resumed run, to be closed.

    ::

        work = Run(plan, {"model": None}) for outcome in work.caption(work.todo(photos), captions): ... problems =
        work.finish() work.close()

    ``settings``: the other settings that affect captions, as plain values. Without outputs the run cannot be resumed.
    Raises ``OutputError`` if another run uses the folder, or if nothing can be written there.
    """

    def __init__(self, plan: Plan, settings: Mapping[str, Any]) -> None:
        self.plan, self.counts = plan, Counts()
        self.problems: list[str] = []
        self._lock: Lock | None = None
        self._pending: dict[str, Decision] = {}
        self._complete = False
        self._walks = 0
        if plan.outputs:
            self._lock, self._outputs, self.problems = open_outputs(plan, settings)
        else:
            self._outputs = Outputs(plan, Journal(None))
        self.journal = self._outputs.journal

    def todo(self, photos: Iterable[Photo]) -> Iterator[Photo]:
        """Yield the photos to caption, in order, and those with a problem; count the others of the first walk."""
        first = self._walks < 2
        for photo in photos:
            if photo.problem:
                yield photo
            elif photo.key in self._pending:
                continue
            elif self.plan.shard and not self.plan.shard.holds(photo.key):
                self._outputs.claim(photo)
            elif self.journal.has(photo.key):
                self._outputs.elsewhere.discard(photo.key)
                self.counts.before += first
                if first:
                    self._outputs.claim(photo)
            else:
                try:
                    decision = self._outputs.decide(photo)
                except OutputError as error:
                    yield replace(photo, problem=str(error))
                    continue
                if decision.why:
                    self.counts.skipped += first
                else:
                    self._pending[photo.key] = decision
                    yield photo

    def caption(self, photos: Iterable[Photo], captions: Captions, *, together: int = 16) -> Iterator[Outcome]:
        """Caption the photos of ``todo``; commit batches of ``together`` captions, then yield their outcomes."""
        queue: deque[Photo] = deque()

        def sources() -> Iterator[ImageSource | ImageError]:
            for photo in photos:
                queue.append(photo)
                yield ImageError(photo.problem) if photo.problem else photo.source

        batch: list[tuple[Photo, Caption | ImageError]] = []
        for result in captions(sources()):
            batch.append((queue.popleft(), result))
            if len(batch) == together:
                yield from self._committed(batch)
                batch = []
        yield from self._committed(batch)

    def finish(self) -> list[str]:
        """Assemble tables and retry failed writes; return the remaining problems."""
        problems = self._outputs.finish() + self._outputs.kept()
        self._complete = not problems
        return problems

    def close(self) -> None:
        """Release the folder, and delete the journal of a finished run; an unfinished run can be resumed."""
        self._outputs.close()
        if self._complete:
            self.journal.remove()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def begin_walk(self) -> None:
        """Begin a walk: clear cached folder listings, since photos may have been added."""
        self._walks += 1
        self._outputs.neighbours.forget()

    def _committed(self, batch: Sequence[tuple[Photo, Caption | ImageError]]) -> Iterator[Outcome]:
        entries = {p.key: self._entry(p, caption) for p, caption in batch if not isinstance(caption, ImageError)}
        self.journal.add(list(entries.values()))
        problems = self._outputs.write([(entry, set(entry.slots)) for entry in entries.values()])
        for photo, result in batch:
            self._pending.pop(photo.key, None)
            if isinstance(result, ImageError):
                outcome = Outcome(photo=photo, state="failed", problems=(str(result),))
            else:
                failures = tuple(problems[photo.key])
                state: State = "doubtful" if REVIEW in entries[photo.key].slots else "captioned"
                outcome = Outcome(photo=photo, state="failed" if failures else state, caption=result, problems=failures)
            setattr(self.counts, outcome.state, getattr(self.counts, outcome.state) + 1)
            yield outcome

    def _entry(self, photo: Photo, caption: Caption) -> Entry:
        captions = tuple(
            CaptionRecord(
                c.text, c.score, c.confidence, tuple((label.text, label.probability) for label in c.labels), c.unsure
            )
            for c in (caption, *caption.alternatives)
        )
        doubtful = caption.confidence < self.plan.min_confidence
        slots = {REVIEW: Slot()} if doubtful else self._pending[photo.key].slots
        return Entry(id=photo.id, key=photo.key, captions=captions, slots=slots)


def dry_run(plan: Plan, photos: Iterable[Photo]) -> Iterator[tuple[Photo, Decision | OutputError]]:
    """Yield the decision of a dry run for each photo; nothing is written, and an interrupted run stays as it is."""
    outputs = Outputs(plan, Journal(None))
    try:
        for photo in photos:
            if photo.problem:
                yield photo, OutputError(photo.problem)
            elif plan.shard and not plan.shard.holds(photo.key):
                outputs.claim(photo)
            else:
                try:
                    yield photo, outputs.decide(photo)
                except OutputError as error:
                    yield photo, error
    finally:
        outputs.close()
