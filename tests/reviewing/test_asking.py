"""Suggestions and attention from the shipped model, loaded when it is first asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.errors import CaptionerError
from captioner.folder.entry import Photo
from captioner.reviewing.asking import Asked, Wish

DOGS = Path(__file__).resolve().parents[2] / "datasets" / "photos" / "dogs.jpg"
PHOTO = Photo(id=str(DOGS), key=DOGS.name, source=DOGS, path=DOGS)


def test_the_shipped_model(tmp_path: Path) -> None:
    asked = Asked(None)
    assert asked._pipe is None
    texts = [str(one["text"]) for one in asked.suggest(PHOTO, Wish(prefix="two", forbid=("dog",), count=3))]
    assert len(set(texts)) == 3
    assert all(text.startswith("two") and "dog" not in text.split() for text in texts)
    words = asked.explain(PHOTO, "a brown dog")
    assert [word["word"] for word in words] == ["a", "brown", "dog"]
    assert all(str(word["veil"]).startswith("data:image/png;base64,") and word["where"] for word in words)
    with pytest.raises(CaptionerError):
        asked.explain(PHOTO, " ")
    (tmp_path / "no.png").write_bytes(b"no image")
    with pytest.raises(CaptionerError, match=r"no\.png"):
        asked.suggest(Photo(id="no", key="no", source=tmp_path / "no.png"), Wish())
