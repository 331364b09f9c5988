"""Loading ahead in processes that are started anew, as on Windows and macOS, where everything they get is pickled."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from captioner.training import loading
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.tasks import Data


@pytest.mark.parametrize("cached", [True, False])
def test_workers_get_only_what_can_be_pickled(
    monkeypatch: pytest.MonkeyPatch, recipe: Callable[..., Recipe], data: Data, tmp_path: Path, cached: bool
) -> None:
    sizes = []

    def pickled(items: Any, **settings: Any) -> DataLoader[Any]:
        for name in ("collate_fn", "worker_init_fn"):
            settings[name] = pickle.loads(pickle.dumps(settings[name]))
        sizes.append(len(content := pickle.dumps(items)))
        return DataLoader(pickle.loads(content), **settings)

    monkeypatch.setattr(loading, "DataLoader", pickled)
    assert train(recipe({"epochs": 1, "cache_features": cached}), data, tmp_path / "run").is_dir()
    assert sizes
