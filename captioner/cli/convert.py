"""Turn a Hugging Face ViT + GPT-2 captioner into a checkpoint of this package."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="directory or hub id of a VisionEncoderDecoderModel")
    parser.add_argument("out", metavar="OUT", help="checkpoint directory to write")


def run(args: argparse.Namespace) -> int:
    from captioner.checkpoint import save
    from captioner.hf_import import convert

    print(save(convert(args.source), args.out))
    return 0
