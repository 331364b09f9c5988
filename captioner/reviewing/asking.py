"""The model of a review: loaded when it is first asked, in one thread, for suggestions and for attention per word."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from captioner.errors import UsageError
from captioner.folder.entry import Photo

if TYPE_CHECKING:
    from captioner.pipelines import CaptionPipeline

NONE = "none"
MOST = 8  # suggestions
_LONGEST = 500  # characters of a prefix or of forbidden words


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A person's wish for suggestions."""

    prefix: str = ""
    forbid: tuple[str, ...] = ()
    count: int = 4

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Wish:
        """Return the wish in values from the page. Raises ``UsageError`` for other types."""
        prefix, forbid, count = values.get("prefix", ""), values.get("forbid", ""), values.get("count", cls.count)
        if not isinstance(prefix, str) or not isinstance(forbid, str) or max(len(prefix), len(forbid)) > _LONGEST:
            raise UsageError(f"prefix and forbidden words must be texts of at most {_LONGEST} characters")
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
            raise UsageError(f"the number of suggestions must be from 1 to {MOST}")
        words = tuple(word.strip() for word in forbid.split(",") if word.strip())
        return cls(prefix=prefix.strip(), forbid=words, count=count)

    def options(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return the generation options: ``own``, those of all suggestions, and what the person adds."""
        options = {
            **own,
            "prefix": self.prefix or own.get("prefix", ""),
            "forbid": (*own.get("forbid", ()), *self.forbid),
        }
        return {name: value for name, value in options.items() if value != "" and value != ()}


class Asked:
    """The model. ``name``: a checkpoint, None for the one that ships, ``none`` for no model."""

    def __init__(
        self,
        name: str | None,
        *,
        device: str | None = None,
        precision: Any = "fp32",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.available = name != NONE
        self._name, self._device, self._precision = name, device, precision
        self._options = options or {}
        self._mutex = threading.Lock()
        self._pipe: CaptionPipeline | None = None

    def suggest(self, photo: Photo, wish: Wish) -> list[dict[str, object]]:
        """Return captions, best first. Raises ``CaptionerError`` for a photo or a wish that cannot be used."""
        with self._mutex:
            caption = self._loaded().caption(photo.source, count=wish.count, **wish.options(self._options))
        found = (caption, *caption.alternatives)
        return [{"text": one.text, "confidence": round(one.confidence, 4)} for one in found if one.text]

    def explain(self, photo: Photo, caption: str) -> list[dict[str, object]]:
        """Return each word of a caption with its probability, an overlay for the photo, and the place in words."""
        from captioner.explain.page import veil, where

        with self._mutex:
            reading = self._loaded().explain(photo.source, caption)
        words = zip(reading.words, reading.probabilities, reading.maps, strict=True)
        return [
            {
                "word": word,
                "probability": round(float(probability), 4),
                "veil": veil(read, reading),
                "where": where(read),
            }
            for word, probability, read in words
        ]

    def _loaded(self) -> CaptionPipeline:
        if not self.available:
            raise UsageError("this review has no model; start it without --model none")
        if self._pipe is None:
            from captioner.pipelines import load

            self._pipe = load(self._name, device=self._device, precision=self._precision)
        return self._pipe


def captions_in(values: Mapping[str, Any], name: str = "captions") -> Sequence[str]:
    """Return the texts in a field. Raises ``UsageError`` for another type."""
    texts = values.get(name)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{name} must be a list of texts")
    return texts
