"""Convert a Hugging Face ViT + GPT-2 captioner, or an adapter and its base, to a checkpoint of this package."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="directory or hub id of a VisionEncoderDecoderModel; with --merge, of an adapter",
    )
    parser.add_argument("out", metavar="OUT", help="checkpoint directory to write")
    parser.add_argument("--merge", action="store_true", help="merge the adapter in SOURCE into the weights of its base")


def run(args: argparse.Namespace) -> int:
    from captioner.checkpoint import load, merged, save
    from captioner.errors import UsageError
    from captioner.hf_import import convert

    if not args.merge:
        print(save(convert(args.source), args.out))
        return 0
    checkpoint = load(args.source)
    if checkpoint.base is None:
        raise UsageError(f"{args.source} is not an adapter; leave out --merge")
    print(save(merged(checkpoint), args.out))
    return 0
