"""Thumbnails: small, from any source, and none of an unreadable image."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from captioner.data.samples import Sample
from captioner.html.pictures import jpeg, tag, thumbnail, thumbnails


def test_thumbnails_are_small(tmp_path: Path) -> None:
    Image.new("RGB", (400, 300), "navy").save(tmp_path / "0.png")
    found = thumbnail(lambda: tmp_path / "0.png")
    assert found is not None
    assert (found.width, found.height) == (176, 132)
    assert found.source.startswith("data:image/jpeg;base64,")
    (tmp_path / "a.tar").write_bytes(b"xyz" + (tmp_path / "0.png").read_bytes())
    inside = Sample(path=tmp_path / "a.tar", captions=("a",), name="0.png", span=(3, 10_000))
    missing = Sample(path=tmp_path / "none.jpg", captions=("a",), name="none.jpg")
    assert thumbnails([inside.image, missing.image]) == [found, None]


def test_an_image_keeps_its_shape_and_is_not_changed() -> None:
    image = Image.new("RGB", (30, 20), "navy")
    small, same = jpeg(image, 15), jpeg(image, 100)
    assert (small.width, small.height, same.width, same.height) == (15, 10, 30, 20)
    assert image.size == (30, 20)
    with Image.open(io.BytesIO(base64.b64decode(small.source.partition(",")[2]))) as read:
        assert (read.format, read.size) == ("JPEG", (15, 10))


def test_descriptions_are_escaped() -> None:
    assert 'alt="&lt;a&gt; &quot;b&quot;"' in tag(jpeg(Image.new("RGB", (3, 2)), 3), '<a> "b"')
    assert tag(None, "a", gone="a <b>") == '<p class="gone">a &lt;b&gt;</p>'
