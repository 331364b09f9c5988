"""Bodies and headers: their sizes and times are bounded on a real connection."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from captioner.serving import connections
from captioner.serving.tasks import About, Photo, Reply, Task

from .conftest import wait_until

Start = Callable[..., Any]


def connect(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def read_all(link: socket.socket) -> bytes:
    parts = []
    while part := link.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 1000):
        yield b"x" * 1000


@pytest.mark.parametrize("path", ["/caption", "/v1/chat/completions", "/api/generate"])
def test_a_large_body_is_refused_with_and_without_length(start: Start, path: str) -> None:
    server = start(limits={"body": 100_000})
    with server.client() as client:
        for body in (b"x" * 200_000, chunks(200_000)):
            answer = client.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 413
            assert "larger than 0 MB" in str(answer.json()["error"])
        form = client.post("/caption", files={"image": b"x" * 200_000})
        assert form.status_code == 413
        assert client.post("/caption", json={"image": "AAAA"}).status_code == 400, "the server continues"


def test_an_announced_size_is_refused_before_the_body(start: Start) -> None:
    server = start(limits={"body": 1000})
    with connect(server.url) as link:
        link.sendall(b"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n")
        assert read_all(link).startswith(b"HTTP/1.1 413 ")


def test_all_bodies_together_are_bounded(start: Start) -> None:
    server = start(limits={"body": 1000, "bodies": 1500})
    begun = b"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n" + b"x" * 900
    with connect(server.url) as first, connect(server.url) as second:
        first.sendall(begun)
        time.sleep(0.3)
        second.sendall(begun)
        answer = read_all(second)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in answer.lower()
        first.sendall(b"x" * 100)
        assert first.recv(1000).startswith(b"HTTP/1.1 400 "), "the first is served"
    with server.client() as client:
        assert client.post("/caption", json={"image": "AAAA"}).status_code == 400, "nothing stays counted"


def test_a_slow_body_and_a_slow_header_end(start: Start) -> None:
    server = start(limits={"body_time": 0.3, "header_time": 0.5})
    with connect(server.url) as slow, connect(server.url) as idle, connect(server.url) as partial:
        slow.sendall(b"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nxx")
        partial.sendall(b"POST /caption HTTP/1.1\r\nHo")
        begin = time.monotonic()
        assert read_all(slow).startswith(b"HTTP/1.1 408 ")
        assert read_all(idle) == b""
        assert read_all(partial) == b""
        assert time.monotonic() - begin < 5


def test_what_is_not_http_gets_json(start: Start) -> None:
    server = start()
    with connect(server.url) as link:
        link.sendall(b"\x16\x03\x01 what is this\r\n\r\n")
        head, _, body = read_all(link).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/json" in head
    assert json.loads(body) == {"error": "Invalid HTTP request received."}


def test_a_client_that_leaves_frees_its_place(start: Start, photos: Path) -> None:
    import threading

    server = start(limits={"queue": 1, "photos": 1, "wait": 0.0})
    held, go = threading.Event(), threading.Event()
    run = server.runner.run

    def slow(*arguments: Any) -> Any:
        held.set()
        go.wait(20)
        return run(*arguments)

    server.runner.run = slow
    data = (photos / "0.png").read_bytes()
    post = b"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(
        data
    )
    with connect(server.url) as first:
        first.sendall(post + data)
        assert held.wait(20)
        with connect(server.url) as second:
            second.sendall(post + data)
            time.sleep(0.3)
            with server.client() as client:
                assert client.post("/caption", content=data, headers={"content-type": "image/png"}).status_code == 503
        time.sleep(0.3)
        with connect(server.url) as third:
            third.sendall(post + data)
            time.sleep(0.3)
            go.set()
            assert third.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert first.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert len(server.runner.batches) == 2, "the second one was not captioned"


def test_an_ending_server_answers_a_request_on_an_open_connection(start: Start) -> None:
    server = start()
    with connect(server.url) as link:
        ask = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
        link.sendall(ask)
        first = b""
        while not first.endswith(b"}"):
            first += link.recv(1000)
        assert b"connection: close" not in first.lower()
        server.server.should_exit = True
        time.sleep(0.3)
        link.sendall(ask)
        answer = read_all(link)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("path", ["/caption", "/v1/chat/completions", "/api/chat", "/api/v1/vision/caption"])
def test_many_small_values_are_refused_before_they_fill_the_memory(server: Any, path: str) -> None:
    body = b'{"images": [], "x": [' + b"[]," * 60_000 + b"0]}"
    with server.client() as client:
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert "more than 100,000 values" in answer.text
        plain = client.post("/caption", content=body)
        assert plain.status_code == 413
        form = client.post("/caption", data={"bias": "{" * 200_000}, files={"image": b"0"})
        assert form.status_code == 413
        lines = client.post("/models/x", content=body, headers={"content-type": "application/jsonl"})
        assert lines.status_code == 400, "the bytes of no photo"
        photo = b"," * 200_000
        for where in ("/caption", "/models/x"):
            assert client.post(where, content=photo, headers={"content-type": "image/png"}).status_code == 400
        assert client.post("/models/x", content=photo).status_code == 400, "a photo whose type is not named"


@pytest.mark.parametrize("head", [b"X: " + b"x" * 300_000 + b"\r\n", b"X: x\r\n" * 40_000])
def test_large_headers_end_the_connection(start: Start, head: bytes) -> None:
    server = start()
    with connect(server.url) as link:
        answer = b""
        with contextlib.suppress(ConnectionError):  # the server closes while the header arrives
            link.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + head)
            answer = read_all(link)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    with server.client() as client:
        assert client.get("/livez").status_code == 200


def test_a_client_that_does_not_read_its_answer_frees_its_memory(start: Start) -> None:
    class Talkative:
        most = places = 1

        def start(self) -> About:
            return About(generation={}, labels=False, search=False)

        def run(self, task: Task, photos: list[Photo], patience: float) -> Reply:
            said = {"caption": "a " * 8_000_000, "score": 0.0, "confidence": 1.0, "words": []}
            return Reply(records=[said for _ in photos])

        def stop(self) -> None:
            pass

        end = stop

    server = start(Talkative(), limits={"reading_time": 0.5})
    with connect(server.url) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.sendall(b"POST /caption HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 3\r\n\r\nabc")
        open_ones = server.server.server_state.connections
        wait_until(lambda: [each for each in open_ones if each.cycle])
        wait_until(lambda: not open_ones)


def test_connections_are_bounded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start()
    monkeypatch.setattr(connections, "MOST", 2)

    def alive(link: socket.socket) -> bytes:
        link.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}") and (part := link.recv(1000)):
            answer += part
        return answer

    with connect(server.url) as first, connect(server.url) as second:
        assert alive(first).startswith(b"HTTP/1.1 200 ")
        assert alive(second).startswith(b"HTTP/1.1 200 ")
        with connect(server.url) as third, contextlib.suppress(ConnectionError):
            assert alive(third) == b""
        assert alive(first).startswith(b"HTTP/1.1 200 "), "the others are served"


def test_the_server_ends_in_time_with_a_slow_body(start: Start) -> None:
    server = start(limits={"drain": 1.0})
    with connect(server.url) as link:
        link.sendall(b"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nxx")
        time.sleep(0.2)
        begin = time.monotonic()
        server.server.should_exit = True
        read_all(link)
        assert time.monotonic() - begin < 5
