"""Captioning into files: what `captioner caption` does once it is told to write, watch, share out or look ahead."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from captioner.cli.options import complain_of, reach_of
from captioner.cli.output import escaped, paths_of, print_caption, print_json, print_text, tell
from captioner.cli.progress import Progress

if TYPE_CHECKING:
    from captioner.data.leftout import LeftOut
    from captioner.folder.entry import Photo
    from captioner.folder.plan import Plan
    from captioner.folder.run import Outcome, Run

OUTPUTS = "txt,caption,jsonl,csv,metadata,coco,xmp"


def add_folder(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "folders and files", "nothing is written unless --write says so; a run that was stopped goes on where it was"
    )
    for name, settings in FOLDER.items():
        group.add_argument("--" + name.replace("_", "-"), **settings)


def is_folder_run(args: argparse.Namespace) -> bool:
    """Return whether an option of ``add_folder`` was given. Raises ``UsageError`` for one that lacks another."""
    from captioner.errors import UsageError

    if not args.write:
        given = {name: getattr(args, name) for name in NEED_WRITE}
        needy = [name for name, value in given.items() if value not in (None, "") and value is not False]
        if needy:
            named = ", ".join("--" + name.replace("_", "-") for name in needy)
            raise UsageError(
                f"{named} says how captions are written into files; give --write {OUTPUTS.split(',')[0]} too"
            )
    wanted = any(getattr(args, name) for name in FOLDER)
    for name, wrong in (("stream", args.stream), ("-", "-" in args.paths and args.watch)):
        if wanted and wrong:
            what = "--stream prints words" if name == "stream" else "- reads its paths once"
            raise UsageError(f"{what} and does not go with {'--watch' if name == '-' else '--write and its like'}")
    if args.watch and (args.dry_run or args.report):
        raise UsageError("--watch has no end that --dry-run or --report could wait for; leave them out")
    return wanted


def plan_of(args: argparse.Namespace) -> Plan:
    from captioner.folder.plan import Plan, Shard, place_of, template_of

    separator = ", " if args.separator is None else args.separator
    return Plan(
        place=place_of(args.paths, args.out),
        outputs=tuple(name.strip() for name in args.write.split(",")) if args.write else (),  # type: ignore[misc]
        existing=args.existing or "skip",
        template=template_of(args.template, args.before or "", args.after or ""),
        separator=separator.replace("\\n", "\n").replace("\\t", "\t"),
        min_confidence=args.min_confidence or 0.0,
        shard=Shard.parse(args.shard) if args.shard else None,
        follow_links=args.follow_links,
    )


def run_folder(args: argparse.Namespace, options: dict[str, Any]) -> int:
    from captioner.folder.run import Run

    plan = plan_of(args)
    if args.dry_run:
        return _dry_run(args, plan)
    settings = {"model": args.model, "precision": args.precision, "count": args.count, "options": options}
    work = Run(plan, settings)
    try:
        return _work(args, work, options)
    except KeyboardInterrupt:
        if plan.outputs:
            raise KeyboardInterrupt("stopped; the same command goes on where this one was") from None
        raise
    finally:
        work.close()


def _work(args: argparse.Namespace, work: Run, options: dict[str, Any]) -> int:
    failed = bool(work.problems)
    quiet = bool(work.plan.outputs) and not (args.json or args.details)
    parts = work.plan.shard.of if work.plan.shard else 1
    progress = Progress([] if args.watch else args.paths, parts, work.counts, everything=args.all)
    with progress:
        for problem in work.problems:
            progress.complain(problem)
        for outcome in _outcomes(args, work, options, progress):
            progress.step()
            failed = failed or bool(outcome.problems)
            _tell(outcome, args, progress, quiet=quiet)
        progress.wait("putting files together")
        for problem in work.finish():
            failed = True
            progress.complain(problem)
    if args.report:
        _report(args, work, options)
    if work.plan.outputs:
        tell(f"{_summary(work)}")
    return 1 if failed else 0


def _outcomes(args: argparse.Namespace, work: Run, options: dict[str, Any], progress: Progress) -> Iterator[Outcome]:
    """Yield the outcomes of one walk, or with --watch of walks until Ctrl-C; load the model when a photo needs it."""
    from captioner.data.leftout import LeftOut
    from captioner.folder.watch import Watch

    pipe: Any = None

    def captions(sources: Iterable[Any]) -> Iterator[Any]:
        return pipe.stream(sources, count=args.count, batch_size=args.batch_size, **options)  # type: ignore[no-any-return]

    watch = Watch(lambda: _photos(args, work.plan, LeftOut(everything=args.all)))
    left = LeftOut(everything=args.all)
    walks = watch.rounds() if args.watch else iter([_photos(args, work.plan, left)])
    try:
        for walk in walks:
            work.look_again()
            todo = work.todo(walk)
            first = next(todo, None)
            if first is None:
                continue
            if pipe is None:
                from captioner.pipelines import load

                pipe = load(args.model, device=args.device, precision=args.precision)
                progress.begin()
            for outcome in work.go(chain([first], todo), captions, together=args.batch_size):
                if args.watch and outcome.state == "failed":
                    watch.failed(outcome.photo)
                yield outcome
        for sentence in left.sentences():
            progress.complain(sentence)
    except KeyboardInterrupt:
        if not args.watch:  # the way to end a watch
            raise


def _photos(args: argparse.Namespace, plan: Plan, left: LeftOut) -> Iterator[Photo]:
    from captioner.data.find import find_items
    from captioner.folder.photos import photos_of

    found = find_items(paths_of(args.paths), frames=args.frames, reach=reach_of(args), left=left)
    return photos_of(found, plan.place)


def _tell(outcome: Outcome, args: argparse.Namespace, progress: Progress, *, quiet: bool) -> None:
    as_json = args.json or args.details
    if outcome.caption is None and as_json:
        print_json({"path": outcome.photo.id, "error": outcome.problems[0]})
        return
    for problem in outcome.problems:
        progress.complain(problem)
    if outcome.caption is not None and not quiet:
        print_caption(outcome.photo.id, outcome.caption, json=args.json, details=args.details)


def _dry_run(args: argparse.Namespace, plan: Plan) -> int:
    """Tells what would happen to each photo, one a line: what, the path, into which outputs or why not."""
    from captioner.data.leftout import LeftOut
    from captioner.data.paths import shown
    from captioner.errors import OutputError
    from captioner.folder.outputs import journal_of
    from captioner.folder.run import foresee

    if plan.outputs and os.path.exists(journal_of(plan)):
        tell(f"{shown(journal_of(plan))} holds a run that would go on first")
    counts = {"caption": 0, "skip": 0, "fail": 0}
    left = LeftOut(everything=args.all)
    for photo, found in foresee(plan, _photos(args, plan, left)):
        if isinstance(found, OutputError):
            what, why = "fail", str(found)
        else:
            what, why = ("skip", found.why) if found.why else ("caption", ", ".join(found.slots) or "stdout")
        counts[what] += 1
        print_text(f"{what}\t{escaped(photo.id)}\t{escaped(why)}")
    complain_of(left)
    tell("would " + ", ".join(f"{what} {number:,}" for what, number in counts.items()))
    return 1 if counts["fail"] else 0


def _summary(work: Run) -> str:
    counts, told = work.counts, []
    for number, what in (
        (counts.captioned, "captioned"),
        (counts.doubtful, "doubtful, in the review list"),
        (counts.before, "captioned before it was stopped"),
        (counts.skipped, "had their captions"),
        (counts.failed, "failed"),
    ):
        if number or what == "captioned":
            told.append(f"{number:,} {what}")
    return "; ".join(told)


def _report(args: argparse.Namespace, work: Run, options: dict[str, Any]) -> None:
    from captioner.data.find import find_items
    from captioner.data.leftout import LeftOut
    from captioner.folder.report import page

    asked = " ".join(f"{name} {value}," for name, value in options.items()).rstrip(",")
    statements = (
        f"Model: {args.model or 'the one that ships'}; {asked or 'its own options'}.",
        f"Photos: {_summary(work)}.",
        "Confidence is the share of a caption's words that people can be expected to say too.",
    )
    text = page(
        work.journal,
        work.plan,
        " ".join(args.paths),
        statements,
        walk=partial(find_items, left=LeftOut(everything=args.all)),
    )
    with open(args.report, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write(text)


FOLDER: dict[str, dict[str, Any]] = {
    "write": {"metavar": "KINDS", "help": f"into files, several with commas: {OUTPUTS}"},
    "out": {
        "metavar": "DIR",
        "help": "where all files go (default: each beside its photo, tables into the folder that is captioned)",
    },
    "existing": {
        "choices": ("skip", "overwrite", "append", "prepend"),
        "help": "what becomes of captions that are there; a blank file is none (default: skip)",
    },
    "separator": {"metavar": "TEXT", "help": "between captions of append and prepend, '\\n' is a line (default: ', ')"},
    "before": {"metavar": "TEXT", "help": "written before every caption, a trigger word for example"},
    "after": {"metavar": "TEXT", "help": "written after every caption"},
    "template": {"metavar": "TEXT", "help": "what is written: '{caption}', with {name} and {folder} of the photo"},
    "follow_links": {
        "action": "store_true",
        "help": "write through links that lead out of the folder too (default: such a file is refused)",
    },
    "min_confidence": {
        "type": float,
        "metavar": "C",
        "help": "captions less sure than C, 0 to 1, go into review.jsonl instead",
    },
    "shard": {"metavar": "I/N", "help": "only part I of N, from 1/N to N/N: one for each job of an array"},
    "watch": {"action": "store_true", "help": "go on with photos as they arrive, until Ctrl-C"},
    "dry_run": {"action": "store_true", "help": "tell what would happen to each photo; load no model, write nothing"},
    "report": {"metavar": "FILE.html", "help": "write a page of the photos and captions, the most doubtful first"},
}
NEED_WRITE = ("out", "existing", "separator", "before", "after", "template", "follow_links", "min_confidence")
