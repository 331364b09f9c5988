"""A Ctrl-C handler that lets the work in progress finish, so that what is saved is complete."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """A context in which the first Ctrl-C sets ``asked`` and the second one raises ``KeyboardInterrupt``.

    ``notice``: the line that the first one prints, if any. It does nothing outside the main thread, where Python
    delivers no signals, and nothing if Ctrl-C is ignored (nohup).

    ::

        with Interrupt("stopping after this step; Ctrl-C again stops at once") as interrupt:
            for batch in batches:
                step(batch)
                if interrupt.asked:
                    save()
    """

    def __init__(self, notice: str = "") -> None:
        self.asked = False
        self._notice = notice
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
        if self._notice:
            os.write(2, f"\n{self._notice}\n".encode())  # not print: the signal may interrupt one
