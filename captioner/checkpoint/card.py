"""The model card of a checkpoint."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from captioner.config import CaptionerConfig, from_dict
from captioner.errors import ConfigError, UsageError

PLACE = "path/of/this/directory"  # placeholder in a card for the path of the checkpoint
SMALLER = "## How it was made smaller"
_FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\r?\n(?P<front>(?:.*\n)*?)---[ \t]*(?:\r?\n|$)")


@dataclass(frozen=True, kw_only=True)
class PrunedNote:
    """A pruning, as training.json notes it; pairs are before and after."""

    heads: tuple[int, int]
    hidden: tuple[int, int]
    parameters: tuple[int, int]  # of the decoder's layers
    images: int  # that chose what stays
    epochs: int  # of distillation

    @property
    def sentence(self) -> str:
        """The note in words."""
        return (
            f"kept {self.heads[1]} of {self.heads[0]} attention heads and {self.hidden[1]} of {self.hidden[0]} hidden "
            f"units in each layer of the decoder, chosen on {self.images} photos; {self.parameters[1]:,} of "
            f"{self.parameters[0]:,} parameters of these layers remain; then {self.epochs} epochs of distillation from "
            "the original"
        )


@dataclass(frozen=True, kw_only=True)
class VocabularyNote:
    """A trimming of the vocabulary, as training.json notes it."""

    before: int
    after: int
    captions: int

    @property
    def sentence(self) -> str:
        """The note in words."""
        return f"kept {self.after} of {self.before} tokens, those that {self.captions} captions need"


NOTES: Mapping[str, type[PrunedNote] | type[VocabularyNote]] = {"pruned": PrunedNote, "vocabulary": VocabularyNote}


def noted(training: Mapping[str, Any], **notes: Any) -> dict[str, Any]:
    """Return the content of training.json with further notes on how the captioner was made smaller."""
    before = training.get("compressed")
    return {**training, "compressed": {**(before if isinstance(before, Mapping) else {}), **notes}}


def inherited(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of training.json without the notes that further training makes untrue.

    These are the average that the weights were, and the type that they were stored in. A pruned captioner stays pruned.
    """
    kept = {name: value for name, value in training.items() if name not in ("averaged", "compressed")}
    compressed = training.get("compressed")
    if isinstance(compressed, Mapping) and (lasting := {n: v for n, v in compressed.items() if n != "weights"}):
        kept["compressed"] = lasting
    return kept


def write_card(config: CaptionerConfig, training: Mapping[str, Any], *, adapter: str = "") -> str:
    """Return a model card in Markdown: usage, architecture, training data, scores on held-out images.

    ``adapter`` names the adapter and its base.
    """
    decoder, preprocess = config.decoder, config.preprocess
    lines = [
        "# Image captioner",
        "",
        "```python",
        "import captioner",
        "",
        f'print(captioner.load("{PLACE}").caption("photo.jpg"))',
        "```",
        "",
        "| | |",
        "|---|---|",
        f"| encoder | timm `{config.vision.backbone}`, {preprocess.size} x {preprocess.size} pixels, "
        f"{preprocess.aspect} |",
        f"| decoder | {decoder.layers} layers of width {decoder.width}, {decoder.heads} heads, "
        f"{decoder.vocab_size} tokens, at most {decoder.context} in a caption |",
        f"| attention | words `{decoder.self_pattern}`, image `{decoder.cross_pattern}` "
        "(G global, L local, M mixed by a gate) |",
    ]
    if config.heads is not None:
        known = ["search", *(["matching"] if config.heads.matching else [])]
        known += [f"{len(config.heads.tags)} words of tags"] if config.heads.tags else []
        lines.append(f"| heads | {', '.join(known)} |")
    if adapter:
        lines.append(f"| adapter | {adapter} |")
    if "images" in training:
        lines.append(
            f"| trained on | {training['images']} images, {training.get('text_lines', 0)} lines of text; "
            f"{training.get('held_out_images', 0)} images held out to choose |"
        )
    if isinstance(averaged := training.get("averaged"), list):
        lines.append(f"| weights | the average of {len(averaged)} captioners |")
    held_out = training.get("held_out")
    for name, value in held_out.items() if isinstance(held_out, Mapping) else ():
        if isinstance(value, (int, float)):
            lines.append(f"| held out: {name.replace('_', ' ')} | {value:.2f} |")
    lines += [
        "",
        "The model describes photos in the words of its training captions. It gives an unknown subject the name of a",
        "similar one. It can be wrong about people and things, counts, colours, gender and age. Do not use it where a",
        "wrong caption does harm, and evaluate it on your own photos first:",
        "`captioner evaluate --data DATA --model DIR`.",
        "",
    ]
    return "\n".join(lines)


def with_compression(card: str, done: Mapping[str, Any]) -> str:
    """Return a card that ends in a section on what ``done``, of training.json, did to the captioner.

    Notes of another form, which a checkpoint of others may hold, are left out.
    """
    lines = [SMALLER, "", "The lines above describe the captioner before `captioner compress`, which did this:", ""]
    for name, kind in NOTES.items():
        with contextlib.suppress(ConfigError):
            lines.append(f"- {from_dict(kind, done.get(name, {})).sentence}")
    lines.append(f"- stored its weights in {done.get('weights', 'fp32')}")
    before = card.split(f"\n{SMALLER}\n")[0].rstrip("\n")
    return "\n".join([before, "", *lines, ""])


def hub_card(card: str, name: str, *, license: str | None = None, base: str = "") -> str:
    """Return a card for the hub: with front matter, and the repository ``name`` in its usage example.

    Existing front matter is kept; ``license`` replaces its licence, and ``base`` is added if it names no base model.
    Raises ``UsageError`` for a ``license`` that is not a hub identifier.
    """
    if license is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", license):
        raise UsageError(
            f"{license!r} is not a licence identifier of the hub; use one such as apache-2.0, mit or other"
        )
    text = card.replace(PLACE, name)
    if match := _FRONT_MATTER.match(text):
        front, rest = match["front"].splitlines(), text[match.end() :]
        front = _with_key(front, "license", license, replace=True)
        return "\n".join(["---", *_with_key(front, "base_model", base, replace=False), "---", rest])
    front = ["library_name: captioner", "pipeline_tag: image-to-text"]
    front = _with_key(_with_key(front, "license", license, replace=True), "base_model", base, replace=True)
    return "\n".join(["---", *front, "tags:", "- image-captioning", "---", "", text])


def _with_key(front: list[str], key: str, value: str | None, *, replace: bool) -> list[str]:
    """Return front matter lines with the top-level ``key`` set; ``replace`` overwrites an existing value."""
    begin = next((n for n, line in enumerate(front) if re.match(rf"{key}\s*:", line)), None)
    if not value or (begin is not None and not replace):
        return front
    if begin is None:
        return [*front, f"{key}: {value}"]
    end = begin + 1
    while end < len(front) and re.match(r"\s|-|$", front[end]):  # a list or a multi-line text
        end += 1
    return [*front[:begin], f"{key}: {value}", *front[end:]]
