"""Image processors of transformers, imported, prepare the same pixels; others are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image

from captioner.checkpoint.hugging_face.encoders import input_config, read_processor
from captioner.checkpoint.hugging_face.encoders.preprocess import preprocess_config, processor_config
from captioner.config import PreprocessConfig
from captioner.data.transforms import preprocess
from captioner.errors import CheckpointError

CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
DINOV2 = {"size": {"shortest_edge": 256}, **IMAGENET}


def saved(processor: Any, folder: Path) -> dict[str, Any]:
    processor.save_pretrained(folder)
    return read_processor(folder)


@pytest.mark.parametrize(
    ("kind", "settings", "wanted"),
    [
        ("ViT", {}, PreprocessConfig(size=224, interpolation="bilinear")),
        (
            "ViT",
            {"do_normalize": False},
            PreprocessConfig(size=224, interpolation="bilinear", mean=(0,) * 3, std=(1,) * 3),
        ),
        ("DeiT", {}, PreprocessConfig(size=224, zoom=256 / 224)),
        ("Beit", {}, PreprocessConfig(size=224)),
        ("Siglip", {}, PreprocessConfig(size=224)),
        ("Blip", {}, PreprocessConfig(size=384, **CLIP)),
        ("CLIP", {}, PreprocessConfig(size=224, aspect="crop", **CLIP)),
        ("Bit", {"size": {"shortest_edge": 256}}, PreprocessConfig(size=224, aspect="crop", zoom=256 / 224, **CLIP)),
    ],
)
def test_settings_of_each_processor(
    kind: str, settings: dict[str, Any], wanted: PreprocessConfig, tmp_path: Path
) -> None:
    processor = getattr(transformers, f"{kind}ImageProcessor")(**settings)
    assert processor_config(saved(processor, tmp_path), "it") == wanted
    if not settings:  # a file that leaves out the defaults
        for name in (f"{kind}ImageProcessorFast", f"{kind}FeatureExtractor"):
            assert processor_config({"image_processor_type": name}, "it") == wanted


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("ViT", {}), ("DeiT", {}), ("Beit", {}), ("Blip", {}), ("Siglip", {}), ("CLIP", {}), ("Bit", DINOV2)],
)
@pytest.mark.parametrize("shape", [(300, 480), (640, 300)])
def test_pixels_are_the_originals(kind: str, settings: dict[str, Any], shape: tuple[int, int], tmp_path: Path) -> None:
    processor = getattr(transformers, f"{kind}ImageProcessor")(**settings)
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize(shape, Image.Resampling.BICUBIC)
    wanted = processor(images=photo, return_tensors="pt").pixel_values[0]
    found = preprocess(photo, processor_config(saved(processor, tmp_path), "it"))
    assert found.shape == wanted.shape
    assert (found - wanted).abs().mean() < 0.02  # a shift of one pixel gives 0.05 and more
    assert (found - wanted).abs().max() < 0.2


def test_one_number_is_a_square_or_the_shortest_edge() -> None:
    old = {"size": 256, "crop_size": 224, "do_center_crop": True, "resample": 3}
    assert processor_config({**old, "feature_extractor_type": "DeiTFeatureExtractor"}, "it").aspect == "squash"
    assert processor_config({**old, "feature_extractor_type": "CLIPFeatureExtractor"}, "it").aspect == "crop"


def test_the_file_of_transformers_5(tmp_path: Path) -> None:
    processor = transformers.BlipImageProcessor()
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": processor.to_dict()}))
    assert processor_config(read_processor(tmp_path), "it") == PreprocessConfig(size=384, **CLIP)
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "BlipProcessor"}))
    with pytest.raises(CheckpointError, match="has no image_processor"):
        read_processor(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": 32}')
    assert read_processor(tmp_path) == {"size": 32}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": {"shortest_edge": 224}}, "without a centre crop"),
        ({"size": {"height": 224, "width": 448}}, "square"),
        ({"size": {"longest_edge": 224}}, "square"),
        ({"size": 256}, "256 pixels for an encoder of 224"),
        ({"size": 200, "crop_size": 224, "do_center_crop": True}, "crops 224 pixels of 200"),
        ({"size": 10**9}, "at most 2048 pixels"),
        ({"size": 224 * 9, "crop_size": 224, "do_center_crop": True}, "zoom"),
        ({"resample": 1}, "filter 1"),
        ({"do_rescale": False}, "do_rescale"),
        ({"do_resize": False}, "do_resize"),
        ({"do_pad": True}, "do_pad"),
        ({"rescale_factor": 1.0}, "rescale_factor"),
        ({"do_normalize": "no"}, "do_normalize"),
        ({"image_mean": [0.5]}, "mean must have 3 values"),
        ({"crop_pct": 0.875}, "crop_pct 0.875"),
        ({"rescale_offset": True}, "rescale_offset True"),
        ({"offset": True}, "offset True"),
        ({"image_processor_type": ["ViTImageProcessor"]}, "only those of ViT, DeiT, "),
    ],
)
def test_other_preprocessing_is_refused(values: dict[str, Any], message: str) -> None:
    assert preprocess_config({"size": 224, "resample": 3}, 224, "it").interpolation == "bicubic"
    with pytest.raises(CheckpointError, match=message) as caught:
        preprocess_config(values, 224, "it")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["ConvNext", "EfficientNet", "Levit", "MobileViT", "PoolFormer", "Vivit"])
@pytest.mark.parametrize("complete", [True, False])
def test_another_processor_is_refused(kind: str, complete: bool, tmp_path: Path) -> None:
    name = f"{kind}ImageProcessor"
    values = saved(getattr(transformers, name)(), tmp_path) if complete else {"image_processor_type": name}
    with pytest.raises(CheckpointError, match=f"{name}|rescale_factor|do_flip_channel_order|crop_pct|offset"):
        processor_config(values, "it")


def test_only_dinov2_takes_another_size() -> None:
    processor = {"image_processor_type": "BitImageProcessor", **DINOV2}
    assert input_config(processor, {"model_type": "dinov2", "image_size": 518}, "it").size == 224
    with pytest.raises(CheckpointError, match="224 pixels for an encoder of 518"):
        input_config(processor, {"model_type": "beit", "image_size": 518}, "it")
