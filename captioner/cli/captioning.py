"""The options of `captioner caption` that apply to stdout, to files and to a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from captioner.cli.arguments import argument
from captioner.cli.options import GENERATION, MODEL, Compute, PhotosAnywhere
from captioner.cli.output import print_caption, print_json

if TYPE_CHECKING:
    from captioner.captioning.captions import Caption
    from captioner.pipelines import CaptionPipeline


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

        return load(self.model, device=self.compute.device, precision=self.compute.precision)
