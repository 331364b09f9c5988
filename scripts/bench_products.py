"""A benchmark of matrix products at one level of CPU: the library's, and those of other libraries, as a Markdown table.

    CAPTIONER_CPU_LEVEL=avx2 ATEN_CPU_CAPABILITY=avx2 DNNL_MAX_CPU_ISA=AVX2 python scripts/bench_products.py

Rows of activations are multiplied by a weight matrix of a decoder (768 x 3072) that is not in the cache: calls take
turns on 24 copies. Times are medians, in microseconds. FBGEMM and ONNX Runtime quantize all rows with one step, so a
row depends on the others; the library and oneDNN quantize each row. ``CAPTIONER_CPU_LEVEL`` holds the library to a
level and the other variables torch; FBGEMM and ONNX Runtime always use all that the CPU has. torch's builds for x86
have no XNNPACK, and KleidiAI is for ARM. See docs/speed.md.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captioner.inference.linears import _packed_fp32, _packed_int8, has_product, native_int8
from captioner.native.library import library, status
from captioner.native.products import NativeProduct

Product = Callable[[Tensor], Any]
INPUTS, OUTPUTS, COPIES = 768, 3072, 24  # of 9.4 MB in fp32


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 5, 40, 577])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    layers = [nn.Linear(INPUTS, OUTPUTS).requires_grad_(False) for _ in range(COPIES)]
    makers: dict[str, Callable[[nn.Linear], Product]] = {"torch, fp32": lambda layer: layer}
    makers["oneDNN, fp32"] = lambda layer: _packed_fp32(layer.weight, layer.bias)
    makers["ONNX Runtime, fp32"] = lambda layer: onnxruntime(layer, args.threads, quantized=False)
    if library() is not None:
        makers["library, fp32"] = lambda layer: NativeProduct(layer.weight, layer.bias)
    if has_product("int8"):
        makers["oneDNN, int8"] = lambda layer: _packed_int8(layer.weight, layer.bias)
    makers["FBGEMM, int8"] = fbgemm
    makers["ONNX Runtime, int8"] = lambda layer: onnxruntime(layer, args.threads, quantized=True)
    if library() is not None:
        makers["library, int8"] = lambda layer: native_int8(layer.weight, layer.bias)
    print(f"level {status().level}, torch {torch.backends.cpu.get_cpu_capability()}, {args.threads} threads\n")
    print("| rows |" + "".join(f" {rows} |" for rows in args.rows) + "\n|---|" + "---|" * len(args.rows))
    with torch.inference_mode():
        for name, make in makers.items():
            products = [make(layer) for layer in layers]
            print(f"| {name} |" + "".join(f" {microseconds(products, rows):.0f} |" for rows in args.rows), flush=True)


def microseconds(products: list[Product], rows: int) -> float:
    x, times = torch.randn(rows, INPUTS), []
    for product in itertools.islice(itertools.cycle(products), max(len(products) * 2, 100)):
        start = time.perf_counter()
        product(x)
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times[len(products) :])


def fbgemm(layer: nn.Linear) -> Product:
    weight = torch.quantize_per_channel(
        layer.weight, layer.weight.abs().amax(1) / 127, torch.zeros(OUTPUTS, dtype=torch.long), 0, torch.qint8
    )
    packed = torch.ops.quantized.linear_prepack(weight, layer.bias)
    return lambda x: torch.ops.quantized.linear_dynamic(x, packed, True)


def onnxruntime(layer: nn.Linear, threads: int, *, quantized: bool) -> Product:
    import onnx
    import onnxruntime as runtime
    from onnx import TensorProto, helper, numpy_helper

    weight = layer.weight.t().contiguous().numpy()
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", INPUTS])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", OUTPUTS])
    constants = [numpy_helper.from_array(layer.bias.numpy(), "bias")]
    if quantized:
        scale = np.abs(weight).max(0) / 127
        constants.append(numpy_helper.from_array(np.round(weight / scale).astype(np.int8), "weight"))
        constants.append(numpy_helper.from_array(scale.astype(np.float32), "scale"))
        nodes = [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["levels", "step", "zero"]),
            helper.make_node("MatMulInteger", ["levels", "weight", "zero"], ["sums"]),
            helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["scale", "step"], ["factor"]),
            helper.make_node("Mul", ["floats", "factor"], ["product"]),
        ]
    else:
        constants.append(numpy_helper.from_array(weight, "weight"))
        nodes = [helper.make_node("MatMul", ["x", "weight"], ["product"])]
    nodes.append(helper.make_node("Add", ["product", "bias"], ["y"]))
    graph = helper.make_graph(nodes, "product", [given], [made], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x.numpy()})


if __name__ == "__main__":
    main()
