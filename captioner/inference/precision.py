"""The precisions of inference."""

from __future__ import annotations

from typing import Literal

Precision = Literal["fp32", "bf16", "int8"]
