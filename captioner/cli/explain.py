"""Show where the model looked for each word of a caption: a page and a picture per photo.

Writes ``NAME.explain.html`` (a word lights what was read for it) and ``NAME.explain.png`` (a strip of one picture a
word) and prints what it wrote, one path a line. A photo that cannot be read is one line on stderr; the others go on,
and the exit code is 1.
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
        "paths", nargs="+", metavar="PATH", help="file, folder, pattern, zip, tar, video or URL, or - for such on stdin"
    )
    parser.add_argument("--caption", metavar="TEXT", help="explain this caption instead of the model's own")
    parser.add_argument(
        "--out",
        default=".",
        metavar="DIR|FILE",
        help="folder for the files, or for one photo a file that ends in .html or .png (default: this folder)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON lines: path, caption, files, words with figures"
    )
    add_walk(parser)
    add_model(parser, batches=False)
    add_generation(parser)


def run(args: argparse.Namespace) -> int:
    from captioner.data.find import find_items
    from captioner.data.leftout import LeftOut
    from captioner.errors import ImageError, UsageError

    options = generation_options(args)
    if args.caption is not None and options:
        raise UsageError("--caption leaves nothing to search for; leave out the options of how captions are written")
    left = LeftOut(everything=args.all)
    found = list(find_items(paths_of(args.paths), frames=args.frames, left=left))
    complain_of(left)
    if not found:
        tell("no paths on stdin; give a file of one path a line")
        return 1
    out = Path(args.out)
    one_file = out.suffix.lower() in FORMS
    if one_file and len(found) > 1:
        raise UsageError(f"{len(found)} photos do not fit into the one file {out}; name a folder with --out")
    if one_file and any(item.path and _same(item.path, out) for item in found):
        raise UsageError(f"{out} is the photo itself; give --out another name")

    from captioner.pipelines import load

    pipe = load(args.model, device=args.device, precision=args.precision)
    (out.parent if one_file else out).mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    failed = 0
    for item in found:
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


def figures(found: Explanation) -> dict[str, object]:
    """An explanation without its maps, for machines."""
    words = []
    for i, word in enumerate(found.words):
        record: dict[str, object] = {"word": word, "probability": round(float(found.probabilities[i]), 4)}
        record["entropy"] = round(float(found.entropies[i]), 3)
        if found.gates is not None:
            record["gate"] = round(float(found.gates[i]), 4)
        if found.centres is not None and found.spreads is not None:
            record["centre"] = [round(float(part), 4) for part in found.centres[i]]
            record["spread"] = round(float(found.spreads[i]), 4)
        words.append(record)
    return {"caption": found.caption, "words": words}


def _stem(name: str) -> str:
    """Return the stem that names the files of a photo, also of one in an archive or behind a URL."""
    from captioner.data.urls import is_url

    return Path(name.partition("?")[0] if is_url(name) else name).stem or "photo"


def _free(stem: str, taken: set[str]) -> str:
    """A name that no other photo of this run has: two folders may both hold an ``1.jpg``."""
    name, number = stem, 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.casefold())
    return name


def _same(photo: Path, out: Path) -> bool:
    return out.exists() and os.path.samefile(photo, out)
