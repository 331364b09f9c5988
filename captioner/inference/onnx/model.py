"""The encoder and the decoder of a captioner as two graphs of ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captioner.config import CaptionerConfig, DecoderConfig
from captioner.errors import UsageError
from captioner.inference.onnx.layout import LABELS, LOGITS, MEMORY, PATCHES, PIXELS, STATES, TOKENS, cache_names
from captioner.inference.precision import Precision
from captioner.layers.attention import ImageRead
from captioner.layers.cache import DecoderCache
from captioner.models.decoder import Decoder, ImageMemory
from captioner.models.encoder_decoder import EncoderDecoder
from captioner.models.vision import AT_ONCE, EncodedImage, Features

NO_WEIGHTS = (
    "an ONNX export captions and scores captions, but has neither attention maps nor weights of layers; load the "
    "checkpoint that it was made from"
)


@dataclass(frozen=True)
class OnnxImage(EncodedImage):
    """The encoder's output, with what the decoder's graph reads."""

    states: Tensor = field(kw_only=True)  # (B, S, layers * 2 * D)


class OnnxCache(DecoderCache):
    """Past keys and values of each caption, as the decoder's graph takes them: every caption has its own rows."""

    def __init__(self, images: int, config: DecoderConfig) -> None:
        super().__init__(layers=[], places=torch.zeros(0, dtype=torch.long, device="cpu"))
        self._images = images
        empty = np.zeros((images, config.heads, 0, config.one_head_width), np.float32)
        self.past: list[NDArray[np.float32]] = [empty] * (2 * config.layers)  # (B * K, H, words, Dh) each

    @property
    def images(self) -> int:
        """The number of images, B."""
        return self._images

    def fork(self, parents: Tensor) -> None:
        """Let caption k of image b continue caption ``parents[b, k]``; ``parents`` (B, K) may change K."""
        first = torch.arange(self._images, device="cpu")[:, None] * self.captions
        self._select((first + parents).flatten())
        self.captions = parents.shape[1]

    def keep(self, images: Tensor) -> None:
        """Keep only the given images (B',)."""
        self._select((images[:, None] * self.captions + torch.arange(self.captions, device="cpu")).flatten())
        self._images = len(images)

    def _select(self, rows: Tensor) -> None:
        if not torch.equal(rows, torch.arange(len(self.past[0]), device="cpu")):
            self.past = [part[rows.numpy()] for part in self.past]


class OnnxDecoder(Decoder):
    """The decoder's graph, with the interface of the decoder that the searches call."""

    def __init__(self, session: Any, config: DecoderConfig) -> None:
        nn.Module.__init__(self)  # not the decoder's, which makes weights
        self.config, self.draft = config, None
        self._session = session
        self._past = cache_names(config.layers, "past_key_values")
        self._outputs = [LOGITS, *cache_names(config.layers, "present")]

    def remember(self, encoded: EncodedImage, dtype: torch.dtype | None = None) -> ImageMemory:
        """Return the memory of encoded images; ``made`` holds what the graph reads, once for all layers."""
        assert isinstance(encoded, OnnxImage)
        return ImageMemory(((encoded.states, encoded.states),), torch.zeros(0, 2, device="cpu"), encoded.prefix)

    def new_cache(self, images: int, slots: int) -> OnnxCache:
        """Return an empty cache, which grows with the captions."""
        return OnnxCache(images, self.config)

    def forward(
        self,
        tokens: Tensor,
        memory: ImageMemory | None = None,
        cache: DecoderCache | None = None,
        *,
        last: bool = False,
        reads: list[ImageRead] | None = None,
    ) -> Tensor:
        """Return the next-token logits (N, T, V) of ``tokens`` (N, T), or (N, 1, V) with ``last``.

        Raises ``UsageError`` if attention maps are asked for.
        """
        if reads is not None or memory is None:
            raise UsageError(NO_WEIGHTS)
        kept = cache if isinstance(cache, OnnxCache) else OnnxCache(len(tokens), self.config)
        states = memory.layers[0][0]  # (B, S, layers * 2 * D)
        rows = states.repeat_interleave(len(tokens) // len(states), dim=0)  # (N, S, layers * 2 * D)
        given = {TOKENS: tokens.numpy(), MEMORY: rows.numpy(), **dict(zip(self._past, kept.past, strict=True))}
        logits, *kept.past = self._session.run(self._outputs, given)
        kept.words += tokens.shape[1]
        out = torch.from_numpy(logits)  # (N, T, V)
        return out[:, -1:] if last else out

    def states(self, *args: Any, **kwargs: Any) -> Tensor:
        """Raise ``UsageError``: the graph returns logits only."""
        raise UsageError(NO_WEIGHTS)

    branches = states

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxDecoder:
        return self  # immutable, and a session cannot be copied


class OnnxModel(EncoderDecoder):
    """A captioner that ONNX Runtime computes on the CPU; it has no weights of its own."""

    def __init__(
        self,
        config: CaptionerConfig,
        sessions: tuple[Any, Any],
        *,
        grid: tuple[int, int],
        prefix: int,
        precision: Precision,
    ) -> None:
        """Take over the ``sessions`` of the encoder's and the decoder's graph."""
        super().__init__()
        self.config, self.precision = config, precision
        self._encoder, decoder = sessions
        self._grid, self._prefix = grid, prefix
        self.heads = self.labeller = self.question = None
        self.decoder = OnnxDecoder(decoder, config.decoder)
        # It tells others that the device is the CPU.
        self.place = nn.Parameter(torch.zeros(0, device="cpu"), requires_grad=False)

    def encode_image(self, pixels: Tensor) -> OnnxImage:
        """Encode normalised ``pixels`` (B, 3, size, size) as label and patch tokens (B, S, D)."""
        names = [STATES, PATCHES, *([LABELS] if self.config.labels is not None else [])]
        parts = [self._encoder.run(names, {PIXELS: part.contiguous().numpy()}) for part in pixels.split(AT_ONCE)]
        states, tokens, *labels = map(_joined, zip(*parts, strict=True))
        return OnnxImage(tokens, self._grid, self._prefix, labels[0] if labels else None, states=states)

    def encode_features(self, features: Features) -> EncodedImage:
        """Raise ``UsageError``: the graph reads pixels."""
        raise UsageError(NO_WEIGHTS)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxModel:
        return self  # immutable, and a session cannot be copied


def _joined(parts: Sequence[NDArray[np.float32]]) -> Tensor:
    return torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts))
