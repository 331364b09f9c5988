"""The queue: equal tasks together, its limits, and a model that dies."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from captioner.errors import UsageError
from captioner.serving.batching import Batches
from captioner.serving.metrics import Metrics
from captioner.serving.refusals import Refusal
from captioner.serving.settings import Limits
from captioner.serving.tasks import About, Died, Photo, Reply, Task, Unavailable

ABOUT = About(generation={}, labels=False, search=False)


class Toy:
    """A runner that captions a photo with its name; ``hold`` delays it, and ``act`` may raise."""

    most = places = 1

    def __init__(self, act: Callable[[list[str]], None] = lambda names: None) -> None:
        self.act, self.runs, self.stopped, self.started = act, [], 0, 0  # type: ignore[var-annotated]
        self.hold = threading.Event()
        self.hold.set()

    def start(self) -> About:
        self.started += 1
        return ABOUT

    def run(self, task: Task, photos: list[Photo], patience: float) -> Reply:
        self.hold.wait(10)
        names = [photo.name for photo in photos]
        self.runs.append((task, names))
        self.act(names)
        return Reply(records=[{"caption": name, "confidence": 0.5} for name in names], seconds={"read": 0.1})

    def stop(self) -> None:
        self.stopped += 1

    def end(self) -> None:
        self.hold.set()


def photo(name: object) -> Photo:
    return Photo(name=str(name), data=b"")


def run(toy: Toy, work: Callable[[Batches], Any], *, idle: float = 0.0, **limits: Any) -> Any:
    async def main() -> Any:
        batches = Batches(toy, Limits(**limits), Metrics(), idle=idle)
        await batches.start()
        try:
            return await work(batches)
        finally:
            await batches.close()

    return asyncio.run(main())


def said(records: list[dict[str, Any]]) -> list[str]:
    return [record["caption"] for record in records]


def test_requests_that_wait_together_are_captioned_together() -> None:
    toy = Toy()

    async def work(batches: Batches) -> Any:
        asks = [batches.ask(Task(), [photo(2 * n), photo(2 * n + 1)]) for n in range(4)]
        return await asyncio.gather(*asks)

    found = run(toy, work, batch=5, wait=0.05, photos=2)
    assert [said(records) for records in found] == [[str(2 * n), str(2 * n + 1)] for n in range(4)]
    assert [names for _, names in toy.runs] == [list("01234"), list("567")]


def test_different_tasks_are_separate_groups_and_none_waits_forever() -> None:
    toy = Toy()
    beams = Task.of({"beams": 2}, width=2)

    async def work(batches: Batches) -> Any:
        asks = [batches.ask(beams if n % 2 else Task(), [photo(n)]) for n in range(6)]
        return await asyncio.gather(*asks)

    found = run(toy, work, wait=0.02)
    assert [said(records) for records in found] == [[str(n)] for n in range(6)]
    assert toy.runs == [(Task(), list("024")), (beams, list("135"))]


def test_a_wide_search_has_smaller_batches() -> None:
    toy = Toy()
    wide = Task.of({"beams": 16}, width=16)
    run(toy, lambda batches: batches.ask(wide, [photo(n) for n in range(8)]), batch=8, wait=0.0)
    assert [len(names) for _, names in toy.runs] == [4, 4]


def test_a_photo_waits_no_longer_than_its_time() -> None:
    toy = Toy()

    async def work(batches: Batches) -> float:
        begin = time.monotonic()
        await batches.ask(Task(), [photo(1)])
        return time.monotonic() - begin

    assert 0.08 < run(toy, work, wait=0.1, batch=8) < 5


def test_a_full_queue_refuses_whole_requests() -> None:
    toy = Toy()

    async def work(batches: Batches) -> Any:
        toy.hold.clear()
        first = [asyncio.create_task(batches.ask(Task(), [photo(n)])) for n in range(1)]
        await asyncio.sleep(0.05)  # the first photo has left the queue for the model
        second = asyncio.create_task(batches.ask(Task(), [photo(2), photo(3)]))
        await asyncio.sleep(0.01)
        with pytest.raises(Refusal) as refused:
            await batches.ask(Task(), [photo(4), photo(5)])
        third = asyncio.create_task(batches.ask(Task(), [photo(6)]))
        await asyncio.sleep(0.01)
        toy.hold.set()
        return refused.value, await asyncio.gather(*first, second, third)

    refused, found = run(toy, work, queue=3, photos=2, wait=0.0)
    assert refused.status_code == 503
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert [said(records) for records in found] == [["0"], ["2", "3"], ["6"]]
    assert "4" not in str(toy.runs)


def test_a_client_that_goes_away_frees_its_place() -> None:
    toy = Toy()

    async def work(batches: Batches) -> Any:
        toy.hold.clear()
        first = asyncio.create_task(batches.ask(Task(), [photo(0)]))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(batches.ask(Task(), [photo(1), photo(2)]))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        third = asyncio.create_task(batches.ask(Task(), [photo(3), photo(4)]))
        await asyncio.sleep(0.01)
        toy.hold.set()
        return await asyncio.gather(first, third)

    run(toy, work, queue=2, photos=2, wait=0.0)
    assert [names for _, names in toy.runs] == [["0"], ["3", "4"]]


def test_requests_that_end_early_leave_nothing_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    toy = Toy()

    async def work(batches: Batches) -> None:
        toy.hold.clear()
        gone = [asyncio.create_task(batches.ask(Task(), [photo(n), photo(-n)])) for n in range(3)]
        await asyncio.sleep(0.05)
        for ask in gone:
            ask.cancel()
        await asyncio.wait(gone)
        refused = asyncio.create_task(batches.ask(Task(), [photo(8), photo(9)]))
        await asyncio.sleep(0.01)
        batches.refuse()
        with pytest.raises(Refusal, match="stopping"):
            await refused

    run(toy, work, wait=0.0)
    gc.collect()
    assert caplog.records == []


def test_a_request_has_a_time_limit() -> None:
    toy = Toy()

    async def work(batches: Batches) -> Refusal:
        toy.hold.clear()
        with pytest.raises(Refusal) as refused:
            await batches.ask(Task(), [photo(0)])
        toy.hold.set()
        assert said(await batches.ask(Task(), [photo(1)])) == ["1"], "the queue continues"
        return refused.value

    assert run(toy, work, timeout=0.1).status_code == 504


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


def test_an_idle_model_leaves_memory_and_returns() -> None:
    toy = Toy()

    async def work(batches: Batches) -> None:
        await batches.ask(Task(), [photo(0)])
        for _ in range(500):
            await asyncio.sleep(0.01)
            if not batches.loaded:
                break
        assert toy.stopped == 1
        assert said(await batches.ask(Task(), [photo(1)])) == ["1"]
        assert batches.loaded

    run(toy, work, idle=0.05 / 60, wait=0.0)


def test_the_end_answers_everyone() -> None:
    toy = Toy()

    async def work(batches: Batches) -> Any:
        toy.hold.clear()
        asks = [asyncio.create_task(batches.ask(Task(), [photo(n)])) for n in range(3)]
        await asyncio.sleep(0.05)
        batches.refuse()
        found = await asyncio.gather(*asks, return_exceptions=True)
        with pytest.raises(Refusal, match="stopping"):
            await batches.ask(Task(), [photo(9)])
        return found

    assert [refused.status_code for refused in run(toy, work, batch=1, wait=0.0)] == [503] * 3


def test_a_request_must_fit_the_queue() -> None:
    with pytest.raises(UsageError, match="raise the queue"):
        Limits(queue=4, photos=5)


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
