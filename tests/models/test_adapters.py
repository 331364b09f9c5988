"""Adapters change nothing before training, and a merge gives the same model."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from captioner.config import (
    AdapterConfig,
    CaptionerConfig,
    DecoderConfig,
    GenerationConfig,
    PreprocessConfig,
    TextConfig,
    VisionConfig,
)
from captioner.errors import CheckpointError, ConfigError, MissingExtraError
from captioner.generation.search import search
from captioner.models import adapters
from captioner.models.captioner import Captioner

TEXT = TextConfig(bos_id=0, eos_id=1, pad_id=2)
LORAS = ["lora", "adalora"]
METHODS = [*LORAS, "prefix"]
TOKENS = torch.tensor([[[0, 5, 9, 4, 7, 3, 3]], [[0, 7, 2, 8, 4, 4, 10]]])


@pytest.fixture
def model() -> Captioner:
    torch.manual_seed(0)
    decoder = DecoderConfig(
        vocab_size=11, context=12, width=16, layers=2, heads=2, self_pattern="GM", cross_pattern="MG", dropout=0.0
    )
    config = CaptionerConfig(
        vision=VisionConfig(backbone="test_efficientnet"),
        decoder=decoder,
        text=TEXT,
        preprocess=PreprocessConfig(size=32),
    )
    made = Captioner(config).eval()
    with torch.no_grad():
        for name, parameter in made.decoder.named_parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3 + (1.0 if name.endswith("norm.weight") else 0.0))
    return made


def config(method: str, **settings: object) -> AdapterConfig:
    return AdapterConfig(**{"method": method, "rank": 2, "length": 3, **settings})  # type: ignore[arg-type]


@torch.inference_mode()
def logits(model: nn.Module) -> Tensor:
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return model(TOKENS, pixels).logits


def shaken(model: Captioner) -> Captioner:
    """Return a checkpoint with an adapter after random changes."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.mark.parametrize("method", LORAS)
def test_a_fresh_adapter_changes_no_logit(model: Captioner, method: str) -> None:
    before = logits(model)
    adapters.insert(model, config(method))
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_adapter_is_trained(model: Captioner, method: str) -> None:
    before = {id(p) for p in model.parameters()}
    adapters.insert(model, config(method))
    fresh = {name for name, p in model.named_parameters() if id(p) not in before and "ranknum" not in name}
    assert fresh == {name for name, p in model.named_parameters() if p.requires_grad}
    assert fresh == {name for name, _ in model.named_parameters() if adapters.is_trained(model, name)}
    assert all(name.startswith("decoder.blocks.") for name in fresh)
    model(TOKENS, torch.randn(2, 3, 32, 32)).logits.square().sum().backward()
    assert fresh == {name for name, p in model.named_parameters() if p.grad is not None}


def test_lora_is_its_formula(model: Captioner) -> None:
    """W x + alpha / r B A x, on every default target, including cross-attention and feed-forward layers."""
    adapters.insert(model, config("lora", alpha=6))
    shaken(model)
    found = adapters.weights_of(model)
    names = {name.removeprefix(adapters.PEFT_ROOT).rpartition(".lora_")[0] for name in found}
    own = {name for name, module in model.decoder.named_modules() if isinstance(module, peft.tuners.lora.Linear)}
    assert names == {f"decoder.{name}" for name in own}
    layers = ("self_attn.qkv_proj", "self_attn.out_proj", "cross_attn.q_proj", "cross_attn.kv_proj")
    each = (*layers, "cross_attn.out_proj", "fc1", "fc2")
    assert names == {f"decoder.blocks.{i}.{name}" for i in range(2) for name in each}
    x = torch.randn(3, 16)
    layer = model.get_submodule("decoder.blocks.1.fc1")
    a, b = (found[f"{adapters.PEFT_ROOT}decoder.blocks.1.fc1.lora_{part}.weight"] for part in "AB")
    base = layer.get_base_layer()  # type: ignore[operator]
    torch.testing.assert_close(layer(x), base(x) + 6 / 2 * x @ a.T @ b.T)


@pytest.mark.parametrize("method", METHODS)
def test_weights_come_back(model: Captioner, method: str) -> None:
    other = copy.deepcopy(model)
    adapters.insert(model, config(method))
    shaken(model)
    adapters.insert(other, config(method))
    assert not torch.equal(logits(other), logits(model))
    adapters.fill(other, {name: value.clone() for name, value in adapters.weights_of(model).items()}, "file")
    assert torch.equal(logits(other), logits(model))


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_another_adapter_are_refused(model: Captioner, method: str) -> None:
    other = copy.deepcopy(model)
    adapters.insert(model, config(method))
    adapters.insert(other, config(method, rank=4, length=5))
    with pytest.raises(CheckpointError, match=r"^file does not fit its config\.json"):
        adapters.fill(model, adapters.weights_of(other), "file")
    with pytest.raises(CheckpointError, match="does not fit"):
        adapters.fill(model, {}, "file")


