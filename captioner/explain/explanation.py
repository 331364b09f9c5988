"""A reading that can be saved as a page or a picture."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from captioner.data.paths import shown
from captioner.errors import UsageError
from captioner.explain.reading import Reading


class Explanation(Reading):
    """The result of ``explain``.

    explanation = explain(checkpoint, "photo.jpg")
    print(explanation.words, explanation.probabilities)
    explanation.save("photo.html")
    """

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write an interactive page (``.html``) or a strip with one picture per word (``.png``).

        Raises ``UsageError`` for another suffix.
        """
        from captioner.explain.page import page  # imported here to keep the package's import fast
        from captioner.explain.strip import png

        forms: dict[str, Callable[[Reading], bytes]] = {".html": lambda reading: page(reading).encode(), ".png": png}
        path = Path(path)
        form = forms.get(path.suffix.lower())
        if form is None:
            raise UsageError(f"{shown(path)} is neither .html nor .png; use one of these suffixes")
        path.write_bytes(form(self))
        return path
