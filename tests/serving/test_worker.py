"""The model's process: what it reports, and what happens when it ends or hangs."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest

from captioner.cli.options import Device
from captioner.cli.serve import load_model
from captioner.errors import CaptionerError, DeviceMemoryError
from captioner.serving import worker
from captioner.serving.child import Model, done
from captioner.serving.tasks import About, Died, Photo, Task
from captioner.serving.worker import Worker

PIXELS = 10_000_000
CPU = Device(device="cpu")


def test_a_process_captions_ends_and_starts_again(learnt: Path, photos: Path) -> None:
    import captioner

    found = Worker(partial(load_model, str(learnt), CPU), PIXELS)
    try:
        about = found.start()
        assert isinstance(about, About)
        assert (about.labels, about.search) == (False, False)
        first = found.pid
        assert found.start() == about
        assert found.pid == first, "it was running"
        data = [Photo(name=path.name, data=path.read_bytes()) for path in sorted(photos.iterdir())[:3]]
        reply = found.run(Task(), [*data, Photo(name="bad", data=b"no image")], 60)
        pipe = captioner.load(learnt, device="cpu")
        assert [record["caption"] for record in reply.records[:3]] == [pipe.caption(each.data).text for each in data]
        assert reply.records[3] == {"error": "cannot read bad: it is not an image, or its format is not supported"}
        assert set(reply.seconds) == {"read", "encode", "write"}
        assert reply.memory > 1e7
        with pytest.raises(CaptionerError, match="contrastive head"):
            found.run(Task(vectors="embeddings"), data, 60)
        os.kill(first or 0, 9)
        os.waitid(os.P_PID, first or 0, os.WEXITED | os.WNOWAIT)
        again = found.run(Task(), data, 60)
        assert again.records == reply.records[:3]
        assert found.pid != first
    finally:
        found.stop()
    assert found.pid is None


def test_a_lack_of_memory_is_no_mistake_of_the_client(
    learnt: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends, so that the photos run again alone in a new one."""
    model = Model(load_model(str(learnt), CPU), PIXELS)

    def full(pixels: object) -> None:
        raise MemoryError

    monkeypatch.setattr(model.pipe.checkpoint.model, "encode_image", full)
    with pytest.raises(DeviceMemoryError):
        done(model, Task(), [Photo(name="a", data=(photos / "0.png").read_bytes())])


@pytest.mark.parametrize(
    ("act", "error", "said"),
    [
        (partial(os._exit, 3), Died, "the model's process ended"),
        (partial(int, "x"), RuntimeError, "ValueError: invalid literal"),
        (partial(load_model, "/no/such/model", CPU), CaptionerError, "/no/such/model"),
    ],
)
def test_a_model_that_does_not_load(act: partial[None], error: type[Exception], said: str) -> None:
    found = Worker(act, PIXELS)  # type: ignore[arg-type]
    with pytest.raises(error, match=said):
        found.start()
    found.stop()


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LOADING", 0.5)
    found = Worker(partial(time.sleep, 1000), PIXELS)  # type: ignore[arg-type]
    with pytest.raises(Died, match=r"did not answer within 0\.5 seconds"):
        found.start()
    assert found.pid is None
