"""The part of `captioner caption` that writes files: --write, --watch, --shard, --dry-run and --report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING

from captioner.cli.options import print_left_out
from captioner.cli.output import escaped, print_text, tell
from captioner.cli.progress import Progress

if TYPE_CHECKING:
    from captioner.cli.options import Captioning, Photos, Printing
    from captioner.cli.writing import Writing
    from captioner.folder.job import Job
    from captioner.folder.run import Outcome, Run
    from captioner.pipelines import CaptionPipeline


def run_folder(captioning: Captioning, writing: Writing) -> int:
    job = _job(captioning, writing)
    if writing.dry_run:
        return _dry_run(job, captioning.photos)
    work = job.open()
    try:
        return _work(job, work, captioning, writing)
    except KeyboardInterrupt:
        if job.plan.outputs:
            raise KeyboardInterrupt("interrupted; repeat the command to resume") from None
        raise
    finally:
        work.close()


def _job(captioning: Captioning, writing: Writing) -> Job:
    from captioner.folder.job import Job

    return Job(
        plan=writing.plan(captioning.photos.paths),
        walk=captioning.photos.items,
        model={"model": captioning.model, "precision": captioning.compute.precision},
        count=captioning.count,
        batch_size=captioning.compute.batch_size,
        options=captioning.generation,
    )


def _work(job: Job, work: Run, captioning: Captioning, writing: Writing) -> int:
    photos, printing = captioning.photos, captioning.printing
    failed = bool(work.problems)
    quiet = bool(job.plan.outputs) and not printing.records
    parts = job.plan.shard.of if job.plan.shard else 1
    progress = Progress([] if writing.watch else photos.paths, parts, work.counts, everything=photos.everything)
    with progress:
        for problem in work.problems:
            progress.print_line(problem)
        for outcome in _outcomes(job, work, captioning, progress, watching=writing.watch):
            progress.step()
            failed = failed or bool(outcome.problems)
            _print_outcome(outcome, printing, progress, quiet=quiet)
        progress.wait("assembling files")
        for problem in work.finish():
            failed = True
            progress.print_line(problem)
    if writing.report:
        _report(writing.report, job, work, captioning)
    if job.plan.outputs:
        tell(_summary(work))
    return 1 if failed else 0


def _outcomes(job: Job, work: Run, captioning: Captioning, progress: Progress, *, watching: bool) -> Iterator[Outcome]:
    """Yield the outcomes of one pass, or with --watch of passes until Ctrl-C; load the model for the first photo.

    With --watch Ctrl-C is the normal end: it stops after the photos in progress, and a second one at once.
    """
    from captioner.folder.watch import Watch
    from captioner.system.interrupt import Interrupt

    @cache
    def pipe() -> CaptionPipeline:
        loaded = captioning.load()
        progress.begin()
        return loaded

    left = captioning.photos.left_out()
    if not watching:
        work.begin_walk()
        yield from job.outcomes(work, job.photos(left), pipe)
        for sentence in left.sentences():
            progress.print_line(sentence)
        return
    with Interrupt() as interrupt:
        watch = Watch(lambda: job.photos(captioning.photos.left_out()), stopped=lambda: interrupt.asked)
        for walk in watch.rounds():
            work.begin_walk()
            for outcome in job.outcomes(work, walk, pipe):
                if outcome.state == "failed":
                    watch.failed(outcome.photo)
                yield outcome


def _print_outcome(outcome: Outcome, printing: Printing, progress: Progress, *, quiet: bool) -> None:
    if outcome.caption is None and printing.records:
        printing.print_error(outcome.photo.id, outcome.problems[0])
        return
    for problem in outcome.problems:
        progress.print_line(problem)
    if outcome.caption is not None and not quiet:
        printing.print_caption(outcome.photo.id, outcome.caption)


def _dry_run(job: Job, photos: Photos) -> int:
    """Print one line per photo: the action, the path, the outputs or the reason to skip it."""
    from captioner.data.paths import shown
    from captioner.errors import OutputError
    from captioner.folder.outputs import journal_of
    from captioner.folder.run import dry_run

    if job.plan.outputs and os.path.exists(journal_of(job.plan)):
        tell(f"{shown(journal_of(job.plan))} holds an interrupted run that would be resumed first")
    counts = {"caption": 0, "skip": 0, "fail": 0}
    left = photos.left_out()
    for photo, decision in dry_run(job.plan, job.photos(left)):
        if isinstance(decision, OutputError):
            action, why = "fail", str(decision)
        elif decision.why:
            action, why = "skip", decision.why
        else:
            action, why = "caption", ", ".join(decision.slots) or "stdout"
        counts[action] += 1
        print_text(f"{action}\t{escaped(photo.id)}\t{escaped(why)}")
    print_left_out(left)
    tell("would " + ", ".join(f"{action} {number:,}" for action, number in counts.items()))
    return 1 if counts["fail"] else 0


def _summary(work: Run) -> str:
    counts, parts = work.counts, []
    for number, label in (
        (counts.captioned, "captioned"),
        (counts.doubtful, "below --min-confidence, in review.jsonl"),
        (counts.before, "captioned before the interrupt"),
        (counts.skipped, "skipped with existing captions"),
        (counts.failed, "failed"),
    ):
        if number or label == "captioned":
            parts.append(f"{number:,} {label}")
    return "; ".join(parts)


def _report(path: str, job: Job, work: Run, captioning: Captioning) -> None:
    from captioner.data.find import find_items
    from captioner.folder.report import page

    settings = " ".join(f"{name} {value}," for name, value in job.options.items()).rstrip(",")
    statements = (
        f"Model: {captioning.model or 'the shipped model'}; {settings or 'its default options'}.",
        f"Photos: {_summary(work)}.",
        "Confidence is the expected share of a caption's words that people also use.",
    )
    text = page(
        work.journal,
        work.plan,
        " ".join(captioning.photos.paths),
        statements,
        walk=partial(find_items, left=captioning.photos.left_out()),
    )
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write(text)
