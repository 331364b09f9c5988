"""The Python interface of `captioner caption photos/ --write`: an iterator of outcomes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from captioner.data.find import find_items
from captioner.data.images import ImageSource
from captioner.errors import OutputError
from captioner.folder.photos import photos_of
from captioner.folder.plan import Existing, Output, Plan, Shard, place_of
from captioner.folder.run import Outcome, Run

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from captioner.captions import Caption, GenerationOptions
    from captioner.errors import ImageError
    from captioner.pipelines import CaptionPipeline

Path = str | os.PathLike[str]


def caption_folder(
    paths: Path | Sequence[Path],
    *,
    write: Output | Sequence[Output] = (),
    pipe: CaptionPipeline | None = None,
    out: Path | None = None,
    existing: Existing = "skip",
    template: str = "{caption}",
    separator: str = ", ",
    min_confidence: float = 0.0,
    shard: str | None = None,
    follow_links: bool = False,
    count: int = 1,
    batch_size: int = 16,
    **options: Unpack[GenerationOptions],
) -> Iterator[Outcome]:
    """Caption files, folders, patterns, archives and URLs; yield an ``Outcome`` for each photo.

    ::

        for outcome in captioner.caption_folder("photos/", write="txt"):
            print(outcome.photo.id, outcome.state, outcome.caption)

    An outcome follows after its captions are on the disk; photos with existing captions give none. Repeat the call to
    resume an interrupted iteration; it must use the same model, identified by the folder that it was loaded from.

    write: Output formats.
    pipe: The pipeline; by default the model that ships, loaded for the first photo that needs it.
    out, existing, template, separator, min_confidence, shard, follow_links: See ``Plan``.
    count: Captions per photo.
    options: Options of ``CaptionPipeline.caption``.

    Raises ``UsageError`` for invalid arguments. Raises ``OutputError`` if another run uses the folder, if nothing can
    be written, and at the end for files that could not be written.
    """
    names = [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    plan = Plan(
        place=place_of(names, None if out is None else os.fspath(out)),
        outputs=(write,) if isinstance(write, str) else tuple(write),
        existing=existing,
        template=template,
        separator=separator,
        min_confidence=min_confidence,
        shard=Shard.parse(shard) if shard else None,
        follow_links=follow_links,
    )
    return _outcomes(names, plan, pipe, count=count, batch_size=batch_size, options=dict(options))


def _outcomes(
    paths: Sequence[str],
    plan: Plan,
    pipe: CaptionPipeline | None,
    *,
    count: int,
    batch_size: int,
    options: dict[str, Any],
) -> Iterator[Outcome]:
    model = None if pipe is None else str(pipe.checkpoint.source)
    work = Run(plan, {"model": model, "count": count, "options": options})

    def captions(sources: Iterable[ImageSource | ImageError]) -> Iterator[Caption | ImageError]:
        first = next(iterator := iter(sources), None)
        if first is None:
            return iter(())
        from captioner.pipelines import load

        return (pipe or load()).stream(chain([first], iterator), count=count, batch_size=batch_size, **options)

    try:
        yield from work.go(work.todo(photos_of(find_items(paths), plan.place)), captions, together=batch_size)
        problems = work.problems + work.finish()
        if problems:
            more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
            raise OutputError(f"{problems[0]}{more}")
    finally:
        work.close()
