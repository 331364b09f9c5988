"""The parts that training and inference share: vision encoder, decoder, heads, labeller, encoder of questions."""

from __future__ import annotations

from torch import Tensor, nn

from captioner.config import CaptionerConfig
from captioner.errors import UsageError
from captioner.models.decoder import Decoder, ImageMemory
from captioner.models.heads import Heads
from captioner.models.labels import Labeller
from captioner.models.vision import EncodedImage, Features, VisionEncoder


class EncoderDecoder(nn.Module):
    """A vision encoder and a decoder that reads its patch tokens; the other parts are optional.

    ``Captioner`` makes the parts, and ``captioner.inference`` prepares them. Each image is encoded once; greedy
    decoding, beam search and scoring all read the same memory::

        encoded = model.encode_image(pixels)  # (B, S, D)
        memory = model.remember(encoded)
        logits = model.decoder(tokens, memory)  # (B * K, T, V)
    """

    config: CaptionerConfig
    vision: VisionEncoder
    decoder: Decoder
    heads: Heads | None
    labeller: Labeller | None
    question: Decoder | None  # the encoder of questions

    def encode_image(self, pixels: Tensor) -> EncodedImage:
        """Encode normalised ``pixels`` (B, 3, size, size) as label and patch tokens (B, S, D)."""
        return self.encode_features(self.vision.features(pixels))

    def encode_features(self, features: Features) -> EncodedImage:
        """Encode the backbone's ``features``, cached or fresh, as label and patch tokens (B, S, D)."""
        features = self.vision.finished(features)
        encoded = self.vision.tokens(features)
        if self.labeller is None:
            return encoded
        return self.labeller.with_label_tokens(encoded, self.labeller(features), self.decoder.token_embedding)

    def remember(self, encoded: EncodedImage) -> ImageMemory:
        """Return the decoder's keys and values of the encoded images.

        Raises ``UsageError`` for a model that answers questions: its decoder reads questions, not images.
        """
        if self.question is not None:
            raise UsageError("this model answers questions and does not caption; use `captioner ask`, or pipe.ask")
        return self.decoder.remember(encoded)

    def encode_question(self, encoded: EncodedImage, tokens: Tensor) -> EncodedImage:
        """Encode one question per image, as what the decoder reads instead of patches (B, T, D).

        ``tokens`` (B, T): ids of the questions, all of one length. Only for a model with an encoder of questions.
        """
        assert self.question is not None
        states = self.question.states(tokens, self.question.remember(encoded))
        return EncodedImage(states, (0, 0), prefix=tokens.shape[1])
