"""The command under load: the captions of the command line, a model that is killed, and the end by SIGTERM."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from captioner.cli import main

OPTIONS: list[dict[str, Any]] = [{}, {"beams": 4, "count": 2}, {"temperature": 1.5, "seed": 1}, {"forbid": ["red"]}]
FLAGS = [[], ["--beams", "4", "--count", "2"], ["--temperature", "1.5", "--seed", "1"], ["--forbid", "red"]]


@pytest.fixture(scope="module")
def served(command: Any, learnt: Path) -> Iterator[Any]:
    with command("--model", str(learnt), "--wait", "30", "--batch", "8") as found:
        yield found


def post(client: httpx.Client, path: Path, options: dict[str, Any]) -> dict[str, Any]:
    body = {"image": base64.b64encode(path.read_bytes()).decode(), **options}
    answer = client.post("/caption", json=body)
    assert answer.status_code == 200, answer.text
    record: dict[str, Any] = answer.json()["captions"][0]
    return record


def metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def test_captions_are_those_of_the_command_line(
    served: Any, learnt: Path, photos: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    expected: dict[tuple[int, str], dict[str, Any]] = {}
    for number, flags in enumerate(FLAGS):
        capfdbinary.readouterr()
        assert main(["caption", str(photos), "--json", "--model", str(learnt), "--device", "cpu", *flags]) == 0
        for line in capfdbinary.readouterr().out.decode().splitlines():
            record = json.loads(line)
            expected[number, Path(record.pop("path")).name] = record
    jobs = random.Random(0).sample(sorted(expected), len(expected))
    with served.client() as client, ThreadPoolExecutor(16) as pool:
        found = dict(zip(jobs, pool.map(lambda job: post(client, photos / job[1], OPTIONS[job[0]]), jobs), strict=True))
        assert metric(client, "captioner_batch_photos_count") < len(jobs), "some were captioned together"
        assert metric(client, "captioner_photos_total") == len(jobs)
    assert len(expected) == 4 * 12
    for job, record in expected.items():
        assert found[job]["caption"] == record["caption"], job
        assert found[job]["score"] == pytest.approx(record["score"], abs=2e-4)
        others = [other["caption"] for other in record.get("alternatives", [])]
        assert [other["caption"] for other in found[job].get("alternatives", [])] == others


def test_a_killed_model_is_replaced_and_nothing_is_lost(served: Any, photos: Path) -> None:
    paths = sorted(photos.iterdir()) * 3
    with served.client() as client, ThreadPoolExecutor(8) as pool:
        expected = {path: post(client, path, {}) for path in set(paths)}
        answers = [pool.submit(post, client, path, {}) for path in paths]
        (child,) = [pid for pid in children(served.process.pid) if b"spawn_main" in command_line(pid)]
        os.kill(child, signal.SIGKILL)
        assert [answer.result(120) for answer in answers] == [expected[path] for path in paths]
        assert metric(client, "captioner_model_restarts_total") == 1


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.slow
def test_large_photos_at_once_have_bounded_memory(command: Any, learnt: Path, tmp_path: Path) -> None:
    """Six photos of 144 megapixels, small as files: at most two are decoded at the same time (docs/serve.md)."""
    Image.new("RGB", (12_000, 12_000), (200, 30, 30)).save(tmp_path / "large.png")
    data = (tmp_path / "large.png").read_bytes()
    with command("--model", str(learnt), "--timeout", "1000") as served, served.client() as client:
        client.timeout = httpx.Timeout(1000)
        (child,) = [pid for pid in children(served.process.pid) if b"spawn_main" in command_line(pid)]
        before = peak(child)
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: client.post("/caption", files={"image": data}), range(6)))
        assert [answer.status_code for answer in answers] == [200] * 6
        assert peak(child) - before < 2 * 8 * 144e6
        assert peak(served.process.pid) < 500e6


def peak(pid: int) -> float:
    """Return the most resident bytes that a process ever had."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return float(line.split()[1]) * 1024


def test_sigterm_answers_what_was_accepted(served: Any, photos: Path) -> None:
    """Run last: it ends the server. A request that was not sent yet may find no server; any other gets its answer."""
    paths = sorted(photos.iterdir())
    answers: list[int] = []
    stop = threading.Event()

    def load(place: int) -> None:
        with served.client() as client:
            while not stop.is_set():
                try:
                    path = paths[place % len(paths)]
                    answers.append(client.post("/caption", files={"image": path.read_bytes()}).status_code)
                except httpx.ConnectError:
                    return
                except httpx.RemoteProtocolError as error:
                    answers.append(-1 if "without sending a response" not in str(error) else 0)
                    return
                place += 1

    threads = [threading.Thread(target=load, args=(place,)) for place in range(12)]
    for thread in threads:
        thread.start()
    while len(answers) < 12:
        time.sleep(0.01)
    begin = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0
    stop.set()
    for thread in threads:
        thread.join(30)
    assert time.monotonic() - begin < 30
    assert set(answers) <= {200, 0}, answers
    assert answers.count(0) == 0, "a connection was closed after its request"
    said = served.process.stderr.read().splitlines()
    assert said == ["captioner: WARNING: the model's process ended; it is replaced"]
