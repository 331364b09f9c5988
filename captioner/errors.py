"""Every error that a user can cause, and how a sentence of ours quotes an error that is not, or a value.

::

    CaptionerError            one sentence: what is wrong, and the remedy
    ├── UsageError            options that contradict each other or name nothing
    ├── ConfigError           a recipe, setting or config file that cannot be used
    ├── DataError             a dataset that cannot be read or trained on
    ├── ImageError            one image that cannot be read; a run goes on without it
    ├── OutputError           one file that cannot be written; a run over many photos goes on where it can
    ├── CheckpointError       a checkpoint that cannot be loaded or saved
    ├── TrainingError         a run that cannot go on: loss not finite, state of another run
    └── MissingExtraError     an optional dependency that is not installed

The command line prints ``str(error)`` and leaves; a traceback appears with ``--debug`` only. Anything that is not a
``CaptionerError`` is a defect of this package.
"""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


class CaptionerError(Exception):
    """Base of the tree: ``str(error)`` is one sentence that says what is wrong and what to do."""


class UsageError(CaptionerError):
    """Options that contradict each other, or arguments that name nothing."""


class ConfigError(CaptionerError):
    """A recipe, ``--set`` value or config file that cannot be used."""


class DataError(CaptionerError):
    """A dataset that cannot be read or trained on."""


class ImageError(CaptionerError):
    """One image that cannot be read. A run over many images records it and goes on."""


class OutputError(CaptionerError):
    """A file that cannot be written. A run over many photos records it and goes on where it can."""


class CheckpointError(CaptionerError):
    """A checkpoint that cannot be loaded or saved."""


class TrainingError(CaptionerError):
    """A training run that cannot go on."""


class MissingExtraError(CaptionerError):
    """An optional dependency that is not installed; the message holds its pip command."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}: pip install 'captioner[{extra}]'")


def raised(found: T | ImageError) -> T:
    """What was found of an image. Raises the ``ImageError`` that stands in its place."""
    if isinstance(found, ImageError):
        raise found
    return found


def reason_of(error: Exception) -> str:
    """The first line of what a library's error says, or its kind where it says nothing: for a sentence of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def quoted(value: object) -> str:
    """``value`` as a sentence of ours shows it: what is long is cut, since files of others may hold anything."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep; a number of more digits than Python writes
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
