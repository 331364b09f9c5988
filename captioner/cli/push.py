"""Push a captioner to the Hugging Face hub, where ``--model ORG/NAME`` finds it.

Prints the address of its page. Log in first with ``hf auth login``, or set HF_TOKEN.
"""

from __future__ import annotations

import argparse

from captioner.cli.output import print_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="DIR", help="a checkpoint directory, or the --out of a training")
    parser.add_argument("name", metavar="ORG/NAME", help="the repository; it is made if it is not there")
    parser.add_argument("--private", action="store_true", default=None, help="make it a private one")
    parser.add_argument("--license", metavar="ID", help="the hub's name of its licence, such as apache-2.0")
    parser.add_argument("--revision", metavar="BRANCH", help="push to this branch")
    parser.add_argument("--message", default="Push a captioner", metavar="TEXT", help="what the commit says")


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
