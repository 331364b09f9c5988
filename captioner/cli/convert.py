"""Turn a Hugging Face ViT + GPT-2 captioner, or an adapter and its base, into a checkpoint of this package."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="directory or hub id of a VisionEncoderDecoderModel, with --merge of an adapter",
    )
    parser.add_argument("out", metavar="OUT", help="checkpoint directory to write")
    parser.add_argument(
        "--merge", action="store_true", help="make the adapter in SOURCE part of its base's weights; OUT needs neither"
    )


def run(args: argparse.Namespace) -> int:
    from captioner.checkpoint import load, merged, save
    from captioner.errors import UsageError
    from captioner.hf_import import convert

    if not args.merge:
        print(save(convert(args.source), args.out))
        return 0
    found = load(args.source)
    if found.base is None:
        raise UsageError(f"{args.source} is no adapter, so there is nothing to merge; leave --merge out")
    print(save(merged(found), args.out))
    return 0
