"""Interrupted and resumed runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest


class Crash(Exception):
    """A simulated power failure."""


def same(a: object, b: object) -> bool:
    """Return whether two values are equal to the last bit, through all containers."""
    import torch

    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.equal(b)
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture
def goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return ``goes_on(run, saves)``: it checks that ``run(out, resume=...)``, interrupted after a save, ends the same.

    A state is saved at the start, after every step and after every validation; ``saves`` counts from 0. It returns the
    directory of the interrupted run.
    """
    import torch

    from captioner.training import trainer

    def check(run: Callable[..., Any], saves: int) -> Path:
        monkeypatch.setattr(trainer, "SAVE_SECONDS", -1)
        whole, cut = tmp_path / "whole", tmp_path / f"cut-{saves}"
        if not whole.exists():
            run(whole, resume=False)
        write, turns = trainer.write_state, iter(range(99))

        def write_and_crash(state: Mapping[str, Any], directory: Path) -> None:
            write(state, directory)
            if next(turns) == saves:
                raise Crash

        with monkeypatch.context() as patched:
            patched.setattr(trainer, "write_state", write_and_crash)
            with pytest.raises(Crash):
                run(cut, resume=False)
        torch.rand(7)
        run(cut, resume=True)
        one, other = (torch.load(out / "state.pt", weights_only=True) for out in (whole, cut))
        assert one.keys() == other.keys()
        assert [key for key in one if not same(one[key], other[key])] == []
        return cut

    return check
