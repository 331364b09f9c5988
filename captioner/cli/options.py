"""Options that several commands share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from captioner.cli.arguments import Part, add_argument, argument, whole
from captioner.cli.output import paths_of, print_caption, print_json
from captioner.config import GenerationConfig, Option, generation_options, with_options
from captioner.data.paths import plain
from captioner.errors import require

if TYPE_CHECKING:
    from captioner.captioning.captions import Caption
    from captioner.data.connections import Reach
    from captioner.data.items import Item
    from captioner.data.leftout import LeftOut
    from captioner.inference.precision import Precision
    from captioner.pipelines import CaptionPipeline


MOST_FRAMES = 1_000_000  # per video: every frame of nine hours


def _frames(text: str) -> int | str:
    if text == "scenes":
        return text
    value = whole(text, least=1)
    if value > MOST_FRAMES:
        raise argparse.ArgumentTypeError(f"{text} is more than {MOST_FRAMES} frames; ask for fewer")
    return value


@dataclass(frozen=True, kw_only=True)
class Photos:
    """The photos that a command names."""

    paths: tuple[str, ...] = field(
        metadata=argument(
            help="file, folder, pattern, zip, tar, video, URL, or - to read from stdin",
            metavar="PATH",
            positional=True,
            nargs="+",
        )
    )
    frames: int | Literal["scenes"] = field(
        default="scenes",
        metadata=argument(
            help="frames of a video: N evenly spaced ones, or one per scene (default: %(default)s)",
            metavar="N|scenes",
            parse=_frames,
        ),
    )
    everything: bool = field(
        default=False,
        metadata=argument(flag="--all", help="include hidden files, and folders of thumbnails and deleted files"),
    )

    @property
    def reach(self) -> Reach:
        """The hosts that URLs may reach: arguments may name private ones, a list on stdin may not."""
        return "public" if "-" in self.paths else "named"

    def left_out(self) -> LeftOut:
        """Return a new count of left-out files."""
        from captioner.data.leftout import LeftOut

        return LeftOut(everything=self.everything)

    def items(self, left: LeftOut) -> Iterator[Item]:
        """Yield the images of the paths."""
        from captioner.data.find import find_items

        return find_items(paths_of(self.paths), frames=self.frames, reach=self.reach, left=left)


@dataclass(frozen=True, kw_only=True)
class PhotosAnywhere(Photos):
    """The photos of a command that may reach private networks."""

    allow_private: bool = field(
        default=False,
        metadata=argument(
            help="private networks: allow URLs from stdin or tables, and redirects, to reach them and this machine"
        ),
    )

    @property
    def reach(self) -> Reach:
        """The hosts that URLs may reach."""
        return "private" if self.allow_private else super().reach


@cache
def _warn_of_slow(precision: Precision, device: str | None) -> None:
    """Print a sentence, once, if a precision is not faster than fp32 on this CPU."""
    from captioner.inference.precision import faster

    if faster(precision):
        return
    if precision == "bf16":
        from captioner.pipelines import choose_device

        if choose_device(device) != "cpu":
            return
    compared = "not faster" if precision == "int8" else "much slower"
    print_status(
        f"captioner: {precision} is {compared} than fp32 on this CPU (`captioner doctor` says why), and changes a few "
        f"captions; leave out --precision {precision} unless memory is short"
    )


@dataclass(frozen=True, kw_only=True)
class Device:
    """The hardware and the precision of a model."""

    device: str | None = field(
        default=None,
        metadata=argument(help="torch device: cpu, cuda, cuda:1, mps (default: the fastest one available)"),
    )
    precision: Literal["fp32", "bf16", "int8"] = field(
        default="fp32",
        metadata=argument(
            help="precision of the weights; bf16 and int8 are faster on most CPUs and change a few captions (default: "
            "%(default)s)"
        ),
    )

    def checked_precision(self) -> Precision:
        """Return the precision, after a sentence on stderr if fp32 is as fast on this CPU."""
        _warn_of_slow(self.precision, self.device)
        return self.precision


@dataclass(frozen=True, kw_only=True)
class Compute(Device):
    """The computation of batches."""

    batch_size: int = field(
        default=32, metadata=argument(help="batch size (default: %(default)s)", metavar="N", least=1)
    )


MODEL = argument(help="checkpoint directory or hub id (default: the shipped model)", metavar="M")
JSON_SCORES = argument(help="print the scores as one JSON object")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The reading of a dataset."""

    outside: bool = field(
        default=False,
        metadata=argument(
            help="allow the data to name images outside its folder, by absolute paths or ../ (default: refuse such a "
            "row)"
        ),
    )
    sidecars: Literal["lines", "one"] = field(
        default="lines",
        metadata=argument(
            help="caption files beside images: a caption per line, or one per file (default: %(default)s)"
        ),
    )


