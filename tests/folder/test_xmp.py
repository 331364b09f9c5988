"""Captions inside photos: the written metadata, unchanged bytes, and photos that need a sidecar."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from captioner.errors import MissingExtraError, OutputError
from captioner.folder.entry import CaptionRecord, Entry, Photo
from captioner.folder.plan import Plan, place_of
from captioner.folder.writers.base import Neighbours
from captioner.folder.writers.xmp import CAPTION, CHARSET, DESCRIPTION, UTF8, Xmp

exiv2 = pytest.importorskip("exiv2")
TEXT = "a dog, été: 犬 & <b>"


def writer(folder: Path, out: Path | None = None, **options: Any) -> Xmp:
    plan = Plan(place=place_of([os.fspath(folder)], os.fspath(out) if out else None), outputs=("xmp",), **options)
    return Xmp(plan, Neighbours(plan.place))


def photo(path: Path) -> Photo:
    return Photo(id=os.fspath(path), key=path.name, source=path, path=path)


def write(to: Xmp, path: Path, text: str = TEXT) -> str:
    """Caption one photo, and return the name of the file that holds the caption."""
    slot = to.slot(photo(path))
    captions = (CaptionRecord(text, 0.0, 1.0),)
    to.write(Entry(id=os.fspath(path), key=path.name, captions=captions, slots={"xmp": slot}), "token")
    return Path(slot.file).name


def metadata(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the languages of the description, and IPTC."""
    image = exiv2.ImageFactory.open(path.read_bytes())
    image.readMetadata()
    xmp = image.xmpData()
    texts = dict(xmp[DESCRIPTION].value()) if DESCRIPTION in xmp else {}
    return texts, {datum.key(): datum.toString() for datum in image.iptcData()}


def draw(path: Path, **options: Any) -> Path:
    Image.effect_noise((40, 30), 60).convert("RGB").save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "jp2"])
