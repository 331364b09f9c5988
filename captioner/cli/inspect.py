"""Inspect a dataset before training: find duplicates, damaged files, missing captions and split leaks.

Exit code 0: no problems. 1: problems were found, or the data cannot be read. 2: invalid options.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.cli.arguments import argument
from captioner.cli.options import Reading, require_readers
from captioner.data.paths import plain

if TYPE_CHECKING:
    from captioner.inspection.examine import Group, Inspection


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner inspect`."""

    data: tuple[str, ...] = field(
        metadata=argument(
            help="folders or files of captioned images, joined", metavar="DATA", positional=True, nargs="+"
        )
    )
    reading: Reading
    report: str | None = field(
        default=None,
        metadata=argument(help="HTML report: histograms and images of duplicates", metavar="FILE.html"),
    )
    json: bool = field(default=False, metadata=argument(help="print the results as one JSON object"))


def run(options: Options) -> int:
    from tqdm import tqdm

    from captioner.data.sources import read_splits
    from captioner.inspection.examine import examine

    reading = options.reading
    require_readers(options.data)
    datasets = [read_splits(data, outside=reading.outside, sidecars=reading.sidecars) for data in options.data]
    total = len({(sample.path, sample.span) for data in datasets for group in data.splits.values() for sample in group})
    with tqdm(total=total, unit=" images", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        inspection = examine(datasets, progress=bar.update)
    if options.report:
        from captioner.inspection.page import page

        report = Path(options.report)
        report.parent.mkdir(parents=True, exist_ok=True)
        title = "Inspection of " + ", ".join(os.path.basename(os.path.abspath(data)) for data in options.data)
        report.write_text(page(inspection, title), encoding="utf-8", errors="backslashreplace")
    text = json.dumps(figures(inspection)) if options.json else summary(inspection)
    sys.stdout.buffer.write((plain(text) + "\n").encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()
    return 1 if inspection.problems else 0


def summary(inspection: Inspection) -> str:
    """Return the results in Markdown."""
    lines = ["| split | images | captions | captions per image |", "|---|---|---|---|"]
    lines += [
        f"| {split} | {images} | {inspection.captions[split]} | {inspection.captions[split] / images:.2f} |"
        for split, images in inspection.images.items()
    ]
    lengths = inspection.caption_words
    mean = sum(length * times for length, times in lengths.items()) / sum(lengths.values())
    lines += [
        "",
        f"words per caption: {min(lengths)} to {max(lengths)}, {mean:.1f} on average; "
        f"{inspection.vocabulary} different words, {inspection.said_once} used once",
    ]
    if inspection.sizes:
        widths, heights = zip(*inspection.sizes, strict=True)
        lines.append(f"images: {min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high")
    for name, sentences in (("problem", inspection.problems), ("note", inspection.notes)):
        lines += [f"{name}: {sentence}" for sentence in sentences]
    if not inspection.problems:
        lines.append("no problems were found")
    return "\n".join(lines)


def figures(inspection: Inspection) -> dict[str, Any]:
    """Return the results, ready for JSON. ``named`` lists all names that a problem or note is about, by its text."""
    from captioner.data.messages import names_of

    def named(groups: tuple[Group, ...]) -> list[list[dict[str, str]]]:
        return [[{"split": e.split, "name": e.name, "path": os.fspath(e.path)} for e in group] for group in groups]

    return {
        "images": dict(inspection.images),
        "captions": dict(inspection.captions),
        "captions_per_image": dict(sorted(inspection.captions_per_image.items())),
        "caption_words": dict(sorted(inspection.caption_words.items())),
        "vocabulary": inspection.vocabulary,
        "said_once": inspection.said_once,
        "frequent": [list(pair) for pair in inspection.frequent],
        "shared_captions": [list(pair) for pair in inspection.shared_captions],
        "shared_across_splits": inspection.shared_across_splits,
        "sizes": [[*size, count] for size, count in sorted(inspection.sizes.items())],
        "unreadable": [{"split": e.split, "name": e.name, "error": reason} for e, reason in inspection.unreadable],
        "same_bytes": named(inspection.same_bytes),
        "look_alike": named(inspection.look_alike),
        "leaks": named(inspection.leaks),
        "problems": list(inspection.problems),
        "notes": list(inspection.notes),
        "named": {
            sentence: list(names_of(sentence))
            for sentence in (*inspection.problems, *inspection.notes)
            if names_of(sentence)
        },
    }
