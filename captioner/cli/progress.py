"""A progress bar on stderr with images per second and the time left; hidden unless stderr is a terminal."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from captioner.cli.output import message
from captioner.data.leftout import LeftOut
from captioner.data.paths import is_image_name

if TYPE_CHECKING:
    from captioner.folder.run import Counts


class Progress:
    """A progress bar over the photos to caption, without the skipped ones.

    A thread counts the photos in the folders by their names; patterns and stdin have no total. ``parts``: number of
    shards; this run captions one of them.
    """

    def __init__(self, paths: Sequence[str], parts: int, counts: Counts, *, everything: bool = False) -> None:
        from tqdm import tqdm

        self._counts, self._total, self._everything = counts, 0, everything
        self._bar = tqdm(unit=" images", file=sys.stderr, disable=not sys.stderr.isatty(), smoothing=0.05)
        if not self._bar.disable and paths and all(map(os.path.exists, paths)):
            threading.Thread(target=self._count, args=(paths, parts), daemon=True).start()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def step(self) -> None:
        if self._total:
            self._bar.total = max(self._bar.n + 1, self._total - self._counts.skipped - self._counts.before)
        self._bar.update()

    def begin(self) -> None:
        """Restart the clock, so that the time to load a model does not count."""
        self._bar.unpause()

    def wait(self, what: str) -> None:
        """Show the name of an operation without steps."""
        self._bar.set_postfix_str(what)

    def print_line(self, sentence: str) -> None:
        self._bar.write(message(sentence), file=sys.stderr)

    def _count(self, paths: Sequence[str], parts: int) -> None:
        total = 0
        for path in paths:
            if not os.path.isdir(path):
                total += 1
            left = LeftOut(everything=self._everything)
            for _, folders, files in os.walk(path):
                folders[:] = [name for name in folders if left.takes(name, folder=True)]
                total += sum(is_image_name(name) and left.takes(name, folder=False) for name in files)
        self._total = total // parts
