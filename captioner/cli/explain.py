"""Show the attention map of each word of a caption: an HTML page and an image per photo.

Writes ``NAME.explain.html`` (pointing at a word shows its attention map) and ``NAME.explain.png`` (one map per word)
and prints their paths, one per line. A photo that cannot be read gives a line on stderr and exit code 1; the run
continues.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.cli.arguments import argument
from captioner.cli.options import GENERATION, MODEL, Device, Photos, print_left_out
from captioner.cli.output import print_json, print_text, tell

if TYPE_CHECKING:
    from captioner.explain.explain import Explanation

FORMS = (".html", ".png")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner explain`."""

    photos: Photos
    caption: str | None = field(
        default=None, metadata=argument(help="caption to explain instead of the model's own", metavar="TEXT")
    )
    out: str = field(
        default=".",
        metadata=argument(
            help="output folder, or for a single photo a .html or .png file (default: the current folder)",
            metavar="DIR|FILE",
        ),
    )
    json: bool = field(default=False, metadata=argument(help="JSON lines: path, caption, files, words with statistics"))
    model: str | None = field(default=None, metadata=MODEL)
    device: Device
    generation: Mapping[str, Any] = field(metadata=GENERATION)


def run(options: Options) -> int:
    from captioner.errors import ImageError, UsageError

    if options.caption is not None and options.generation:
        raise UsageError("--caption needs no generation; leave out the options for generation")
    left = options.photos.left_out()
    items = list(options.photos.items(left))
    print_left_out(left)
    if not items:
        tell("no paths on stdin; pass one path per line")
        return 1
    out = Path(options.out)
    one_file = out.suffix.lower() in FORMS
    if one_file and len(items) > 1:
        raise UsageError(f"{len(items)} photos do not fit into the one file {out}; name a folder with --out")
    if one_file and any(item.path and _same(item.path, out) for item in items):
        raise UsageError(f"{out} is the photo itself; give --out another name")

    from captioner.pipelines import load

    pipe = load(options.model, device=options.device.device, precision=options.device.checked_precision())
    (out.parent if one_file else out).mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    failed = 0
    for item in items:
        try:
            explanation = pipe.explain(item, options.caption, **options.generation)
        except ImageError as error:
            failed += 1
            if options.json:
                print_json({"path": item.id, "error": str(error)})
            else:
                tell(error)
            continue
        name = out if one_file else out / _unused_name(_stem(item.id), taken)
        names = [name] if one_file else [f"{name}.explain{form}" for form in FORMS]
        with warnings.catch_warnings(record=True) as found:  # of words that no font can write
            warnings.simplefilter("always", UserWarning)
            files = [explanation.save(name) for name in names]
        for warning in found:
            tell(f"warning: {item.id}: {warning.message}")
        if options.json:
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
    from captioner.system.names import accepted

    return accepted(Path(name.partition("?")[0] if is_url(name) else name).stem) or "photo"


def _unused_name(stem: str, taken: set[str]) -> str:
    """Return a name that no other photo of this run has: two folders may both contain ``1.jpg``."""
    name, number = stem, 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.casefold())
    return name


def _same(photo: Path, out: Path) -> bool:
    return out.exists() and os.path.samefile(photo, out)
