"""The configuration of a captioner in transformers: our own, with the attributes that transformers looks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

from captioner import config as own
from captioner.errors import CheckpointError, ConfigError


class CaptionerConfig(PretrainedConfig):  # type: ignore[misc]
    """The settings of config.json and generation.json of a captioner, of ``model_type`` "captioner".

    captioner: ``captioner.config.CaptionerConfig`` as a dictionary; ``settings`` returns it, checked.
    generation: The decoding defaults as a dictionary, for the way back; transformers reads generation_config.json.
    """

    model_type = "captioner"

    def __init__(
        self, captioner: Mapping[str, Any] | None = None, generation: Mapping[str, Any] | None = None, **others: Any
    ) -> None:
        self.captioner = dict(captioner or {})
        self.generation = dict(generation or {})
        text, decoder = (self.captioner.get(part) or {} for part in ("text", "decoder"))
        others |= {
            "is_encoder_decoder": True,
            "tie_word_embeddings": decoder.get("head", "tied") in ("tied", "bert"),
            "bos_token_id": text.get("bos_id"),
            "eos_token_id": text.get("eos_id"),
            "pad_token_id": text.get("pad_id"),
            "decoder_start_token_id": text.get("bos_id"),
        }
        self.vocab_size = decoder.get("vocab_size", 0)
        self.hidden_size = decoder.get("width", 0)
        self.num_hidden_layers = decoder.get("layers", 0)
        self.num_attention_heads = decoder.get("heads", 0)
        super().__init__(**others)

    @property
    def settings(self) -> own.CaptionerConfig:
        """The settings of the captioner. Raises ``CheckpointError`` for settings of no captioner."""
        try:
            return own.from_dict(own.CaptionerConfig, self.captioner)
        except ConfigError as error:
            raise CheckpointError(f"config.json describes no captioner that can be built: {error}") from error
