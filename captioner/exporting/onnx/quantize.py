"""The graphs of an export in int8: a third of the bytes, and nearly the same captions.

Only the weights are rounded: matrices and the embedding to int8 with a scale per output or row, convolutions to fp16.
The graph restores them by ``Cast`` and ``Mul`` of constants, which ONNX Runtime computes once, when it loads the file.
It would compute with rounded activations too after ``quantize_dynamic``, and after ``DequantizeLinear``, which it
fuses with the product that follows; that changed several times as many captions (docs/export.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from captioner.inference.onnx.layout import decoder_file, encoder_file
from captioner.layers.quantization import quantized

FEWEST = 4096  # weights of a tensor that is worth rounding
FP32 = 1  # ONNX's number of the type


def write_quantized(folder: Path) -> None:
    """Write the encoder and the decoder in ``folder`` in int8 too."""
    import onnx

    for file in (encoder_file, decoder_file):
        model = onnx.load(file(folder, "fp32"))
        _shrink(model.graph)
        onnx.save(model, file(folder, "int8"))


def _shrink(graph: Any) -> None:
    """Replace the large weights of a graph by rounded ones and the nodes that restore them."""
    from onnx import helper, numpy_helper

    axes = _output_axes(graph)
    nodes = []
    for weight in list(graph.initializer):
        value = numpy_helper.to_array(weight)
        if value.dtype != np.float32 or value.size < FEWEST:
            continue
        name, axis = weight.name, axes.get(weight.name)
        stored, wide, steps = (f"{name}.{part}" for part in ("stored", "wide", "steps"))
        graph.initializer.remove(weight)
        if value.ndim != 2 or axis is None:
            graph.initializer.append(numpy_helper.from_array(value.astype(np.float16), stored))
            nodes.append(helper.make_node("Cast", [stored], [name], to=FP32))
            continue
        levels, scale = rounded(value, axis)
        graph.initializer.append(numpy_helper.from_array(levels, stored))
        graph.initializer.append(numpy_helper.from_array(scale, steps))
        nodes.append(helper.make_node("Cast", [stored], [wide], to=FP32))
        nodes.append(helper.make_node("Mul", [wide, steps], [name]))
    others = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *others])


def rounded(value: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a matrix in int8 and the scale of each index of ``axis``, which broadcasts; the largest value is 127."""
    levels, scale = quantized(torch.tensor(value if axis == 0 else value.T))
    rows, steps = levels.numpy(), scale.numpy()[:, None]
    return (rows, steps) if axis == 0 else (np.ascontiguousarray(rows.T), steps.T)


def _output_axes(graph: Any) -> dict[str, int]:
    """Return the axis of each matrix that is the output of its product, or the rows of an embedding."""
    axes: dict[str, int] = {}
    for node in graph.node:
        if node.op_type == "MatMul":
            axes[node.input[1]] = 1
        elif node.op_type == "Gemm":
            axes[node.input[1]] = 0 if any(each.name == "transB" and each.i for each in node.attribute) else 1
        elif node.op_type in ("Gather", "Transpose"):  # an embedding, and the matrix of the logits tied to it
            axes[node.input[0]] = 0
    return axes
