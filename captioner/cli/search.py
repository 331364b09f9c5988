"""Search photos by text: print those most similar to a text, best first.

Prints ``score<TAB>path`` per photo, or a JSON record with ``--json``. The score is the cosine similarity of photo and
text, times 100, of a model with a contrastive head (``captioner finetune --recipe multitask``); of a model with labels
alone it is the mean probability of the labels that the text names, times 100. A photo that cannot be read gives a line
on stderr (with ``--json`` a record with ``error``, after the others) and exit code 1.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from captioner.cli.arguments import argument
from captioner.cli.options import MODEL, Compute, PhotosAnywhere, print_left_out
from captioner.cli.output import escaped, message, print_json, print_text, tell

if TYPE_CHECKING:
    from captioner.data.items import Item
    from captioner.errors import ImageError


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner search`."""

    text: str = field(
        metadata=argument(help="query: what the photos should show, in a few words", metavar="TEXT", positional=True)
    )
    photos: PhotosAnywhere
    count: int = field(
        default=10, metadata=argument(help="photos to print (default: %(default)s)", metavar="N", least=1)
    )
    json: bool = field(default=False, metadata=argument(help="JSON lines: path, score; or path, error"))
    model: str | None = field(default=None, metadata=MODEL)
    compute: Compute


def run(options: Options) -> int:
    from tqdm import tqdm

    from captioner.captioning.embeddings import query_scores
    from captioner.errors import ImageError
    from captioner.pipelines import load

    checkpoint = load(
        options.model, device=options.compute.device, precision=options.compute.checked_precision()
    ).checkpoint
    listed: deque[str] = deque()
    left = options.photos.left_out()

    def images() -> Iterator[Item]:
        for item in options.photos.items(left):
            listed.append(item.id)
            yield item

    found: list[tuple[float, str]] = []
    failed: list[tuple[str, ImageError]] = []
    with tqdm(unit=" images", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        for score in query_scores(checkpoint, options.text, images(), batch_size=options.compute.batch_size):
            path = listed.popleft()
            bar.update()
            if isinstance(score, ImageError):
                failed.append((path, score))
                if not options.json:
                    bar.write(message(score), file=sys.stderr)
            else:
                found.append((score, path))
    print_left_out(left)
    if not found and not failed:
        tell("no paths on stdin; pass one path per line")
        return 1
    for score, path in sorted(found, key=lambda pair: -pair[0])[: options.count]:
        if options.json:
            print_json({"path": path, "score": round(score, 4)})
        else:
            print_text(f"{score:.2f}\t{escaped(path)}")
    if options.json:
        for path, error in failed:
            print_json({"path": path, "error": str(error)})
    return 1 if failed else 0
