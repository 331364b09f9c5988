"""Convert a Hugging Face captioner (docs/models.md), or an adapter and its base, to a checkpoint of this package."""

from __future__ import annotations

from dataclasses import dataclass, field

from captioner.cli.arguments import argument
from captioner.cli.output import print_text


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner convert`."""

    source: str = field(
        metadata=argument(
            help="directory or hub id of a Hugging Face captioner; with --merge, of an adapter",
            metavar="SOURCE",
            positional=True,
        )
    )
    out: str = field(metadata=argument(help="checkpoint directory to write", metavar="OUT", positional=True))
    merge: bool = field(
        default=False, metadata=argument(help="merge the adapter in SOURCE into the weights of its base")
    )


def run(options: Options) -> int:
    from captioner.checkpoint import load, merged, save
    from captioner.checkpoint.hugging_face import convert
    from captioner.errors import UsageError

    if not options.merge:
        print_text(str(save(convert(options.source), options.out)))
        return 0
    checkpoint = load(options.source)
    if checkpoint.base is None:
        raise UsageError(f"{options.source} is not an adapter; leave out --merge")
    print_text(str(save(merged(checkpoint), options.out)))
    return 0
