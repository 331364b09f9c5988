"""Caption photos: files, folders, patterns, zip and tar files, videos, URLs, or a list on stdin.

Prints ``path<TAB>caption`` per photo, or a JSON record with ``--json``. A photo that cannot be read gives a line on
stderr (with ``--json`` a record with ``error``) and exit code 1; the run continues. The options for folders write
captions to files; the options for generation control decoding, from beams to required words.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from captioner.cli.folder import add_folder, is_folder_run, run_folder
from captioner.cli.options import (
    add_generation,
    add_model,
    add_private,
    add_walk,
    complain_of,
    generation_options,
    positive,
    reach_of,
)
from captioner.cli.output import escaped, message, paths_of, print_caption, print_json, print_text, tell
from captioner.cli.scale_out import add_ray, run_ray

if TYPE_CHECKING:
    from captioner.data.items import Item
    from captioner.pipelines import CaptionPipeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="file, folder, pattern, zip, tar, video, URL, or - to read from stdin"
    )
    parser.add_argument("--json", action="store_true", help="JSON lines: path, caption, score; or path, error")
    parser.add_argument(
        "--details", action="store_true", help="JSON lines that include confidence and word probabilities"
    )
    parser.add_argument("--count", type=positive, default=1, metavar="N", help="captions per photo, best first")
    parser.add_argument(
        "--vectors",
        choices=("embeddings", "features"),
        help="add embeddings of photo and caption, or encoder features, to JSON lines",
    )
    parser.add_argument("--stream", action="store_true", help="stream each word as it is generated")
    add_walk(parser)
    add_private(parser)
    add_model(parser)
    add_folder(parser)
    add_ray(parser)
    add_generation(parser)


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from captioner.data.find import find_items
    from captioner.data.leftout import LeftOut
    from captioner.errors import ImageError, UsageError

    options = generation_options(args)
    if args.stream and (args.json or args.details or args.count > 1):
        raise UsageError("--stream prints one caption as plain text; leave out --json, --details and --count")
    if args.vectors and (args.ray or is_folder_run(args) or not (args.json or args.details)):
        raise UsageError("--vectors needs --json or --details, without --ray or the options for folders")
    if args.ray:
        return run_ray(args, options)
    if is_folder_run(args):
        return run_folder(args, options)
    left = LeftOut(everything=args.all)
    items = find_items(paths_of(args.paths), frames=args.frames, reach=reach_of(args), left=left)
    first = next(items, None)  # check for an empty input before loading a model
    if first is None:
        tell("no paths on stdin; pass one path per line")
        return 1

    from captioner.pipelines import load

    pipe = load(args.model, device=args.device, precision=args.precision)
    if args.stream:
        failed = _stream(pipe, _chain(first, items), options)
        complain_of(left)
        return 1 if failed else 0
    listed: deque[str] = deque()
    failed = 0

    def images() -> Iterator[Item]:
        for item in _chain(first, items):
            listed.append(item.id)
            yield item

    results = pipe.stream(images(), count=args.count, batch_size=args.batch_size, vectors=args.vectors, **options)
    with tqdm(unit=" images", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        for result in results:
            path = listed.popleft()
            bar.update()
            if isinstance(result, ImageError):
                failed += 1
                if args.json or args.details:
                    print_json({"path": path, "error": str(result)})
                else:
                    bar.write(message(result), file=sys.stderr)
            else:
                print_caption(path, result, json=args.json, details=args.details)
    complain_of(left)
    return 1 if failed else 0


def _stream(pipe: CaptionPipeline, items: Iterator[Item], options: dict[str, Any]) -> int:
    from captioner.errors import ImageError

    failed = 0
    for item in items:
        try:
            words = pipe.stream_words(item, **options)
            print_text(escaped(item.id), end="\t")
            for word in words:
                print_text(escaped(word), end="")
            print_text("")
        except ImageError as error:
            failed += 1
            tell(error)
    return failed


def _chain(first: Item, rest: Iterator[Item]) -> Iterator[Item]:
    yield first
    yield from rest
