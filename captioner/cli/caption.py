"""Caption photos: files, folders, patterns, zip and tar files, videos, URLs, or a list on stdin.

Prints ``path<TAB>caption`` per photo, or a JSON record with ``--json``. A photo that cannot be read gives a line on
stderr (with ``--json`` a record with ``error``) and exit code 1; the run continues. The options for folders write
captions to files; the options for generation control decoding, from beams to required words.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from captioner.cli.arguments import argument, group
from captioner.cli.folder import run_folder
from captioner.cli.options import Captioning, print_left_out
from captioner.cli.output import escaped, message, print_text, tell
from captioner.cli.scale_out import Ray, run_ray
from captioner.cli.writing import Writing

if TYPE_CHECKING:
    from captioner.data.items import Item


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner caption`."""

    captioning: Captioning
    vectors: Literal["embeddings", "features"] | None = field(
        default=None,
        metadata=argument(help="add embeddings of photo and caption, or encoder features, to JSON lines"),
    )
    stream: bool = field(default=False, metadata=argument(help="stream each word as it is generated"))
    writing: Writing = field(
        metadata=group(
            "folders and files",
            "only --write writes captions to files; repeat the command to resume an interrupted run",
        )
    )
    ray: Ray = field(metadata=group("many machines", "pip install 'captioner[ray]'; docs/scale-out.md"))


def run(options: Options) -> int:
    from captioner.errors import UsageError

    captioning, writing = options.captioning, options.writing
    printing = captioning.printing
    if options.stream and (printing.records or captioning.count > 1):
        raise UsageError("--stream prints one caption as plain text; leave out --json, --details and --count")
    if options.stream and captioning.generation.get("unsure"):
        raise UsageError("--stream prints a caption before its confidence is known; leave out --unsure")
    if not options.ray.address:
        writing.check(captioning.photos.paths, stream=options.stream)
    if options.vectors and (options.ray.address or writing.given or not printing.records):
        raise UsageError("--vectors needs --json or --details, without --ray or the options for folders")
    if options.ray.address:
        return run_ray(captioning, options.ray, writing, stream=options.stream)
    if writing.given:
        return run_folder(captioning, writing)
    left = captioning.photos.left_out()
    items = captioning.photos.items(left)
    first = next(items, None)  # check for an empty input before loading a model
    if first is None:
        tell("no paths on stdin; pass one path per line")
        return 1
    print_captions = _stream if options.stream else _print
    failed = print_captions(options, _chain(first, items))
    print_left_out(left)
    return 1 if failed else 0


def _print(options: Options, items: Iterator[Item]) -> int:
    """Print the captions, and return the number of failed photos."""
    from tqdm import tqdm

    from captioner.errors import ImageError

    captioning, printing = options.captioning, options.captioning.printing
    listed: deque[str] = deque()
    failed = 0

    def images() -> Iterator[Item]:
        for item in items:
            listed.append(item.id)
            yield item

    results = captioning.load().stream(
        images(),
        count=captioning.count,
        batch_size=captioning.compute.batch_size,
        vectors=options.vectors,
        **captioning.generation,
    )
    with tqdm(unit=" images", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        for result in results:
            path = listed.popleft()
            bar.update()
            if isinstance(result, ImageError):
                failed += 1
                if printing.records:
                    printing.print_error(path, str(result))
                else:
                    bar.write(message(result), file=sys.stderr)
            else:
                printing.print_caption(path, result)
    return failed


def _stream(options: Options, items: Iterator[Item]) -> int:
    """Print the captions by word, and return the number of failed photos."""
    from captioner.errors import ImageError

    pipe = options.captioning.load()
    failed = 0
    for item in items:
        try:
            words = pipe.stream_words(item, **options.captioning.generation)
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
