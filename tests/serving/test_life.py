"""The life of a server: readiness, the end, the time without requests, and connections that do nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captioner.errors import CheckpointError
from captioner.serving.tasks import About, Died, Photo, Reply, Task

ABOUT = About(generation={}, labels=False, search=False)
Start = Callable[..., Any]


class Slow:
    """A runner that holds every task until ``go``."""

    most = places = 1

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.loaded = 0

    def start(self) -> About:
        self.loaded += 1
        return ABOUT

    def run(self, task: Task, photos: list[Photo], patience: float) -> Reply:
        self.begun.set()
        self.go.wait(30)
        return Reply(records=[{"caption": "a", "score": 0.0, "confidence": 1.0, "words": []} for _ in photos])

    def stop(self) -> None:
        self.loaded -= 1

    def end(self) -> None:
        self.go.set()


def test_ready_after_the_model_has_loaded(start: Start) -> None:
    class Loading(Slow):
        def start(self) -> About:
            self.go.wait(30)
            return ABOUT

    runner = Loading()
    threading.Timer(0.5, runner.go.set).start()
    server = start(runner)
    with server.client() as client:
        assert client.get("/readyz").json() == {"status": "ready"}
        server.service.batches.about = None
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "loading"})
        assert client.get("/livez").status_code == 200
        early = client.post("/caption", json={"image": "AAAA"})
        assert (early.status_code, early.headers["retry-after"]) == (503, "5")


def test_monitors_may_ask_for_the_head_alone(start: Start) -> None:
    with start(Slow()).client() as client:
        for path in ("/", "/livez", "/readyz"):
            assert client.head(path).status_code == 200


@pytest.mark.parametrize(
    "error", [CheckpointError("there is no model"), Died("it ended"), OSError(11, "no process can be started")]
)
def test_a_model_that_cannot_be_loaded_ends_the_server(start: Start, error: Exception) -> None:
    class Broken(Slow):
        def start(self) -> About:
            raise error

    server = start(Broken())
    assert str(error) in server.service.failure
    assert server.server.should_exit


def test_what_was_accepted_is_answered_at_the_end(start: Start) -> None:
    runner = Slow()
    server = start(runner)
    answers: list[Any] = []

    def ask() -> None:
        with server.client() as client:
            answers.append(client.post("/caption", json={"image": "AAAA"}))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert runner.begun.wait(10)
    time.sleep(0.2)
    server.server.should_exit = True
    time.sleep(0.4)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))).close()
    runner.go.set()
    for thread in threads:
        thread.join(10)
    assert [answer.status_code for answer in answers] == [200] * 4


def test_the_end_comes_within_the_stated_time(start: Start) -> None:
    runner = Slow()
    server = start(runner, limits={"drain": 2.0})
    answers: list[Any] = []

    def ask() -> None:
        with server.client() as client:
            answers.append(client.post("/caption", json={"image": "AAAA"}))

    thread = threading.Thread(target=ask)
    thread.start()
    assert runner.begun.wait(10)
    begin = time.monotonic()
    server.server.should_exit = True
    thread.join(10)
    assert time.monotonic() - begin < 2.5
    assert answers[0].status_code == 503
    assert "stopping" in answers[0].json()["error"]


def test_an_idle_model_is_unloaded_and_loaded_again(start: Start) -> None:
    runner = Slow()
    runner.go.set()
    server = start(runner, idle=0.2 / 60)
    with server.client() as client:
        for _ in range(200):
            time.sleep(0.05)
            if client.get("/readyz").json()["status"] == "unloaded":
                break
        assert runner.loaded == 0
        assert "captioner_model_loaded 0.0" in client.get("/metrics").text
        assert client.post("/caption", json={"image": "AAAA"}).status_code == 200
        assert "captioner_model_loaded 1.0" in client.get("/metrics").text


def test_idle_connections_disturb_no_one(start: Start, photos: Path) -> None:
    server = start()
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    idle = [socket.create_connection(address) for _ in range(500)]
    try:
        with server.client() as client:
            assert client.post("/caption", files={"image": (photos / "0.png").read_bytes()}).status_code == 200
    finally:
        for link in idle:
            link.close()


@pytest.mark.slow
def test_ten_thousand_idle_connections(command: Any, learnt: Path, photos: Path) -> None:
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 10_500:
        pytest.skip("the system allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with command("--model", str(learnt)) as served:
        address = ("127.0.0.1", int(served.url.rpartition(":")[2]))
        idle = [socket.create_connection(address) for _ in range(10_000)]
        try:
            with served.client() as client:
                begin = time.monotonic()
                assert client.post("/caption", files={"image": (photos / "0.png").read_bytes()}).status_code == 200
                assert time.monotonic() - begin < 5
        finally:
            for link in idle:
                link.close()
        with served.client() as client:
            assert client.get("/livez").status_code == 200


def test_the_page_of_paths_needs_no_network(server: Any) -> None:
    with server.client() as client:
        page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    for path in ("/caption", "/v1/chat/completions", "/api/generate", "/sdapi/v1/interrogate", "/readyz"):
        assert path in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
