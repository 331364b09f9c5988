"""The detection of failed adversarial training, in which more steps would only do harm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SAYS_SOMETHING = 10.0  # CIDEr-D of one caption for all images: a lower score cannot collapse
CERTAIN = 99.0  # percent of right verdicts of the discriminator: it gives no gradient any more


@dataclass
class Collapse:
    """A monitor of a stage's figures over two windows of steps."""

    samples: int  # sampled captions per image
    window: int  # steps
    seen: list[dict[str, float]] = field(default_factory=list)  # the figures of the last two windows
    first: float | None = None  # the mean CIDEr-D of the samples in the first window

    def watch(self, figures: Mapping[str, float]) -> str:
        """Add the figures of a step; return the failure as a sentence, or nothing."""
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
                f"collapse: of 100 sampled captions only {now['distinct']:.1f} differ {over}, fewer than one per two "
                "images"
            )
        if self.first > SAYS_SOMETHING and now["cider_d"] < self.first / 2:
            return (
                f"degenerate reward: CIDEr-D of the samples fell from {self.first:.1f} to {now['cider_d']:.1f} {over}, "
                "while the discriminator accepts them for another reason"
            )
        if now["spread"] < 1e-4:
            return f"degenerate reward: all samples of an image have the same reward {over}, so there is no gradient"
        certain = min(part[f"discriminator_{kind}"] for part in (before, now) for kind in ("human", "drawn")) > CERTAIN
        if certain and now["believed"] <= before["believed"]:
            return (
                f"the discriminator has won: over {2 * self.window} steps it was right about more than {CERTAIN:.0f} % "
                f"of human and of sampled captions, and the samples did not improve"
            )
        return ""

    @staticmethod
    def _mean(name: str, steps: list[dict[str, float]]) -> float:
        return sum(step[name] for step in steps) / len(steps)
