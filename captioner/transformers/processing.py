"""The processor of a captioner in transformers: photos to the pixels that our own loading gives, texts to tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import transformers
from transformers import PreTrainedTokenizerFast, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature

from captioner.config import PreprocessConfig, from_dict, to_dict
from captioner.data.loader import Transform
from captioner.errors import CheckpointError, ConfigError, UsageError
from captioner.text import CaptionTokenizer, language_of
from captioner.text.portable import adds_space, names_of, portable


class CaptionerImageProcessor(BaseImageProcessor):  # type: ignore[misc]
    """Photos to ``pixel_values``: paths, URLs, bytes, PIL images and arrays, one or a list of them."""

    model_input_names = ["pixel_values"]  # noqa: RUF012  (transformers' own form)

    def __init__(self, captioner: dict[str, Any] | None = None, **others: Any) -> None:
        super().__init__(**others)
        try:
            self.captioner = to_dict(from_dict(PreprocessConfig, captioner or {}))
        except ConfigError as error:
            raise CheckpointError(f"the image processor has settings that cannot be used: {error}") from error

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Return the images as they are: ``preprocess`` reads paths and URLs itself."""
        return image_url_or_urls

    def __call__(self, images: Any, **options: Any) -> BatchFeature:
        """Return ``pixel_values`` (B, 3, size, size) of one image or a list."""
        return self.preprocess(images, **options)

    def preprocess(self, images: Any, return_tensors: Any = "pt", **options: Any) -> BatchFeature:
        """Return ``pixel_values`` (B, 3, size, size) of one image or a list. Raises ``ImageError``."""
        import torch

        transform = Transform(from_dict(PreprocessConfig, self.captioner))
        pixels = [transform(image) for image in _flat(images)]
        if not pixels:
            raise UsageError("no images; give one or a list of them")
        return BatchFeature({"pixel_values": torch.stack(pixels)}, tensor_type=return_tensors)


def _flat(images: Any) -> Iterable[Any]:
    if not isinstance(images, (list, tuple)):
        return [images]
    return [one for image in images for one in _flat(image)]


class CaptionerProcessor(ProcessorMixin):  # type: ignore[misc]
    """Image processor and tokenizer of a captioner.

    ::

        processor(images=photos)  # pixel_values, for generate
        processor(images=photos, text="a photo of")  # and input_ids, the beginning of the captions
        processor(images=photos, text_target=captions)  # and labels, for training

    ``languages``: The start token of each language; empty for a captioner of one language.
    """

    if transformers.__version__.startswith("4."):  # version 5 reads the arguments of __init__ instead, and warns
        attributes = ["image_processor", "tokenizer"]
        image_processor_class = "AutoImageProcessor"
        tokenizer_class = "AutoTokenizer"

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        languages: Mapping[str, int] | None = None,
        **others: Any,
    ) -> None:
        super().__init__(image_processor, tokenizer, **others)
        self.languages = dict(languages or {})

    def __call__(
        self,
        images: Any = None,
        text: str | list[str] | None = None,
        *,
        text_target: str | list[str] | None = None,
        max_length: int | None = None,
        return_tensors: Any = "pt",
        **ignored: Any,
    ) -> BatchFeature:
        """Return the tensors of photos, of beginnings of captions, and of captions to learn, of ``max_length`` tokens.

        Padding of labels is -100, which the loss ignores. With several languages, ``text_target`` also gives
        ``decoder_input_ids``, in which each caption has the start token of its language.
        """
        if images is None and text is None and text_target is None:
            raise UsageError("nothing to process; give images, text or text_target")
        values: dict[str, Any] = {}
        if images is not None:
            values.update(self.image_processor(images, return_tensors=return_tensors))
        if text is not None:
            values["input_ids"] = self._beginnings([text] if isinstance(text, str) else list(text))
        if text_target is not None:
            captions = [text_target] if isinstance(text_target, str) else list(text_target)
            cut: dict[str, Any] = {"max_length": max_length, "truncation": True} if max_length else {}
            made = self.tokenizer(captions, padding=True, **cut)
            rows = list(zip(made["input_ids"], made["attention_mask"], strict=True))
            values["labels"] = [[token if real else -100 for token, real in zip(*row, strict=True)] for row in rows]
            if self.languages:
                starts = [self.languages[language_of(caption, self.languages)] for caption in captions]
                values["decoder_input_ids"] = [
                    [start, *tokens[:-1]] for start, (tokens, _) in zip(starts, rows, strict=True)
                ]
        return BatchFeature(values, tensor_type=return_tensors)

    def _beginnings(self, texts: list[str]) -> list[list[int]]:
        start, pad = self.tokenizer.bos_token_id, self.tokenizer.pad_token_id
        rows = [[start, *self.tokenizer(one, add_special_tokens=False)["input_ids"]] for one in texts]
        longest = max(map(len, rows))
        return [row + [pad] * (longest - len(row)) for row in rows]

    def post_process_image_text_to_text(self, tokens: Any, **options: Any) -> list[str]:
        """Return the texts of generated tokens."""
        options.setdefault("skip_special_tokens", True)
        options.pop("clean_up_tokenization_spaces", None)
        texts: list[str] = self.tokenizer.batch_decode(tokens, **options)
        return texts


def fast_tokenizer(tokenizer: CaptionTokenizer) -> PreTrainedTokenizerFast:
    """Return a tokenizer of transformers: it prepares captions as training does, and adds the end token."""
    return PreTrainedTokenizerFast(
        tokenizer_object=portable(tokenizer),
        **{f"{name}_token": token for name, token in names_of(tokenizer).items()},
        add_prefix_space=adds_space(tokenizer),
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
