"""A job over photos: one run of them, set up in the same way by the command line and by Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from captioner.data.images import ImageSource
from captioner.data.items import Item
from captioner.data.leftout import LeftOut
from captioner.errors import ImageError
from captioner.folder.entry import Photo
from captioner.folder.plan import Place, Plan
from captioner.folder.run import Outcome, Run

if TYPE_CHECKING:
    from captioner.captioning.captions import Caption
    from captioner.pipelines import CaptionPipeline


@dataclass(frozen=True, kw_only=True)
class Job:
    """The settings of a run, its photos and their captions.

    ::

        job = Job(plan=plan, walk=lambda left: find_items(["photos/"], left=left), model={"model": None})
        work = job.open()
        for outcome in job.outcomes(work, job.photos(), load):
            ...
    """

    plan: Plan
    walk: Callable[[LeftOut], Iterable[Item]]
    model: Mapping[str, Any]  # settings that identify the model in the journal, as plain values
    count: int = 1  # captions per photo
    batch_size: int = 16
    options: Mapping[str, Any]  # of generation

    def open(self) -> Run:
        """Start or resume the run, to be closed. Raises ``OutputError`` if nothing can be written."""
        return Run(self.plan, {**self.model, "count": self.count, "options": dict(self.options)})

    def photos(self, left: LeftOut | None = None) -> Iterator[Photo]:
        """Yield the photos; ``left`` counts the files that are left out."""
        return photos_of(self.walk(LeftOut() if left is None else left), self.plan.place)

    def outcomes(self, work: Run, photos: Iterable[Photo], pipe: Callable[[], CaptionPipeline]) -> Iterator[Outcome]:
        """Caption the photos that need it. ``pipe`` loads the model and is called for the first of them."""
        todo = work.todo(photos)
        first = next(todo, None)
        if first is None:
            return
        stream = pipe().stream

        def captions(sources: Iterable[ImageSource | ImageError]) -> Iterator[Caption | ImageError]:
            return stream(sources, count=self.count, batch_size=self.batch_size, **self.options)

        yield from work.caption(chain([first], todo), captions, together=self.batch_size)


def photos_of(items: Iterable[Item], place: Place) -> Iterator[Photo]:
    """Yield the photo of each item of a walk; its key is its path in ``place``."""
    for item in items:
        key = item.id if item.problem else place.key(item.id)
        yield Photo(id=item.id, key=key, source=item, path=item.path, problem=item.problem)
