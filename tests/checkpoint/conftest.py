"""A small captioner with random weights, and its directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.checkpoint import Checkpoint, save

from .test_directory import make


@pytest.fixture(scope="module")
def original() -> Checkpoint:
    return make()


@pytest.fixture
def saved(original: Checkpoint, tmp_path: Path) -> Path:
    return save(original, tmp_path / "saved")
