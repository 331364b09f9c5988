"""A linear layer's product, its weights in the order in which the library reads them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.native.library import checked, has_tiles, library
from captioner.native.plans import ProductPlan

GROUP, DEPTH = 48, 64  # of src/native.h


class NativeProduct:
    """(..., rows, in) -> (..., rows, out), fp32: a row has the same bits in any company."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, scale: Tensor | None = None) -> None:
        """``weight`` (out, in) in fp32, or in int8 with the ``scale`` (out,) of its rows; ``bias`` (out,)."""
        count, width = weight.shape
        groups = -(-count // GROUP)
        over = groups * GROUP - count
        kept = {"bias": F.pad(torch.zeros(count) if bias is None else bias.float(), (0, over))}
        if scale is None:
            weight = F.pad(weight.float(), (0, 0, 0, over))
            kept["weight"] = weight.view(groups, GROUP, width).transpose(1, 2).contiguous()  # (groups, in, GROUP)
        else:
            kept["scale"] = F.pad(scale, (0, over))
            kept["totals"] = F.pad(weight.sum(dim=1) * scale, (0, over))
            weight = F.pad(weight, (0, -width % DEPTH, 0, over))
            fours = weight.view(groups, GROUP, -1, 4).transpose(1, 2)  # (groups, in / 4, GROUP, 4)
            kept["levels"] = fours.contiguous()
        self.inputs, self.outputs = width, count
        self._kept = kept  # the plan has their addresses
        addresses = {name: value.data_ptr() for name, value in kept.items()}
        self.plan = ProductPlan(inputs=width, outputs=count, tiles=has_tiles(), **addresses)

    def __call__(self, rows: Tensor) -> Tensor:
        assert rows.dtype == torch.float32
        assert rows.shape[-1] == self.inputs
        rows = rows.contiguous()
        count = rows.numel() // self.inputs
        out = torch.empty(*rows.shape[:-1], self.outputs)
        found = library()
        assert found is not None
        checked(found.captioner_multiply(self.plan, rows.data_ptr(), count, out.data_ptr(), torch.get_num_threads()))
        return out

    def __deepcopy__(self, memo: dict[int, Any]) -> NativeProduct:
        return self  # it never changes
