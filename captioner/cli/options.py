"""Options that several verbs share, and how names are printed."""

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
    from captioner.training.recipe import Recipe
    from captioner.training.tasks import Data


MOST_FRAMES = 1_000_000  # of a video: nine hours of it, each frame


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    return _whole(text, least=1)


def count(text: str) -> int:
    """An argparse type: a whole number of at least 0, where 0 switches something off."""
    return _whole(text, least=0)


def whole(text: str) -> int:
    """An argparse type: any whole number."""
    return _whole(text)


def _whole(text: str, *, least: int | None = None) -> int:
    try:
        value = int(text)  # refuses some thousand digits too
    except ValueError:
        value = None
    if value is None or (least is not None and value < least):
        said = text if len(text) <= 40 else f"{text[:40]}..."
        raise argparse.ArgumentTypeError(
            f"{said} is not a whole number" + ("" if least is None else f" of at least {least}")
        )
    return value


def add_model(parser: argparse.ArgumentParser, *, batches: bool = True, choose: bool = True) -> None:
    """--device, --precision, and --model and --batch-size unless the verb names its own or takes one photo a time."""
    if choose:
        parser.add_argument(
            "--model", metavar="M", help="checkpoint directory or hub id (default: the model that ships)"
        )
    parser.add_argument("--device", help="as torch names it: cpu, cuda, cuda:1, mps (default: the fastest there is)")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "int8"),
        default="fp32",
        help="of the weights; less is faster, and a few captions change (default: fp32)",
    )
    if batches:
        parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images at once (default: 32)")


def add_walk(parser: argparse.ArgumentParser) -> None:
    """--frames and --all: which images the named paths stand for."""
    parser.add_argument(
        "--frames",
        type=_frames,
        default="scenes",
        metavar="N|scenes",
        help="of a video: N frames at even distances, or one of each scene (default: scenes)",
    )
    parser.add_argument(
        "--all", action="store_true", help="take hidden files too, and folders of thumbnails and deleted files"
    )


def require(package: str, extra: str, purpose: str) -> None:
    """Raise ``MissingExtraError`` where a package is not installed, before anything is read or loaded."""
    from captioner.errors import MissingExtraError

    if find_spec(package) is None:
        raise MissingExtraError(package, extra, purpose)


def require_readers(data: Sequence[str]) -> None:
    """Raise ``MissingExtraError`` where one of several datasets is a table that cannot be read here."""
    for name in data:
        tables = (name, os.path.join(name, "metadata.parquet"))
        if found := next((path for path in tables if path.endswith(".parquet") and os.path.isfile(path)), None):
            require("pyarrow", "parquet", f"reading {found}")


def complain_of(left: LeftOut) -> None:
    """Tell on stderr what a walk has left out."""
    for sentence in left.sentences():
        complain(f"captioner: {sentence}")


def add_private(parser: argparse.ArgumentParser) -> None:
    """Add --allow-private."""
    parser.add_argument(
        "--allow-private",
        action="store_true",
        help="let URLs from stdin or tables, and redirects, lead to this machine and to private networks",
    )


def reach_of(args: argparse.Namespace) -> Reach:
    """Return where URLs may lead: those that are typed may name private places, those of a list on stdin may not."""
    if args.allow_private:
        return "private"
    return "public" if "-" in args.paths else "named"


def _frames(text: str) -> int | str:
    if text == "scenes":
        return text
    value = positive(text)
    if value > MOST_FRAMES:
        raise argparse.ArgumentTypeError(f"a video gives at most {MOST_FRAMES} frames; ask for fewer")
    return value


def add_sidecars(parser: argparse.ArgumentParser) -> None:
    """--sidecars."""
    parser.add_argument(
        "--sidecars",
        choices=("lines", "one"),
        default="lines",
        help="in a text file beside an image each line is a caption, or the whole file is one (default: lines)",
    )


def add_generation(parser: argparse.ArgumentParser) -> None:
    """Add the options of generation."""
    group = parser.add_argument_group(
        "how captions are written", "what is not given is the model's own, from its generation.json"
    )
    for name, settings in GENERATION.items():
        group.add_argument("--" + name.replace("_", "-"), **settings)


