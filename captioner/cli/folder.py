"""The part of `captioner caption` that writes files: --write, --watch, --shard, --dry-run and --report."""

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
        "folders and files", "only --write writes captions to files; repeat the command to resume an interrupted run"
    )
    for name, settings in FOLDER.items():
        group.add_argument("--" + name.replace("_", "-"), **settings)


def is_folder_run(args: argparse.Namespace) -> bool:
    """Return whether an option of ``add_folder`` was given. Raises ``UsageError`` if it needs another option."""
    from captioner.errors import UsageError

    if not args.write:
        values = {name: getattr(args, name) for name in NEED_WRITE}
        unusable = [name for name, value in values.items() if value not in (None, "") and value is not False]
        if unusable:
            options = ", ".join("--" + name.replace("_", "-") for name in unusable)
            raise UsageError(
                f"{options} changes how captions are written to files; add --write {OUTPUTS.split(',')[0]}"
            )
    requested = any(getattr(args, name) for name in FOLDER)
    if requested and args.stream:
        raise UsageError("--stream cannot be combined with --write or other options for folders; leave it out")
    if requested and args.watch and "-" in args.paths:
        raise UsageError("--watch cannot be combined with - for stdin; name the folders to watch")
    if args.watch and (args.dry_run or args.report):
        raise UsageError("--watch runs until Ctrl-C; leave out --dry-run and --report")
    return requested


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
            raise KeyboardInterrupt("interrupted; repeat the command to resume") from None
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
            _print_outcome(outcome, args, progress, quiet=quiet)
        progress.wait("assembling files")
        for problem in work.finish():
            failed = True
            progress.complain(problem)
    if args.report:
        _report(args, work, options)
    if work.plan.outputs:
        tell(f"{_summary(work)}")
    return 1 if failed else 0


def _outcomes(args: argparse.Namespace, work: Run, options: dict[str, Any], progress: Progress) -> Iterator[Outcome]:
    """Yield the outcomes of one pass, or with --watch of passes until Ctrl-C; load the model for the first photo."""
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
        if not args.watch:  # with --watch, Ctrl-C is the normal end
            raise


def _photos(args: argparse.Namespace, plan: Plan, left: LeftOut) -> Iterator[Photo]:
    from captioner.data.find import find_items
    from captioner.folder.photos import photos_of

    items = find_items(paths_of(args.paths), frames=args.frames, reach=reach_of(args), left=left)
    return photos_of(items, plan.place)


def _print_outcome(outcome: Outcome, args: argparse.Namespace, progress: Progress, *, quiet: bool) -> None:
    as_json = args.json or args.details
    if outcome.caption is None and as_json:
        print_json({"path": outcome.photo.id, "error": outcome.problems[0]})
        return
    for problem in outcome.problems:
        progress.complain(problem)
    if outcome.caption is not None and not quiet:
        print_caption(outcome.photo.id, outcome.caption, json=args.json, details=args.details)


def _dry_run(args: argparse.Namespace, plan: Plan) -> int:
    """Print one line per photo: the action, the path, the outputs or the reason to skip it."""
    from captioner.data.leftout import LeftOut
    from captioner.data.paths import shown
    from captioner.errors import OutputError
    from captioner.folder.outputs import journal_of
    from captioner.folder.run import foresee

    if plan.outputs and os.path.exists(journal_of(plan)):
        tell(f"{shown(journal_of(plan))} holds an interrupted run that would be resumed first")
    counts = {"caption": 0, "skip": 0, "fail": 0}
    left = LeftOut(everything=args.all)
    for photo, decision in foresee(plan, _photos(args, plan, left)):
        if isinstance(decision, OutputError):
            action, why = "fail", str(decision)
        elif decision.why:
            action, why = "skip", decision.why
        else:
            action, why = "caption", ", ".join(decision.slots) or "stdout"
        counts[action] += 1
        print_text(f"{action}\t{escaped(photo.id)}\t{escaped(why)}")
    complain_of(left)
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


def _report(args: argparse.Namespace, work: Run, options: dict[str, Any]) -> None:
    from captioner.data.find import find_items
    from captioner.data.leftout import LeftOut
    from captioner.folder.report import page

    settings = " ".join(f"{name} {value}," for name, value in options.items()).rstrip(",")
    statements = (
        f"Model: {args.model or 'the model that ships'}; {settings or 'its default options'}.",
        f"Photos: {_summary(work)}.",
        "Confidence is the expected share of a caption's words that people also use.",
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
    "write": {"metavar": "KINDS", "help": f"output formats, separated by commas: {OUTPUTS}"},
    "out": {
        "metavar": "DIR",
        "help": "output folder (default: caption files beside the photos, tables in the folder being captioned)",
    },
    "existing": {
        "choices": ("skip", "overwrite", "append", "prepend"),
        "help": "existing captions: how to treat them; a blank file counts as none (default: skip)",
    },
    "separator": {"metavar": "TEXT", "help": "separator for append and prepend, '\\n' is a line break (default: ', ')"},
    "before": {"metavar": "TEXT", "help": "prefix of every caption, such as a trigger word"},
    "after": {"metavar": "TEXT", "help": "suffix of every caption"},
    "template": {"metavar": "TEXT", "help": "template with {caption}, and {name} and {folder} of the photo"},
    "follow_links": {
        "action": "store_true",
        "help": "symlinks: write through those that lead out of the folder (default: refuse)",
    },
    "min_confidence": {
        "type": float,
        "metavar": "C",
        "help": "confidence threshold, 0 to 1; captions below it go to review.jsonl",
    },
    "shard": {"metavar": "I/N", "help": "shard: caption only part I of N, for job arrays"},
    "watch": {"action": "store_true", "help": "watch the folder: caption new photos until Ctrl-C"},
    "dry_run": {"action": "store_true", "help": "dry run: print the action per photo; load no model, write nothing"},
    "report": {"metavar": "FILE.html", "help": "HTML report: photos and captions, least confident first"},
}
NEED_WRITE = ("out", "existing", "separator", "before", "after", "template", "follow_links", "min_confidence")
