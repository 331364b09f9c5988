"""Push a captioner to the Hugging Face hub, for use as ``--model ORG/NAME``.

Prints the URL of its page. Log in first with ``hf auth login``, or set HF_TOKEN.
"""

from __future__ import annotations

import argparse

from captioner.cli.output import print_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="DIR", help="checkpoint directory, or the --out of a training run")
    parser.add_argument("name", metavar="ORG/NAME", help="repository, created if missing")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--license", metavar="ID", help="licence identifier of the hub, such as apache-2.0")
    parser.add_argument("--revision", metavar="BRANCH", help="branch, created if missing")
    parser.add_argument("--message", default="Push a captioner", metavar="TEXT", help="commit message")


def run(args: argparse.Namespace) -> int:
    from captioner.hub import push_to_hub

    page = push_to_hub(
        args.model,
        args.name,
        private=args.private,
        revision=args.revision,
        license=args.license,
        message=args.message,
    )
    print_text(page)
    return 0