@pytest.mark.parametrize("method", METHODS)
def test_merged_it_says_the_same_without_peft(model: Captioner, method: str) -> None:
    names = set(model.state_dict())
    adapters.insert(model, config(method))
    unmerged = logits(shaken(model))
    adapters.merge(model)
    torch.testing.assert_close(logits(model), unmerged, atol=1e-5, rtol=1e-5)
    assert {name for name in model.state_dict() if ".prefix." not in name} == names
    assert not [m for m in model.modules() if type(m).__module__.startswith("peft")]
    assert model.adapter is None
    assert all(p.requires_grad for p in model.parameters())
    assert adapters.peft_file(model) is None
    rebuilt = Captioner(model.config).eval()  # like loading a plain checkpoint
    rebuilt.load_state_dict(model.state_dict())
    assert torch.equal(logits(rebuilt), logits(model))


@pytest.mark.parametrize("method", LORAS)
def test_peft_itself_reads_what_we_save(model: Captioner, method: str, tmp_path: Path) -> None:
    plain = copy.deepcopy(model)
    adapters.insert(model, config(method))
    shaken(model)
    save_file(adapters.weights_of(model), tmp_path / "adapter_model.safetensors")
    text = adapters.peft_file(model)
    assert text is not None
    assert json.loads(text)["peft_type"] == method.upper()
    (tmp_path / "adapter_config.json").write_text(text)
    theirs = peft.PeftModel.from_pretrained(plain, str(tmp_path)).eval()
    torch.testing.assert_close(logits(theirs), logits(model), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("targets", "named"),
    [(["q_proj", "qproj"], "qproj"), (["lm_head"], "lm_head"), (["proj"], "proj"), (["vision.proj"], "vision.proj")],
)
@pytest.mark.parametrize("method", LORAS)
def test_a_target_that_is_not_there_is_an_error(model: Captioner, method: str, targets: list[str], named: str) -> None:
    before = list(model.state_dict())
    with pytest.raises(
        ConfigError, match=rf"^adapter\.targets: '{named}' is no linear layer .*; choose among fc1, fc2,"
    ):
        adapters.insert(model, config(method, targets=tuple(targets)))
    assert list(model.state_dict()) == before


def test_a_target_may_be_the_end_of_a_path(model: Captioner) -> None:
    adapters.insert(model, config("lora", targets=("cross_attn.out_proj", "blocks.0.fc1")))
    found = {name.removeprefix(adapters.PEFT_ROOT).rpartition(".lora_")[0] for name in adapters.weights_of(model)}
    assert found == {f"decoder.blocks.{end}" for end in ("0.cross_attn.out_proj", "1.cross_attn.out_proj", "0.fc1")}


def test_a_backbone_keeps_its_own_layers_of_the_same_name() -> None:
    """A ViT has fc1 and fc2 as well."""
    settings = CaptionerConfig(
        vision=VisionConfig(backbone="test_vit"),
        decoder=DecoderConfig(vocab_size=11, width=16, layers=1, heads=2),
        text=TEXT,
        preprocess=PreprocessConfig(size=32),
    )
    model = Captioner(settings)
    adapters.insert(model, config("lora", targets=("fc1",)))
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"decoder"}


def test_a_prefix_may_be_longer_than_a_caption(model: Captioner) -> None:
    adapters.insert(model, config("prefix", length=20))
    assert logits(model).isfinite().all()


def test_one_prefix_is_enough(model: Captioner) -> None:
    adapters.insert(model, config("prefix"))
    adapters.merge(model)
    with pytest.raises(ConfigError, match="has a prefix already; train a lora or adalora"):
        adapters.insert(model, config("prefix"))
    adapters.insert(model, config("lora"))
    assert not [name for name, p in model.named_parameters() if p.requires_grad and ".prefix." in name]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("beams", [1, 3])
@torch.inference_mode()
def test_searches_see_the_adapter(model: Captioner, method: str, beams: int) -> None:
    """The log-probability of a search equals that of a pass over the whole caption."""
    adapters.insert(model, config(method))
    shaken(model)
    pixels = torch.randn(2, 3, 32, 32)
    memory = model.remember(model.encode_image(pixels))
    settings = GenerationConfig(beams=beams, candidates=beams, max_tokens=9)
    for row, found in enumerate(search(model.decoder, memory, TEXT, settings)):
        for best in found:
            tokens = torch.tensor([[[TEXT.bos_id, *best.tokens]]])
            said = [*best.tokens, TEXT.eos_id][: best.length]
            log_probs = model(tokens, pixels[row : row + 1]).logits.log_softmax(-1)[0, 0]
            total = sum(float(log_probs[at, token]) for at, token in enumerate(said))
            assert best.log_prob == pytest.approx(total, abs=1e-4)


@pytest.fixture
def without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)


@pytest.mark.usefixtures("without_peft")
def test_without_peft_one_sentence_says_how_to_get_it(model: Captioner) -> None:
    with pytest.raises(MissingExtraError) as caught:
        adapters.insert(model, config("lora"))
    assert str(caught.value) == "a LoRA or AdaLoRA adapter needs peft: pip install 'captioner[finetune]'"
    adapters.insert(model, config("prefix"))  # ours needs none
    adapters.merge(model)
