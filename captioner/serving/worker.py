"""The server's end of the pipe: a process with the model, which is replaced when it dies."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from captioner.errors import CaptionerError
from captioner.serving.child import main
from captioner.serving.tasks import About, Died, Photo, Reply, Task, Unavailable, opened

if TYPE_CHECKING:
    from captioner.pipelines import CaptionPipeline

LOADING = 1800.0  # seconds to load a model, which may be downloaded first
ENDING = 1.0
_processes: weakref.WeakSet[Any] = weakref.WeakSet()


@atexit.register
def _end() -> None:
    """End all processes. They ignore SIGTERM, with which multiprocessing would end them and then wait forever."""
    for process in _processes:
        process.kill()


class Worker:
    """A model in a process of its own. ``load`` is pickled, so it is a function of a module, or a partial of one."""

    most = places = 1

    def __init__(self, load: Callable[[], CaptionPipeline], pixels: int) -> None:
        self._load, self._pixels = load, pixels
        self._process: Any = None
        self._pipe: Connection | None = None
        self._about: About | None = None
        self._ended = False

    @property
    def pid(self) -> int | None:
        """The id of the process; None without one."""
        return None if self._process is None else self._process.pid

    def start(self) -> About:
        """Start the process and wait until it has loaded the model. Raises ``CaptionerError``, and ``Died``."""
        if self._about is not None and self._process.is_alive():
            return self._about
        self.stop()
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        arguments = (other, self._load, self._pixels)
        self._process = context.Process(target=main, args=arguments, name="captioner-model", daemon=True)
        self._process.start()
        _processes.add(self._process)
        if self._ended:
            self._kill()
        other.close()  # or the end of the process would not close the pipe
        self._about = About(**self._receive(LOADING)["about"])
        return self._about

    def run(self, task: Task, photos: list[Photo], patience: float) -> Reply:
        """Run a task; load the model first if it is not loaded.

        Raises ``CaptionerError`` for a task that the model cannot do, ``Unavailable`` and ``Died``.
        """
        try:
            self.start()
        except (CaptionerError, Died, RuntimeError) as error:
            raise Unavailable(f"the model cannot be loaded again: {error}") from None
        assert self._pipe is not None
        try:
            self._pipe.send((task, photos))
        except OSError:
            self.stop()
            raise Died("the model's process ended") from None
        return Reply(**self._receive(patience)["reply"])

    def stop(self) -> None:
        """End the process."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = self._about = None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.join(ENDING)
            process.kill()
            process.join()

    def end(self) -> None:
        """End the process at once and for good, from any thread; a running task raises ``Died``."""
        self._ended = True
        self._kill()

    def _kill(self) -> None:
        if (process := self._process) is not None and process.pid is not None:
            process.kill()

    def _receive(self, patience: float) -> dict[str, Any]:
        assert self._pipe is not None
        try:
            if not self._pipe.poll(patience):
                self._kill()
                raise Died(f"the model did not answer within {patience:g} seconds")
            message: dict[str, Any] = json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            self.stop()
            raise Died("the model's process ended") from None
        except Died:
            self.stop()
            raise
        return opened(message)