FORBID_FILE = Option(
    help="word list: a UTF-8 file of forbidden words or phrases, one per line; # begins a comment", metavar="FILE"
)


def _add_generation(parser: argparse.ArgumentParser) -> None:
    section = parser.add_argument_group("generation", "defaults come from the model's generation.json")
    for name, known in generation_options().items():
        add_argument(section, name, known.hint, None, known.option)
        if name == "forbid":
            add_argument(section, "forbid_file", str, None, FORBID_FILE)


def _read_generation(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were set. Raises ``ConfigError`` for contradictory ones, before a model is loaded."""
    options = {name: values[name] for name in generation_options() if values[name] is not None}
    if values["forbid_file"] is not None:
        from captioner.captioning.word_list import word_list

        options["forbid"] = [*options.get("forbid", ()), *word_list(values["forbid_file"])]
    if "bias" in options:
        options["bias"] = dict(options["bias"])
    with_options(GenerationConfig(max_tokens=sys.maxsize), options)
    return options


GENERATION = {"part": Part(add=_add_generation, read=_read_generation)}
"""The metadata of a field with options for generation, in the form of ``captioner.config.with_options``."""


def require_readers(data: Sequence[str]) -> None:
    """Raise ``MissingExtraError`` if a dataset is a Parquet file and pyarrow is not installed."""
    for name in data:
        tables = (name, os.path.join(name, "metadata.parquet"))
        if table := next((path for path in tables if path.endswith(".parquet") and os.path.isfile(path)), None):
            require("pyarrow", "parquet", f"reading {table}")


def print_left_out(left: LeftOut) -> None:
    """Print on stderr which files were left out."""
    for sentence in left.sentences():
        print_status(f"captioner: {sentence}")


def is_rank_zero() -> bool:
    """Return whether this is rank 0 of a distributed run; torchrun and accelerate set the rank."""
    return os.environ.get("RANK", "0") == "0"


def print_status(text: str) -> None:
    """Print a line on stderr, only on rank 0 of a distributed run."""
    if is_rank_zero():
        print(plain(text), file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class Printing:
    """The form of results on stdout."""

    json: bool = field(default=False, metadata=argument(help="JSON lines: path, caption, score; or path, error"))
    details: bool = field(
        default=False, metadata=argument(help="JSON lines that include confidence and word probabilities")
    )

    @property
    def records(self) -> bool:
        """True for JSON lines, which include errors."""
        return self.json or self.details

    def print_caption(self, path: str, caption: Caption) -> None:
        print_caption(path, caption, json=self.json, details=self.details)

    def print_error(self, path: str, error: str) -> None:
        print_json({"path": path, "error": error})


@dataclass(frozen=True, kw_only=True)
class Captioning:
    """The photos, their captions, and the form of results on stdout."""

    photos: PhotosAnywhere
    printing: Printing
    count: int = field(default=1, metadata=argument(help="captions per photo, best first", metavar="N", least=1))
    model: str | None = field(default=None, metadata=MODEL)
    compute: Compute
    generation: Mapping[str, Any] = field(metadata=GENERATION)

    def load(self) -> CaptionPipeline:
        """Load the model."""
        from captioner.pipelines import load

        return load(self.model, device=self.compute.device, precision=self.compute.checked_precision())