def test_it_is_inside_and_pixels_and_other_fields_stay(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6  # the camera's name, a turned photo
    options = {} if suffix == "jp2" else {"exif": exif}
    path = draw(tmp_path / f"a.{suffix}", **options)
    path.chmod(0o640)
    with Image.open(path) as image:
        before = image.copy()
        icc = image.info.get("icc_profile")
    to = writer(tmp_path, existing="overwrite")
    assert write(to, path, "first") == path.name
    assert write(to, path) == path.name
    texts, iptc = metadata(path)
    assert texts == {"x-default": TEXT}
    assert iptc == ({} if suffix == "webp" else {CHARSET: UTF8, CAPTION: TEXT})
    with Image.open(path) as image:
        found = image.getexif()  # before it is loaded: Pillow turns a TIFF and forgets that it did
        assert suffix == "jp2" or (found[0x010F], found[0x0112]) == ("Maker", 6)
        assert ImageChops.difference(image.convert("RGB"), before.convert("RGB")).getbbox() is None
        assert image.info.get("icc_profile") == icc
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_compressed_pixels_of_a_jpeg_are_the_same_bytes(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.jpg", quality=90)
    scan = path.read_bytes().partition(b"\xff\xda")[2]
    write(writer(tmp_path), path)
    assert path.read_bytes().endswith(b"\xff\xda" + scan)


def test_no_photo_is_replaced_by_another_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.jpg", "a.png"):
        path, other = draw(tmp_path / name), draw(tmp_path / f"other-{name}").read_bytes()
        before = path.read_bytes()
        to = writer(tmp_path)
        for wrong in (other, before[:-300], b""):
            monkeypatch.setattr(to, "_changed", lambda image, text, wrong=wrong: wrong)
            with pytest.raises(OutputError, match="its pixels would change; write txt or jsonl instead"):
                write(to, path)
            assert path.read_bytes() == before


def test_many_photos_many_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A regression test: exiv2 read freed memory, visible only in some TIFF files."""
    paths = [tmp_path / f"{n}.tif" for n in range(40)]
    for n, path in enumerate(paths):
        Image.effect_noise((5 + n, 60 - n), 60).convert("RGB").save(path)
    before = [Image.open(path).tobytes() for path in paths]
    change = Xmp._changed

    def busy(self: Xmp, image: Any, text: str) -> bytes:
        others = [bytes(5000) for _ in range(50)]  # memory that was let go of is somebody else's by now
        return change(self, image, text) if others else b""

    monkeypatch.setattr(Xmp, "_changed", busy)
    to = writer(tmp_path, existing="overwrite")
    for turn in range(4):
        for n, path in enumerate(paths):
            write(to, path, "a red circle " * (1 + (5 * n + 3 * turn) % 8))
    assert [Image.open(path).tobytes() for path in paths] == before


def test_a_caption_that_is_there_is_read_and_other_languages_stay(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.jpg")
    image = exiv2.ImageFactory.open(path.read_bytes())
    image.readMetadata()
    image.xmpData()[DESCRIPTION] = exiv2.LangAltValue({"x-default": "old", "de": "alt"})
    image.xmpData()["Xmp.dc.creator"] = "somebody"
    image.writeMetadata()
    path.write_bytes(bytes(image.io().mmap()))
    assert writer(tmp_path).slot(photo(path)).old == "old"
    write(writer(tmp_path, existing="append"), path)
    assert metadata(path)[0] == {"x-default": f"old, {TEXT}", "de": "alt"}
    assert b"somebody" in path.read_bytes()


@pytest.mark.parametrize("name", ["a.gif", "a.bmp", "a.avif", "raw.nef"])
def test_what_is_not_written_into_gets_a_file_beside_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".nef":  # most RAW is TIFF
        Image.new("RGB", (9, 9)).save(path, "TIFF")
    else:
        draw(path)
    before = path.read_bytes()
    to = writer(tmp_path, existing="append")
    beside = path.with_suffix(".xmp")
    assert write(to, path, "one") == beside.name
    assert write(to, path, "two") == beside.name
    assert path.read_bytes() == before
    assert metadata(beside)[0] == {"x-default": "one, two"}
    assert writer(tmp_path).slot(photo(path)).old == "one, two"


def test_read_only_photos_and_an_out_folder(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.jpg")
    path.chmod(0o444)
    before = path.read_bytes()
    assert write(writer(tmp_path), path) == "a.xmp", "for root too, who could"
    path.chmod(0o644)
    assert write(writer(tmp_path, out=tmp_path / "out"), path) == "a.xmp"
    assert (tmp_path / "out" / "a.xmp").exists()
    assert path.read_bytes() == before


def test_a_wrong_suffix_and_a_damaged_file(tmp_path: Path) -> None:
    gif = tmp_path / "gif.jpg"
    draw(tmp_path / "x.gif").rename(gif)
    assert write(writer(tmp_path), gif) == "gif.xmp"
    bad = tmp_path / "bad.xmp"
    bad.write_text("<not xmp")
    draw(tmp_path / "bad.gif")
    with pytest.raises(OutputError, match="its metadata is damaged"):
        write(writer(tmp_path), tmp_path / "bad.gif")
    assert bad.read_text() == "<not xmp"


def test_iptc_of_another_encoding_is_left_alone(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.jpg")
    image = exiv2.ImageFactory.open(path.read_bytes())
    image.readMetadata()
    image.iptcData()[CHARSET] = "\x1b.A"  # Latin-1
    image.iptcData()["Iptc.Application2.City"] = "Bonn"
    image.writeMetadata()
    path.write_bytes(bytes(image.io().mmap()).replace(b"Bonn", b"B\xf6nn"))
    write(writer(tmp_path), path)
    texts, iptc = metadata(path)
    assert texts == {"x-default": TEXT}
    assert CAPTION not in iptc


def test_a_long_caption_is_cut_for_iptc_between_characters(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.jpg")
    write(writer(tmp_path), path, "犬" * 1000)
    texts, iptc = metadata(path)
    assert texts["x-default"] == "犬" * 1000
    assert iptc[CAPTION] == "犬" * 666


def test_without_the_library_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "exiv2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'captioner\[xmp\]'"):
        writer(tmp_path)
