"""Options: fields whose metadata gives their limits, and the words about them on the command line and in the docs."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from captioner.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Option:
    """The metadata of a field that users set; its name is also the keyword in Python and, with hyphens, the flag.

    least, above, most: Limits of a number; above is not a value itself. Whole numbers have whole limits.
    values: The values in words, if the type and the limits do not say them.
    remedy: End of the message for a number outside the limits.
    paper: Source, for the documentation.
    transformers: Name of the same option in ``generate`` of transformers.
    alias: Other name of the flag.
    """

    help: str
    metavar: str | None = None
    least: float | None = None
    above: float | None = None
    most: float | None = None
    values: str = ""
    remedy: str = ""
    paper: str = ""
    transformers: str = ""
    alias: str = ""

    @property
    def limits(self) -> str:
        """The limits in words, such as ``at least 0 and at most 1``; empty without limits."""
        if self.least is not None and self.most is not None and self.least == -self.most:
            return f"from {self.least:g} to {self.most:g}"
        words = (("at least", self.least), ("above", self.above), ("at most", self.most))
        bounds = [f"{word} {limit:g}" for word, limit in words if limit is not None]
        open_ended = len(bounds) == 1 and not self.whole
        return ("a number " if open_ended else "") + " and ".join(bounds)

    @property
    def whole(self) -> bool:
        """True if the limits are of a whole number."""
        return all(isinstance(limit, int) for limit in (self.least, self.above, self.most) if limit is not None)

    def holds(self, value: float) -> bool:
        """Return whether a number is finite and within the limits."""
        low = (self.least is None or value >= self.least) and (self.above is None or value > self.above)
        high = self.most is None or value <= self.most
        return low and high and (isinstance(value, int) or math.isfinite(value))


def option(**settings: Any) -> dict[str, Option]:
    """Return the metadata of a field: ``beams: int = field(default=1, metadata=option(help=..., least=1))``."""
    return {"option": Option(**settings)}


def option_of(field: dataclasses.Field[Any]) -> Option | None:
    """Return the option that a field's metadata holds."""
    found: Option | None = field.metadata.get("option")
    return found


def check_limits(config: Any, table: str = "") -> None:
    """Raise ``ConfigError`` for a number outside its limits. ``table`` precedes the names of whole numbers."""
    for field in dataclasses.fields(config):
        option, value = option_of(field), getattr(config, field.name)
        if option is None or not option.limits or value is None or option.holds(value):
            continue
        name = f"{table}.{field.name}" if table and option.whole else field.name
        remedy = f"; {option.remedy}" if option.remedy else ""
        if not option.whole:
            raise ConfigError(f"{name} must be {option.limits}, not {value:g}{remedy}")
        if option.least is not None and value < option.least:
            raise ConfigError(f"{name} must be at least {option.least}, not {value}")
        raise ConfigError(f"{name} must be at most {option.most}; lower it")  # it may have thousands of digits
