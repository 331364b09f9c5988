"""The options of a server: they hold for all captions, and a request cannot lift those that protect people."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captioner.cli.options import Device
from captioner.cli.serve import load_model
from captioner.errors import CaptionerError
from captioner.serving.child import Model
from captioner.serving.settings import Limits

Start = Callable[..., Any]


@pytest.fixture
def careful(start: Start, learnt: Path, model: Model, photos: Path) -> tuple[Any, str]:
    """Return a server that forbids the last word of a caption and is never sure, and that word."""
    word = model.pipe.caption(str(photos / "0.png")).text.split()[-1]
    own = {"forbid": [word, *(f"word {n}" for n in range(200))], "unsure": 1.0, "neutral": True}
    strict = Model(load_model(str(learnt), Device(device="cpu"), own), Limits().pixels)
    return start(of=strict, generation=own), word


def test_a_request_adds_to_the_words_of_the_server(careful: tuple[Any, str], photos: Path) -> None:
    server, word = careful
    photo = base64.b64encode((photos / "0.png").read_bytes()).decode()
    with server.client() as client:
        (plain,) = client.post("/caption", json={"image": photo}).json()["captions"]
        assert word not in plain["caption"].split()
        other = plain["caption"].split()[-1]
        wishes: dict[str, Any] = {"image": photo, "forbid": [other], "neutral": False}
        answer = client.post("/caption", json=wishes)
        assert answer.status_code == 200, answer.text
        assert not {word, other} & set(answer.json()["captions"][0]["caption"].split())
        asked = json.loads(server.runner.batches[-1][0].options)
        assert asked["neutral"] is True
        bad = client.post("/v1/chat/completions", json={"messages": chat(photo), "captioner": {"forbid": 3}})
        assert bad.status_code == 400
        many = client.post("/caption", json={"image": photo, "forbid": [f"other {n}" for n in range(65)]})
        assert many.status_code == 400, "the limit is of what the request adds"


def chat(photo: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": photo}}]}]


def test_every_protocol_says_that_it_is_unsure(careful: tuple[Any, str], photos: Path) -> None:
    server, _ = careful
    photo = base64.b64encode((photos / "0.png").read_bytes()).decode()
    bodies: dict[str, Any] = {
        "/v1/chat/completions": {"messages": chat(photo)},
        "/api/generate": {"images": [photo], "stream": False},
        "/models/x": {"inputs": photo},
        "/sdapi/v1/interrogate": {"image": photo},
    }
    with server.client() as client:
        (own,) = client.post("/caption", json={"image": photo}).json()["captions"]
        assert own["unsure"] is True
        for path, body in bodies.items():
            assert f"not sure: {own['caption']}" in client.post(path, json=body).text, path
        prism = client.post("/api/v1/vision/caption", json={"images": [photo]}).json()["result"]["caption"]
        assert (prism["text"], prism["confidence"]) == (own["caption"], own["confidence"])
        sure = client.post("/caption", json={"image": photo, "unsure": 0.0}).json()["captions"][0]
        assert "unsure" not in sure


@pytest.mark.parametrize("name", ["rules", "sampling", "calibration", "nonsense"])
def test_only_options_are_options(careful: tuple[Any, str], photos: Path, name: str) -> None:
    """``rules`` as a whole would lift the server's own words."""
    server, _ = careful
    photo = base64.b64encode((photos / "0.png").read_bytes()).decode()
    with server.client() as client:
        answer = client.post("/v1/chat/completions", json={"messages": chat(photo), "captioner": {name: {}}})
    assert answer.status_code == 400
    assert f"unknown generation option '{name}'" in answer.text


def test_limits_are_of_what_a_request_adds(start: Start, learnt: Path, photos: Path) -> None:
    own = {"temperature": 0.7, "candidates": 20, "rerank": "consensus", "bias": {f"word {n}": 1.0 for n in range(70)}}
    server = start(of=Model(load_model(str(learnt), Device(device="cpu"), own), Limits().pixels), generation=own)
    photo = base64.b64encode((photos / "0.png").read_bytes()).decode()
    with server.client() as client:
        for wishes in ({}, {"count": 2}, {"bias": {"other": 1.0}}):
            answer = client.post("/caption", json={"image": photo, **wishes})
            assert answer.status_code == 200, answer.text
            assert server.runner.batches[-1][0].width == 20
        assert client.post("/caption", json={"image": photo, "count": 21}).status_code == 400


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"language": "de"}, "no language 'de'|language"),
        ({"candidates": 3, "rerank": "matching"}, "head"),
        ({"prefix": "a " * 30, "max_tokens": 8}, "max_tokens"),
    ],
)
def test_options_that_the_model_cannot_follow_end_the_start(learnt: Path, own: dict[str, Any], said: str) -> None:
    with pytest.raises(CaptionerError, match=said):
        load_model(str(learnt), Device(device="cpu"), own)


def test_images_that_do_not_arrive_are_late(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioner.serving.photos.fetch", lambda url, **settings: time.sleep(0.3) or b"")
    server = start(limits={"timeout": 0.5, "downloads": 1}, allow_urls=True)
    with server.client() as client:
        answer = client.post("/caption", json={"images": ["http://a.example/1"] * 5})
    assert answer.status_code == 504
    assert "did not arrive within 0.5 s" in answer.json()["error"]
