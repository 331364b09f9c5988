"""The queue with a model that dies, fails, or has several copies."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from captioner.errors import UsageError
from captioner.serving.batching import Batches
from captioner.serving.refusals import Refusal
from captioner.serving.tasks import Died, Task, Unavailable

from .toy import Toy, photo, run, said


def test_a_photo_that_ends_the_model_does_not_take_others_with_it() -> None:
    def act(names: list[str]) -> None:
        if "3" in names:
            raise Died("the model's process ended")

    toy = Toy(act)
    found = run(toy, lambda batches: batches.ask(Task(), [photo(n) for n in range(5)]))
    assert [record.get("caption") for record in found] == ["0", "1", "2", None, "4"]
    assert "the model ended 2 times at it" in found[3]["error"]
    assert [names for _, names in toy.runs] == [list("01234"), ["0"], ["1"], ["2"], ["3"], ["4"]]


def test_a_model_that_is_killed_once_loses_nothing() -> None:
    deaths = [1]

    def act(names: list[str]) -> None:
        if deaths:
            deaths.pop()
            raise Died("the model's process ended")

    assert said(run(Toy(act), lambda batches: batches.ask(Task(), [photo(7)]))) == ["7"]


def test_errors_of_the_model_reach_their_requests_and_the_queue_continues(caplog: pytest.LogCaptureFixture) -> None:
    def act(names: list[str]) -> None:
        if names[0] == "usage":
            raise UsageError("it has no head")
        if names[0] == "bug":
            raise ZeroDivisionError
        if names[0] == "exit":
            raise SystemExit

    async def work(batches: Batches) -> list[Refusal]:
        refusals = []
        for name in ("usage", "bug", "exit"):
            with pytest.raises(Refusal) as refused:
                await batches.ask(Task(), [photo(name)])
            refusals.append(refused.value)
        assert said(await batches.ask(Task(), [photo(1)])) == ["1"]
        return refusals

    usage, bug, end = run(Toy(act), work, wait=0.0)
    assert (usage.status_code, str(usage)) == (400, "it has no head")
    assert bug.status_code == end.status_code == 500
    assert "ZeroDivisionError" in caplog.text
    assert "ZeroDivisionError" not in str(bug), "the reason is for the log only"


def test_photos_wait_while_the_model_cannot_be_loaded() -> None:
    failures = [1, 1, 1]

    def act(names: list[str]) -> None:
        if failures:
            failures.pop()
            raise Unavailable("the model cannot be loaded again: no memory")

    async def work(batches: Batches) -> Any:
        ask = asyncio.create_task(batches.ask(Task(), [photo(0), photo(1)]))
        await asyncio.sleep(0.05)
        assert batches.failing
        found = await ask
        assert not batches.failing
        return found

    assert said(run(Toy(act), work)) == ["0", "1"]


def test_a_model_that_never_loads_again_ends_in_the_time_limit() -> None:
    def act(names: list[str]) -> None:
        raise Unavailable("the model cannot be loaded again: it is gone")

    async def work(batches: Batches) -> Refusal:
        with pytest.raises(Refusal) as refused:
            await batches.ask(Task(), [photo(0)])
        return refused.value

    assert run(Toy(act), work, timeout=0.3).status_code == 504


def test_copies_of_the_model_run_side_by_side() -> None:
    toy = Toy()
    toy.most = toy.places = 3

    async def work(batches: Batches) -> Any:
        toy.hold.clear()
        asks = [asyncio.create_task(batches.ask(Task(), [photo(n)])) for n in range(4)]
        await asyncio.sleep(0.1)
        assert len(batches._running) == 3, "the fourth photo waits"
        toy.hold.set()
        return await asyncio.gather(*asks)

    assert [said(records) for records in run(toy, work, batch=1, wait=0.0)] == [[str(n)] for n in range(4)]


def test_a_copy_that_dies_leaves_the_others_at_work() -> None:
    lock, dead = threading.Lock(), []

    def act(names: list[str]) -> None:
        with lock:
            if not dead:
                dead.append(names)
                raise Died("a copy ended")

    toy = Toy(act)
    toy.most = toy.places = 2

    async def work(batches: Batches) -> Any:
        toy.hold.clear()
        asks = [asyncio.create_task(batches.ask(Task(), [photo(n)])) for n in range(2)]
        await asyncio.sleep(0.1)
        toy.hold.set()
        found = await asyncio.gather(*asks)
        assert batches.loaded
        return found

    assert [said(records) for records in run(toy, work, batch=1, wait=0.0)] == [["0"], ["1"]]
    assert len(toy.runs) == 3
