"""The file of decisions of one folder: read as it grows, and appended to durably."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone

from captioner.data.decisions import FILE, Decision, parse
from captioner.data.paths import MAX_TEXT
from captioner.folder.atomic import refused
from captioner.folder.own import refuse_foreign, refuse_irregular
from captioner.system.disk import sync_folder


class Log:
    """The decisions in a folder; ``last`` holds the last one about each photo.

    Others may append to the file, so ``refresh`` reads what is new. Raises ``OutputError`` for a file of someone else.
    """

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, FILE)
        self.last: dict[str, Decision] = {}
        self.newest: list[Decision] = []  # those of the last save in the file
        self._read = 0  # bytes
        self.refresh()

    def refresh(self) -> None:
        """Read the lines that were added; read all of a file that became shorter."""
        refuse_foreign(self.path, "the file of decisions")
        refuse_irregular(self.path, MAX_TEXT)
        size = os.path.getsize(self.path) if os.path.exists(self.path) else 0
        if size < self._read:
            self.last, self.newest, self._read = {}, [], 0
        if size == self._read:
            return
        with open(self.path, "rb") as file:
            file.seek(self._read)
            data = file.read(size - self._read)
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for decision in parse(whole):
            self._add(decision)

    def append(self, decisions: Sequence[Decision]) -> None:
        """Append decisions and flush them to the disk: all of them or, with an ``OutputError``, none."""
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        data = b"".join(decision.line(time=time) for decision in decisions)
        size = None
        try:
            new = not os.path.exists(self.path)
            with open(self.path, "ab") as file:
                size = file.tell()
                if size > self._read:  # a line that a crash cut
                    data = b"\n" + data
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync_folder(os.path.dirname(self.path))
        except OSError as error:
            if size is not None and os.path.exists(self.path):
                os.truncate(self.path, size)
            raise refused(self.path, error) from error
        self._read = size + len(data)
        for decision in decisions:
            self._add(decision)

    def _add(self, decision: Decision) -> None:
        if self.newest and self.newest[-1].save != decision.save:
            self.newest = []
        self.newest.append(decision)
        self.last[decision.path] = decision
