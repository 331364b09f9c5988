"""Options that several commands share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from captioner.data.paths import plain

if TYPE_CHECKING:
    from captioner.data.connections import Reach
    from captioner.data.leftout import LeftOut


MOST_FRAMES = 1_000_000  # per video: every frame of nine hours


def positive(text: str) -> int:
    """Parse a whole number of at least 1, as an argparse type."""
    return _whole(text, least=1)


def count(text: str) -> int:
    """Parse a whole number of at least 0, as an argparse type; 0 turns a setting off."""
    return _whole(text, least=0)


def whole(text: str) -> int:
    """Parse any whole number, as an argparse type."""
    return _whole(text)


def _whole(text: str, *, least: int | None = None) -> int:
    try:
        value = int(text)  # raises for thousands of digits too
    except ValueError:
        value = None
    if value is None or (least is not None and value < least):
        shortened = text if len(text) <= 40 else f"{text[:40]}..."
        raise argparse.ArgumentTypeError(
            f"{shortened} is not a whole number" + ("" if least is None else f" of at least {least}")
        )
    return value


def add_model(parser: argparse.ArgumentParser, *, batches: bool = True, choose: bool = True) -> None:
    """Add --device and --precision; --model if ``choose``; --batch-size if ``batches``."""
    if choose:
        parser.add_argument(
            "--model", metavar="M", help="checkpoint directory or hub id (default: the model that ships)"
        )
    parser.add_argument("--device", help="torch device: cpu, cuda, cuda:1, mps (default: the fastest one available)")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "int8"),
        default="fp32",
        help="precision of the weights; bf16 and int8 are faster and change a few captions (default: fp32)",
    )
    if batches:
        parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="batch size (default: 32)")


def add_walk(parser: argparse.ArgumentParser) -> None:
    """Add --frames and --all, which select the images of a path."""
    parser.add_argument(
        "--frames",
        type=_frames,
        default="scenes",
        metavar="N|scenes",
        help="frames of a video: N evenly spaced ones, or one per scene (default: scenes)",
    )
    parser.add_argument(
        "--all", action="store_true", help="include hidden files, and folders of thumbnails and deleted files"
    )


def require(package: str, extra: str, purpose: str) -> None:
    """Raise ``MissingExtraError`` if a package is not installed."""
    from captioner.errors import MissingExtraError

    if find_spec(package) is None:
        raise MissingExtraError(package, extra, purpose)


def require_readers(data: Sequence[str]) -> None:
    """Raise ``MissingExtraError`` if a dataset is a Parquet file and pyarrow is not installed."""
    for name in data:
        tables = (name, os.path.join(name, "metadata.parquet"))
        if table := next((path for path in tables if path.endswith(".parquet") and os.path.isfile(path)), None):
            require("pyarrow", "parquet", f"reading {table}")


def complain_of(left: LeftOut) -> None:
    """Print on stderr which files were left out."""
    for sentence in left.sentences():
        complain(f"captioner: {sentence}")


def add_private(parser: argparse.ArgumentParser) -> None:
    """Add --allow-private."""
    parser.add_argument(
        "--allow-private",
        action="store_true",
        help="private networks: allow URLs from stdin or tables, and redirects, to reach them and this machine",
    )


def reach_of(args: argparse.Namespace) -> Reach:
    """Return which hosts URLs may reach: arguments may name private ones, a list on stdin may not."""
    if args.allow_private:
        return "private"
    return "public" if "-" in args.paths else "named"


def _frames(text: str) -> int | str:
    if text == "scenes":
        return text
    value = positive(text)
    if value > MOST_FRAMES:
        raise argparse.ArgumentTypeError(f"{text} is more than {MOST_FRAMES} frames; ask for fewer")
    return value


def add_sidecars(parser: argparse.ArgumentParser) -> None:
    """Add --sidecars."""
    parser.add_argument(
        "--sidecars",
        choices=("lines", "one"),
        default="lines",
        help="caption files beside images: a caption per line, or one per file (default: lines)",
    )


def add_generation(parser: argparse.ArgumentParser) -> None:
    """Add the options for generation."""
    group = parser.add_argument_group("generation", "defaults come from the model's generation.json")
    for name, settings in GENERATION.items():
        group.add_argument("--" + name.replace("_", "-"), **settings)


def generation_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of ``add_generation`` that were set, in the form of ``captioner.config.with_options``.

    Raises ``ConfigError`` for contradictory options, before a model is loaded.
    """
    from captioner.config import GenerationConfig, with_options

    options = {name: getattr(args, name) for name in GENERATION if getattr(args, name) is not None}
    if "bias" in options:
        options["bias"] = dict(options["bias"])
    with_options(GenerationConfig(max_tokens=sys.maxsize), options)
    return options


