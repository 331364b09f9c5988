"""The trial captions a drawn picture, and says so if it cannot."""

from __future__ import annotations

import re

import pytest

from captioner import pipelines
from captioner.doctor import trial
from captioner.doctor.lines import Fact, Warned
from captioner.errors import CheckpointError


def test_the_shipped_model_captions_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines, "choose_device", lambda: "cpu")
    monkeypatch.setattr(trial, "ROUNDS", 2)
    caption, time, verdict = trial.trial()
    assert isinstance(caption, Fact)
    assert len(caption.value.split()) > 3
    assert isinstance(time, Fact)
    assert re.fullmatch(r"\d+ ms in fp32, \d+ ms in int8 on cpu", time.value)
    assert isinstance(verdict, Fact)
    assert re.match(r"int8 is (\d+\.\d\d times as fast as|not faster than) fp32 for", verdict.value)


@pytest.mark.parametrize(("device", "remedy"), [("cpu", "see the lines above"), ("mps", "caption with --dev")])
def test_a_model_that_cannot_caption_is_fatal(monkeypatch: pytest.MonkeyPatch, device: str, remedy: str) -> None:
    def load(**settings: object) -> None:
        raise CheckpointError("the weights are damaged")

    monkeypatch.setattr(pipelines, "choose_device", lambda: device)
    monkeypatch.setattr(pipelines, "load", load)
    (found,) = trial.trial()
    assert isinstance(found, Warned)
    assert found.problem == f"no caption could be written in fp32 on {device}: the weights are damaged"
    assert found.fatal
    assert found.remedy.startswith(remedy)
