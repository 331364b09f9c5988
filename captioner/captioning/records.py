"""Captions as records for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captioner.captioning.captions import Caption


def record_of(caption: Caption, *, details: bool) -> dict[str, Any]:
    """Return a caption as plain values; ``details`` adds confidence, words and labels. Vectors are included."""
    record: dict[str, Any] = {"caption": caption.text, "score": round(caption.score, 4)}
    if details:
        record["confidence"] = round(caption.confidence, 4)
        record["words"] = [[word.text, round(word.probability, 4)] for word in caption.words]
        if caption.labels:
            record["labels"] = [[label.text, round(label.probability, 4)] for label in caption.labels]
    record |= unsure_field(caption.unsure)
    for name in ("embedding", "text_embedding", "features"):
        if (vector := getattr(caption, name)) is not None:
            record[name] = [round(value, 6) for value in vector.tolist()]
    if caption.alternatives:
        record["alternatives"] = [record_of(other, details=details) for other in caption.alternatives]
    return record


def unsure_field(unsure: bool) -> dict[str, Any]:
    """Return the field of a record that is unsure; a record that is not has none."""
    return {"unsure": True} if unsure else {}


def spoken(text: str, *, unsure: bool) -> str:
    """Return a caption or an answer as plain text, with a word of warning if it is unsure."""
    return f"not sure: {text}" if unsure else text
