"""Push a captioner to the Hugging Face hub, for use as ``--model ORG/NAME``.

Prints the URL of its page. Log in first with ``hf auth login``, or set HF_TOKEN.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from captioner.cli.arguments import argument
from captioner.cli.output import print_text


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner push`."""

    model: str = field(
        metadata=argument(help="checkpoint directory, or the --out of a training run", metavar="DIR", positional=True)
    )
    name: str = field(metadata=argument(help="repository, created if missing", metavar="ORG/NAME", positional=True))
    private: bool | None = field(default=None, metadata=argument(help="make a new repository private"))
    license: str | None = field(
        default=None, metadata=argument(help="licence identifier of the hub, such as apache-2.0", metavar="ID")
    )
    revision: str | None = field(default=None, metadata=argument(help="branch, created if missing", metavar="BRANCH"))
    message: str = field(default="Push a captioner", metadata=argument(help="commit message", metavar="TEXT"))


def run(options: Options) -> int:
    from captioner.hub import push_to_hub

    page = push_to_hub(
        options.model,
        options.name,
        private=options.private,
        revision=options.revision,
        license=options.license,
        message=options.message,
    )
    print_text(page)
    return 0
