"""The model on a Ray cluster: what its copies say, and no request that is lost with one of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioner.cli.options import Device
from captioner.cli.serve import load_model
from captioner.errors import CaptionerError, MissingExtraError, UsageError
from captioner.serving import replicas
from captioner.serving.replicas import Replica, Replicas, Scale
from captioner.serving.tasks import Died, Photo, Task, Unavailable

PIXELS = 10_000_000
LOAD: Any = partial(load_model, None, Device(device="cpu"))


class Handle:
    """A handle of Ray Serve whose responses are those of ``act``."""

    def __init__(self, act: Callable[[], str]) -> None:
        self.act, self.cancelled = act, 0
        self.run = self

    def remote(self, *arguments: Any) -> Handle:
        return self

    def result(self, timeout_s: float) -> str:
        return self.act()

    def cancel(self) -> None:
        self.cancelled += 1


def pool(act: Callable[[], str] = lambda: "", *, live: int = 1, **scale: Any) -> Replicas:
    found = Replicas(LOAD, PIXELS, Scale(address="local", **scale), "test")
    found._handle, found._live = Handle(act), live
    return found


def raises(error: Exception) -> Callable[[], str]:
    def act() -> str:
        raise error

    return act


def test_a_task_runs_on_a_copy() -> None:
    reply = pool(lambda: json.dumps({"reply": {"records": [{"caption": "a"}]}})).run(Task(), [], 1)
    assert reply.records == [{"caption": "a"}]
    with pytest.raises(CaptionerError, match="no head"):
        pool(lambda: '{"refused": "it has no head"}').run(Task(), [], 1)


def test_a_copy_that_dies_and_one_that_is_not_there() -> None:
    exceptions = pytest.importorskip("ray.exceptions")
    with pytest.raises(Died, match="a copy of the model ended") as died:
        pool(raises(exceptions.ActorDiedError())).run(Task(), [], 1)
    assert not isinstance(died.value, Unavailable)
    slow = pool(raises(TimeoutError()))
    with pytest.raises(Died, match="did not answer within 1 seconds") as late:
        slow.run(Task(), [], 1)
    assert not isinstance(late.value, Unavailable)
    assert slow._handle.cancelled == 1
    with pytest.raises(Unavailable, match="no copy of the model runs"):
        pool(raises(TimeoutError()), live=0).run(Task(), [], 1)
    with pytest.raises(Unavailable, match="too many"):
        pool(raises(ValueError("too many"))).run(Task(), [], 1)


def test_the_end_cancels_what_runs() -> None:
    pytest.importorskip("ray")
    go = threading.Event()
    found = pool(lambda: str(go.wait(10)))

    def run() -> None:
        with contextlib.suppress(json.JSONDecodeError):
            found.run(Task(), [], 1)

    thread = threading.Thread(target=run)
    thread.start()
    while not found._waiting:
        time.sleep(0.01)
    found.end()
    assert found._handle.cancelled == 1
    go.set()
    thread.join(10)
    with pytest.raises(Died, match="the server ended"):
        found.run(Task(), [], 1)


@pytest.mark.parametrize(
    ("least", "most", "live", "places"), [(2, 2, 2, 2), (2, 2, 1, 1), (1, 4, 1, 2), (1, 4, 4, 4), (0, 4, 0, 1)]
)
def test_places_follow_the_copies(least: int, most: int, live: int, places: int) -> None:
    assert pool(live=live, least=least, most=most).places == places


def test_a_machine_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ray:
        def cluster_resources(self) -> dict[str, float]:
            return {"CPU": 2.0}

    monkeypatch.setattr(replicas, "ray_module", lambda *names: Ray())
    monkeypatch.setattr(replicas, "connect", lambda *address: None)
    Replicas(LOAD, PIXELS, Scale(address="local", least=2, most=8), "test").connect()
    with pytest.raises(UsageError, match="3 replicas of 1 cores do not fit on the 2 cores"):
        Replicas(LOAD, PIXELS, Scale(address="local", least=3, most=3), "test").connect()


def test_without_ray_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray.serve", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'captioner\[ray\]'"):
        Replicas(LOAD, PIXELS, Scale(address="local"), "test").connect()


def test_a_copy_captions_and_names_what_it_cannot_do(learnt: Path, photos: Path) -> None:
    import torch

    threads = torch.get_num_threads()
    copy = Replica(partial(load_model, str(learnt), Device(device="cpu")), PIXELS, threads)
    assert json.loads(copy.about())["about"]["labels"] is False
    photo = Photo(name="a", data=(photos / "0.png").read_bytes())
    reply = json.loads(copy.run(Task(), [photo, Photo(name="b", data=b"")], 60))["reply"]
    assert reply["records"][0]["caption"]
    assert "cannot read b" in reply["records"][1]["error"]
    assert "contrastive head" in json.loads(copy.run(Task(vectors="embeddings"), [photo], 60))["refused"]
    none = Replica(partial(load_model, "/no/such/model", Device(device="cpu")), PIXELS, threads)
    assert "/no/such/model" in json.loads(none.about())["refused"]


def copies() -> list[int]:
    """Return the processes of copies of the model."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"ServeReplica" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_a_killed_copy_loses_no_request(command: Any, learnt: Path, photos: Path, tmp_path: Path) -> None:
    """Eight clients ask while one of two copies is killed at work: all get the captions that they got before."""
    pytest.importorskip("ray.serve", exc_type=ImportError)
    others, stop = set(copies()), threading.Event()
    paths = [tmp_path / path.name for path in sorted(photos.iterdir())]
    for path in paths:  # photos that keep a copy at work while the clients ask
        Image.open(photos / path.name).resize((3000, 3000), Image.Resampling.NEAREST).save(path)
    with (
        command("--model", str(learnt), "--ray", "local", "--replicas", "2", "--replica-cpus", "0.5") as served,
        served.client() as client,
    ):
        expected = {path: caption(client, path) for path in paths}
        before = set(copies()) - others
        assert len(before) == 2

        def ask(place: int) -> int:
            asked = 0
            while not stop.is_set():
                path = paths[(place + asked) % len(paths)]
                assert caption(client, path) == expected[path]
                asked += 1
            return asked

        with ThreadPoolExecutor(8) as threads:
            asking = [threads.submit(ask, place) for place in range(8)]
            time.sleep(2)
            for copy in before:  # the first may be killed between two batches
                there = set(copies())
                os.kill(copy, signal.SIGKILL)
                end = time.monotonic() + 300
                while set(copies()) <= there and time.monotonic() < end:
                    time.sleep(0.1)
                time.sleep(15)
                if replaced_at_work(client):
                    break
            stop.set()
            assert sum(each.result(120) for each in asking) > 8
        assert replaced_at_work(client) > 0, "a batch ran on a copy that was killed"
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(60) == 0
    assert not set(copies()) - others


