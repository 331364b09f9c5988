"""An adapter's directory names its base, and fits no other."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from captioner.checkpoint import Checkpoint, base_of, files, load, merged, save
from captioner.config import AdapterConfig
from captioner.errors import CheckpointError, MissingExtraError
from captioner.models import adapters
from captioner.models.captioner import Captioner


def adapted(base: Checkpoint, method: str = "lora") -> Checkpoint:
    """Return a checkpoint with an adapter after random changes."""
    made = replace(base, base=base_of(base), card="")
    adapters.insert(made.model, AdapterConfig(method=method, rank=2, length=3))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in made.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return made


def halved(checkpoint: Checkpoint) -> Captioner:
    """Return the model with the adapter rounded to fp16, like in a file of that dtype, and the base unchanged."""
    model = copy.deepcopy(checkpoint.model)
    with torch.no_grad():
        for value in adapters.weights_of(model).values():
            value.copy_(value.half())
    return model


@torch.inference_mode()
def logits(checkpoint: Checkpoint) -> torch.Tensor:
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return checkpoint.model(torch.tensor([[[1, 5, 9]]]), pixels).logits


@pytest.fixture
def base(learnt: Path, tmp_path: Path) -> Path:
    return shutil.copytree(learnt / "best", tmp_path / "base")


@pytest.fixture
def saved(base: Path, tmp_path: Path) -> Path:
    return save(adapted(load(base)), tmp_path / "adapter")


def refused(directory: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("method", ["lora", "adalora", "prefix"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_it_comes_back_on_its_base(base: Path, tmp_path: Path, method: str, dtype: str) -> None:
    made = adapted(load(base), method)
    loaded = load(save(made, tmp_path / "x" / "y", dtype=dtype))  # type: ignore[arg-type]
    expected = replace(made, model=halved(made)) if dtype == "fp16" else made
    assert torch.equal(logits(loaded), logits(expected))
    assert not torch.equal(logits(loaded), logits(load(base)))
    assert (loaded.config, loaded.base, loaded.model.adapter) == (made.config, made.base, made.model.adapter)
    assert loaded.model.training is False
    again = load(save(loaded, tmp_path / "again"))
    assert torch.equal(logits(again), logits(loaded))


def test_wrong_base_is_refused(saved: Path, base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    weights["decoder.final_norm.bias"] += 1e-6
    save_file(weights, base / "model.safetensors")
    assert f"the adapter {saved} was trained on other weights than {base} now holds; restore those" in refused(saved)


@pytest.mark.parametrize("gone", ["", "model.safetensors"])
def test_a_base_that_is_gone_is_named_and_may_be_named_anew(saved: Path, base: Path, tmp_path: Path, gone: str) -> None:
    before = logits(load(saved))
    shutil.copytree(base, tmp_path / "elsewhere")
    shutil.rmtree(base) if not gone else (base / gone).unlink()
    said = refused(saved)
    assert said.startswith(f"the base {base} of the adapter {saved} cannot be loaded")
    assert said.endswith("correct the source of the base in config.json")
    values = json.loads((saved / "config.json").read_text())
    values["base"]["source"] = str(tmp_path / "elsewhere")
    (saved / "config.json").write_text(json.dumps(values))
    assert torch.equal(logits(load(saved)), before)


def test_the_base_may_be_the_model_that_ships(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SHIPPED", base)
    made = save(adapted(load()), tmp_path / "made")
    assert json.loads((made / "config.json").read_text())["base"]["source"] == "shipped"
    assert load(made).base == base_of(load())


def test_the_base_may_come_from_the_hub(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Mock(return_value=str(base)))
    made = save(adapted(load("org/name")), tmp_path / "made")
    assert json.loads((made / "config.json").read_text())["base"]["source"] == "org/name"
    load(made)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Mock(side_effect=OSError("offline")))
    assert "the base org/name of the adapter" in refused(made)


def test_a_base_in_the_current_folder_is_found_from_another(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = save(adapted(load("base")), tmp_path / "made")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    load(made)


@pytest.mark.parametrize("name", ["adapter/adapter_model.safetensors", "config.json", "tokenizer.json"])
def test_a_missing_or_cut_file_is_named(saved: Path, name: str) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: len(content) // 2])
    assert name in refused(saved)
    (saved / name).unlink()
    assert name in refused(saved)


def test_settings_that_do_not_fit_the_weights(saved: Path) -> None:
    text = (saved / "config.json").read_text()
    values = json.loads(text)
    values["adapter"]["rank"] = 3
    (saved / "config.json").write_text(json.dumps(values))
    assert "adapter_model.safetensors does not fit its config.json" in refused(saved)
    for change, said in (
        ({"adapter": {"method": "dora"}}, "adapter.method must be one of lora, adalora, prefix"),
        ({"base": {"source": "shipped"}}, "fingerprint is missing"),
    ):
        (saved / "config.json").write_text(json.dumps({**json.loads(text), **change}))
        assert said.removeprefix("adapter.") in refused(saved)


def test_an_adapter_without_a_base_is_not_saved(base: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no base to name in its checkpoint; merge it first"):
        save(replace(adapted(load(base)), base=None), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_without_peft_one_sentence(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"^a LoRA or AdaLoRA adapter needs peft: pip install 'captioner"):
        load(saved)


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_heads_of_the_base_stay_with_an_adapter(taught: Path, tmp_path: Path, method: str) -> None:
    """The adapter's file does not hold them; a merge does."""
    wanted = load(taught).model.heads
    assert wanted is not None
    saved = save(adapted(load(taught), method), tmp_path / "adapter")
    (file,) = (saved / "adapter").glob("*.safetensors")
    assert not [name for name in load_file(file) if "heads." in name]
    whole = save(merged(load(saved)), tmp_path / "merged")
    for found in (load(saved), load(whole)):
        assert found.model.heads is not None
        for name, value in wanted.state_dict().items():
            assert torch.equal(found.model.heads.state_dict()[name], value)
