"""The steps to which the library quantizes activations."""

from __future__ import annotations

from captioner.native.library import level
from captioner.native.plans import LEVELS


def activation_steps() -> int:
    """Return the steps between the least and the largest quantized activation of a row: 255, or 127 without VNNI."""
    return 127 if level() in (LEVELS.index("sse42"), LEVELS.index("avx2")) else 255
