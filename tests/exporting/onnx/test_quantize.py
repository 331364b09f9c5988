"""Weights in int8: rounding to half a step, and graphs that still compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnxruntime

from captioner.exporting.onnx.quantize import rounded, write_quantized
from captioner.inference.onnx.layout import decoder_file, encoder_file


@pytest.mark.parametrize("axis", [0, 1])
def test_rounding(axis: int) -> None:
    value = np.random.default_rng(0).normal(size=(12, 20)).astype(np.float32)
    value[3], value[:, 5] = 0, 0
    levels, scale = rounded(value, axis)
    assert levels.dtype == np.int8
    assert scale.shape == ((12, 1) if axis == 0 else (1, 20))
    assert np.abs(levels * scale - value).max() <= scale.max() / 2 * 1.001
    assert np.abs(levels).max(axis=1 - axis).tolist().count(127) == (11 if axis == 0 else 19)


def test_graphs(tmp_path: Path) -> None:
    """Products, an embedding tied to the logits, and a convolution give nearly the same values from fewer bytes."""
    from onnx import helper, numpy_helper

    random = np.random.default_rng(0)
    weights = {
        "embedding": random.normal(size=(200, 64)),
        "matrix": random.normal(size=(64, 128)),
        "turned": random.normal(size=(64, 128)),
        "kernel": random.normal(size=(64, 64, 3, 1)),
        "small": random.normal(size=(64,)),
    }
    nodes = [
        helper.make_node("Gather", ["embedding", "tokens"], ["x"]),  # (T, 64)
        helper.make_node("MatMul", ["x", "matrix"], ["y"]),
        helper.make_node("Gemm", ["y", "turned"], ["z"], transB=1),
        helper.make_node("Add", ["z", "small"], ["w"]),
        helper.make_node("Transpose", ["embedding"], ["head"], perm=[1, 0]),
        helper.make_node("MatMul", ["w", "head"], ["logits"]),
        helper.make_node("Conv", ["image", "kernel"], ["seen"]),
    ]
    kinds = {"tokens": (7, [5]), "image": (1, [1, 64, 5, 1]), "logits": (1, [5, 200]), "seen": (1, [1, 64, 3, 1])}
    values = {name: helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()}
    stored = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    ends = [values["tokens"], values["image"]], [values["logits"], values["seen"]]
    graph = helper.make_graph(nodes, "all", *ends, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    encoder_file(tmp_path, "fp32").parent.mkdir()
    for file in (encoder_file, decoder_file):
        onnx.save(model, file(tmp_path, "fp32"))
    write_quantized(tmp_path)
    given = {"tokens": np.arange(5), "image": random.normal(size=(1, 64, 5, 1)).astype(np.float32)}
    for file in (encoder_file, decoder_file):
        paths = file(tmp_path, "fp32"), file(tmp_path, "int8")
        wide, narrow = (onnxruntime.InferenceSession(path).run(None, given) for path in paths)
        for one, other in zip(wide, narrow, strict=True):
            assert 0 < np.abs(one - other).max() < 0.02 * np.abs(one).max()
        assert paths[1].stat().st_size < 0.4 * paths[0].stat().st_size
