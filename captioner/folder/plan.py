"""The settings of a run over a folder: the outputs, their location, and the treatment of existing captions."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, Literal, get_args

from captioner.config import to_dict
from captioner.data.urls import is_url
from captioner.errors import UsageError

Output = Literal["txt", "caption", "jsonl", "csv", "metadata", "coco", "xmp"]
Existing = Literal["skip", "overwrite", "append", "prepend"]
OUTPUTS: tuple[Output, ...] = get_args(Output)
EXISTING: tuple[Existing, ...] = get_args(Existing)
FIELDS = ("caption", "name", "folder")
"""The fields of a template: the caption, the photo's name without its suffix, the name of its folder."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Part ``number`` of ``of``, counted from 1; the hash of a photo's key assigns it to a part.

    The parts are disjoint and complete, independent of machine and order, and adding photos does not move others. They
    have equal sizes only on average.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise UsageError(f"{self} is not a shard; shards are numbered from 1, such as 1/8 to 8/8")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip(), re.ASCII)
        if not match:
            shortened = text if len(text) <= 40 else f"{text[:40]}..."
            raise UsageError(f"{shortened} is not a shard; write 1/8 to 8/8")
        return cls(number=int(match[1]), of=int(match[2]))

    def holds(self, key: str) -> bool:
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1


@dataclass(frozen=True, kw_only=True)
class Place:
    """The locations of the photos and of the output files, as absolute paths."""

    root: str  # keys are relative to it
    out: str  # folder of tables and journal
    beside: bool  # files beside the photos; otherwise below ``out``, with the folders of the photos below ``root``
    named: tuple[str, ...] = ()  # folders that the command names, or that contain files it names

    def key(self, identity: str) -> str:
        """Return a photo's key in the journal: its path relative to ``root``, else absolute; a URL as it is."""
        return _below(identity, self.root)

    def name(self, identity: str) -> str:
        """Return a photo's name in a table: its path relative to ``out``, else absolute; a URL as it is."""
        return _below(identity, self.out)

    def holds(self, identity: str) -> bool:
        """Return whether a photo is in a folder that the command names, without resolving symlinks."""
        return any(is_below(os.path.abspath(identity), top) for top in (self.root, *self.named))

    def whole(self, key: str) -> str:
        """Return the absolute path of the photo with this ``key``; a URL as it is."""
        return key if is_url(key) else os.path.abspath(os.path.join(self.root, key))


