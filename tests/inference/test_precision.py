"""The choice of precision by what this CPU does."""

from __future__ import annotations

import pytest
import torch

from captioner.inference import precision
from captioner.inference.precision import INT8_AHEAD, TORCH, faster
from captioner.native import library


@pytest.mark.parametrize(("level", "ahead"), INT8_AHEAD.items())
def test_only_a_measurement_makes_int8_slow(level: str, ahead: bool | None) -> None:
    assert faster("int8", level) is (ahead is not False)
    assert faster("fp32", level)


@pytest.mark.parametrize(("capability", "ahead"), [("AVX2", False), ("AVX512", True), ("DEFAULT", True)])
def test_bf16_is_slow_where_it_was_measured(monkeypatch: pytest.MonkeyPatch, capability: str, ahead: bool) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert faster("bf16") is ahead


def test_an_unknown_level_was_not_measured() -> None:
    assert faster("int8", "avx1024")


@pytest.mark.parametrize(("level", "same"), [(None, TORCH), ("amx", "amx"), ("avx2", "avx2")])
def test_the_level_is_that_of_this_cpu(monkeypatch: pytest.MonkeyPatch, level: str | None, same: str) -> None:
    found = library.NativeStatus(level=level, reason="for a test", path=None)
    monkeypatch.setattr(library, "status", lambda: found)
    monkeypatch.setattr(precision, "INT8_AHEAD", {"amx": True, "avx2": False, TORCH: False})
    assert faster("int8") is faster("int8", same) is (same == "amx")
