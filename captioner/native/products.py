"""A linear layer's matrix product, with its weights packed in the library's reading order."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.native.addresses import address
from captioner.native.library import checked, level, library
from captioner.native.plans import ACTIVATIONS, ProductPlan

GROUP, DEPTH = 48, 64  # of src/native.h


class NativeProduct:
    """An fp32 product (..., rows, in) -> (..., rows, out) whose rows do not depend on the other rows, bit for bit."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, scale: Tensor | None = None) -> None:
        """Pack ``weight`` (out, in), fp32, or int8 with the ``scale`` (out,) of its rows; ``bias`` (out,)."""
        count, width = weight.shape
        groups = -(-count // GROUP)
        padded = groups * GROUP
        over = padded - count
        if bias is None:
            bias = torch.zeros(count, dtype=torch.float32, device="cpu")
        kept: dict[str, tuple[Any, ...]] = {"bias": (F.pad(bias.float(), (0, over)), torch.float32, padded)}
        if scale is None:
            weight = F.pad(weight.float(), (0, 0, 0, over)).view(groups, GROUP, width).transpose(1, 2)
            kept["weight"] = weight.contiguous(), torch.float32, groups, width, GROUP
        else:
            kept["scale"] = F.pad(scale, (0, over)), torch.float32, padded
            kept["totals"] = F.pad(weight.sum(dim=1) * scale, (0, over)), torch.float32, padded
            weight = F.pad(weight, (0, -width % DEPTH, 0, over))
            fours = weight.view(groups, GROUP, -1, 4).transpose(1, 2)
            kept["levels"] = fours.contiguous(), torch.int8, groups, weight.shape[1] // 4, GROUP, 4
        self.inputs, self.outputs = width, count
        self._kept = kept  # the plan holds their addresses
        addresses = {name: address(*value) for name, value in kept.items()}
        self.plan = ProductPlan(inputs=width, outputs=count, **addresses)

    def __call__(self, rows: Tensor, activation: str | None = None) -> Tensor:
        """Multiply rows, and apply the activation, one of ``ACTIVATIONS``.

        Raises ``UsageError`` for rows that are not fp32 on the CPU or have another width.
        """
        rows = rows.contiguous()
        shape = *rows.shape[:-1], self.outputs
        out = torch.empty(shape, dtype=torch.float32, device="cpu")  # explicit, in case torch's defaults were changed
        compiled = library()
        assert compiled is not None
        checked(
            compiled.captioner_multiply(
                self.plan,
                address(rows, torch.float32, *rows.shape[:-1], self.inputs),
                rows.numel() // self.inputs,
                address(out, torch.float32, *shape),
                -1 if activation is None else ACTIVATIONS.index(activation),
                level(),
                torch.get_num_threads(),
            )
        )
        return out

    def __deepcopy__(self, memo: dict[int, Any]) -> NativeProduct:
        return self  # immutable
