"""The plan of the items in each step.

The images, captions and views of a step are a pure function of (seed, stage, epoch, place). A resumed run therefore
needs no loader state, and two processes together take the same items as one process alone.
"""

from __future__ import annotations

import hashlib
import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice

from captioner.errors import DataError

WHOLE = 1 << 17  # items that one permutation covers: a megabyte of places
RUN, RUNS = 256, 64  # with more items: neighbours in a run, and runs whose items are shuffled together


@dataclass(frozen=True)
class Plan:
    """The items of every step of an epoch, on one of ``processes`` processes.

    Every step takes ``batch_size`` items of a permutation drawn from the seed; process r takes every
    ``processes``-th from r on, in ``accumulate`` parts. An epoch skips the remainder that does not fill a step; with
    fewer items than a step, it is one short step. With ``lengths``, the items of a step have about the same length, so
    a batch has less padding. With ``most_steps``, an epoch ends early, and the next one draws another permutation. With
    ``repeats``, an epoch takes each item that many times on average, by systematic resampling (Kitagawa 1996): 2.5 is
    two or three times, 0.3 mostly not at all.

    With more than ``WHOLE`` items the plan permutes runs of neighbours, and then the items of some runs at a time. That
    takes little memory, starts at once, and reads a file nearly in its order. A shuffle buffer would do the same, but a
    run would have to save its content.
    """

    items: int
    batch_size: int
    accumulate: int
    seed: str
    process: int = 0
    processes: int = 1
    lengths: Sequence[int] | None = None
    most_steps: int = 0
    repeats: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if min(self.taken, self.batch_size) < self.accumulate * self.processes:
            raise DataError(
                f"{self.taken} items in steps of {self.batch_size} cannot feed {self.processes} processes with "
                f"{self.accumulate} parts each; raise batch_size, lower accumulate, or add data"
            )

    @cached_property
    def _ends(self) -> Sequence[int]:
        """The sums of the first 0, 1, ... repeats, in thousandths."""
        return array("q", accumulate((round(1000 * times) for times in self.repeats or ()), initial=0))

    @property
    def taken(self) -> int:
        """The number of items of an epoch, repeats included; some epochs have one more."""
        return self.items if self.repeats is None else self._ends[-1] // 1000

    @property
    def steps(self) -> int:
        """The number of optimizer steps per epoch."""
        steps = max(1, self.taken // self.batch_size)
        return min(steps, self.most_steps) if self.most_steps else steps

    def keys(self, epoch: int, first_step: int = 0) -> Iterator[list[tuple[int, int]]]:
        """Yield the micro-batches of an epoch from ``first_step`` on, ``accumulate`` of them per step."""
        draw = random.Random(seed_from(self.seed, epoch))
        steps = self._steps(draw) if self.items <= WHOLE else self._steps_of_runs(draw)
        for step in islice(steps, first_step, self.steps):
            mine = step[self.process :: self.processes]
            for part in range(self.accumulate):
                yield [self._key(epoch, item) for item in mine[part :: self.accumulate]]

    def _key(self, epoch: int, item: int) -> tuple[int, int]:
        copy, place = divmod(item, self.items)
        return place, seed_from(self.seed, epoch, place, copy) if copy else seed_from(self.seed, epoch, place)

    def _offset(self, draw: random.Random) -> int:
        return 0 if self.repeats is None else draw.randrange(1000)

    def _copies(self, places: range, offset: int) -> list[int]:
        """Return the items at ``places`` that an epoch of this ``offset`` takes: copy x ``items`` + place."""
        if self.repeats is None:
            return list(places)
        counts = ((self._ends[n + 1] + offset) // 1000 - (self._ends[n] + offset) // 1000 for n in places)
        return [copy * self.items + place for place, count in zip(places, counts, strict=True) for copy in range(count)]

    def _steps(self, draw: random.Random) -> Iterable[list[int]]:
        order = self._copies(range(self.items), self._offset(draw))
        draw.shuffle(order)
        steps, rest = self._cut(order, draw)
        return steps or self._arranged(rest, draw)

    def _steps_of_runs(self, draw: random.Random) -> Iterator[list[int]]:
        offset = self._offset(draw)
        starts = list(range(0, self.items, RUN))
        draw.shuffle(starts)
        rest: list[int] = []
        whole = False
        for runs in (starts[at : at + RUNS] for at in range(0, len(starts), RUNS)):
            spans = (range(start, min(start + RUN, self.items)) for start in runs)
            places = [item for span in spans for item in self._copies(span, offset)]
            draw.shuffle(places)
            steps, rest = self._cut(rest + places, draw)
            yield from steps
            whole = whole or bool(steps)
        if not whole:
            yield from self._arranged(rest, draw)

    def _cut(self, order: list[int], draw: random.Random) -> tuple[list[list[int]], list[int]]:
        """Return the whole steps of an order of places, and the remaining places.

        The cut comes before the sort: after a sort, the remaining places would be the longest ones in every epoch.
        """
        whole = len(order) // self.batch_size * self.batch_size
        return self._arranged(order[:whole], draw), order[whole:]

    def _arranged(self, order: list[int], draw: random.Random) -> list[list[int]]:
        """Return the steps of an order of places, the last one maybe short; with ``lengths``, like beside like."""
        if self.lengths is not None:
            lengths, pool = self.lengths, 64 * self.batch_size
            pools = (order[start : start + pool] for start in range(0, len(order), pool))
            order = [place for places in pools for place in sorted(places, key=lambda item: lengths[item % self.items])]
        steps = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        if self.lengths is not None:
            draw.shuffle(steps)
        return steps


def seed_from(*parts: object) -> int:
    """Return a seed from any values, the same on every machine (Python's own hash is salted)."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
