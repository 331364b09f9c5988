"""Kept features: what the backbone says, both views, and nobody else's."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageOps

from captioner.data.transforms import preprocess
from captioner.errors import TrainingError
from captioner.models.captioner import Captioner
from captioner.training.features import FeatureStore, build_store
from captioner.training.recipe import Recipe
from captioner.training.setup import new_captioner
from captioner.training.tasks import Data

CPU = torch.device("cpu")


@pytest.fixture
def model(recipe: Callable[..., Recipe], data: Data) -> Captioner:
    return new_captioner(recipe(), data).model


def build(model: Captioner, data: Data, folder: Path, said: list[str] | None = None) -> FeatureStore:
    report: Any = said.append if said is not None else str
    return build_store(model, data.train, folder, workers=0, device=CPU, report=report)


def test_both_views_of_every_image(model: Captioner, data: Data, tmp_path: Path) -> None:
    store = build(model, data, tmp_path)
    assert (store.grid, store.prefix) == ((2, 2), 0)
    for place, sample in enumerate(data.train):
        with Image.open(sample.path) as image:
            for mirrored, view in ((False, image.convert("RGB")), (True, ImageOps.mirror(image.convert("RGB")))):
                with torch.no_grad():
                    fresh = model.vision.eval().features(preprocess(view, model.config.preprocess)[None]).values[0]
                torch.testing.assert_close(store.view(place, mirrored=mirrored), fresh, rtol=2e-3, atol=2e-3)
    assert store.values.dtype == "<f2"


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


def test_half_written_features_are_not_taken_for_whole(
    model: Captioner, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def full(path: Path, target: Path) -> Path:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(TrainingError, match=r"cannot keep the features of 8 images .*No space.*; free some space"):
        build(model, data, tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(Path, "rename", rename)
    assert build(model, data, tmp_path).values.shape[:2] == (8, 2)
