"""The queue: equal tasks together, and its limits."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import pytest

from captioner.errors import UsageError
from captioner.serving.batching import Batches
from captioner.serving.refusals import Refusal
from captioner.serving.settings import Limits
from captioner.serving.tasks import Task

from .toy import Toy, photo, run, said


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
