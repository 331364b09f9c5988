"""The stored scores, the dev captions if they exist, and the functions that call the COCO tools."""

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tools() -> ModuleType:
    """Return ``scripts/make_golden.py`` as a module: the tests share its functions."""
    spec = importlib.util.spec_from_file_location("make_golden", ROOT / "scripts" / "make_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "tests" / "golden" / "metrics.json").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="session")
def human_groups(tools: ModuleType) -> list[list[str]]:
    """Return the five captions of each Flickr8k dev image."""
    captions = Path(os.environ.get("CAPTIONER_DATA", ROOT.parent / "shared")) / "flickr8k" / "dev.jsonl"
    if not captions.exists():
        pytest.skip(f"no captions at {captions}; set CAPTIONER_DATA")
    groups: list[list[str]] = tools.human_groups(captions)
    return groups
