"""Tiny random Hugging Face models in their usual files."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.text import train_tokenizer

IMAGE, PATCH, WIDTH, CONTEXT = 16, 8, 24, 16
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "cat", "man", "shirt", "red", "two", "how", "many"]
WORDS += ["what", "is", "this", "picture", "of", "##s", "##ing", "-", "'", "?", "t", "on", "the", "[DEC]", "[ENC]"]
PAD, CLS, SEP, DEC = 0, 2, 3, len(WORDS) - 2
SIDE = 32


@torch.no_grad()
def shake(model: Any, seed: int) -> None:
    """Set every weight to a large random value: biases and norms count too, and predictions are clear."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        norm = re.search(r"(ln_|layer_?norm)\w*\.weight", name.lower())
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(noise * (0.5 if parameter.ndim > 1 else 0.2) + (1.0 if norm else 0.0))


def same_logits(
    ours: Any, theirs: Any, pixels: torch.Tensor, tokens: torch.Tensor, *, name: str = "decoder_input_ids"
) -> None:
    """Assert that a converted captioner gives the original's logits.

    Compare in fp64, which separates a wrong formula from rounding; the import itself adds BERT's embeddings in fp32.
    ``name`` is the original's argument for tokens.
    """
    ours, theirs, pixels = copy.deepcopy(ours).double(), copy.deepcopy(theirs).double(), pixels.double()
    with torch.inference_mode():
        wanted = theirs(pixel_values=pixels, **{name: tokens}).logits
        found = ours(tokens[:, None], pixels).logits[:, 0]
    assert wanted.std() > 0.5  # far from flat, or agreement would prove little
    torch.testing.assert_close(found, wanted, atol=3e-5, rtol=0)


def tokenizer_json(size: int) -> str:
    """Return the file of a byte-level tokenizer, or of ``size`` letters if a byte-level one needs more tokens."""
    from tokenizers import Tokenizer, models

    if size >= 259:
        return train_tokenizer(["a dog on a beach", "two dogs"], size, lowercase=False).to_json()
    return str(Tokenizer(models.WordLevel({chr(97 + n): n for n in range(size)}, unk_token="a")).to_str())


@pytest.fixture(scope="session")
def gpt2_config() -> Callable[..., Any]:
    def make(**changes: Any) -> Any:
        from transformers import GPT2Config

        settings = {"vocab_size": 12, "n_positions": CONTEXT, "n_embd": WIDTH, "n_layer": 2, "n_head": 3}
        return GPT2Config(**{**settings, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, **changes})

    return make


@pytest.fixture(scope="session")
def vit_gpt2(
    tmp_path_factory: pytest.TempPathFactory, gpt2_config: Callable[..., Any]
) -> Callable[..., tuple[Any, Path]]:
    """Return ``make(seed, encoder=..., width=..., decoder=..., ...)``: a VisionEncoderDecoderModel, and its folder."""

    def make(
        seed: int = 0, *, encoder: str = "vit", width: int = WIDTH, decoder: dict[str, Any] | None = None, **vision: Any
    ) -> tuple[Any, Path]:
        import transformers

        kind = {"vit": transformers.ViTConfig, "deit": transformers.DeiTConfig}[encoder]
        settings = {"hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
        config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
            kind(**{**settings, "image_size": IMAGE, "patch_size": PATCH, **vision}), gpt2_config(**(decoder or {}))
        )
        model = transformers.VisionEncoderDecoderModel(config).eval()
        shake(model, seed)
        model.generation_config.decoder_start_token_id = 0
        directory = tmp_path_factory.mktemp("hf")
        model.save_pretrained(directory)
        side = {"height": IMAGE, "width": IMAGE}
        transformers.ViTImageProcessor(size=side).save_pretrained(directory)
        (directory / "tokenizer.json").write_text(tokenizer_json(model.config.decoder.vocab_size), encoding="utf-8")
        return model, directory

    return make


def originals(
    model: Any, pixels: torch.Tensor, beams: int, most: int, penalty: float, **options: Any
) -> list[list[tuple[Any, float]]]:
    """Return the captions of transformers' generate, best first, as tokens between start and end, with their scores."""
    with torch.inference_mode():
        found = model.generate(
            pixel_values=pixels,
            num_beams=beams,
            num_return_sequences=beams,
            max_new_tokens=most,
            length_penalty=penalty,
            early_stopping="never" if beams > 1 else None,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )
    words = [tuple(itertools.takewhile(lambda token: token != 1, row[1:].tolist())) for row in found.sequences]
    scores = found.sequences_scores.tolist() if beams > 1 else [float("nan")] * len(words)
    rows = list(zip(words, scores, strict=True))
    return [rows[i : i + beams] for i in range(0, len(rows), beams)]


@pytest.fixture(scope="session")
def pixels() -> torch.Tensor:
    return torch.randn(4, 3, IMAGE, IMAGE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def blip(tmp_path: Path) -> Callable[..., tuple[Any, Path]]:
    """Return ``make(seed, task=..., width=..., more=..., settings of the text model)``: a BLIP, and its folder.

    ``more``: further words of the vocabulary. A ``seed`` of None keeps transformers' initial weights, ready to train.
    """

    def make(
        seed: int | None = 0,
        *,
        task: str = "ConditionalGeneration",
        width: int = 24,
        more: Sequence[str] = (),
        **text: Any,
    ) -> tuple[Any, Path]:
        import transformers

        vocabulary = [*WORDS, *more]

        words = {
            "vocab_size": len(vocabulary),
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "max_position_embeddings": 30,
            "bos_token_id": DEC,
            "sep_token_id": SEP,
            "pad_token_id": PAD,
        }
        seeing = {"hidden_size": width, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = transformers.BlipConfig(
            text_config=words | text, vision_config=seeing | {"image_size": SIDE, "patch_size": 16}
        )
        model = getattr(transformers, f"BlipFor{task}")(config).eval()
        if task == "QuestionAnswering":
            model.decoder_start_token_id = DEC
        if seed is not None:
            shake(model, seed)
        model.save_pretrained(tmp_path)
        side = {"height": SIDE, "width": SIDE}
        transformers.BlipImageProcessor(size=side).save_pretrained(tmp_path)
        (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
        return model, tmp_path

    return make
