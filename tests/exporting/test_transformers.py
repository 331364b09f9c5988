"""The target ``transformers``: a plain model where the captioner is one, our own class otherwise."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from captioner.checkpoint import load
from captioner.errors import MissingExtraError, UsageError
from captioner.exporting import export


def kind(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_text())["model_type"]


def test_mixed_attention_needs_our_class(learnt: Path, tmp_path: Path) -> None:
    out = export(load(learnt), tmp_path / "out", to="transformers")
    assert kind(out) == "captioner"
    assert load(out).config == load(learnt).config


def test_without_transformers(learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioner.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'captioner\[transformers\]'"):
        export(load(learnt), tmp_path / "out", to="transformers")
    assert not (tmp_path / "out").exists()


def test_refuses_questions(learnt: Path, tmp_path: Path) -> None:
    checkpoint: Any = load(learnt)
    text = dataclasses.replace(checkpoint.config.text, question_id=5)
    question = dataclasses.replace(
        checkpoint.config.decoder, causal=False, head="none", self_pattern="G", cross_pattern="G"
    )
    decoder = dataclasses.replace(checkpoint.config.decoder, cross_pattern="G")
    checkpoint.model.config = dataclasses.replace(checkpoint.config, text=text, question=question, decoder=decoder)
    with pytest.raises(UsageError, match="answers questions"):
        export(checkpoint, tmp_path / "out", to="transformers")
