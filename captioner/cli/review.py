"""Review captions in the browser: accept, edit, reject, replace, ask again.

Prints the address of a page over a folder, its captions (files beside photos, tables, review.jsonl) and what people
decided about them, until Ctrl-C. What is saved goes to the same files as with `captioner caption --write`, at once. The
page is for this machine only. `captioner finetune --data PATH --accepted` trains on what was accepted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from captioner.cli.arguments import argument
from captioner.cli.options import GENERATION, Device, print_status
from captioner.cli.output import print_text
from captioner.errors import require

if TYPE_CHECKING:
    from captioner.folder.plan import Output


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner review`."""

    path: str = field(metadata=argument(help="folder of photos", metavar="PATH", positional=True))
    write: str | None = field(
        default=None,
        metadata=argument(
            help="files to read and write captions, as of caption --write (default: those that exist, else txt)",
            metavar="FORMATS",
        ),
    )
    out: str | None = field(
        default=None, metadata=argument(help="folder of the captions, if not that of the photos", metavar="DIR")
    )
    everything: bool = field(
        default=False,
        metadata=argument(flag="--all", help="include hidden files, and folders of thumbnails and deleted files"),
    )
    model: str | None = field(
        default=None,
        metadata=argument(
            help="checkpoint directory or hub id that answers questions, or none (default: the shipped model)",
            metavar="M",
        ),
    )
    device: Device
    generation: Mapping[str, Any] = field(metadata=GENERATION)
    port: int = field(default=0, metadata=argument(help="port of the page (default: a free one)", metavar="N", least=0))


def run(options: Options) -> int:
    for package in ("starlette", "uvicorn"):
        require(package, "serve", "the page")

    from captioner.reviewing.asking import Asked
    from captioner.reviewing.serve import serve
    from captioner.reviewing.shelf import Shelf

    outputs = tuple(name.strip() for name in options.write.split(",")) if options.write else ()
    shelf = Shelf(
        options.path,
        outputs=cast("tuple[Output, ...]", outputs),
        out=options.out,
        everything=options.everything,
    )
    for notice in shelf.notices:
        print_status(f"captioner: {notice}")
    device = options.device
    asked = Asked(options.model, device=device.device, precision=device.precision, options=options.generation)
    print_status(f"captioner: {len(shelf)} photos; open the address in a browser, and end with Ctrl-C")
    with contextlib.suppress(KeyboardInterrupt):  # the normal end
        serve(shelf, asked, port=options.port, report=print_text)
    return 0