def _bias(text: str) -> tuple[str, float]:
    words, _, value = text.rpartition("=")
    try:
        if words:
            return words, float(value)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text} is not of the form WORDS=NUMBER")


# Each option has the name of the field that it changes in GenerationConfig, SamplingConfig or WordRules.
GENERATION: dict[str, dict[str, Any]] = {
    "beams": {"type": positive, "metavar": "N", "help": "beam search with N beams; 1 is greedy decoding"},
    "candidates": {
        "type": positive,
        "metavar": "N",
        "help": "candidates per photo to choose the best from: N beams, or N samples",
    },
    "rerank": {
        "choices": ("score", "consensus", "matching"),
        "help": "rerank candidates by their score, by consensus among them, or by image-text matching",
    },
    "refine": {
        "type": count,
        "metavar": "N",
        "help": "refinement: rewrite improbable words in up to N rounds, keep the better caption; 0 is off",
    },
    "length_penalty": {"type": float, "metavar": "P", "help": "rank by log-probability / length ** P"},
    "min_tokens": {"type": count, "metavar": "N", "help": "minimum length in tokens, with the end token; 0 is off"},
    "max_tokens": {"type": positive, "metavar": "N", "help": "maximum length in tokens, with the end token"},
    "groups": {"type": positive, "metavar": "N", "help": "diverse beam search: N groups, see --diversity"},
    "diversity": {
        "type": float,
        "metavar": "D",
        "help": "diverse beam search: penalty for each earlier group that chose the same word there",
    },
    "temperature": {
        "type": float,
        "metavar": "T",
        "help": "sampling temperature; below 1 favours probable words; 0 is greedy decoding",
    },
    "top_k": {"type": count, "metavar": "K", "help": "sample from the K most probable words; 0 is off"},
    "top_p": {
        "type": float,
        "metavar": "P",
        "help": "nucleus sampling: sample from the most probable words with mass P; 1 is off",
    },
    "min_p": {
        "type": float,
        "metavar": "P",
        "help": "sample from words with at least P times the highest probability; 0 is off",
    },
    "typical_p": {
        "type": float,
        "metavar": "P",
        "help": "locally typical sampling (Meister et al. 2022) with mass P; 1 is off",
    },
    "seed": {
        "type": whole,
        "metavar": "N",
        "help": "random seed; samples depend only on it and on the photo's pixels",
    },
    "prefix": {"metavar": "TEXT", "help": "first words of every caption"},
    "require": {
        "action": "append",
        "metavar": "WORDS",
        "help": "required words; 'dog|puppy' is either; repeatable",
    },
    "forbid": {"action": "append", "metavar": "WORDS", "help": "forbidden words; repeatable"},
    "bias": {
        "type": _bias,
        "action": "append",
        "metavar": "WORDS=B",
        "help": "logit bias: add B to the log-probability of WORDS; repeatable",
    },
    "repetition_penalty": {
        "type": float,
        "metavar": "F",
        "help": "factor on the log-probability of words already used; 1 is off",
    },
    "no_repeat_ngram": {"type": count, "metavar": "N", "help": "repeat no N-gram of tokens; 0 is off"},
    "language": {"metavar": "LANG", "help": "language of the captions, en or zh, if the model writes several"},
}


def add_outside(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--outside",
        action="store_true",
        help="allow the data to name images outside its folder, by absolute paths or ../ (default: refuse such a row)",
    )


def leads() -> bool:
    """Return whether this is rank 0 of a distributed run; torchrun and accelerate set the rank."""
    return os.environ.get("RANK", "0") == "0"


def complain(text: str) -> None:
    """Print a line on stderr, only on rank 0 of a distributed run."""
    if leads():
        print(plain(text), file=sys.stderr, flush=True)
