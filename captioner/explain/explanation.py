"""A reading that can be written down as a page or a picture."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from captioner.data.paths import shown
from captioner.errors import UsageError
from captioner.explain.reading import Reading


class Explanation(Reading):
    """What ``explain`` returns."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write ``x.html``, a page in which a word lights what was read for it, or ``x.png``, a strip of one picture a
        word.

        Raises ``UsageError`` for another suffix.
        """
        from captioner.explain.page import page  # only here: every start of the package would wait for them
        from captioner.explain.strip import png

        forms: dict[str, Callable[[Reading], bytes]] = {".html": lambda reading: page(reading).encode(), ".png": png}
        path = Path(path)
        form = forms.get(path.suffix.lower())
        if form is None:
            raise UsageError(f"{shown(path)} is neither .html nor .png; give the file one of these endings")
        path.write_bytes(form(self))
        return path
