"""A captioner as a ``PreTrainedModel``: pixels and labels in, loss and logits out; ``generate`` is our own search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import Seq2SeqLMOutput

from captioner.errors import UsageError
from captioner.models.captioner import Captioner
from captioner.transformers.configuration import CaptionerConfig
from captioner.transformers.generating import generated

IGNORED = -100  # transformers' label of a place without loss
_REGISTER = nn.Module.register_parameter


@contextmanager
def _in_memory() -> Iterator[None]:
    """Let modules keep their weights: transformers 4 replaces this function by one that drops them while it loads.

    A captioner runs its backbone once when it is built, to learn its grid.
    """
    given = nn.Module.register_parameter
    nn.Module.register_parameter = _REGISTER  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = given  # type: ignore[method-assign]


class CaptionerForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A captioner for transformers; ``captioner`` is our own model.

    It computes in fp32, or in autocast's precision (``bf16=True`` of ``TrainingArguments``).
    """

    config_class = CaptionerConfig
    base_model_prefix = "captioner"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    _tied_weights_keys = {  # noqa: RUF012  (transformers' own form)
        "captioner.decoder.lm_head.weight": "captioner.decoder.token_embedding.weight"
    }

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__(config)
        settings = config.settings
        if settings.question is not None:
            raise UsageError(
                "this captioner answers questions, which captioner.transformers does not; use captioner.load"
            )
        with _in_memory():
            self.captioner = Captioner(settings)
        # transformers loads into a model without memory, and forgets tables that are not saved.
        self._tables = {name: table.clone() for name, table in self._unsaved()}
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **options: Any) -> Any:
        """Load a directory or hub repository as ``PreTrainedModel.from_pretrained`` does; weights are fp32.

        Raises ``UsageError`` for another dtype.
        """
        for name in ("dtype", "torch_dtype"):
            if options.get(name) not in (None, "auto", "float32", torch.float32):
                raise UsageError(
                    f"a captioner computes in fp32, not {options[name]}; omit {name}, and use torch.autocast for speed"
                )
        loaded = super().from_pretrained(*args, **options)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.restore_tables()
        return loaded

    def restore_tables(self) -> None:
        """Restore the tables that are not saved: tokens of labels, positions of a backbone."""
        for name, table in self._tables.items():
            parent, _, leaf = name.rpartition(".")
            module = self.get_submodule(parent)
            device = next(self.parameters()).device
            module.register_buffer(leaf, table.to(device, copy=True), persistent=False)

    def _unsaved(self) -> list[tuple[str, Tensor]]:
        saved = self.state_dict().keys()
        return [(name, table) for name, table in self.named_buffers() if name not in saved]

    def _init_weights(self, module: nn.Module) -> None:
        """Leave the weights as they are: ``Captioner`` initialises its own."""

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of tokens."""
        return self.captioner.decoder.token_embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Refuse another embedding, since the vocabulary belongs to the configuration."""
        raise UsageError("the vocabulary of a captioner cannot be changed; train one with another tokenizer")

    def get_output_embeddings(self) -> nn.Module:
        """Return the linear layer of the logits."""
        return self.captioner.decoder.lm_head

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Return the decoder's input (B, T) for ``labels`` (B, T): the start token, then all but the last label.

        The start token is that of the default language: only the processor, whose ``decoder_input_ids`` have the start
        tokens of other languages, knows the texts.
        """
        text = self.captioner.config.text
        shifted = F.pad(labels[:, :-1], (1, 0), value=text.bos_id)
        return shifted.masked_fill(shifted == IGNORED, text.pad_id)

    def forward(
        self,
        pixel_values: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        input_ids: Tensor | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **ignored: Any,
    ) -> Any:
        """Return logits (B, T, V), and with ``labels`` (B, T) their mean cross-entropy, as a ``Seq2SeqLMOutput``.

        labels: Token ids of the captions with the end token, -100 for padding.
        decoder_input_ids: Token ids from the start token on; by default the shifted labels. ``input_ids`` is the same.
        num_items_in_batch: Number of labels of all accumulated batches, which ``Trainer`` gives: the loss is then
            their share of the mean.
        """
        tokens = input_ids if decoder_input_ids is None else decoder_input_ids
        if tokens is None:
            if labels is None:
                raise UsageError("the model needs labels or decoder_input_ids; call generate() to caption")
            tokens = self.prepare_decoder_input_ids_from_labels(labels)
        if pixel_values is None:
            raise UsageError("the model needs pixel_values; get them with processor(images=...)")
        logits = self.captioner(tokens[:, None], pixel_values).logits[:, 0]  # (B, T, V)
        loss = None
        if labels is not None:
            flat = logits.flatten(0, 1).float()
            total = F.cross_entropy(flat, labels.flatten(), ignore_index=IGNORED, reduction="sum")
            count = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
            loss = total / count
        if return_dict is False:
            return (logits,) if loss is None else (loss, logits)
        return Seq2SeqLMOutput(loss=loss, logits=logits)

    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: Any = None,
        *,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """Return captions (B * num_return_sequences, T) of ``pixel_values`` (B, 3, size, size), best first per image.

        They begin with the start token of their language, end with the end token, and are padded. ``input_ids`` (or
        ``decoder_input_ids``, except with ``labels``, in a batch for training): the first tokens, from the start token
        on. The other options are those of transformers' ``generate`` that have a counterpart here;
        ``self.generation_config`` holds the defaults. Raises ``UsageError`` for others.
        """
        pixels = inputs if pixel_values is None else pixel_values
        if pixels is None:
            raise UsageError("generate() needs pixel_values; get them with processor(images=...)")
        start = input_ids if decoder_input_ids is None or options.get("labels") is not None else decoder_input_ids
        defaults = self.generation_config if generation_config is None else generation_config
        before = self.training
        self.eval()
        try:
            return generated(self.captioner, pixels.to(self.device), start, defaults, options)
        finally:
            self.train(before)
