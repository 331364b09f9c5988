"""A captioner as a directory of transformers: a plain ``VisionEncoderDecoderModel`` where it is one, else our class."""

from __future__ import annotations

from pathlib import Path

from captioner.checkpoint import Checkpoint
from captioner.errors import UsageError, require
from captioner.exporting import vision_encoder_decoder


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write ``checkpoint`` into the empty ``folder``.

    GPT-2 with a ViT or another timm backbone that gives a sequence becomes a ``VisionEncoderDecoderModel``, which
    transformers opens by itself. All others become a ``CaptionerForConditionalGeneration``, which it opens after
    ``import captioner.transformers``. Raises ``UsageError`` for a captioner that answers questions, and
    ``MissingExtraError`` without transformers.
    """
    if checkpoint.config.question is not None:
        raise UsageError("a captioner that answers questions has no form in transformers here; use its original")
    if vision_encoder_decoder.obstacle(checkpoint) is None:
        vision_encoder_decoder.write(checkpoint, folder)
        return
    require("transformers", "transformers", "the export of a captioner that is no plain ViT and GPT-2")
    from captioner.transformers import export

    export(checkpoint, folder)
