"""Cached features: the backbone's output, both views, and no mix-up of runs."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageOps

from captioner.data.transforms import preprocess
from captioner.errors import ImageError, TrainingError
from captioner.models.captioner import Captioner
from captioner.training.features import FeatureStore, build_store
from captioner.training.recipe import Recipe
from captioner.training.setup import new_captioner
from captioner.training.tasks import Data

CPU = torch.device("cpu")


@pytest.fixture
def model(recipe: Callable[..., Recipe], data: Data) -> Captioner:
    return new_captioner(recipe(), data).model


def build(
    model: Captioner,
    data: Data,
    folder: Path,
    said: list[str] | None = None,
    *,
    views: int = 2,
    blocks: int | None = None,
) -> FeatureStore:
    report: Any = said.append if said is not None else str
    return build_store(model, data.train, folder, views=views, blocks=blocks, workers=0, device=CPU, report=report)


def test_both_views_of_every_image(model: Captioner, data: Data, tmp_path: Path) -> None:
    store = build(model, data, tmp_path)
    assert (store.of_no_image.grid, store.of_no_image.prefix) == ((2, 2), 0)
    for place, sample in enumerate(data.train):
        with Image.open(sample.path) as image:
            for mirrored, view in ((False, image.convert("RGB")), (True, ImageOps.mirror(image.convert("RGB")))):
                with torch.no_grad():
                    fresh = model.vision.eval().features(preprocess(view, model.config.preprocess)[None]).values[0]
                torch.testing.assert_close(store.view(place, int(mirrored)), fresh, rtol=2e-3, atol=2e-3)
    assert store.values.dtype == "<f2"


def test_drawn_views_of_every_image_below_the_trained_blocks(model: Captioner, data: Data, tmp_path: Path) -> None:
    captions = ("a square left of a circle",)
    samples = (replace(data.train[0], captions=captions), *data.train[1:])
    store = build(model, replace(data, train=samples), tmp_path, views=4, blocks=2)
    assert store.values.shape[:2] == (8, 4)
    assert store.of_no_image.blocks == 2
    for place in range(8):
        views = torch.stack([store.view(place, view) for view in range(4)])
        assert len(views.flatten(1).unique(dim=0)) == 4
        with torch.no_grad():
            kept = replace(store.of_no_image, values=views)
            with Image.open(samples[place].path) as image:
                fresh = model.vision.features(preprocess(image.convert("RGB"), model.config.preprocess)[None]).values
            torch.testing.assert_close(model.vision.finished(kept).values[:1], fresh, rtol=5e-3, atol=5e-3)
    draw = random.Random(0)
    assert {store.draw(draw, flip=True) for _ in range(100)} == {0, 1, 2, 3}
    assert {store.draw(draw, flip=False) for _ in range(100)} == {0, 2, 3}


def test_trained_blocks_leave_the_kept_output_below_them_valid(model: Captioner, data: Data, tmp_path: Path) -> None:
    build(model, data, tmp_path, views=2, blocks=2)
    with torch.no_grad():
        next(model.vision.backbone.blocks[3].parameters()).mul_(1.01)
        next(model.vision.backbone.conv_head.parameters()).mul_(1.01)
    build(model, data, tmp_path, views=2, blocks=2)
    assert len(list(tmp_path.iterdir())) == 1
    with torch.no_grad():
        next(model.vision.backbone.blocks[1].parameters()).mul_(1.01)
    build(model, data, tmp_path, views=2, blocks=2)
    assert len(list(tmp_path.iterdir())) == 2


def test_they_are_made_once(model: Captioner, data: Data, tmp_path: Path) -> None:
    said: list[str] = []
    build(model, data, tmp_path, said)
    build(model, data, tmp_path, said)
    assert len(said) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_other_weights_pixels_or_images_are_other_features(model: Captioner, data: Data, tmp_path: Path) -> None:
    build(model, data, tmp_path)
    build(model, replace(data, train=data.train[:4]), tmp_path)
    with torch.no_grad():
        next(model.vision.backbone.parameters()).mul_(1.01)
    build(model, data, tmp_path)
    model.config = replace(model.config, preprocess=replace(model.config.preprocess, aspect="crop"))
    build(model, data, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_photo_that_is_replaced_in_place_has_other_features(model: Captioner, data: Data, tmp_path: Path) -> None:
    """Its path is the same, and so may its size be."""
    photo = tmp_path / "photo.bmp"
    some = replace(data, train=(replace(data.train[0], path=photo), *data.train[1:]))
    kept = []
    for colour in ("red", "blue"):
        Image.new("RGB", (8, 8), colour).save(photo)
        os.utime(photo, ns=(len(kept), len(kept)))
        kept.append(torch.from_numpy(build(model, some, tmp_path / "features").values[0].copy()))
    assert not torch.equal(*kept)
    assert len(list((tmp_path / "features").iterdir())) == 2
    build(model, some, tmp_path / "features")
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_features_of_another_precision_are_others(model: Captioner, data: Data, tmp_path: Path) -> None:
    build(model, data, tmp_path)
    with torch.autocast("cpu", torch.bfloat16):
        build(model, data, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    build(model, data, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_unreadable_photo_leaves_no_half_written_features(model: Captioner, data: Data, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a photo")
    samples = (*data.train[:-1], replace(data.train[-1], path=broken))
    with pytest.raises(ImageError, match="repair it or remove it from the training data"):
        build(model, replace(data, train=samples), tmp_path / "features", views=12)
    assert list((tmp_path / "features").iterdir()) == []


def test_ctrl_c_leaves_no_half_written_features(model: Captioner, data: Data, tmp_path: Path) -> None:
    def press(text: str) -> None:
        assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_store(model, data.train, tmp_path, workers=0, device=CPU, report=press)
    assert list(tmp_path.iterdir()) == []


def test_half_written_features_are_not_taken_for_whole(
    model: Captioner, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.replace

    def full(path: Path, target: Path) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(TrainingError, match=r"cannot write the features of 8 images .*No space.*; free some space"):
        build(model, data, tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(os, "replace", rename)
    assert build(model, data, tmp_path).values.shape[:2] == (8, 2)
