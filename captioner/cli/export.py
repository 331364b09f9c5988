"""Export a captioner for other programs: ONNX Runtime, Node, the browser, transformers, torch alone.

Prints the directory.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from captioner.cli.arguments import argument
from captioner.cli.output import print_text
from captioner.exporting.export import Target


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner export`."""

    model: str = field(
        metadata=argument(
            help="checkpoint directory or hub id; `shipped` is the model of this package",
            metavar="MODEL",
            positional=True,
        )
    )
    out: str = field(metadata=argument(help="directory to write, new or empty", metavar="OUT", positional=True))
    to: Target = field(
        metadata=argument(
            help="format: onnx for ONNX Runtime and transformers.js, transformers for Hugging Face's library, torch "
            "for programs of torch.export"
        )
    )


def run(options: Options) -> int:
    from captioner.checkpoint import load
    from captioner.checkpoint.files import SHIPPED_NAME
    from captioner.exporting import export

    checkpoint = load(None if options.model == SHIPPED_NAME else options.model)
    print_text(str(export(checkpoint, options.out, to=options.to)))
    return 0