def replaced_at_work(client: Any) -> float:
    """Return the number of copies that were replaced because they ended while they captioned a batch."""
    lines = client.get("/metrics").text.splitlines()
    (found,) = [line for line in lines if line.startswith("captioner_model_restarts_total")]
    return float(found.split()[1])


@pytest.mark.slow
def test_the_number_of_copies_follows_the_load(command: Any, learnt: Path, photos: Path) -> None:
    pytest.importorskip("ray.serve", exc_type=ImportError)
    others, stop = set(copies()), threading.Event()
    path = min(photos.iterdir())
    with (
        command("--model", str(learnt), "--ray", "local", "--replicas", "1:2", "--replica-cpus", "0.5") as served,
        served.client() as client,
        ThreadPoolExecutor(8) as threads,
    ):
        assert len(set(copies()) - others) == 1

        def ask() -> None:
            while not stop.is_set():
                caption(client, path)

        asking = [threads.submit(ask) for _ in range(8)]
        end = time.monotonic() + 300
        while len(set(copies()) - others) < 2 and time.monotonic() < end:
            time.sleep(0.2)
        stop.set()
        for each in asking:
            each.result(120)
        assert len(set(copies()) - others) == 2


def stop_at_work(copy: int, asked: list[int]) -> None:
    """Stop a copy while a batch is on it: one of the clients then waits for its answer."""
    for _ in range(20):
        os.kill(copy, signal.SIGSTOP)
        before = list(asked)
        time.sleep(5)
        if any(now == then for now, then in zip(asked, before, strict=True)):
            return
        os.kill(copy, signal.SIGCONT)
        time.sleep(0.1)
    pytest.fail("no batch stayed on the copy that was stopped")


def caption(client: Any, path: Path) -> str:
    answer = client.post("/caption", files={"image": path.read_bytes()})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["captions"][0]["caption"])
