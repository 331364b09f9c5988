"""Show the attention map of each word of a caption: an HTML page and an image per photo.

Writes ``NAME.explain.html`` (pointing at a word shows its attention map) and ``NAME.explain.png`` (one map per word)
and prints their paths, one per line. A photo that cannot be read gives a line on stderr and exit code 1; the run
continues.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.cli.options import add_generation, add_model, add_walk, complain_of, generation_options
from captioner.cli.output import paths_of, print_json, print_text, tell

if TYPE_CHECKING:
    from captioner.explain.explanation import Explanation

FORMS = (".html", ".png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="file, folder, pattern, zip, tar, video, URL, or - to read from stdin"
    )
    parser.add_argument("--caption", metavar="TEXT", help="caption to explain instead of the model's own")
    parser.add_argument(
        "--out",
        default=".",
        metavar="DIR|FILE",
        help="output folder, or for a single photo a .html or .png file (default: the current folder)",
    )
    parser.add_argument("--json", action="store_true", help="JSON lines: path, caption, files, words with statistics")
    add_walk(parser)
    add_model(parser, batches=False)
    add_generation(parser)


def run(args: argparse.Namespace) -> int:
    from captioner.data.find import find_items
    from captioner.data.leftout import LeftOut
    from captioner.errors import ImageError, UsageError

    options = generation_options(args)
    if args.caption is not None and options:
        raise UsageError("--caption needs no generation; leave out the options for generation")
    left = LeftOut(everything=args.all)
    items = list(find_items(paths_of(args.paths), frames=args.frames, left=left))
    complain_of(left)
    if not items:
        tell("no paths on stdin; pass one path per line")
        return 1
    out = Path(args.out)
    one_file = out.suffix.lower() in FORMS
    if one_file and len(items) > 1:
        raise UsageError(f"{len(items)} photos do not fit into the one file {out}; name a folder with --out")
    if one_file and any(item.path and _same(item.path, out) for item in items):
        raise UsageError(f"{out} is the photo itself; give --out another name")

    from captioner.pipelines import load

    pipe = load(args.model, device=args.device, precision=args.precision)
    (out.parent if one_file else out).mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    failed = 0
    for item in items:
        try:
            explanation = pipe.explain(item, args.caption, **options)
        except ImageError as error:
            failed += 1
            if args.json:
                print_json({"path": item.id, "error": str(error)})
            else:
                tell(error)
            continue
        name = out if one_file else out / _free(_stem(item.id), taken)
        files = [
            explanation.save(name if one_file else f"{name}.explain{form}") for form in FORMS[: 1 if one_file else 2]
        ]
        if args.json:
            record = {"path": item.id, **figures(explanation), "files": [os.fspath(file) for file in files]}
            print_json(record)
        else:
            for file in files:
                print_text(os.fspath(file))
    return 1 if failed else 0


def figures(explanation: Explanation) -> dict[str, object]:
    """Return an explanation without its maps, ready for JSON."""
    words = []
    for i, word in enumerate(explanation.words):
        record: dict[str, object] = {"word": word, "probability": round(float(explanation.probabilities[i]), 4)}
        record["entropy"] = round(float(explanation.entropies[i]), 3)
        if explanation.gates is not None:
            record["gate"] = round(float(explanation.gates[i]), 4)
        if explanation.centres is not None and explanation.spreads is not None:
            record["centre"] = [round(float(coordinate), 4) for coordinate in explanation.centres[i]]
            record["spread"] = round(float(explanation.spreads[i]), 4)
        words.append(record)
    return {"caption": explanation.caption, "words": words}


def _stem(name: str) -> str:
    """Return the stem for the output files of a photo, which may be in an archive or at a URL."""
    from captioner.data.urls import is_url

    return Path(name.partition("?")[0] if is_url(name) else name).stem or "photo"


def _free(stem: str, taken: set[str]) -> str:
    """Return a name that no other photo of this run has: two folders may both contain ``1.jpg``."""
    name, number = stem, 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.casefold())
    return name


def _same(photo: Path, out: Path) -> bool:
    return out.exists() and os.path.samefile(photo, out)
