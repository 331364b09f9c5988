"""Weight files of int8 and 4-bit levels, a third to a fifth as large, which load as any other.

A tensor NAME of a packed file has its scales beside it, as ``NAME:scale``; a weight is level x scale.

=======  ===========================  ===========  ============================
levels   shape in the file            scales       for
=======  ===========================  ===========  ============================
int8     that of the tensor           fp32 (out,)  linear layers, embeddings, convolutions: a scale per output
uint8    (out, in / 2): two a byte    fp16         the linear layers of the blocks: a scale per group of inputs,
                                                   (out, in / group)
=======  ===========================  ===========  ============================

All other tensors are fp16. The logits, the token embedding and the labels keep 8 bits, since rounding them changes
words directly; depthwise kernels, gates and the focus of attention are few and sensitive, and stay fp16.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from captioner.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

Dtype = Literal["fp32", "fp16", "int8", "int4"]
SCALE = ":scale"  # no name of a module holds a colon
LARGEST_HALF = 65504.0  # the largest number of fp16
NARROW = 16  # a matrix with fewer rows or columns is not packed
BODY = re.compile(r"(?:decoder|question)\.blocks\.|vision\.backbone\.")  # what may have 4 bits
INT8, NIBBLES, SCALES = "I8", "U8", ("F16", "F32")  # dtypes in the header of safetensors


def packable(model: nn.Module, *, bits: Literal[4, 8]) -> dict[str, int]:
    """Return the bits, 8 or 4, of every weight of ``model`` that is packed; all others stay fp16."""
    from torch import nn

    from captioner.layers.quantization import GROUP

    found: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.Embedding)):
            rows, columns = module.weight.shape[0], math.prod(module.weight.shape[1:])
            if min(rows, columns) >= NARROW:
                linear = isinstance(module, nn.Linear) and BODY.match(name) and columns % GROUP == 0
                found[f"{name}.weight"] = 4 if bits == 4 and linear else 8
    return found


def packed(weights: Mapping[str, Tensor], bits: Mapping[str, int]) -> dict[str, Tensor]:
    """Return ``weights`` as the tensors of a packed file, those in ``bits`` as levels and scales.

    A tensor that is not finite, or whose scales exceed fp16, has more bits instead of wrong values.
    """
    from captioner.layers.quantization import nibbles, quantized, quantized_in_groups

    out: dict[str, Tensor] = {}
    for name, value in weights.items():
        value = value.detach().cpu()
        largest = float(value.abs().max()) if value.is_floating_point() and value.numel() else 0.0
        if name not in bits or not math.isfinite(largest):
            out[name] = value.half() if value.is_floating_point() and not largest > LARGEST_HALF else value
            continue
        rows = value.flatten(1)
        if bits[name] == 4 and largest <= LARGEST_HALF:
            levels, scale = quantized_in_groups(rows)
            out[name], out[name + SCALE] = nibbles(levels), scale
        else:
            levels, scale = quantized(rows)
            out[name], out[name + SCALE] = levels.view(value.shape), scale
    return out


def unpacked(tensors: dict[str, Tensor], where: object) -> dict[str, Tensor]:
    """Return the weights of a file's ``tensors``, emptying that; a file without levels is returned as it is.

    Raises ``CheckpointError`` for levels and scales that do not fit each other or hold values out of range.
    """
    import torch

    from captioner.layers.quantization import dequantized, of_nibbles

    header = {name: (_DTYPES.get(str(value.dtype), "?"), tuple(value.shape)) for name, value in tensors.items()}
    shapes = unpacked_shapes(header, where)
    out: dict[str, Tensor] = {}
    for name in shapes:
        value, scale = tensors.pop(name), tensors.pop(name + SCALE, None)
        if scale is None:
            out[name] = value
            continue
        if not bool(scale.isfinite().all()) or (value.dtype == torch.int8 and bool((value == -128).any())):
            raise CheckpointError(f"{where} holds values of {name} out of range; download or save it again")
        levels = value.flatten(1) if value.dtype == torch.int8 else of_nibbles(value)
        out[name] = dequantized(levels, scale).view(shapes[name])
    return out


def unpacked_shapes(header: Mapping[str, tuple[str, tuple[int, ...]]], where: object) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights, by name, from the dtypes and shapes of a file's tensors.

    Raises ``CheckpointError`` for scales that do not fit their levels.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (dtype, shape) in header.items():
        if name.endswith(SCALE):
            if name.removesuffix(SCALE) not in header:
                raise CheckpointError(f"{where} holds scales without levels, {name}; download or save it again")
            continue
        shapes[name] = shape
        if name + SCALE not in header:
            if dtype in (INT8, NIBBLES):
                raise CheckpointError(f"{where} holds levels of {name} without scales; download or save it again")
            continue
        kind, scales = header[name + SCALE]
        fits = kind in SCALES and len(shape) >= 2
        if dtype == NIBBLES:
            shapes[name] = (*shape[:1], 2 * math.prod(shape[1:]))
            fits = fits and len(shape) == len(scales) == 2 and scales[0] == shape[0]
            fits = fits and scales[1] > 0 and shapes[name][1] % scales[1] == 0
        else:
            fits = fits and dtype == INT8 and scales == shape[:1]
        if not fits:
            raise CheckpointError(
                f"{where} holds scales of {name} that do not fit its levels, {kind} {list(scales)} for {dtype} "
                f"{list(shape)}; download or save it again"
            )
    return shapes


_DTYPES = {"torch.int8": INT8, "torch.uint8": NIBBLES, "torch.float16": "F16", "torch.float32": "F32"}
