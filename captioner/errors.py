"""The errors that a user can cause, and helpers that quote values and other errors in their messages.

::

    CaptionerError            one sentence: what is wrong, and the remedy
    ├── UsageError            contradictory options, or arguments that match nothing
    ├── ConfigError           a recipe, setting or config file that cannot be used
    ├── DataError             a dataset that cannot be read or trained on
    ├── ImageError            one image that cannot be read; a run over many images continues
    ├── OutputError           one file that cannot be written; a run over many images continues if possible
    ├── CheckpointError       a checkpoint that cannot be loaded or saved
    ├── TrainingError         a run that cannot continue: loss not finite, state of another run
    └── MissingExtraError     an optional dependency that is not installed

The command line prints ``str(error)`` and exits; ``--debug`` adds the traceback. Any other exception is a bug of this
package.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TypeVar

T = TypeVar("T")


class CaptionerError(Exception):
    """The base class: ``str(error)`` is one sentence that says what is wrong and what to do."""


class UsageError(CaptionerError):
    """Contradictory options, or arguments that match nothing."""


class ConfigError(CaptionerError):
    """A recipe, ``--set`` value or config file that cannot be used."""


class DataError(CaptionerError):
    """A dataset that cannot be read or trained on."""


class ImageError(CaptionerError):
    """One image that cannot be read. A run over many images records it and continues."""


class OutputError(CaptionerError):
    """A file that cannot be written. A run over many images records it and continues if possible."""


class CheckpointError(CaptionerError):
    """A checkpoint that cannot be loaded or saved."""


class TrainingError(CaptionerError):
    """A training run that cannot continue."""


class DeviceMemoryError(CaptionerError):
    """The error for a batch of images that does not fit the memory of the device."""


class MissingExtraError(CaptionerError):
    """An optional dependency that is not installed; the message contains the pip command."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}: pip install 'captioner[{extra}]'")


def require(package: str, extra: str, purpose: str) -> None:
    """Raise ``MissingExtraError`` if a package is not installed."""
    if find_spec(package) is None:
        raise MissingExtraError(package, extra, purpose)


def unwrap(result: T | ImageError) -> T:
    """Return the result for an image, or raise it if it is an ``ImageError``."""
    if isinstance(result, ImageError):
        raise result
    return result


def reason_of(error: Exception) -> str:
    """Return the first line of an error's message, or its class name if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def quoted(value: object) -> str:
    """Return ``repr(value)`` for an error message, cut to 80 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep; an integer with more digits than Python prints
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
