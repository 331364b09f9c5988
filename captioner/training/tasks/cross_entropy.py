"""Teacher-forced captioning: the model predicts every word from the image and the words before it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from captioner.captioning.batches import caption_memory
from captioner.checkpoint import Checkpoint
from captioner.generation.rules import compile_rules
from captioner.generation.search import caption_room
from captioner.metrics.bleu import bleu
from captioner.metrics.cider import cider_d
from captioner.metrics.words import splitter
from captioner.models.captioner import Captioner
from captioner.models.decoder import Decoder, ImageMemory
from captioner.models.vision import EncodedImage, Features
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch, CaptionItems, Vary, Views, batches
from captioner.training.distributed import gather_objects, interleave, rank_share, total_of
from captioner.training.features import FeatureStore
from captioner.training.recipe import Recipe, Stage
from captioner.training.tasks.base import Data, Task, plain_nll, weighted_cross_entropy


class CrossEntropy(Task):
    """Label-smoothed cross-entropy on all captions of an image under one encoding (Vinyals et al. 2015, eq. 1)."""

    vary: Vary | None = None

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        super().__init__(recipe, stage, data, tokenizer)
        # Raise for rules that the search cannot satisfy, before the run begins.
        caption_room(recipe.decoder_config(1).context, recipe.generation, compile_rules(recipe.generation, tokenizer))

    def items(self, store: FeatureStore | None) -> CaptionItems:
        views: Views = "augmented" if self.stage.augment else "mirrored"
        return self.captions(self.data.train, store, views=views, vary=self.vary)

    def lengths(self) -> Sequence[int]:
        """Return the length of each image's longest caption, so that short captions get less padding."""
        return array("I", (max(map(len, sample.captions)) for sample in self.data.train))

    def loss(self, wrapped: nn.Module, batch: Batch) -> dict[str, Tensor]:
        loss, nll = weighted_cross_entropy(
            wrapped(batch.tokens, batch.image).logits,
            batch.targets,
            batch.weights,
            label_smoothing=self.stage.label_smoothing,
        )
        return {"loss": loss, "nll": nll}

    def judge(self, decoder: Decoder, memory: ImageMemory, batch: Batch) -> dict[str, tuple[float, float]]:
        """Return (sum of -log p, number of predicted tokens) of a batch of held-out captions, by name."""
        return {"token": plain_nll(decoder(batch.tokens.flatten(0, 1), memory), batch)}

    def collect_figures(self, model: Captioner, encoded: EncodedImage, memory: ImageMemory, batch: Batch) -> None:
        """Collect further figures of a batch of held-out images during validation."""

    @torch.inference_mode()
    def validate(self, model: Captioner, store: FeatureStore | None, device: torch.device) -> dict[str, float]:
        """Score captions of the held-out images, decoded with the rules, refinement and reranking of the recipe.

        An image without a caption that keeps the rules gets an empty caption.
        """
        tokenizer = self.tokenizer.with_config(model.config.text)  # with the special tokens of this stage
        checkpoint = Checkpoint(model, tokenizer, self.recipe.generation)
        samples = self.data.validation
        items = self.captions(samples, store, views="plain")
        mine = rank_share(range(len(items)))
        keys = [[(i, 0) for i in mine[at : at + 32]] for at in range(0, len(mine), 32)]
        judged: dict[str, tuple[float, float]] = {}
        written: list[list[str]] = []
        split = splitter(self.tokenizer.config.words)
        language = self.recipe.generation.language
        for batch in batches(items, keys, self.collate(store), workers=self.recipe.workers if store is None else 0):
            batch = batch.to(device)
            image = cast(Tensor | Features, batch.image)
            encoded = model.encode_features(image) if isinstance(image, Features) else model.encode_image(image)
            memory = model.remember(encoded)  # once, for the likelihood and the search
            for name, (nll, tokens) in self.judge(model.decoder, memory, batch).items():
                total, count = judged.get(name, (0.0, 0.0))
                judged[name] = total + nll, count + tokens
            self.collect_figures(model, encoded, memory, batch)
            values = image.values if isinstance(image, Features) else image
            hypotheses = caption_memory(checkpoint, memory, values, self.recipe.generation, labels=encoded.labels)
            written += [split(tokenizer.decode(best[0].tokens)) if best else [] for best in hypotheses]
        written = interleave(gather_objects(written))
        judged = total_of(gather_objects(judged))
        references = [
            [split(caption) for caption in self.tokenizer.captions_in(language, sample.captions)] for sample in samples
        ]
        cider, scores = cider_d(written, references), bleu(written, references)
        mean = {name: total / max(count, 1) for name, (total, count) in judged.items()}
        return {
            # CIDEr-D of very few images is 0 for any captions; then the likelihood decides.
            "score": cider.mean - 1e-3 * mean["token"],
            "cider_d": cider.mean,
            "bleu4": scores.bleu4,
            "distinct": 100 * len({tuple(caption) for caption in written}) / len(written),
            **{f"{name}_nll": value for name, value in mean.items()},
            **{f"{name}_perplexity": math.exp(value) for name, value in mean.items()},
        }
