"""Look a dataset through before training: what it holds, what is double, damaged or in two splits.

Exit code 0: nothing to put right. 1: problems were found, or the data cannot be read. 2: options that cannot be used.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.cli.options import add_outside, add_sidecars, require_readers
from captioner.data.paths import plain

if TYPE_CHECKING:
    from captioner.inspection.examine import Group, Inspection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="+", metavar="DATA", help="folders or files of captioned images, seen as one set")
    add_outside(parser)
    add_sidecars(parser)
    parser.add_argument("--report", metavar="FILE.html", help="write a page with histograms and pictures of duplicates")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from captioner.data.sources import read_splits
    from captioner.inspection.examine import examine

    require_readers(args.data)
    datasets = [read_splits(data, outside=args.outside, sidecars=args.sidecars) for data in args.data]
    total = len({(sample.path, sample.span) for data in datasets for group in data.splits.values() for sample in group})
    with tqdm(total=total, unit=" images", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        found = examine(datasets, progress=bar.update)
    if args.report:
        from captioner.inspection.page import page

        report = Path(args.report)
        report.parent.mkdir(parents=True, exist_ok=True)
        title = "Inspection of " + ", ".join(os.path.basename(os.path.abspath(data)) for data in args.data)
        report.write_text(page(found, title), encoding="utf-8", errors="backslashreplace")
    text = json.dumps(figures(found)) if args.json else summary(found)
    sys.stdout.buffer.write((plain(text) + "\n").encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()
    return 1 if found.problems else 0


def summary(found: Inspection) -> str:
    """The findings as Markdown."""
    lines = ["| split | images | captions | captions per image |", "|---|---|---|---|"]
    lines += [
        f"| {split} | {images} | {found.captions[split]} | {found.captions[split] / images:.2f} |"
        for split, images in found.images.items()
    ]
    count = sum(found.caption_words.values())
    mean = sum(length * times for length, times in found.caption_words.items()) / count
    lengths = f"{min(found.caption_words)} to {max(found.caption_words)}, {mean:.1f} on average"
    lines += ["", f"words per caption: {lengths}; {found.vocabulary} different words, {found.said_once} said once"]
    if found.sizes:
        widths, heights = zip(*found.sizes, strict=True)
        lines.append(f"images: {min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high")
    for name, sentences in (("problem", found.problems), ("note", found.notes)):
        lines += [f"{name}: {sentence}" for sentence in sentences]
    if not found.problems:
        lines.append("no problems were found")
    return "\n".join(lines)


def figures(found: Inspection) -> dict[str, Any]:
    """Everything, for machines. ``named`` has all the names that a problem or a note is about, by its sentence."""
    from captioner.data.told import names_of

    def named(groups: tuple[Group, ...]) -> list[list[dict[str, str]]]:
        return [[{"split": e.split, "name": e.name, "path": os.fspath(e.path)} for e in group] for group in groups]

    return {
        "images": dict(found.images),
        "captions": dict(found.captions),
        "captions_per_image": dict(sorted(found.captions_per_image.items())),
        "caption_words": dict(sorted(found.caption_words.items())),
        "vocabulary": found.vocabulary,
        "said_once": found.said_once,
        "frequent": [list(pair) for pair in found.frequent],
        "shared_captions": [list(pair) for pair in found.shared_captions],
        "shared_across_splits": found.shared_across_splits,
        "sizes": [[*size, count] for size, count in sorted(found.sizes.items())],
        "unreadable": [{"split": e.split, "name": e.name, "error": reason} for e, reason in found.unreadable],
        "same_bytes": named(found.same_bytes),
        "look_alike": named(found.look_alike),
        "leaks": named(found.leaks),
        "problems": list(found.problems),
        "notes": list(found.notes),
        "named": {
            sentence: list(names_of(sentence)) for sentence in (*found.problems, *found.notes) if names_of(sentence)
        },
    }
