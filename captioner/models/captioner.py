"""The whole model: pixels and tokens in, logits out."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor, nn

from captioner.config import AdapterConfig, CaptionerConfig, HeadsConfig, LabelsConfig
from captioner.errors import UsageError
from captioner.layers.linears import Precision
from captioner.models.decoder import Decoder, ImageMemory
from captioner.models.heads import Heads
from captioner.models.joint import JointOutputs, JointQuery, read_jointly
from captioner.models.labels import Labelled, Labeller
from captioner.models.vision import EncodedImage, Features, VisionEncoder
from captioner.process import plain_defaults, survive_forks


class Captioner(nn.Module):
    """A vision encoder and a decoder that reads its patch tokens.

    Each image is encoded once; greedy decoding, beam search and scoring all read the same memory::

        model = Captioner(config)
        encoded = model.encode_image(pixels)  # (B, S, D)
        memory = model.remember(encoded)
        logits = model.decoder(tokens, memory)  # (B * K, T, V)
    """

    @plain_defaults()
    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        survive_forks()
        self.config = config
        self.vision = VisionEncoder(config.vision, config.preprocess, config.decoder.width)
        self.decoder = Decoder(config.decoder)
        self.heads = Heads(config.heads, config.decoder) if config.heads is not None else None
        self.labeller: Labeller | None = None
        if config.labels is not None:
            self.labeller = Labeller(config.labels, self.vision.channels, config.decoder.width)
        self.adapter: AdapterConfig | None = None  # with an adapter, only its weights are trained and saved
        self.precision: Precision | None = None  # set by ``for_inference``, after which training is impossible

    def train(self, mode: bool = True) -> Captioner:
        """Set the training mode. Raises ``UsageError`` for a model that was prepared for inference."""
        if mode and self.precision is not None:
            raise UsageError(
                f"the model is prepared for inference in {self.precision} and cannot be trained; load its checkpoint "
                "without a precision"
            )
        return super().train(mode)

    @plain_defaults()
    def add_heads(self, config: HeadsConfig) -> None:
        """Add fresh heads to a model without heads."""
        self.config = replace(self.config, heads=config)
        self.heads = Heads(config, self.config.decoder).to(self.decoder.token_embedding.weight.device)

    @plain_defaults()
    def add_labeller(self, config: LabelsConfig) -> None:
        """Add a fresh labeller to a model without one."""
        self.config = replace(self.config, labels=config)
        labeller = Labeller(config, self.vision.channels, self.config.decoder.width)
        self.labeller = labeller.to(self.decoder.token_embedding.weight.device)

    def encode_image(self, pixels: Tensor) -> EncodedImage:
        """Encode normalised ``pixels`` (B, 3, size, size) as label and patch tokens (B, S, D)."""
        return self.encode_features(self.vision.features(pixels))

    def encode_features(self, features: Features) -> EncodedImage:
        """Encode the backbone's ``features``, cached or fresh, as label and patch tokens (B, S, D)."""
        features = self.vision.finished(features)
        encoded = self.vision.tokens(features)
        if self.labeller is None:
            return encoded
        return self.labeller.beside(encoded, self.labeller(features), self.decoder.token_embedding)

    def remember(self, encoded: EncodedImage) -> ImageMemory:
        """Return the decoder's keys and values of the encoded images."""
        return self.decoder.remember(encoded)

    def forward(
        self, tokens: Tensor, image: Tensor | Features | None = None, ask: JointQuery | Literal["labels"] | None = None
    ) -> Tensor | JointOutputs | Labelled:
        """Return teacher-forced logits (B, K, T, V) of tokens (B, K, T); the K captions of an image share one encoding.

        ``image``: pixels (B, 3, size, size), cached ``Features``, or None for language modelling without
        cross-attention. ``ask``: also return the outputs of the heads (a ``JointQuery``) or of the labeller ("labels"),
        in the same call because a distributed run synchronises on it.
        """
        encoded = None
        if image is not None:
            encoded = self.encode_features(image) if isinstance(image, Features) else self.encode_image(image)
        if isinstance(ask, JointQuery):
            assert encoded is not None
            assert self.heads is not None
            return read_jointly(self.decoder, self.heads, encoded, tokens, ask, eos_id=self.config.text.eos_id)
        memory = self.decoder.remember(encoded) if encoded is not None else None
        logits: Tensor = self.decoder(tokens.flatten(0, 1), memory)  # (B * K, T, V)
        logits = logits.unflatten(0, tokens.shape[:2])
        if ask == "labels" and encoded is not None and encoded.labels is not None:
            return Labelled(logits=logits, labels=encoded.labels)
        return logits
