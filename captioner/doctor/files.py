"""The shipped model and the cache folders."""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from captioner.doctor.lines import Fact, Line, Warned, home_folder

SECONDS = 1.0  # to add up the sizes of a cache


def model() -> Iterator[Line]:
    """Yield the size and the checksum of the shipped model; warn if it is missing or damaged."""
    from captioner.checkpoint.files import SHIPPED, WEIGHTS, fingerprint

    remedy = "reinstall captioner: pip install --force-reinstall --no-deps . in the checkout"
    weights = SHIPPED / WEIGHTS
    missing = [
        name for name in ("config.json", "generation.json", "tokenizer.json", WEIGHTS) if not (SHIPPED / name).exists()
    ]
    if missing:
        yield Fact(name="shipped model", value=f"without {', '.join(missing)}")
        yield Warned(problem=f"the shipped model lacks {', '.join(missing)}", remedy=remedy, fatal=True)
        return
    own, recorded = fingerprint(weights), _recorded(weights)
    verdict = "installed from a checkout" if recorded is None else "as packaged" if own == recorded else "changed"
    size = weights.stat().st_size / 1e6
    yield Fact(name="shipped model", value=f"{size:.1f} MB, SHA-256 {own[:16]}, {verdict}")
    if verdict == "changed":
        yield Warned(problem="the weights of the shipped model are not those of the package", remedy=remedy)


def _recorded(path: Path) -> str | None:
    """Return the SHA-256 of an installed file in the record of the package; None if the record does not hold it."""
    try:
        listed = distribution("captioner").files or ()
    except PackageNotFoundError:
        return None
    for file in listed:
        if file.name == path.name and file.hash and file.hash.mode == "sha256" and Path(str(file.locate())) == path:
            return base64.urlsafe_b64decode(file.hash.value + "==").hex()
    return None


def caches() -> Iterator[Line]:
    """Yield the folders of downloaded and of converted models, with sizes; warn if one cannot be written."""
    from huggingface_hub import constants

    from captioner.checkpoint.locate import converted_folder
    from captioner.data.sources.shards import table_cache

    folders = {
        "hub cache": Path(constants.HF_HUB_CACHE),
        "converted models": converted_folder(),
        "tables of shards": table_cache(),
    }
    for name, folder in folders.items():
        size = _size(folder) if folder.is_dir() else "empty"
        trouble = _trouble(folder)
        yield Fact(name=name, value=f"{_named(folder)}, {size}, {trouble or 'writable'}")
        if trouble:
            yield Warned(
                problem=f"the folder of the {name} is {trouble}, so files are made again for each run",
                remedy="set HF_HOME (XDG_CACHE_HOME for the tables of shards) to a folder that can be written",
            )


def _named(folder: Path) -> str:
    """Return a folder by the variable that sets it, since its path may name the user."""
    for variable in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        top = os.environ.get(variable)
        if top and folder.is_relative_to(os.path.expanduser(top)):
            rest = folder.relative_to(os.path.expanduser(top)).as_posix()
            return f"${variable}" if rest == "." else f"${variable}/{rest}"
    home = home_folder()
    if home and folder.is_relative_to(home):
        return f"~/{folder.relative_to(home).as_posix()}"
    return "another folder"


def _size(folder: Path) -> str:
    """Return the size of the files in a folder, or of the first ones if there are too many."""
    total, end = 0, time.monotonic() + SECONDS
    for top, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(top, name)).st_size
        if time.monotonic() > end:
            return f"more than {total / 1e9:.1f} GB"
    return f"{total / 1e9:.1f} GB" if total >= 1e8 else f"{total / 1e6:.1f} MB"


def _trouble(folder: Path) -> str:
    """Return the reason why a folder, or the one to make it in, cannot be written; empty if it can."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"not writable ({(error.strerror or type(error).__name__).lower()})"
