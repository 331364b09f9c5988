"""Ollama's protocol, spoken by its own client."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ollama
import pytest

from captioner.serving.child import Model


@pytest.fixture
def client(server: Any) -> ollama.Client:
    return ollama.Client(host=server.url)


def test_generate_and_chat(client: ollama.Client, model: Model, photos: Path) -> None:
    path = photos / "0.png"
    caption = model.pipe.caption(str(path)).text
    settings: dict[str, Any] = {"temperature": 1.5, "num_ctx": 4096, "seed": 3}
    answer = client.generate(model="llava", prompt="What is this?", images=[path.read_bytes()], options=settings)
    assert answer.response == caption
    assert answer.done
    assert answer.eval_count == len(caption.split())
    parts = list(client.generate(model="llava", images=[path.read_bytes()], stream=True))
    assert "".join(part.response for part in parts) == caption
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    message = {"role": "user", "content": "What is this?", "images": [path.read_bytes()]}
    assert client.chat(model="llava", messages=[message]).message.content == caption
    told = [{**message, "images": [(photos / "1.jpg").read_bytes()]}, message, {"role": "user", "content": "and?"}]
    streamed = client.chat(model="llava", messages=told, stream=True)
    assert "".join(part.message.content or "" for part in streamed) == caption


def test_options_of_this_package_count(client: ollama.Client, model: Model, photos: Path) -> None:
    path = photos / "0.png"
    word = model.pipe.caption(str(path)).text.split()[-1]
    answer = client.generate(model="x", images=[path.read_bytes()], options={"forbid": [word]})  # type: ignore[arg-type]
    assert answer.response == model.pipe.caption(str(path), forbid=[word]).text


def test_the_calls_that_look_for_a_model(client: ollama.Client, server: Any) -> None:
    (found,) = client.list().models
    assert found.model == "tiny:latest"
    assert "vision" in (client.show("tiny").capabilities or [])
    assert client.ps().models[0].model == "tiny:latest"
    assert client.generate(model="tiny").done_reason == "load"
    with server.client() as plain:
        assert plain.get("/api/version").json()["version"]


def test_errors_are_those_that_the_client_knows(client: ollama.Client, start: Callable[..., Any], photos: Path) -> None:
    for call in (
        lambda: client.generate(model="x", prompt="hello"),
        lambda: client.generate(model="x", images=[b"no image"]),
        lambda: client.chat(model="x", messages=[{"role": "user", "content": "hello"}]),
        lambda: client.generate(model="x", images=[b"no image"], options={"beams": 0}),  # type: ignore[arg-type]
    ):
        with pytest.raises(ollama.ResponseError) as bad:
            call()
        assert bad.value.status_code == 400
        assert bad.value.error
    busy = start(limits={"queue": 0, "photos": 0})
    busy.service.door.check_count = lambda count: None  # type: ignore[method-assign]
    with pytest.raises(ollama.ResponseError, match="server busy, please try again") as refused:
        ollama.Client(host=busy.url).generate(model="x", images=[(photos / "0.png").read_bytes()])
    assert refused.value.status_code == 503


def test_a_body_without_its_type(server: Any) -> None:
    """`curl -d` names a form, and Ollama's documentation uses it."""
    with server.client() as client:
        for kind in ("application/x-www-form-urlencoded", "text/plain"):
            answer = client.post("/api/generate", content=json.dumps({"model": "x"}), headers={"content-type": kind})
            assert answer.json()["done_reason"] == "load"


@pytest.mark.parametrize("images", ["AAAA", [1], {"a": 1}, [None]])
def test_odd_images_in_a_chat(server: Any, images: Any) -> None:
    with server.client() as client:
        answer = client.post("/api/chat", json={"messages": [{"role": "user", "images": images}]})
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
