"""Hugging Face's task, by its own client, and A1111's interrogation."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from captioner.serving.child import Model


def test_hugging_face(server: Any, model: Model, photos: Path) -> None:
    path = photos / "2.webp"
    caption = model.pipe.caption(str(path)).text
    client = InferenceClient(model=f"{server.url}/models/org/name", token="none")
    assert client.image_to_text(path).generated_text == caption
    with server.client() as plain:
        body = {"inputs": base64.b64encode(path.read_bytes()).decode(), "parameters": {}}
        assert plain.post("/models/x", json=body).json() == [{"generated_text": caption}]
        for wrong in ({"inputs": 3}, [], {"inputs": "AAAA"}):
            answer = plain.post("/models/x", json=wrong)
            assert answer.status_code == 400
            assert set(answer.json()) == {"error"}
    with pytest.raises(HfHubHTTPError, match="cannot read image 1: it is not an image"):
        client.image_to_text(b"no image")


def test_a1111(server: Any, model: Model, photos: Path) -> None:
    path = photos / "0.png"
    encoded = base64.b64encode(path.read_bytes()).decode()
    with server.client() as client:
        for image in (encoded, f"data:image/png;base64,{encoded}"):
            answer = client.post("/sdapi/v1/interrogate", json={"image": image, "model": "clip"})
            assert answer.json() == {"caption": model.pipe.caption(str(path)).text}
        bad = client.post("/sdapi/v1/interrogate", json={"image": "AAAA", "model": "clip"})
        assert bad.status_code == 400
        assert bad.json()["detail"].startswith("cannot read image 1")
        assert client.post("/sdapi/v1/interrogate", json={"model": "clip"}).status_code == 400


def test_librephotos(start: Callable[..., Any], server: Any, model: Model, photos: Path) -> None:
    path = photos / "0.png"
    with start(root=str(photos)).client() as client:
        for name in ("0.png", str(path)):
            answer = client.post("/generate-caption", json={"image_path": name, "onnx": False})
            assert (answer.status_code, answer.json()) == (201, {"caption": model.pipe.caption(str(path)).text})
        outside = client.post("/generate-caption", json={"image_path": "../0.png"})
        assert (outside.status_code, outside.json()["kind"]) == (400, "photo")
    with server.client() as client:
        assert "reads no paths" in client.post("/generate-caption", json={"image_path": str(path)}).json()["error"]
