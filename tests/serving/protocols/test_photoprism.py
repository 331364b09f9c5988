"""PhotoPrism's protocol: a client that sends and reads the JSON of its Go structs (internal/ai/vision)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest

from captioner.serving.child import Model


@dataclass
class CaptionResult:
    text: str = ""
    source: str = ""
    confidence: float = 0.0


@dataclass
class LabelResult:
    name: str = ""
    source: str = ""
    priority: int = 0
    confidence: float = 0.0
    topicality: float = 0.0
    categories: list[Any] = field(default_factory=list)


@dataclass
class ApiResult:
    caption: CaptionResult | None = None
    labels: list[LabelResult] = field(default_factory=list)


@dataclass
class ApiModel:
    type: str = ""
    name: str = ""
    version: str = ""


@dataclass
class ApiResponse:
    id: str = ""
    code: int = 0
    error: str = ""
    model: ApiModel | None = None
    result: ApiResult | None = None


HERE = {kind.__name__: kind for kind in (CaptionResult, LabelResult, ApiResult, ApiModel, ApiResponse)}


def unmarshal(kind: type[Any], value: Any) -> Any:
    """Read JSON as Go does: unknown fields are ignored, a wrong type is an error."""
    assert isinstance(value, dict), f"cannot unmarshal {value!r} into {kind.__name__}"
    hints, found = get_type_hints(kind, {**globals(), **HERE}), {}
    for each in fields(kind):
        if value.get(each.name) is None:
            continue
        given, hint = value[each.name], str(hints[each.name])
        inner = next((HERE[name] for name in HERE if name in hint), None)
        if inner is not None:
            given = [unmarshal(inner, item) for item in given] if "list" in hint else unmarshal(inner, given)
        else:
            allowed = (int, float) if hints[each.name] is float else hints[each.name]
            assert "list" in hint or isinstance(given, allowed), f"cannot unmarshal {given!r} into {each.name}"
        found[each.name] = given
    return kind(**found)


def perform(url: str, uri: str, path: Path | bytes, key: str = "") -> ApiResponse:
    """Send a request like PerformApiRequest; the fields that it leaves empty are omitted."""
    data = path if isinstance(path, bytes) else path.read_bytes()
    image = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    request = {"id": "b5bf2b2e", "model": "captioner", "version": "latest", "images": [image], "stream": False}
    request |= {"prompt": "Write a caption", "options": {"temperature": 0.1}, "format": "json"}
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    answer = httpx.post(f"{url}{uri}", content=json.dumps(request), headers=headers, trust_env=False, timeout=60)
    found: ApiResponse = unmarshal(ApiResponse, answer.json())
    assert answer.status_code == (found.code or 200)
    return found


@pytest.mark.parametrize("uri", ["/api/v1/vision/caption", "/api/v1/vision/caption/captioner/latest"])
def test_caption(server: Any, model: Model, photos: Path, uri: str) -> None:
    answer = perform(server.url, uri, photos / "1.jpg")
    expected = model.pipe.caption(str(photos / "1.jpg"))
    assert answer.id == "b5bf2b2e"
    assert answer.model == ApiModel("caption", "tiny", "latest")
    assert answer.result is not None
    assert answer.result.caption == CaptionResult(expected.text, "image", round(expected.confidence, 4))


def test_labels(start: Callable[..., Any], labelling: Model, photos: Path, server: Any) -> None:
    answer = perform(start(of=labelling).url, "/api/v1/vision/labels", photos / "1.jpg")
    assert answer.result is not None
    expected = labelling.pipe.caption(str(photos / "1.jpg")).labels
    assert expected
    assert [(label.name, label.confidence) for label in answer.result.labels] == [
        (label.text, round(label.probability, 4)) for label in expected
    ]
    assert {label.source for label in answer.result.labels} == {"image"}
    without = perform(server.url, "/api/v1/vision/labels", photos / "1.jpg")
    assert (without.id, without.code) == ("b5bf2b2e", 400)
    assert "names no labels" in without.error


def test_errors(server: Any, start: Callable[..., Any], photos: Path) -> None:
    bad = perform(server.url, "/api/v1/vision/caption", b"no image")
    assert (bad.id, bad.code) == ("b5bf2b2e", 400)
    assert bad.error.startswith("cannot read image 1")
    locked = start(key="s3cret")
    assert perform(locked.url, "/api/v1/vision/caption", photos / "1.jpg").code == 401
    assert perform(locked.url, "/api/v1/vision/caption", photos / "1.jpg", key="s3cret").result is not None
    with server.client() as client:
        assert client.post("/api/v1/vision/caption", json={"id": 3}).json()["code"] == 400
        nothing = client.post("/api/v1/vision/caption", json={"id": "\ud7ff", "images": []}).json()
        assert nothing == {"id": "\ud7ff", "code": 400, "error": "the request holds no image; send at least one"}
