"""Opening of ONNX exports: what they do, what they refuse, and files that are wrong."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import captioner
from captioner.cli import main
from captioner.errors import CaptionerError, CheckpointError, MissingExtraError, UsageError

from ...system.test_process import DEFAULTS, FORKED, run

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(bilingual: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the export of a captioner with labels and two languages. Do not modify it."""
    from captioner.checkpoint import load

    return captioner.export(load(bilingual), tmp_path_factory.mktemp("exported") / "out", to="onnx")


@pytest.fixture
def broken(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "broken"))


def test_captions_as_the_checkpoint_does(exported: Path, bilingual: Path, toy: Path) -> None:
    photos = sorted(toy.rglob("*.png"))[:4]
    assert photos
    ours, theirs = captioner.load(bilingual, device="cpu"), captioner.load(exported)
    for options in ({}, {"language": "zh", "beams": 3}, {"beams": 2, "refine": 1}):
        for one, other in zip(ours.caption(photos, **options), theirs.caption(photos, **options), strict=True):
            assert other.text == one.text
            assert other.confidence == pytest.approx(one.confidence, abs=1e-3)
            assert [label.text for label in other.labels] == [label.text for label in one.labels]
    assert theirs.score(photos[0], ["a circle", "一个圆"]) == pytest.approx(
        ours.score(photos[0], ["a circle", "一个圆"]), abs=1e-3
    )
    assert theirs.image_features(photos[0]) == pytest.approx(ours.image_features(photos[0]), abs=1e-3)
    for again in (pickle.loads(pickle.dumps(theirs)), copy.deepcopy(theirs), copy.copy(theirs)):
        assert again.caption(photos[0]).text == theirs.caption(photos[0]).text


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not forked")
def test_a_forked_child_captions(exported: Path, toy: Path) -> None:
    run(FORKED, str(exported), *map(str, sorted(toy.rglob("*.png"))[:3]), "fp32")


def test_torchs_defaults_change_no_caption(exported: Path, toy: Path) -> None:
    photos = map(str, sorted(toy.rglob("*.png"))[:3])
    run(DEFAULTS, str(exported), "torch.set_default_dtype(torch.bfloat16); torch.set_default_device('meta')", *photos)


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu")])
def test_names_of_the_cpu(device: str, exported: Path) -> None:
    assert captioner.load(exported, device=device).checkpoint.config


@pytest.mark.parametrize("device", ["cuda", "gpu", torch.device("meta")])
def test_other_devices_are_one_sentence(device: str, exported: Path) -> None:
    with pytest.raises(UsageError, match=rf"^an ONNX export runs on the CPU, not on {device}; leave out the device$"):
        captioner.load(exported, device=device)


def test_int8_is_smaller_and_nearly_equal(exported: Path, toy: Path) -> None:
    photos = sorted(toy.rglob("*.png"))[:8]
    wide, narrow = (captioner.load(exported, precision=precision) for precision in ("fp32", "int8"))
    equal = [a.text == b.text for a, b in zip(wide.caption(photos), narrow.caption(photos), strict=True)]
    assert sum(equal) >= 6
    sizes = {path.name: path.stat().st_size for path in (exported / "onnx").iterdir()}
    assert sizes["decoder_model_merged_quantized.onnx"] < sizes["decoder_model_merged.onnx"]


def test_what_an_export_refuses(exported: Path, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe, photo = captioner.load(exported), next(iter(sorted(toy.rglob("*.png"))))
    refused: list[Callable[[], object]] = [
        lambda: pipe.explain(photo),
        lambda: pipe.embed_texts("a circle"),
        lambda: pipe.save(tmp_path / "copy"),
        lambda: captioner.load(exported, precision="bf16"),
        lambda: captioner.load(exported, device="cuda"),
        lambda: captioner.push_to_hub(exported, "org/name"),
    ]
    for call in refused:
        with pytest.raises(CaptionerError):
            call()
    assert main(["finetune", "--model", str(exported), "--data", str(toy), "--out", str(tmp_path / "run")]) == 1
    assert "is an ONNX export, which captions but holds no weights" in capsys.readouterr().err


def test_without_onnxruntime(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"needs onnxruntime: pip install 'captioner\[onnx\]'"):
        captioner.load(exported)


@pytest.mark.parametrize("name", ["encoder_model", "decoder_model_merged"])
def test_damaged_or_missing_graphs(name: str, broken: Path) -> None:
    path = broken / "onnx" / f"{name}.onnx"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=rf"{name}.onnx is missing or damaged .*; export the captioner again"):
        captioner.load(broken)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"is missing or damaged"):
        captioner.load(broken)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [("decoder", "layers", 5), ("decoder", "heads", 1), ("preprocess", "size", 96), ("labels", "count", None)],
)
def test_graphs_of_another_captioner(part: str, name: str, value: int | None, broken: Path) -> None:
    settings = json.loads((broken / "captioner.json").read_text())
    if value is None:
        settings["config"][part] = None
    else:
        settings["config"][part][name] = value
    (broken / "captioner.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=r"does not fit captioner.json; take all files from the same export"):
        captioner.load(broken)


@pytest.mark.parametrize(
    "wrong",
    [{"format": 2}, {"config": []}, {"config": {"vision": 3}}, {"image": {"grid": [1], "prefix": 0}}, {"image": 1}],
)
def test_wrong_settings(wrong: dict[str, object], broken: Path) -> None:
    settings = json.loads((broken / "captioner.json").read_text())
    (broken / "captioner.json").write_text(json.dumps({**settings, **wrong}))
    with pytest.raises(CheckpointError):
        captioner.load(broken)


def test_a_batch_larger_than_one_part_of_the_encoder(exported: Path, toy: Path) -> None:
    pipe = captioner.load(exported)
    pixels = torch.stack([pipe.transform(path) for path in sorted(toy.rglob("*.png"))[:11]])
    together = [caption.text for caption in pipe.caption_pixels(pixels)]
    assert together == [pipe.caption_pixels(one[None])[0].text for one in pixels]


def test_usage_error_is_one_sentence(exported: Path) -> None:
    with pytest.raises(UsageError, match=r"^an ONNX export runs in fp32 or int8, not bf16; choose one of them$"):
        captioner.load(exported, precision="bf16")
