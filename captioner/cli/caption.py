"""Caption photos: files, folders, patterns, or a list on stdin.

Prints ``path<TAB>caption`` per photo, or a JSON record with ``--json``. A photo that cannot be read is one line on
stderr (with ``--json`` a record with ``error``); the others go on, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from captioner.cli.options import add_model

if TYPE_CHECKING:
    from pathlib import Path

    from captioner.data.images import Unreadable

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="file, folder, pattern, or - for paths on stdin")
    parser.add_argument("--json", action="store_true", help="print JSON lines: path, caption, score; or path, error")
    add_model(parser)


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from captioner.data.images import Unreadable, find_images
    from captioner.errors import ImageError
    from captioner.pipelines import load

    found = find_images(_paths(args.paths))
    first = next(found, None)  # nothing to caption is said before seconds go into loading a model
    if first is None:
        print("captioner: no paths on stdin; give a file of one path a line", file=sys.stderr)
        return 1
    pipe = load(args.model, device=args.device)
    listed: list[Path] = []
    failed = 0

    def images() -> Iterator[Path | ImageError]:
        for item in _chain(first, found):
            listed.append(item.path if isinstance(item, Unreadable) else item)
            yield ImageError(item.reason) if isinstance(item, Unreadable) else item

    results = pipe.stream(images(), beams=args.beams, batch_size=args.batch_size)
    with tqdm(unit=" images", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        for result in results:
            path = os.fspath(listed.pop(0))
            bar.update()
            if isinstance(result, ImageError):
                failed += 1
                if args.json:
                    _print_json({"path": path, "error": str(result)})
                else:
                    bar.write(f"captioner: {result}", file=sys.stderr)
            elif args.json:
                _print_json({"path": path, "caption": result.text, "score": round(result.score, 4)})
            else:
                _print(f"{path.translate(_ESCAPES)}\t{result.text.translate(_ESCAPES)}")
    return 1 if failed else 0


def _paths(given: list[str]) -> Iterator[str]:
    for path in given:
        if path != "-":
            yield path
            continue
        for line in sys.stdin.buffer:
            if line := line.rstrip(b"\r\n"):
                yield os.fsdecode(line)


def _chain(first: Path | Unreadable, rest: Iterator[Path | Unreadable]) -> Iterator[Path | Unreadable]:
    yield first
    yield from rest


def _print_json(record: dict[str, object]) -> None:
    line = json.dumps(record, ensure_ascii=False)
    if not line.isprintable():  # a name that is not UTF-8 is written as \udcXX escapes, which JSON can carry
        line = json.dumps(record)
    _print(line)


def _print(line: str) -> None:
    """One line in UTF-8 whatever the terminal's encoding; names that are not UTF-8 keep their bytes."""
    sys.stdout.flush()
    sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape") + b"\n")
    sys.stdout.buffer.flush()
