"""A Ctrl-C handler that lets a training step finish, so that the saved state is complete."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """A context in which the first Ctrl-C sets ``asked`` and the second one raises ``KeyboardInterrupt``.

    It does nothing outside the main thread, where Python delivers no signals, and nothing if Ctrl-C is ignored (nohup).

    ::

        with interrupt:
            for batch in batches:
                step(batch)
                if interrupt.asked:
                    save()
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if before is not signal.SIG_IGN:
                self._before = before
                signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # Not print: the signal may interrupt one.
        os.write(2, b"\nstopping after this step; Ctrl-C again stops at once, without saving\n")
