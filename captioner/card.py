"""The model card of a checkpoint, from what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from captioner.config import CaptionerConfig

PLACE = "path/of/this/directory"  # stands in a card for where its checkpoint lies


def write_card(config: CaptionerConfig, training: Mapping[str, Any], *, adapter: str = "") -> str:
    """Markdown: how to use the checkpoint, what it is, what it learnt from, how it did on held-out images.

    ``adapter`` says what was trained alone, and on top of what.
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
    for name, value in (training.get("held_out") or {}).items():
        lines.append(f"| held out: {name.replace('_', ' ')} | {value:.2f} |")
    lines += [
        "",
        "It describes what its training photos showed, in their words; of other subjects it says what looks most like",
        "them. It can be wrong about who and what is seen, about counts, colours, gender and age. Do not use it where",
        "a wrong caption does harm, and check it on your own photos first:",
        "`captioner evaluate --data DATA --model DIR`.",
        "",
    ]
    return "\n".join(lines)


def published(card: str, name: str, *, license: str | None = None, base: str = "") -> str:
    """A card as the hub reads it: what it tells of the repository ``name`` on top, and how to load it from there.

    A card that begins with such a head keeps its own.
    """
    text = card.replace(PLACE, name)
    if text.startswith("---\n"):
        return text
    head = ["---", "library_name: captioner", "pipeline_tag: image-to-text"]
    head += [f"license: {license}"] if license else []
    head += [f"base_model: {base}"] if base else []
    return "\n".join([*head, "tags:", "- image-captioning", "---", "", text])
