"""Self-supervised pre-training of the decoder on text without images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from captioner.errors import DataError
from captioner.models.captioner import Captioner
from captioner.training.batches import Batch, TextItems, batches
from captioner.training.features import FeatureStore
from captioner.training.tasks.base import Data, Task, plain_nll, weighted_cross_entropy


class LanguageModel(Task):
    """Next-token prediction on lines of text (Radford et al. 2019), through the decoder without its image half."""

    wants_images = False
    yardstick = "text"

    @classmethod
    def check(cls, data: Data) -> None:
        if not data.text or not data.validation_text:
            raise DataError("the stage language_model learns from text; give files of one caption a line with --text")

    def items(self, store: FeatureStore | None) -> TextItems:
        return self._items(self.data.text)

    def _items(self, lines: Sequence[str]) -> TextItems:
        return TextItems(lines, self.tokenizer, context=self.recipe.decoder_config(1).context)

    def lengths(self) -> Sequence[int]:
        return [len(line) for line in self.data.text]

    def trained(self, name: str) -> bool:
        return name.startswith("decoder.") and ".cross_" not in name

    def loss(self, wrapped: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits = self.logits(wrapped, batch)
        loss, nll = weighted_cross_entropy(
            logits, batch.targets, batch.weights, label_smoothing=self.stage.label_smoothing
        )
        return {"loss": loss, "nll": nll}

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits (B, 1, T, V) of a batch of lines."""
        logits: Tensor = model(batch.tokens).logits
        return logits

    def prepare_for_validation(self, model: Captioner, batch: Batch) -> Batch:
        """Return a batch of held-out lines with all that ``logits`` needs, the same at every validation."""
        return batch

    @torch.inference_mode()
    def validate(self, model: Captioner, store: FeatureStore | None, device: torch.device) -> dict[str, float]:
        items = self._items(self.data.validation_text)
        keys = [[(i, 0) for i in range(at, min(at + 64, len(items)))] for at in range(0, len(items), 64)]
        total = count = 0.0
        for batch in batches(items, keys, self.collate(), workers=0):
            batch = self.prepare_for_validation(model, batch.to(device))
            nll, tokens = plain_nll(self.logits(model, batch), batch)
            total, count = total + nll, count + tokens
        judged = (self.tokenizer.decode(ids) for ids in items.encoded)  # the lines, cut to the context
        words = sum(len(line.split()) + 1 for line in judged)
        return {"score": -total / count, "token_nll": total / count, "word_perplexity": math.exp(total / words)}
