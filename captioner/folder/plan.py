"""What a person asked of a run over a folder: which outputs, where, and what becomes of the captions there are."""

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
"""What a template may hold: the caption, the photo's name without its suffix, the name of its folder."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Part ``number`` of ``of``, counted from 1: the photos whose key's hash falls into it.

    The parts are disjoint and complete on any machine, in any order, and a photo stays in its part when others are
    added. They are equal only on average.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise UsageError(f"{self} is no part; parts are numbered from 1, such as 1/8 to 8/8")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip(), re.ASCII)
        if not found:
            said = text if len(text) <= 40 else f"{text[:40]}..."
            raise UsageError(f"{said} is no part of a run; write it as 1/8 to 8/8")
        return cls(number=int(found[1]), of=int(found[2]))

    def holds(self, key: str) -> bool:
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the photos are and where files about them go; absolute paths.

    ``root`` is what keys are relative to, ``out`` the folder of tables and of the journal. With ``beside`` a photo's
    own files stand beside it, otherwise below ``out`` as the photo stands below ``root``. ``named``: folders that the
    command names, those of single files too, which may lie elsewhere than ``root``.
    """

    root: str
    out: str
    beside: bool
    named: tuple[str, ...] = ()

    def key(self, identity: str) -> str:
        """A photo's name in the journal: the path below ``root`` with slashes, else absolute; a URL as it is."""
        return _below(identity, self.root)

    def name(self, identity: str) -> str:
        """A photo's name in a table: the path below the table's folder, else absolute; a URL as it is."""
        return _below(identity, self.out)

    def holds(self, identity: str) -> bool:
        """Whether a photo lies in a folder that the command names, by names alone."""
        return any(is_below(os.path.abspath(identity), top) for top in (self.root, *self.named))

    def whole(self, key: str) -> str:
        """The absolute path of the photo that ``key`` names; a URL as it is."""
        return key if is_url(key) else os.path.abspath(os.path.join(self.root, key))


def place_of(paths: Sequence[str], out: str | None) -> Place:
    """Of a single folder, that folder, of a single file its own; of anything else, the folder the command runs in."""
    root = os.path.abspath(os.curdir)
    wholes = [os.path.abspath(path) for path in paths if os.path.exists(path)]
    named = tuple(dict.fromkeys(whole if os.path.isdir(whole) else os.path.dirname(whole) for whole in wholes))
    if len(paths) == 1 and named:
        root = named[0]
    return Place(root=root, out=os.path.abspath(out) if out else root, beside=out is None, named=named)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to write for every photo.

    ``template`` is what is written of a caption, ``separator`` what stands between a caption and the one it is appended
    or prepended to. Captions whose confidence is below ``min_confidence`` go to the review list alone. Files behind
    links that lead out of the folders of the run are written with ``follow_links`` only.
    """

    place: Place
    outputs: tuple[Output, ...] = ()
    existing: Existing = "skip"
    template: str = "{caption}"
    separator: str = ", "
    min_confidence: float = 0.0
    shard: Shard | None = None
    follow_links: bool = False

    def __post_init__(self) -> None:
        for name in self.outputs:
            if name == "parquet":  # type: ignore[comparison-overlap]  # the plan comes from a command line
                raise UsageError(
                    "parquet is written by a Ray cluster alone: give --ray local too (pip install 'captioner[ray]') "
                    "and a new folder as --out, or write jsonl"
                )
            if name not in OUTPUTS:
                raise UsageError(f"{name or 'nothing'} cannot be written; choose among {', '.join(OUTPUTS)}")
        if len(set(self.outputs)) < len(self.outputs):
            raise UsageError(f"an output is named twice in {','.join(self.outputs)}; name each once")
        if self.existing not in EXISTING:
            raise UsageError(f"{self.existing} is no way with captions that exist; choose among {', '.join(EXISTING)}")
        if not (math.isfinite(self.min_confidence) and 0 <= self.min_confidence <= 1):
            raise UsageError(f"a confidence lies between 0 and 1; {self.min_confidence:g} does not")
        check_template(self.template)
        if "metadata" in self.outputs and os.path.isabs(_below(self.place.root, self.place.out)):
            raise UsageError(
                "metadata.jsonl names photos below its own folder, and --out lies elsewhere; leave --out away, or "
                "write jsonl in place of metadata"
            )

    @property
    def part(self) -> str:
        """What the part of a sharded run adds to the names of its files: ``.00003-of-00016``, or nothing."""
        return f".{self.shard.number:05}-of-{self.shard.of:05}" if self.shard else ""

    def identity(self) -> dict[str, Any]:
        """What a later command has to share to go on with the run, as plain values."""
        values = to_dict(self)
        del values["follow_links"], values["place"]["named"]
        return values

    def compose(self, caption: str, identity: str) -> str:
        """A caption in the template."""
        folder, last = os.path.split(identity.replace("\\", "/"))
        values = {"caption": caption, "name": os.path.splitext(last)[0], "folder": os.path.basename(folder)}
        return self.template.format(**values).strip()

    def combine(self, old: str, new: str) -> str:
        """The new text and the one that is there, as ``existing`` says."""
        if not old.strip() or self.existing in ("skip", "overwrite"):
            return new
        pair = (old.strip(), new) if self.existing == "append" else (new, old.strip())
        return self.separator.join(pair)


def template_of(template: str | None, before: str, after: str) -> str:
    """A template with fixed texts round it."""
    first, last = (text.replace("{", "{{").replace("}", "}}") for text in (before, after))
    return first + (template or "{caption}") + last


def check_template(template: str) -> None:
    """Raise ``UsageError`` for a template that cannot be filled in, or that would drop the caption."""
    known = " ".join(f"{{{name}}}" for name in FIELDS)
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"the template {template!r} cannot be read ({error}); a lone brace is written twice") from None
    fields = [(name, spec, conversion) for _, name, spec, conversion in parts if name is not None]
    if any(name not in FIELDS or spec or conversion for name, spec, conversion in fields):
        raise UsageError(f"the template {template!r} holds a field that is not known; there are {known}")
    if not any(name == "caption" for name, _, _ in fields):
        raise UsageError(f"the template {template!r} would drop every caption; put {{caption}} where it belongs")


def is_below(path: str, folder: str) -> bool:
    """Whether an absolute path lies in an absolute folder, at any depth, by their names alone."""
    return os.path.normcase(path).startswith(os.path.normcase(os.path.join(folder, "")))


def _below(identity: str, folder: str) -> str:
    if is_url(identity):
        return identity
    whole = os.path.abspath(identity)
    found = whole[len(os.path.join(folder, "")) :] if is_below(whole, folder) else "." if whole == folder else whole
    return found.replace(os.sep, "/")