def generation_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of ``add_generation`` that were given, as ``captioner.config.with_options`` takes it.

    Raises ``ConfigError`` for options that contradict each other, before a model is loaded.
    """
    from captioner.config import GenerationConfig, with_options

    given = {name: getattr(args, name) for name in GENERATION if getattr(args, name) is not None}
    if "bias" in given:
        given["bias"] = dict(given["bias"])
    with_options(GenerationConfig(max_tokens=sys.maxsize), given)
    return given


def _bias(text: str) -> tuple[str, float]:
    words, _, value = text.rpartition("=")
    try:
        if words:
            return words, float(value)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text} is not of the form WORDS=NUMBER")


# Each option is named as the setting of GenerationConfig, of its sampling or of its rules that it changes.
GENERATION: dict[str, dict[str, Any]] = {
    "beams": {"type": positive, "metavar": "N", "help": "beams of the search, 1 is greedy"},
    "candidates": {"type": positive, "metavar": "N", "help": "captions of a photo that compete: best beams, or draws"},
    "rerank": {
        "choices": ("score", "consensus", "matching"),
        "help": "compete by their own score, by consensus of them all, or by how well they match the photo",
    },
    "refine": {
        "type": count,
        "metavar": "N",
        "help": "rewrite where the model doubts, up to N rounds; keep the better; 0 is off",
    },
    "length_penalty": {"type": float, "metavar": "P", "help": "rank by log-probability / length ** P"},
    "min_tokens": {"type": count, "metavar": "N", "help": "tokens of a caption at least, its end counted; 0 is off"},
    "max_tokens": {"type": positive, "metavar": "N", "help": "tokens of a caption at most, its end counted"},
    "groups": {"type": positive, "metavar": "N", "help": "groups of beams that hold each other off by --diversity"},
    "diversity": {
        "type": float,
        "metavar": "D",
        "help": "what a word costs for each earlier group that chose it there",
    },
    "temperature": {
        "type": float,
        "metavar": "T",
        "help": "draw words by chance; below 1 the likelier ones more often; 0 takes the likeliest, greedily",
    },
    "top_k": {"type": count, "metavar": "K", "help": "draw from the K likeliest words; 0 is off"},
    "top_p": {
        "type": float,
        "metavar": "P",
        "help": "draw from the likeliest words that make up the share P; 1 is off",
    },
    "min_p": {
        "type": float,
        "metavar": "P",
        "help": "draw from words of at least P times the likeliest's probability; 0 is off",
    },
    "typical_p": {
        "type": float,
        "metavar": "P",
        "help": "draw from the words of most usual surprise, of the share P; 1 is off",
    },
    "seed": {"type": whole, "metavar": "N", "help": "draw anew; draws depend on this and on the photo's pixels alone"},
    "prefix": {"metavar": "TEXT", "help": "every caption begins with TEXT"},
    "require": {
        "action": "append",
        "metavar": "WORDS",
        "help": "captions say WORDS; 'dog|puppy' is either; repeatable",
    },
    "forbid": {"action": "append", "metavar": "WORDS", "help": "captions do not say WORDS; repeatable"},
    "bias": {
        "type": _bias,
        "action": "append",
        "metavar": "WORDS=B",
        "help": "add B to the log-probability of WORDS; repeatable",
    },
    "repetition_penalty": {
        "type": float,
        "metavar": "F",
        "help": "log-probability of words said before, times F; 1 is off",
    },
    "no_repeat_ngram": {"type": count, "metavar": "N", "help": "no N tokens in a row twice; 0 is off"},
    "language": {"metavar": "LANG", "help": "language of the captions, en or zh, where the model writes several"},
}


def add_outside(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--outside",
        action="store_true",
        help="the data may name images outside its folder, by absolute paths or ../ (default: such a row is refused)",
    )


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the options that train and finetune share."""
    parser.add_argument("--data", required=True, nargs="+", metavar="DATA", help="folders or files of captioned images")
    add_outside(parser)
    add_sidecars(parser)
    parser.add_argument("--held-out", metavar="FILE", help="names of the training images to hold out, one a line")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change a setting of the recipe, such as stages.0.lr=3e-4; may be repeated",
    )
    parser.add_argument("--out", metavar="DIR", help="where the run goes (default: runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")


def training_data(args: argparse.Namespace, recipe: Recipe, *, text: Sequence[str] = ()) -> Data:
    """Read the data that the options of ``add_training`` name, for a run of ``recipe``."""
    from captioner.training.setup import read_data

    return read_data(
        args.data,
        text=text,
        held_out=args.held_out,
        sidecars=args.sidecars,
        validation_images=recipe.validation_images,
        outside=args.outside,
        report=complain,
    )


def fitted(args: argparse.Namespace, images: int) -> Recipe:
    """The recipe that the options of ``add_training`` name, for so many training images; tells what that changes."""
    from captioner.data.told import counted
    from captioner.training.recipe import load_recipe

    plain, recipe = (load_recipe(args.recipe, args.settings, images=known) for known in (None, images))
    for number, (stage, before) in enumerate(zip(recipe.stages, plain.stages, strict=True)):
        if stage != before:
            complain(
                f"a set of {counted(images, 'image')}: epochs {stage.epochs}, batch_size {stage.batch_size}, "
                f"lr {stage.lr:g}, patience {stage.patience} (the recipe's table of sizes; "
                f"--set stages.{number}.epochs=N and the like go over it)"
            )
    return recipe


def leads() -> bool:
    """Whether this process is the one of a distributed run that speaks (torchrun and accelerate set the rank)."""
    return os.environ.get("RANK", "0") == "0"


def complain(text: str) -> None:
    """One line on stderr, once in a distributed run."""
    if leads():
        print(plain(text), file=sys.stderr, flush=True)
