"""Ask questions about photos, of a model that answers them: by default Salesforce/blip-vqa-base.

Prints ``path<TAB>answer`` per photo, ``path<TAB>question<TAB>answer`` with several questions, or a JSON record with
``--json``. A photo that cannot be read gives a line on stderr (with ``--json`` a record with ``error``) and exit code
1.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from captioner.captioning.records import unsure_field
from captioner.cli.arguments import argument
from captioner.cli.options import GENERATION, Compute, PhotosAnywhere, print_left_out
from captioner.cli.output import caption_text, escaped, message, print_json, print_text, tell

if TYPE_CHECKING:
    from captioner.captioning.answers import Answer
    from captioner.data.items import Item
    from captioner.errors import ImageError

ANSWERING = "Salesforce/blip-vqa-base"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner ask`."""

    question: str = field(metadata=argument(help="a question about each photo", metavar="QUESTION", positional=True))
    photos: PhotosAnywhere
    then: tuple[str, ...] = field(
        default=(),
        metadata=argument(
            help="another question; it may hold {answer}, the answer before it, and {caption}; repeatable",
            metavar="QUESTION",
        ),
    )
    json: bool = field(default=False, metadata=argument(help="JSON lines: path, answers; or path, error"))
    model: str = field(
        default=ANSWERING,
        metadata=argument(
            help="checkpoint directory or hub id of a model that answers questions (default: %(default)s)", metavar="M"
        ),
    )
    captioner: str | None = field(
        default=None,
        metadata=argument(
            help="checkpoint directory or hub id that writes {caption} (default: the shipped model)", metavar="M"
        ),
    )
    compute: Compute
    generation: Mapping[str, Any] = field(metadata=GENERATION)


def run(options: Options) -> int:
    left = options.photos.left_out()
    failed = seen = 0
    for path, result in _answers(options, options.photos.items(left)):
        seen += 1
        failed += not isinstance(result, list)
        _print(path, result, json=options.json)
    print_left_out(left)
    if not seen:
        tell("no paths on stdin; pass one path per line")
    return 1 if failed or not seen else 0


def _answers(options: Options, items: Iterator[Item]) -> Iterator[tuple[str, list[Answer] | ImageError]]:
    """Yield each photo's path with its answers."""
    from captioner.captioning.answers import CAPTION
    from captioner.captioning.batches import in_batches
    from captioner.pipelines import load

    compute, questions = options.compute, [options.question, *options.then]
    precision = compute.checked_precision()
    pipe = load(options.model, device=compute.device, precision=precision)
    captioned = any(CAPTION in question for question in questions)
    writer = load(options.captioner, device=compute.device, precision=precision) if captioned else None
    for batch in in_batches(items, compute.batch_size):
        captions = None if writer is None else [str(c) for c in writer.stream(batch, batch_size=compute.batch_size)]
        answers = pipe.stream_answers(
            batch, questions, captions=captions, batch_size=compute.batch_size, **options.generation
        )
        yield from zip((item.id for item in batch), answers, strict=True)


def _print(path: str, result: list[Answer] | ImageError, *, json: bool) -> None:
    if not isinstance(result, list):
        if json:
            print_json({"path": path, "error": str(result)})
        else:
            print(message(result), file=sys.stderr)
    elif json:
        answers = [
            {"question": each.question, "answer": each.text, "confidence": round(each.confidence, 4)}
            | unsure_field(each.unsure)
            for each in result
        ]
        print_json({"path": path, "answers": answers})
    elif len(result) == 1:
        print_text(f"{escaped(path)}\t{escaped(caption_text(result[0]))}")
    else:
        for each in result:
            print_text(f"{escaped(path)}\t{escaped(each.question)}\t{escaped(caption_text(each))}")
