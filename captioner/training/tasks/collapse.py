"""When training against a discriminator has gone wrong, so that more steps would only do harm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SAYS_SOMETHING = 10.0  # CIDEr-D of one caption for all images: below it there is nothing to lose
CERTAIN = 99.0  # percent of its verdicts that are right: there is no slope left to climb


@dataclass
class Collapse:
    """Watches the figures of a stage's steps, two windows of ``window`` steps long. ``samples``: draws of an image.

    ``seen`` are the figures of these steps, ``first`` the mean CIDEr-D of the draws in the first window.
    """

    samples: int
    window: int
    seen: list[dict[str, float]] = field(default_factory=list)
    first: float | None = None

    def watch(self, figures: Mapping[str, float]) -> str:
        """After a step: what is wrong, as a sentence, or nothing."""
        names = ("distinct", "cider_d", "believed", "spread", "discriminator_human", "discriminator_drawn")
        self.seen.append({name: figures[name] for name in names})
        del self.seen[: -2 * self.window]
        if len(self.seen) == self.window and self.first is None:
            self.first = self._mean("cider_d", self.seen)
        if len(self.seen) < 2 * self.window or self.first is None:
            return ""
        before, now = (
            {name: self._mean(name, part) for name in names}
            for part in (self.seen[: self.window], self.seen[self.window :])
        )
        over = f"over {self.window} steps"
        if now["distinct"] < 50 / self.samples:
            return (
                f"collapse: of 100 drawn captions only {now['distinct']:.1f} differ {over}, fewer than one for every "
                "two images"
            )
        if self.first > SAYS_SOMETHING and now["cider_d"] < self.first / 2:
            return (
                f"degenerate reward: CIDEr-D of the draws fell from {self.first:.1f} to {now['cider_d']:.1f} {over}, "
                "while the discriminator is being convinced of something else"
            )
        if now["spread"] < 1e-4:
            return f"degenerate reward: all draws of an image earn the same {over}, which says nothing of any of them"
        certain = min(part[f"discriminator_{kind}"] for part in (before, now) for kind in ("human", "drawn")) > CERTAIN
        if certain and now["believed"] <= before["believed"]:
            return (
                f"the discriminator has won: over {2 * self.window} steps it was right about more than {CERTAIN:.0f} % "
                f"of human and of drawn captions, and the draws came no closer"
            )
        return ""

    @staticmethod
    def _mean(name: str, steps: list[dict[str, float]]) -> float:
        return sum(step[name] for step in steps) / len(steps)
