"""Servers on free ports: one in a thread with the model beside it, one as the command in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from captioner.serving.child import Model
from captioner.serving.connections import listen
from captioner.serving.server import Server
from captioner.serving.service import Service
from captioner.serving.settings import Limits, Settings
from captioner.serving.tasks import About, Photo, Reply, Task
from captioner.training.tasks import Data

ROOT = Path(__file__).resolve().parents[2]


class Direct:
    """A runner that calls the model in this process."""

    most = places = 1

    def __init__(self, model: Model) -> None:
        self.model = model
        self.batches: list[tuple[Task, list[Photo]]] = []

    def start(self) -> About:
        return self.model.about()

    def run(self, task: Task, photos: list[Photo], patience: float) -> Reply:
        self.batches.append((task, photos))
        return self.model.run(task, photos)

    def stop(self) -> None:
        pass

    def end(self) -> None:
        pass


@dataclass
class Running:
    """A server in a thread."""

    url: str
    service: Service
    runner: Any
    server: Server

    def client(self, **settings: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, **settings)


@contextmanager
def running(settings: Settings, runner: Any) -> Iterator[Running]:
    """Run a server in a thread until the end of the block."""
    service = Service(settings, runner)
    server = Server(service)
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: service.batches.about is not None or service.failure is not None)
        yield Running(url, service, runner, server)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def wait_until(ready: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "too late"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def model(learnt: Path) -> Model:
    import captioner

    return Model(captioner.load(learnt, device="cpu"), Limits().pixels)


@pytest.fixture(scope="session")
def labelling(bilingual: Path) -> Model:
    import captioner

    return Model(captioner.load(bilingual, device="cpu"), Limits().pixels)


@pytest.fixture(scope="session")
def searching(taught: Path) -> Model:
    import captioner

    return Model(captioner.load(taught, device="cpu"), Limits().pixels)


@pytest.fixture
def start(model: Model) -> Iterator[Callable[..., Running]]:
    """Return ``start(runner=..., of=..., limits=..., **settings)``: a server until the end of the test."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def begin(
            runner: Any = None, of: Model = model, limits: dict[str, Any] | None = None, **settings: Any
        ) -> Running:
            bounds = replace(Limits(), **(limits or {}))
            return stack.enter_context(running(Settings(limits=bounds, **settings), runner or Direct(of)))

        yield begin


@pytest.fixture(scope="module")
def server(model: Model) -> Iterator[Running]:
    """Run a server with the default settings, for tests that change none of its state."""
    with running(Settings(model="runs/tiny"), Direct(model)) as found:
        yield found


@pytest.fixture(scope="session")
def photos(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with twelve drawn pictures of mixed sizes and formats."""
    folder = tmp_path_factory.mktemp("photos")
    for place, sample in enumerate((*data.train, *data.validation)):
        with Image.open(sample.path) as picture:
            size = (40 + 90 * place, 900 - 60 * place)
            suffix = ("png", "jpg", "webp")[place % 3]
            picture.convert("RGB").resize(size).save(folder / f"{place}.{suffix}")
    return folder


@dataclass
class Command:
    """The command in a process of its own."""

    url: str
    process: subprocess.Popen[str]

    def client(self, **settings: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **settings)


@pytest.fixture(scope="session")
def command() -> Any:
    """Return ``command(*arguments)``, the context of a `captioner serve` in a process of its own."""
    return _command


@contextmanager
def _command(*arguments: str, ready: bool = True, **environment: str) -> Iterator[Command]:
    """Run `captioner serve` on a free port until the end of the block."""
    line = [sys.executable, "-m", "captioner", "serve", "--port", "0", "--device", "cpu", *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=environ, cwd=ROOT)
    assert process.stderr is not None
    try:
        url = ""
        while "listening at" not in url:
            url = process.stderr.readline()
            assert url, "the server ended"
        found = Command(url.split()[-1], process)
        if ready:
            wait_until(lambda: httpx.get(f"{found.url}/readyz", trust_env=False).status_code == 200, 600)
        yield found
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(30)
        process.stderr.close()
