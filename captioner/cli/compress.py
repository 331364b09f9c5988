"""Make a captioner smaller: fewer bits, fewer words, fewer heads and hidden units.

``--weights`` stores its weights in int8, a quarter of their size in fp32, or in 4 bits, a fifth. ``--vocab-from`` drops
the words that no text of a corpus needs. ``--prune`` drops the attention heads and hidden units of the decoder that
matter least for captions of ``--data``, then teaches the rest what the whole captioner predicts. The result loads as
any other. See docs/compression.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from captioner.cli.arguments import argument
from captioner.cli.options import Reading, print_status, require_readers
from captioner.cli.output import print_text

if TYPE_CHECKING:
    from captioner.compression.compress import Pruning


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
    prune: float | None = field(
        default=None,
        metadata=argument(
            help="keep this share of the parameters of the decoder's layers, the most important heads and hidden units",
            metavar="SHARE",
        ),
    )
    data: tuple[str, ...] = field(
        default=(),
        metadata=argument(help="with --prune: folders or files of captioned images", metavar="DATA", nargs="+"),
    )
    held_out: str | None = field(
        default=None,
        metadata=argument(help="with --prune: names of the images to hold out, one per line", metavar="FILE"),
    )
    epochs: int = field(
        default=3,
        metadata=argument(
            help="with --prune: epochs of distillation from MODEL afterwards, 0 for none (default: %(default)s)",
            metavar="N",
            least=0,
        ),
    )
    reading: Reading


def run(options: Options) -> int:
    from captioner.errors import UsageError

    if options.vocab_least > 1 and not options.vocab_from:
        raise UsageError("--vocab-least counts the words of captions; add --vocab-from CAPTIONS")
    if (options.prune is None) != (not options.data):
        raise UsageError("--prune chooses by captioned photos; give both --prune SHARE and --data DATA, or neither")
    if options.prune is not None and not 0 < options.prune < 1:
        raise UsageError(f"--prune {options.prune:g} must be the share of parameters that stay, above 0 and below 1")
    require_readers((*options.vocab_from, *options.data))
    if options.prune is not None and options.epochs:
        from captioner.training.packages import require_training

        require_training()

    from captioner.checkpoint import load, save
    from captioner.checkpoint.directory import require_replaceable
    from captioner.checkpoint.files import SHIPPED_NAME
    from captioner.compression import Compression, compress
    from captioner.compression.corpus import read_captions

    require_replaceable(Path(options.out))  # before hours of distillation
    captions = read_captions(options.vocab_from) if options.vocab_from else None
    steps = Compression(
        pruning=_pruning(options), captions=captions, least=options.vocab_least, weights=options.weights
    )
    checkpoint = load(None if options.model == SHIPPED_NAME else options.model)
    smaller = compress(checkpoint, steps, report=print_status)
    print_text(str(save(smaller, options.out, dtype=options.weights)))
    return 0


def _pruning(options: Options) -> Pruning | None:
    if options.prune is None:
        return None
    from captioner.compression.compress import Pruning
    from captioner.training.setup import read_data

    data = read_data(
        options.data,
        held_out=options.held_out,
        sidecars=options.reading.sidecars,
        validation_images=200,
        outside=options.reading.outside,
        report=print_status,
    )
    folder = Path(options.out)
    folder = folder.with_name(folder.name + ".distillation")
    return Pruning(share=options.prune, data=data, epochs=options.epochs, folder=folder)
