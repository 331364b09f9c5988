"""Search photos by text: print those most similar to a text, best first.

Prints ``score<TAB>path`` per photo, or a JSON record with ``--json``. The score is the cosine similarity of photo and
text, times 100, of a model with a contrastive head (``captioner finetune --recipe multitask``); of a model with labels
alone it is the mean probability of the labels that the text names, times 100. A photo that cannot be read gives a line
on stderr (with ``--json`` a record with ``error``, after the others) and exit code 1.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from captioner.cli.options import add_model, add_private, add_walk, complain_of, positive, reach_of
from captioner.cli.output import escaped, message, paths_of, print_json, print_text, tell

if TYPE_CHECKING:
    from captioner.data.items import Item
    from captioner.errors import ImageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", metavar="TEXT", help="query: what the photos should show, in a few words")
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="file, folder, pattern, zip, tar, video, URL, or - to read from stdin"
    )
    parser.add_argument("--count", type=positive, default=10, metavar="N", help="photos to print (default: 10)")
    parser.add_argument("--json", action="store_true", help="JSON lines: path, score; or path, error")
    add_walk(parser)
    add_private(parser)
    add_model(parser)


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from captioner.data.find import find_items
    from captioner.data.leftout import LeftOut
    from captioner.errors import ImageError
    from captioner.pipelines import load
    from captioner.retrieval import query_scores

    checkpoint = load(args.model, device=args.device, precision=args.precision).checkpoint
    listed: deque[str] = deque()
    left = LeftOut(everything=args.all)

    def images() -> Iterator[Item]:
        for item in find_items(paths_of(args.paths), frames=args.frames, reach=reach_of(args), left=left):
            listed.append(item.id)
            yield item

    found: list[tuple[float, str]] = []
    failed: list[tuple[str, ImageError]] = []
    with tqdm(unit=" images", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        for score in query_scores(checkpoint, args.text, images(), batch_size=args.batch_size):
            path = listed.popleft()
            bar.update()
            if isinstance(score, ImageError):
                failed.append((path, score))
                if not args.json:
                    bar.write(message(score), file=sys.stderr)
            else:
                found.append((score, path))
    complain_of(left)
    if not found and not failed:
        tell("no paths on stdin; pass one path per line")
        return 1
    for score, path in sorted(found, key=lambda pair: -pair[0])[: args.count]:
        if args.json:
            print_json({"path": path, "score": round(score, 4)})
        else:
            print_text(f"{score:.2f}\t{escaped(path)}")
    if args.json:
        for path, error in failed:
            print_json({"path": path, "error": str(error)})
    return 1 if failed else 0
