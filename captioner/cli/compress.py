"""Make a captioner smaller: fewer bits, fewer words, fewer heads and hidden units.

``--weights`` stores its weights in int8, a quarter of their size in fp32, or in 4 bits, a fifth. ``--vocab-from`` drops
the words that no text of a corpus needs. ``--prune`` drops the attention heads and hidden units of the decoder that
matter least for captions of ``--data``, then teaches the rest what the whole captioner predicts. The result loads as
any other. See docs/compression.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from captioner.cli.arguments import argument
from captioner.cli.output import print_text


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner compress`."""

    model: str = field(
        metadata=argument(
            help="checkpoint directory, hub id, or `shipped`, the model that ships", metavar="MODEL", positional=True
        )
    )
    out: str = field(metadata=argument(help="checkpoint directory to write", metavar="OUT", positional=True))
    weights: Literal["fp32", "fp16", "int8", "int4"] = field(
        default="int8", metadata=argument(help="form of the weights in the file (default: %(default)s)")
    )
    vocab_from: tuple[str, ...] = field(
        default=(),
        metadata=argument(
            help="text files of one caption a line, or captioned images: keep the words that they need alone",
            metavar="CAPTIONS",
            nargs="+",
        ),
    )
    vocab_least: int = field(
        default=1,
        metadata=argument(help="with --vocab-from: keep a word used N times or more", metavar="N", least=1),
    )


def run(options: Options) -> int:
    from captioner.errors import UsageError

    if options.vocab_least > 1 and not options.vocab_from:
        raise UsageError("--vocab-least counts the words of captions; add --vocab-from CAPTIONS")

    from captioner.checkpoint import load, save
    from captioner.checkpoint.files import SHIPPED_NAME
    from captioner.compression import Compression, compress
    from captioner.compression.corpus import read_captions

    captions = read_captions(options.vocab_from) if options.vocab_from else None
    steps = Compression(captions=captions, least=options.vocab_least, weights=options.weights)
    checkpoint = load(None if options.model == SHIPPED_NAME else options.model)
    print_text(str(save(compress(checkpoint, steps), options.out, dtype=options.weights)))
    return 0
