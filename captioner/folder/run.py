"""The run itself: photos in, captions into the journal and from there into the outputs, an outcome per photo out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from captioner.data.images import ImageSource
from captioner.errors import ImageError, OutputError
from captioner.folder.entry import Entry, Photo, Said, Slot
from captioner.folder.journal import Journal
from captioner.folder.lock import Lock
from captioner.folder.outputs import REVIEW, Decision, Outputs, open_outputs
from captioner.folder.plan import Plan

if TYPE_CHECKING:
    from captioner.captions import Caption  # a run that finds nothing to do loads no model, and no torch

Captions = Callable[[Iterable[ImageSource | ImageError]], "Iterator[Caption | ImageError]"]
"""``CaptionPipeline.stream`` with its options: for each image or error a caption or an error."""
State = Literal["captioned", "doubtful", "failed"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a photo. ``problems`` are sentences for the person: why it has no caption, what is not written."""

    photo: Photo
    state: State
    caption: Caption | None = None
    problems: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Counts:
    """Photos by what became of them; ``before``: captioned by the part of the run that was stopped."""

    captioned: int = 0
    doubtful: int = 0
    failed: int = 0
    skipped: int = 0
    before: int = 0


class Run:
    """One run, or what was left of it by one that was stopped; to be closed.

    ``settings``: what decides the captions besides the plan, as plain values. Without outputs nothing is left to go on
    with. Raises ``OutputError`` where another run is at work in the folder, or nothing can be written there.
    """

    def __init__(self, plan: Plan, settings: Mapping[str, Any]) -> None:
        self.plan, self.counts = plan, Counts()
        self.problems: list[str] = []
        self._lock: Lock | None = None
        self._under_way: dict[str, Decision] = {}
        self._complete = False
        if plan.outputs:
            self._lock, self._outputs, self.problems = open_outputs(plan, settings)
        else:
            self._outputs = Outputs(plan, Journal(None))
        self.journal = self._outputs.journal

    def todo(self, photos: Iterable[Photo]) -> Iterator[Photo]:
        """The photos to caption, in order, and those with a problem; the others are counted."""
        for photo in photos:
            if photo.problem:
                yield photo
            elif photo.key in self._under_way or (self.plan.shard and not self.plan.shard.holds(photo.key)):
                continue
            elif self.journal.has(photo.key):
                self._outputs.elsewhere.discard(photo.key)
                self.counts.before += 1
            else:
                try:
                    decision = self._outputs.decide(photo)
                except OutputError as error:
                    yield replace(photo, problem=str(error))
                    continue
                if decision.why:
                    self.counts.skipped += 1
                else:
                    self._under_way[photo.key] = decision
                    yield photo

    def go(self, photos: Iterable[Photo], captions: Captions, *, together: int = 16) -> Iterator[Outcome]:
        """Caption what ``todo`` gives; ``together`` captions are committed at once, and then their outcomes come."""
        given: deque[Photo] = deque()

        def sources() -> Iterator[ImageSource | ImageError]:
            for photo in photos:
                given.append(photo)
                yield ImageError(photo.problem) if photo.problem else photo.source

        batch: list[tuple[Photo, Caption | ImageError]] = []
        for result in captions(sources()):
            batch.append((given.popleft(), result))
            if len(batch) == together:
                yield from self._committed(batch)
                batch = []
        yield from self._committed(batch)

    def finish(self) -> list[str]:
        """Put tables together and try again what could not be written; what is still wrong comes back."""
        problems = self._outputs.finish() + self._outputs.kept()
        self._complete = not problems
        return problems

    def close(self) -> None:
        """Let go of the folder, and forget the run if it is finished; otherwise the same command goes on with it."""
        self._outputs.close()
        if self._complete:
            self.journal.remove()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def look_again(self) -> None:
        """Photos may have come since the folders were looked at."""
        self._outputs.neighbours.forget()

    def _committed(self, batch: Sequence[tuple[Photo, Caption | ImageError]]) -> Iterator[Outcome]:
        entries = {p.key: self._entry(p, caption) for p, caption in batch if not isinstance(caption, ImageError)}
        self.journal.add(list(entries.values()))
        problems = self._outputs.write([(entry, set(entry.slots)) for entry in entries.values()])
        for photo, result in batch:
            self._under_way.pop(photo.key, None)
            if isinstance(result, ImageError):
                outcome = Outcome(photo=photo, state="failed", problems=(str(result),))
            else:
                told = tuple(problems[photo.key])
                state: State = "failed" if told else "doubtful" if REVIEW in entries[photo.key].slots else "captioned"
                outcome = Outcome(photo=photo, state=state, caption=result, problems=told)
            setattr(self.counts, outcome.state, getattr(self.counts, outcome.state) + 1)
            yield outcome

    def _entry(self, photo: Photo, caption: Caption) -> Entry:
        said = tuple(Said(one.text, one.score, one.confidence) for one in (caption, *caption.alternatives))
        doubtful = caption.confidence < self.plan.min_confidence
        slots = {REVIEW: Slot()} if doubtful else self._under_way[photo.key].slots
        return Entry(id=photo.id, key=photo.key, said=said, slots=slots)


def foresee(plan: Plan, photos: Iterable[Photo]) -> Iterator[tuple[Photo, Decision | OutputError]]:
    """What a run would do, photo by photo; nothing is written, and a run that was stopped is left as it is."""
    outputs = Outputs(plan, Journal(None))
    try:
        for photo in photos:
            if photo.problem:
                yield photo, OutputError(photo.problem)
            elif not plan.shard or plan.shard.holds(photo.key):
                try:
                    yield photo, outputs.decide(photo)
                except OutputError as error:
                    yield photo, error
    finally:
        outputs.close()
