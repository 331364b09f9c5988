"""A captioner in transformers: the same logits after saving and loading, the loss, training with ``Trainer``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from captioner.checkpoint import Checkpoint, load
from captioner.errors import UsageError
from captioner.transformers import CaptionerForConditionalGeneration, pretrained_model

Exported = tuple[Checkpoint, Path]
Tiny = Callable[..., Checkpoint]


@torch.inference_mode()
def logits_of(checkpoint: Checkpoint, pixels: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return checkpoint.model(tokens[:, None], pixels).logits[:, 0]


def same_bits(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    weights, others = one.state_dict(), other.state_dict()
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("auto", ["AutoModel", "AutoModelForImageTextToText"])
def test_same_logits_after_loading(auto: str, exported: Exported) -> None:
    """Tokens of labels and tables of the backbone are not saved; transformers loads without them."""
    import transformers

    checkpoint, folder = exported
    model = getattr(transformers, auto).from_pretrained(folder)
    assert type(model) is CaptionerForConditionalGeneration
    assert not model.training
    pixels, tokens = torch.randn(2, 3, 64, 64), torch.randint(4, 300, (2, 5))
    with torch.inference_mode():
        found = model(pixel_values=pixels, decoder_input_ids=tokens).logits
    wanted = logits_of(checkpoint, pixels, tokens)
    assert wanted.std() > 0.1
    assert torch.allclose(found, wanted, atol=1e-5)  # weights at another address may be summed in another order
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("test_vit", {"labels": False, "head": "untied", "self_pattern": "G", "cross_pattern": "G"}),
        ("test_vit", {"norm": "post", "head": "bert", "final_norm": False, "embedding_norm": True}),
        ("test_efficientnet", {"prefix": 2, "cross_gate": True, "self_pattern": "LGM"}),
    ],
)
def test_every_kind_there_and_back(backbone: str, settings: dict[str, Any], tiny: Tiny, tmp_path: Path) -> None:
    checkpoint = tiny(1, backbone=backbone, **settings)
    with torch.no_grad():
        if settings.get("head") == "untied":
            checkpoint.model.decoder.lm_head.weight.add_(1)
    pretrained_model(checkpoint).save_pretrained(tmp_path / "out")
    model = CaptionerForConditionalGeneration.from_pretrained(tmp_path / "out")
    model.save_pretrained(tmp_path / "again")
    again = CaptionerForConditionalGeneration.from_pretrained(tmp_path / "again")
    pixels, tokens = torch.randn(2, 3, 64, 64), torch.randint(4, 300, (2, 5))
    wanted = logits_of(checkpoint, pixels, tokens)
    with torch.inference_mode():
        for one in (model, again):
            assert torch.allclose(one(pixel_values=pixels, input_ids=tokens).logits, wanted, atol=1e-5)


def test_back_to_a_checkpoint(exported: Exported, photos: list[Image.Image]) -> None:
    checkpoint, folder = exported
    back = load(folder)
    assert same_bits(back.model, checkpoint.model)
    pixels, tokens = torch.randn(2, 3, 64, 64), torch.randint(4, 300, (2, 5))
    assert torch.allclose(logits_of(back, pixels, tokens), logits_of(checkpoint, pixels, tokens), atol=1e-5)
    assert back.generation == checkpoint.generation
    assert back.config == checkpoint.config
    for caption in ("A dog on the beach .", "红色的圆"):
        ids = checkpoint.tokenizer.encode(caption)
        assert back.tokenizer.encode(caption) == ids
        assert back.tokenizer.decode(ids) == checkpoint.tokenizer.decode(ids)
    assert back.tokenizer.pieces == checkpoint.tokenizer.pieces


def test_loss(exported: Exported) -> None:
    checkpoint, folder = exported
    model = CaptionerForConditionalGeneration.from_pretrained(folder)
    pixels = torch.randn(2, 3, 64, 64)
    labels = torch.tensor([[7, 8, 2, -100], [9, 2, -100, -100]])
    given = torch.tensor([[1, 7, 8, 2], [1, 9, 2, 0]])
    assert model.prepare_decoder_input_ids_from_labels(labels).tolist() == given.tolist()
    log_probs = logits_of(checkpoint, pixels, given).log_softmax(-1)
    by_hand = -torch.stack([log_probs[0, 0, 7], log_probs[0, 1, 8], log_probs[0, 2, 2], log_probs[1, 0, 9]])
    by_hand = torch.cat([by_hand, -log_probs[1, 1, 2][None]])
    found = model(pixel_values=pixels, labels=labels)
    assert found.loss.item() == pytest.approx(by_hand.mean().item(), rel=1e-5)
    share = model(pixel_values=pixels, labels=labels, num_items_in_batch=20, return_dict=False)[0]
    assert share.item() == pytest.approx(by_hand.sum().item() / 20, rel=1e-5)
    assert F.cross_entropy(found.logits.transpose(1, 2), labels).item() == pytest.approx(found.loss.item(), rel=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_trainer_trains_saves_and_resumes(tiny: Tiny, photos: list[Image.Image], tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    from captioner.transformers import pretrained_processor

    checkpoint = tiny(2)
    model, processor = pretrained_model(checkpoint), pretrained_processor(checkpoint)
    rows = [processor(images=photo, text_target="a red circle") for photo in photos]
    data = [{name: value[0] for name, value in row.items()} for row in rows]
    settings: dict[str, Any] = {
        "output_dir": tmp_path,
        "per_device_train_batch_size": 3,
        "learning_rate": 3e-3,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "logging_strategy": "no",
        "save_strategy": "steps",
        "lr_scheduler_type": "constant",
        "save_steps": 5,
    }
    with torch.no_grad():
        first = model(**processor(images=photos, text_target=["a red circle"] * 3)).loss.item()
    Trainer(model=model, args=TrainingArguments(max_steps=5, **settings), train_dataset=data).train()
    resumed = Trainer(
        model=pretrained_model(tiny(2)), args=TrainingArguments(max_steps=8, **settings), train_dataset=data
    )
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert resumed.state.global_step == 8
    loaded = CaptionerForConditionalGeneration.from_pretrained(tmp_path / "checkpoint-8")
    with torch.no_grad():
        last = loaded(**processor(images=photos, text_target=["a red circle"] * 3)).loss.item()
    assert last < 0.7 * first
    assert not torch.equal(loaded.get_input_embeddings().weight, checkpoint.model.decoder.token_embedding.weight)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model, folder: model(), "needs labels or decoder_input_ids"),
        (lambda model, folder: model(labels=torch.tensor([[1]])), "needs pixel_values"),
        (lambda model, folder: type(model).from_pretrained(folder, dtype=torch.float16), "computes in fp32"),
        (lambda model, folder: model.set_input_embeddings(None), "vocabulary of a captioner cannot be changed"),
    ],
)
def test_refuses_with_one_sentence(call: Any, words: str, exported: Exported) -> None:
    model = CaptionerForConditionalGeneration.from_pretrained(exported[1])
    with pytest.raises(UsageError, match=words):
        call(model, exported[1])


def test_push_to_hub(exported: Exported, hub: Any, tmp_path: Path) -> None:
    model = CaptionerForConditionalGeneration.from_pretrained(exported[1])
    model.push_to_hub("someone/mine", private=True)
    files = hub.files("someone/mine")
    assert {"config.json", "generation_config.json", "model.safetensors"} <= files.keys()
    for name, content in files.items():
        (tmp_path / Path(name).name).write_bytes(content)
    again = CaptionerForConditionalGeneration.from_pretrained(tmp_path)
    assert same_bits(model, again)
    pixels, tokens = torch.randn(1, 3, 64, 64), torch.randint(4, 300, (1, 5))
    with torch.inference_mode():
        first, second = (one(pixel_values=pixels, input_ids=tokens).logits for one in (model, again))
    assert torch.allclose(first, second, atol=1e-5)
