"""The Python interface of `captioner caption photos/ --write`: an iterator of outcomes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from captioner.data.find import find_items
from captioner.errors import OutputError
from captioner.folder.job import Job
from captioner.folder.plan import Existing, Output, Plan, plan_of
from captioner.folder.run import Outcome

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from captioner.captioning.captions import GenerationOptions
    from captioner.pipelines import CaptionPipeline

Path = str | os.PathLike[str]


def caption_folder(
    paths: Path | Sequence[Path],
    *,
    write: Output | Sequence[Output] = (),
    pipe: CaptionPipeline | None = None,
    out: Path | None = None,
    existing: Existing = Plan.existing,
    template: str = Plan.template,
    separator: str = Plan.separator,
    min_confidence: float = Plan.min_confidence,
    shard: str | None = None,
    follow_links: bool = Plan.follow_links,
    count: int = Job.count,
    batch_size: int = Job.batch_size,
    **options: Unpack[GenerationOptions],
) -> Iterator[Outcome]:
    """Caption files, folders, patterns, archives and URLs; yield an ``Outcome`` for each photo.

    ::

        for outcome in captioner.caption_folder("photos/", write="txt"):
            print(outcome.photo.id, outcome.state, outcome.caption)

    An outcome follows after its captions are on the disk; photos with existing captions give none. Repeat the call to
    resume an interrupted iteration; it must use the same model, identified by the folder that it was loaded from.

    write: Output formats.
    pipe: The pipeline; by default the shipped model, loaded for the first photo that needs it.
    out, existing, template, separator, min_confidence, shard, follow_links: See ``Plan``.
    count: Captions per photo.
    options: Options of ``CaptionPipeline.caption``.

    Raises ``UsageError`` for invalid arguments. Raises ``OutputError`` if another run uses the folder, if nothing can
    be written, and at the end for files that could not be written.
    """
    names = [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    plan = plan_of(
        names,
        outputs=(write,) if isinstance(write, str) else write,
        out=None if out is None else os.fspath(out),
        existing=existing,
        template=template,
        separator=separator,
        min_confidence=min_confidence,
        shard=shard,
        follow_links=follow_links,
    )
    job = Job(
        plan=plan,
        walk=lambda left: find_items(names, left=left),
        model={"model": None if pipe is None else str(pipe.checkpoint.source)},
        count=count,
        batch_size=batch_size,
        options=options,
    )
    return _outcomes(job, pipe)


def _outcomes(job: Job, pipe: CaptionPipeline | None) -> Iterator[Outcome]:
    def loaded() -> CaptionPipeline:
        from captioner.pipelines import load

        return pipe or load()

    work = job.open()
    try:
        yield from job.outcomes(work, job.photos(), loaded)
        problems = work.problems + work.finish()
        if problems:
            more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
            raise OutputError(f"{problems[0]}{more}")
    finally:
        work.close()
