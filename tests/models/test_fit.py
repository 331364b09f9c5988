"""A config and the header of its weights agree in every size, or one sentence names the difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from captioner.config import (
    CaptionerConfig,
    DecoderConfig,
    HeadsConfig,
    LabelsConfig,
    PreprocessConfig,
    TextConfig,
    VisionConfig,
)
from captioner.errors import CheckpointError
from captioner.models import fit
from captioner.models.captioner import Captioner
from captioner.models.fit import check_sizes

CONFIG = CaptionerConfig(
    vision=VisionConfig(backbone="test_efficientnet"),
    decoder=DecoderConfig(vocab_size=9, context=8, width=8, layers=2, heads=2, prefix=3),
    text=TextConfig(bos_id=1, eos_id=2, pad_id=0),
    preprocess=PreprocessConfig(size=32),
    heads=HeadsConfig(width=4, tags=("dog",)),
    labels=LabelsConfig(words=("dog", "cat"), tokens=((3,), (4, 5))),
)


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in Captioner(CONFIG).state_dict().items()}


def test_what_belongs_together_passes(shapes: dict[str, tuple[int, ...]]) -> None:
    check_sizes(CONFIG, shapes, "it")


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("decoder", {"vocab_size": 10}, "decoder.vocab_size 9, not 10"),
        ("decoder", {"width": 16}, "decoder.width 8, not 16"),
        ("decoder", {"context": 9}, "decoder.context 8, not 9"),
        ("decoder", {"layers": 3}, "decoder.layers 2, not 3"),
        ("decoder", {"mlp_width": 33}, "decoder.mlp_width 32, not 33"),
        ("decoder", {"prefix": 4}, "decoder.prefix 3, not 4"),
        ("heads", {"width": 5}, "heads.width 4, not 5"),
        ("heads", {"tags": ("dog", "cat")}, "heads.tags 1, not 2"),
        ("labels", {"words": ("dog",), "tokens": ((3,),)}, "labels.words 2, not 1"),
        ("vision", {"backbone": "test_resnet"}, "vision.backbone."),
        ("vision", {"positions": False}, None),
        ("preprocess", {"size": 96}, "another shape of vision.positions"),
    ],
)
def test_every_size_is_compared(
    part: str, change: dict[str, Any], said: str | None, shapes: dict[str, tuple[int, ...]]
) -> None:
    config = replace(CONFIG, **{part: replace(getattr(CONFIG, part), **change)})
    if said is None:  # more weights than are asked for: ``load_weights`` names the others
        check_sizes(config, shapes, "it")
        return
    with pytest.raises(CheckpointError, match=said.replace(".", r"\.")) as caught:
        check_sizes(config, shapes, "it")
    assert str(caught.value).startswith("it does not fit its config.json")


@pytest.mark.parametrize("odd", [lambda shape: (), lambda shape: shape[:1], lambda shape: (*shape, 1)])
def test_tensors_of_other_dimensions(
    odd: Callable[[tuple[int, ...]], tuple[int, ...]], shapes: dict[str, tuple[int, ...]]
) -> None:
    for name in ("vision.norm.weight", "decoder.token_embedding.weight"):
        if odd(shapes[name])[:2] != shapes[name][:2]:
            with pytest.raises(CheckpointError, match="does not fit its config"):
                check_sizes(CONFIG, {**shapes, name: odd(shapes[name])}, "it")


def test_tables_that_are_not_in_the_file_are_bounded(
    shapes: dict[str, tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "MOST_BUFFERED", 3)
    with pytest.raises(CheckpointError, match="need tables that are too large"):
        check_sizes(CONFIG, shapes, "it")
