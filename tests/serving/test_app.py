"""The application: requests made from its OpenAPI document, hostile photos, pages of other sites."""

from __future__ import annotations

import base64
import json
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captioner.serving.child import Model

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "hostile"))

from case import CAPTION
from table import cases, is_address


@pytest.mark.parametrize("largest", [1 << 18, pytest.param(60 << 20, marks=pytest.mark.slow)])
def test_hostile_photos_get_their_status(start: Callable[..., Any], tmp_path: Path, largest: int) -> None:
    """Each photo of the table is captioned or refused as on the command line; folders and pipes cannot be sent."""
    server = start()
    wrong, sent = [], 0
    # Archives and addresses are not photos; permissions and links stay on the disk.
    hostile = [case for case in cases() if case.outcome and not case.archive and not is_address(case.name)]
    hostile = [case for case in hostile if not case.name.startswith("places/")]
    if largest < 1 << 20:
        hostile = [case for case in hostile if case.name != "sizes/12000x12000.png"]  # small, but takes seconds
    with server.client() as client:
        for number, case in enumerate(hostile):
            path = tmp_path / str(number)
            try:
                case.make(path)
                data = path.read_bytes() if path.is_file() and path.stat().st_size < largest else None
            except (OSError, ValueError):
                data = None
            if data is None:
                continue
            sent += 1
            answer = client.post("/caption", content=data, headers={"content-type": "application/octet-stream"})
            expected = 200 if case.outcome == CAPTION else 400
            reason = answer.json().get("error", CAPTION)
            if answer.status_code != expected or (expected == 400 and case.outcome.split(" (")[0] not in reason):
                wrong.append(f"{case.name}: {answer.status_code} {reason}, not {case.outcome}")
        assert client.get("/readyz").status_code == 200
    assert not wrong, "\n".join(wrong)
    assert sent > 40


def test_the_limit_of_pixels(start: Callable[..., Any], model: Model, photos: Path) -> None:
    server = start(of=Model(model.pipe, 40 * 899))
    with server.client() as client:
        assert client.post("/caption", files={"image": (photos / "0.png").read_bytes()}).json()["error"] == (
            "cannot read upload: its 40 x 900 pixels exceed this server's limit of 0.03596 megapixels; scale it down"
        )
    wider = start(of=Model(model.pipe, 40 * 900))
    with wider.client() as client:
        assert client.post("/caption", files={"image": (photos / "0.png").read_bytes()}).status_code == 200


def test_pages_of_other_sites(start: Callable[..., Any]) -> None:
    friend = "https://friend.example"
    server = start(origins=(friend,), key="s3cret")
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with server.client() as client:
        allowed = client.options("/caption", headers={"Origin": friend, **ask})
        assert allowed.status_code == 200, "a preflight request has no key"
        assert allowed.headers["access-control-allow-origin"] == friend
        refused = client.options("/caption", headers={"Origin": "https://evil.example", **ask})
        assert refused.status_code == 400
        evil = client.get("/readyz", headers={"Origin": "https://evil.example"})
        assert evil.status_code == 403
        assert "access-control-allow-origin" not in evil.headers
        wrong = client.get("/metrics", headers={"Origin": friend})
        assert (wrong.status_code, wrong.headers["access-control-allow-origin"]) == (401, friend)
        assert wrong.headers["www-authenticate"] == "Bearer"
        right = client.get("/metrics", headers={"Origin": friend, "Authorization": "Bearer s3cret"})
        assert right.status_code == 200


def test_without_cors_no_answer_allows_another_site(server: Any) -> None:
    with server.client() as client:
        answer = client.get("/livez", headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/caption", {"error", "kind"}),
        ("/v1/chat/completions", {"error"}),
        ("/api/generate", {"error"}),
        ("/api/v1/vision/caption", {"id", "code", "error"}),
        ("/models/x", {"error"}),
        ("/sdapi/v1/interrogate", {"error", "detail", "body", "errors"}),
    ],
)
def test_each_protocol_has_its_own_errors(server: Any, start: Callable[..., Any], path: str, names: set[str]) -> None:
    locked = start(key="k")
    with server.client() as client, locked.client() as stranger:
        for answer in (client.get(path), client.post(path, content=b"{"), stranger.post(path, content=b"{")):
            assert 400 <= answer.status_code < 500
            assert set(answer.json()) == names
        assert client.post(path, content=b"{", headers={"host": "evil.example"}).status_code == 403


def test_a_refusal_arrives_though_the_body_comes_later(start: Callable[..., Any]) -> None:
    """A server that closes while a body arrives would reset the connection, and the answer would be lost."""
    with start(key="k").client() as client:
        address = client.base_url.host, client.base_url.port
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(b"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n")
        time.sleep(0.2)
        connection.sendall(b"{")
        time.sleep(0.1)
        connection.sendall(b"}")
        assert b"".join(iter(lambda: connection.recv(4096), b"")).startswith(b"HTTP/1.1 401")


def test_the_document_describes_every_protocol(server: Any) -> None:
    with server.client() as client:
        document = client.get("/openapi.json").json()
    assert {"/caption", "/search", "/v1/responses", "/api/show", "/api/v1/vision/labels", "/models/{name}"} <= set(
        document["paths"]
    )
    assert "422" not in json.dumps(document)


def test_requests_made_from_the_document_get_no_server_error(server: Any) -> None:
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from schemathesis.checks import not_a_server_error

    with server.client() as client:
        document = client.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    for found in schema.get_all_operations():
        operation = found.ok()

        @seed(0)
        @settings(
            max_examples=8,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=operation.as_strategy())
        def attack(case: Any) -> None:
            case.call_and_validate(base_url=server.url, checks=[not_a_server_error])

        attack()


def test_a_photo_in_every_protocol(server: Any, model: Model, photos: Path) -> None:
    path = photos / "0.png"
    caption = model.pipe.caption(str(path)).text
    image = base64.b64encode(path.read_bytes()).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:;base64,{image}"}}
    bodies: dict[str, Any] = {
        "/caption": {"image": image},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": [part]}]},
        "/v1/responses": {"input": [{"type": "input_image", "image_url": image}]},
        "/api/generate": {"images": [image], "stream": False},
        "/api/chat": {"messages": [{"images": [image]}], "stream": False},
        "/api/v1/vision/caption": {"images": [image]},
        "/models/x": {"inputs": image},
        "/sdapi/v1/interrogate": {"image": image},
    }
    with server.client() as client:
        for place, body in bodies.items():
            answer = client.post(place, json=body)
            assert answer.status_code == 200, (place, answer.text)
            assert caption in answer.text, place
