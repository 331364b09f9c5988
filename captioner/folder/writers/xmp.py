"""The caption inside the photo: XMP ``dc:description``, and IPTC's caption where the format has IPTC.

A new file with the metadata changed takes the photo's place, so that a kill leaves the old one or the new one. exiv2
copies the pixels' bytes as they are; that it did is looked at before anybody's photo is replaced. What cannot be
written into (HEIC, AVIF, GIF, BMP), is read-only, or is not to be touched (``--out``) gets a file ``dog.xmp``, as
Adobe's programs read it.
"""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass
from typing import Any

from PIL import Image

from captioner.data.items import MAX_BYTES
from captioner.data.paths import shown
from captioner.errors import MissingExtraError, OutputError
from captioner.folder.atomic import refused, replace_file
from captioner.folder.confines import Confines
from captioner.folder.entry import Entry, Photo, Slot
from captioner.folder.own import read_small
from captioner.folder.plan import Plan
from captioner.folder.writers.base import Neighbours, places

DESCRIPTION, CAPTION, CHARSET = "Xmp.dc.description", "Iptc.Application2.Caption", "Iptc.Envelope.CharacterSet"
UTF8 = "\x1b%G"  # the escape sequence by which IPTC knows it
LONGEST = 2000  # bytes of an IPTC caption
# Formats into which exiv2 writes without a change to the pixels. It also writes into some kinds of RAW; their makers'
# own fields are no place for experiments.
_EMBEDDED = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".jp2"))


@dataclass(frozen=True)
class _Opened:
    """exiv2's image, and the bytes that it goes on reading without keeping them alive."""

    image: Any
    data: bytes = b""


class Xmp:
    name = "xmp"

    def __init__(self, plan: Plan, neighbours: Neighbours) -> None:
        self._plan, self._neighbours, self._exiv2 = plan, neighbours, _library()
        self._confines = Confines(plan)

    def slot(self, photo: Photo) -> Slot:
        """The photo itself, or its file ``.xmp``; and the description in it."""
        if photo.path is not None and self._may_change(photo.path):
            found = self._open(os.fspath(photo.path))
            readable = self._exiv2.MetadataId.Xmp, self._exiv2.AccessMode.ReadWrite
            if found is not None and found.image.checkMode(readable[0]) == readable[1]:
                return Slot(os.path.abspath(photo.path), _description(found.image))
        there = [self._open(file) for file in self._neighbours.found(photo, ".xmp") if os.path.exists(file)]
        told = (_description(found.image) for found in there if found is not None)
        file = self._neighbours.file(photo, ".xmp")
        slot = Slot(file, next(filter(None, told), ""))
        if self._plan.existing != "skip" or not slot.old.strip():
            self._confines.real(file)
        return slot

    def places(self, key: str) -> tuple[str, ...]:
        place = self._plan.place
        return *places(place, key, ".xmp"), *([place.whole(key)] if place.beside else ())

    def write(self, entry: Entry, token: str) -> None:
        slot = entry.slots[self.name]
        text = self._plan.combine(slot.old, self._plan.compose(entry.said[0].text, entry.id))
        text = text.encode("utf-8", "replace").decode()
        file = self._confines.real(slot.file)
        exists = os.path.exists(file)
        found = self._open(file) if exists else _Opened(self._exiv2.ImageFactory.create(self._exiv2.ImageType.xmp))
        if found is None:
            raise OutputError(f"cannot write into {shown(slot.file)}: its metadata is damaged; remove or convert it")
        try:
            data = self._changed(found.image, text)
            if not slot.file.lower().endswith(".xmp") and not same_pixels(found.data, data):
                raise OutputError(
                    f"cannot write into {shown(slot.file)}: its pixels would change; write txt or jsonl instead"
                )
            if not exists:
                os.makedirs(os.path.dirname(file), exist_ok=True)
            replace_file(file, [data], token)
        except OSError as error:
            raise refused(slot.file, error) from error
        except self._exiv2.Exiv2Error as error:
            raise OutputError(f"cannot write into {shown(slot.file)}: {error}; write txt or jsonl instead") from None

    def _changed(self, image: Any, text: str) -> bytes:
        """The whole file with the description put in; other languages' and all other fields are kept."""
        exiv2 = self._exiv2
        xmp, iptc = image.xmpData(), image.iptcData()
        texts = dict(xmp[DESCRIPTION].value()) if DESCRIPTION in xmp else {}
        xmp[DESCRIPTION] = exiv2.LangAltValue({**texts, "x-default": text})
        readable = iptc.empty() or iptc.detectCharset() in ("ASCII", "UTF-8")  # others would change their meaning
        if image.checkMode(exiv2.MetadataId.Iptc) == exiv2.AccessMode.ReadWrite and readable:
            iptc[CHARSET] = UTF8
            iptc[CAPTION] = text.encode()[:LONGEST].decode("utf-8", "ignore")
        image.writeMetadata()
        data = bytes(image.io().mmap())
        image.io().munmap()
        return data

    def _open(self, path: str) -> _Opened | None:
        """The file in memory, its metadata read; None for one that exiv2 does not know."""
        try:
            data = read_small(path, MAX_BYTES)
            image = self._exiv2.ImageFactory.open(data)
            image.readMetadata()
        except (OSError, OutputError, self._exiv2.Exiv2Error):
            return None
        return _Opened(image, data)

    def _may_change(self, path: os.PathLike[str]) -> bool:
        """Whether a photo may be written into: its kind, its mode (also for root, who could) and its folder's.

        One that is a link out of the folder may not: it is the photo of another one.
        """
        suffix = os.path.splitext(path)[1].lower()
        if not self._plan.place.beside or suffix not in _EMBEDDED:
            return False
        if not self._confines.allows(os.path.abspath(path)):
            return False
        try:
            modes = stat.S_IMODE(os.stat(path).st_mode)
        except OSError:
            return False
        return bool(modes & 0o222) and os.access(path, os.W_OK) and os.access(os.path.dirname(path) or ".", os.W_OK)


def _description(image: Any) -> str:
    xmp = image.xmpData()
    if DESCRIPTION not in xmp:
        return ""
    texts = dict(xmp[DESCRIPTION].value())
    return str(texts.get("x-default") or next(iter(texts.values()), ""))


def same_pixels(old: bytes, new: bytes) -> bool:
    """Whether two files hold the same picture: of JPEGs the compressed data, of others what Pillow makes of them."""
    scans = _scans(old), _scans(new)
    if scans[0] is not None or scans[1] is not None:
        return scans[0] == scans[1]
    try:
        with Image.open(io.BytesIO(old)) as before, Image.open(io.BytesIO(new)) as after:
            return (before.mode, before.size, before.tobytes()) == (after.mode, after.size, after.tobytes())
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _scans(data: bytes) -> bytes | None:
    """All of a JPEG from its first scan on; None for what is no JPEG."""
    place = 2
    while data[:2] == b"\xff\xd8" and data[place : place + 1] == b"\xff":
        if data[place + 1] == 0xDA:
            return data[place:]
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def _library() -> Any:
    try:
        import exiv2
    except ImportError:
        raise MissingExtraError("exiv2", "xmp", "writing captions into photos") from None
    exiv2.LogMsg.setLevel(exiv2.LogMsg.Level.mute)
    return exiv2
