"""The whole model: pixels and tokens in, logits out."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from captioner.config import AdapterConfig, CaptionerConfig, HeadsConfig, LabelsConfig
from captioner.models.classifier import LabelClassifier
from captioner.models.decoder import Decoder
from captioner.models.encoder_decoder import EncoderDecoder
from captioner.models.heads import Heads
from captioner.models.joint import JointOutputs, JointQuery, read_jointly
from captioner.models.labels import Labeller, LabelQuery, LabelSet
from captioner.models.vision import EncodedImage, Features, VisionEncoder
from captioner.system.process import plain_defaults, survive_forks


class Outputs(NamedTuple):
    """The outputs of one pass; None for those not asked for.

    A tuple, because the wrappers of a distributed run look for tensors in tuples, not in dataclasses.
    """

    logits: Tensor  # (B, K, T, V)
    labels: Tensor | None = None  # (B, G), log-odds of each label
    joint: JointOutputs | None = None  # the outputs of the heads


class Captioner(EncoderDecoder):
    """A captioner that can be trained and saved: teacher forcing, and parts added before training.

    ::

        model = Captioner(config)
        logits = model(tokens, pixels).logits  # (B, K, T, V)
    """

    @plain_defaults()
    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        survive_forks()
        self.config = config
        self.vision = VisionEncoder(config.vision, config.preprocess, config.patch_width)
        self.decoder = Decoder(config.decoder)
        self.heads = Heads(config.heads, config.decoder) if config.heads is not None else None
        self.labeller = self._make_labeller()
        self.question = Decoder(config.question) if config.question is not None else None
        self.adapter: AdapterConfig | None = None  # with an adapter, only its weights are trained and saved

    @plain_defaults()
    def add_heads(self, config: HeadsConfig) -> None:
        """Add fresh heads to a model without heads."""
        self.config = replace(self.config, heads=config)
        heads = Heads(config, self.config.decoder).to(self.decoder.token_embedding.weight.device)
        self.heads = heads.train(self.training)

    @plain_defaults()
    def add_labeller(self, config: LabelsConfig) -> None:
        """Add a fresh labeller, in place of the one that is there, if any."""
        self.config = replace(self.config, labels=config)
        labeller = self._make_labeller()
        assert labeller is not None
        self.labeller = labeller.to(self.decoder.token_embedding.weight.device).train(self.training)
        self.labeller.align(self.decoder)

    def _make_labeller(self) -> Labeller | None:
        config, classifier = self.config.labels, None
        self.vision.shared_blocks = None
        if config is None:
            return None
        if config.classifier is not None:
            classifier = LabelClassifier(config.classifier, self.config.vision, self.config.preprocess)
            self.vision.shared_blocks = config.classifier.blocks
        return Labeller(config, self.vision.channels, self.config.decoder, classifier)

    def forward(
        self,
        tokens: Tensor,
        image: Tensor | Features | LabelSet | None = None,
        ask: JointQuery | LabelQuery | None = None,
    ) -> Outputs:
        """Return teacher-forced logits of tokens (B, K, T); the K captions of an image share one encoding.

        ``image``: pixels (B, 3, size, size), cached ``Features``, a ``LabelSet`` that stands for images, or None for
        language modelling without cross-attention. ``ask``: also return the outputs of the heads (a ``JointQuery``) or
        of the labeller (a ``LabelQuery``), in the same call because a distributed run synchronises on it.
        """
        labels = ask if isinstance(ask, LabelQuery) else None
        encoded = None
        if isinstance(image, LabelSet):
            assert self.labeller is not None
            encoded = self.labeller.label_tokens_alone(image, self.decoder.token_embedding)
        elif image is not None:
            features = image if isinstance(image, Features) else self.vision.features(image)
            encoded = self._encode(features, labels.given if labels is not None else None)
        if isinstance(ask, JointQuery):
            assert encoded is not None
            assert self.heads is not None
            logits, joint = read_jointly(self.decoder, self.heads, encoded, tokens, ask, eos_id=self.config.text.eos_id)
            return Outputs(logits, joint=joint)
        memory = self.decoder.remember(encoded) if encoded is not None else None
        logits = self.decoder(tokens.flatten(0, 1), memory)  # (B * K, T, V)
        logits = logits.unflatten(0, tokens.shape[:2])
        return Outputs(logits, labels=encoded.labels if labels is not None and encoded is not None else None)

    def _encode(self, features: Features, given: Tensor | None) -> EncodedImage:
        """Encode features as ``encode_features`` does, with the label tokens that ``given`` (B, G) chooses."""
        if given is None:
            return self.encode_features(features)
        assert self.labeller is not None
        features = self.vision.finished(features)
        log_odds, embedding = self.labeller(features), self.decoder.token_embedding
        return self.labeller.with_label_tokens(self.vision.tokens(features), log_odds, embedding, given)