def place_of(paths: Sequence[str], out: str | None) -> Place:
    """Return the place of a run; the root is the given folder, a single file's folder, or the current directory."""
    root = os.path.abspath(os.curdir)
    absolute = [os.path.abspath(path) for path in paths if os.path.exists(path)]
    named = tuple(dict.fromkeys(path if os.path.isdir(path) else os.path.dirname(path) for path in absolute))
    if len(paths) == 1 and named:
        root = named[0]
    return Place(root=root, out=os.path.abspath(out) if out else root, beside=out is None, named=named)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of a run.

    ::

        plan = Plan(place=place_of(["photos/"], None), outputs=("txt",), existing="overwrite")
        run = Run(plan, {"model": None})
    """

    place: Place
    outputs: tuple[Output, ...] = ()
    existing: Existing = "skip"  # treatment of existing captions
    template: str = "{caption}"  # text to write, with ``FIELDS``
    separator: str = ", "  # between the existing and the new caption of append and prepend
    min_confidence: float = 0.0  # captions below it only go to review.jsonl
    shard: Shard | None = None
    follow_links: bool = False  # write through symlinks that lead out of the folders of the run

    def __post_init__(self) -> None:
        for name in self.outputs:
            if name == "parquet":  # type: ignore[comparison-overlap]  # the plan comes from a command line
                raise UsageError(
                    "parquet needs Ray: add --ray local (pip install 'captioner[ray]') and a new folder as --out, or "
                    "write jsonl"
                )
            if name not in OUTPUTS:
                raise UsageError(f"unknown output {name!r}; choose from {', '.join(OUTPUTS)}")
        if len(set(self.outputs)) < len(self.outputs):
            raise UsageError(f"duplicate output in {','.join(self.outputs)}; name each once")
        if self.existing not in EXISTING:
            raise UsageError(f"existing must be one of {', '.join(EXISTING)}, not {self.existing}")
        if not (math.isfinite(self.min_confidence) and 0 <= self.min_confidence <= 1):
            raise UsageError(f"min_confidence must be from 0 to 1, not {self.min_confidence:g}")
        check_template(self.template)
        if "metadata" in self.outputs and os.path.isabs(_below(self.place.root, self.place.out)):
            raise UsageError(
                "metadata.jsonl can only name photos below its own folder, and --out is another one; leave out --out, "
                "or write jsonl instead of metadata"
            )

    @property
    def part(self) -> str:
        """The infix of a shard's file names, such as ``.00003-of-00016``; empty without shards."""
        return f".{self.shard.number:05}-of-{self.shard.of:05}" if self.shard else ""

    def identity(self) -> dict[str, Any]:
        """Return the settings that a later command must share to resume the run, as plain values."""
        values = to_dict(self)
        del values["follow_links"], values["place"]["named"]
        return values

    def compose(self, caption: str, identity: str) -> str:
        """Return the template filled with a caption."""
        folder, last = os.path.split(identity.replace("\\", "/"))
        values = {"caption": caption, "name": os.path.splitext(last)[0], "folder": os.path.basename(folder)}
        return self.template.format(**values).strip()

    def combine(self, old: str, new: str) -> str:
        """Return the new text combined with the existing one, according to ``existing``."""
        if not old.strip() or self.existing in ("skip", "overwrite"):
            return new
        pair = (old.strip(), new) if self.existing == "append" else (new, old.strip())
        return self.separator.join(pair)


def plan_of(
    paths: Sequence[str],
    *,
    outputs: Sequence[Output],
    out: str | None,
    existing: Existing,
    template: str,
    separator: str,
    min_confidence: float,
    shard: str | None,
    follow_links: bool,
) -> Plan:
    """Return the plan of a run over ``paths``, from the settings of a command or a call."""
    return Plan(
        place=place_of(paths, out),
        outputs=tuple(outputs),
        existing=existing,
        template=template,
        separator=separator,
        min_confidence=min_confidence,
        shard=Shard.parse(shard) if shard else None,
        follow_links=follow_links,
    )


def template_of(template: str | None, before: str, after: str) -> str:
    """Return a template with fixed texts before and after it."""
    first, last = (text.replace("{", "{{").replace("}", "}}") for text in (before, after))
    return first + (template or "{caption}") + last


def check_template(template: str) -> None:
    """Raise ``UsageError`` for a template that cannot be filled in, or that would drop the caption."""
    known = " ".join(f"{{{name}}}" for name in FIELDS)
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"the template {template!r} is invalid ({error}); write {{{{ for a literal brace") from None
    fields = [(name, spec, conversion) for _, name, spec, conversion in parts if name is not None]
    if any(name not in FIELDS or spec or conversion for name, spec, conversion in fields):
        raise UsageError(f"the template {template!r} contains an unknown field; use {known}")
    if not any(name == "caption" for name, _, _ in fields):
        raise UsageError(f"the template {template!r} lacks the caption; add {{caption}}")


def is_below(path: str, folder: str) -> bool:
    """Return whether an absolute path is in an absolute folder, at any depth, without resolving symlinks."""
    return os.path.normcase(path).startswith(os.path.normcase(os.path.join(folder, "")))


def _below(identity: str, folder: str) -> str:
    if is_url(identity):
        return identity
    path = os.path.abspath(identity)
    if is_below(path, folder):
        path = path[len(os.path.join(folder, "")) :]
    elif path == folder:
        path = "."
    return path.replace(os.sep, "/")
