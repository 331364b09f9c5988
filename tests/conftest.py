"""Drawn shapes, recipes that train on them in seconds, and a captioner that has overfitted eight of them."""

from __future__ import annotations

import os
import runpy
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from captioner.checkpoint import Checkpoint
    from captioner.training.recipe import Recipe
    from captioner.training.tasks import Data

ROOT = Path(__file__).resolve().parents[1]
CACHE = tempfile.TemporaryDirectory(prefix="captioner-tests-")
os.environ.setdefault("CAPTIONER_HF_HOME", os.environ.get("HF_HOME", "~/.cache/huggingface"))
os.environ["HF_HOME"] = CACHE.name  # before huggingface_hub reads it: converted checkpoints are kept there

# The package is imported where it is used: tests that need no torch start without it.


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> Iterator[None]:
    """Enable Ctrl-C, which a shell disables for background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw 24 pictures with three captions each: 20 train, 2 dev, 2 test."""
    out = tmp_path_factory.mktemp("toy")
    runpy.run_path(str(ROOT / "datasets" / "toy" / "prepare.py"))["draw"](out, images=24, seed=5)
    return out


@pytest.fixture(scope="session")
def data(toy: Path) -> Data:
    """Return eight of the pictures as training data and four others as held-out data, two captions each."""
    from captioner.training.setup import read_data
    from captioner.training.tasks import Data

    found = read_data([str(toy)], validation_images=4, report=print)
    images = [replace(sample, captions=sample.captions[:2]) for sample in [*found.train, *found.validation]]
    lines = tuple(f"{caption} number {n}" for n, sample in enumerate(images) for caption in sample.captions)
    return Data(train=tuple(images[:8]), validation=tuple(images[8:12]), text=lines[:-4], validation_text=lines[-4:])


@pytest.fixture(scope="session")
def recipe() -> Callable[..., Recipe]:
    """Return ``recipe(stage settings, ..., name=value)``: a recipe of a captioner whose steps take milliseconds."""
    import torch

    from captioner.config import from_dict
    from captioner.training.recipe import Recipe

    torch.set_num_threads(1)  # tiny tensors gain nothing from more, and sums are then the same on every machine

    def make(*stages: dict[str, Any], **settings: Any) -> Recipe:
        stage = {"epochs": 2, "batch_size": 4, "lr": 1e-3, "label_smoothing": 0.0}
        values: dict[str, Any] = {
            "vision_weights": "random",
            "precision": "fp32",
            "workers": 0,
            "vision": {"backbone": "test_efficientnet"},
            "preprocess": {"size": 64},
            "decoder": {"width": 32, "layers": 2, "heads": 2, "context": 32, "dropout": 0.0},
            "tokenizer": {"vocab_size": 320},
            "stages": [{**stage, **given} for given in stages or ({},)],
        }
        for name, value in settings.items():
            values[name] = {**values[name], **value} if isinstance(values.get(name), dict) else value
        return from_dict(Recipe, values)

    return make


@pytest.fixture(scope="session")
def learnt(tmp_path_factory: pytest.TempPathFactory, data: Data, recipe: Callable[..., Recipe]) -> Path:
    """Train a captioner that overfits the eight training pictures, one caption each. Do not modify it."""
    from captioner.training.run import train

    one = tuple(replace(sample, captions=sample.captions[:1]) for sample in data.train)
    plan = recipe(
        {"epochs": 120, "batch_size": 8, "lr": 4e-3, "vision": "all", "vision_lr": 2e-3, "weight_decay": 0.0},
        decoder={"self_pattern": "M", "cross_pattern": "M"},
        captions_per_image=1,
    )
    plan = replace(plan, stages=(replace(plan.stages[0], validate_every=120),))
    out = tmp_path_factory.mktemp("learnt") / "run"
    train(plan, replace(data, train=one, validation=one), out)
    return out


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory, learnt: Path, data: Data, recipe: Callable[..., Recipe]) -> Path:
    """Train its heads for retrieval and matching on these pictures. Do not modify it."""
    from captioner.checkpoint import load
    from captioner.training.run import train

    stage = {"task": "multitask", "epochs": 40, "batch_size": 8, "lr": 4e-3, "weight_decay": 0.0, "validate_every": 10}
    plan = recipe({**stage, "vision": "all", "vision_lr": 2e-3}, captions_per_image=2)
    out = tmp_path_factory.mktemp("taught") / "run"
    train(plan, replace(data, validation=data.train), out, start=load(learnt))
    return out


@pytest.fixture(scope="session")
def bilingual(tmp_path_factory: pytest.TempPathFactory, data: Data, recipe: Callable[..., Recipe]) -> Path:
    """Train a captioner with labels on the eight pictures in English and Chinese. Do not modify it."""
    from captioner.training.run import train

    out = tmp_path_factory.mktemp("bilingual") / "run"
    (out.parent / "labels.txt").write_text("circle\nsquare\ntriangle\nstar\nelephant\n")
    chinese = ("红色的圆", "蓝色的方块", "三角形", "绿色的星", "很大的圆", "很小的方块", "黄色背景", "白色背景上的圆")
    both = tuple(
        replace(sample, captions=(sample.captions[0], text)) for sample, text in zip(data.train, chinese, strict=True)
    )
    stage = {"task": "labels", "options": {"words": str(out.parent / "labels.txt"), "count": 3}, "epochs": 150}
    plan = recipe(
        {**stage, "batch_size": 8, "lr": 4e-3, "vision": "all", "vision_lr": 2e-3, "weight_decay": 0.0},
        decoder={"self_pattern": "M", "cross_pattern": "M"},
        captions_per_image=2,
        tokenizer={"words": "characters", "languages": ["en", "zh"], "vocab_size": 400},
    )
    plan = replace(plan, stages=(replace(plan.stages[0], validate_every=150),))
    train(plan, replace(data, train=both, validation=both), out)
    return out


@pytest.fixture
def checkpoint(learnt: Path) -> Checkpoint:
    """Return the overfitted captioner, freshly loaded."""
    from captioner.checkpoint import load

    return load(learnt)


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start a local hub in place of huggingface.co, with an empty cache and a token that may write."""
    from huggingface_hub import constants

    server = runpy.run_path(str(ROOT / "tests" / "hub_server.py"))["Hub"]()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", server.token)
    yield server
    server.close()
