"""Captions inside photos: XMP ``dc:description``, and IPTC's caption if the format has IPTC.

A copy with changed metadata replaces the photo atomically. exiv2 copies the bytes of the pixels unchanged; this is
verified before the photo is replaced. A photo whose format is unsupported (HEIC, AVIF, GIF, BMP), that is read-only or
must stay unchanged (``--out``) gets a sidecar ``dog.xmp``, which Adobe's programs read.
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
UTF8 = "\x1b%G"  # IPTC's escape sequence for UTF-8
LONGEST = 2000  # bytes of an IPTC caption
# Formats that exiv2 writes without changing the pixels. It also writes some RAW formats; these are excluded, since
# their proprietary fields could be damaged.
_EMBEDDED = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".jp2"))


@dataclass(frozen=True)
class _Opened:
    """An image of exiv2, and its bytes, which exiv2 reads without holding a reference."""

    image: Any
    data: bytes = b""


class Xmp:
    """The writer of captions inside photos, or in ``.xmp`` sidecars."""

    name = "xmp"

    def __init__(self, plan: Plan, neighbours: Neighbours) -> None:
        self._plan, self._neighbours, self._exiv2 = plan, neighbours, _library()
        self._confines = Confines(plan)

    def slot(self, photo: Photo) -> Slot:
        """Return the photo itself, or its ``.xmp`` sidecar, with the existing description."""
        if photo.path is not None and self._may_change(photo.path):
            opened = self._open(os.fspath(photo.path))
            kind, mode = self._exiv2.MetadataId.Xmp, self._exiv2.AccessMode.ReadWrite
            if opened is not None and opened.image.checkMode(kind) == mode:
                return Slot(os.path.abspath(photo.path), _description(opened.image))
        sidecars = [self._open(file) for file in self._neighbours.found(photo, ".xmp") if os.path.exists(file)]
        descriptions = (_description(sidecar.image) for sidecar in sidecars if sidecar is not None)
        file = self._neighbours.file(photo, ".xmp")
        slot = Slot(file, next(filter(None, descriptions), ""))
        if self._plan.existing != "skip" or not slot.old.strip():
            self._confines.real(file)
        return slot

    def places(self, key: str) -> tuple[str, ...]:
        place = self._plan.place
        return *places(place, key, ".xmp"), *([place.whole(key)] if place.beside else ())

    def write(self, entry: Entry, token: str) -> None:
        slot = entry.slots[self.name]
        text = self._plan.combine(slot.old, self._plan.compose(entry.captions[0].text, entry.id))
        text = text.encode("utf-8", "replace").decode()
        file = self._confines.real(slot.file)
        exists = os.path.exists(file)
        opened = self._open(file) if exists else _Opened(self._exiv2.ImageFactory.create(self._exiv2.ImageType.xmp))
        if opened is None:
            raise OutputError(f"cannot write to {shown(slot.file)}: its metadata is damaged; remove or convert it")
        try:
            data = self._changed(opened.image, text)
            if not slot.file.lower().endswith(".xmp") and not same_pixels(opened.data, data):
                raise OutputError(
                    f"cannot write to {shown(slot.file)}: its pixels would change; write txt or jsonl instead"
                )
            if not exists:
                os.makedirs(os.path.dirname(file), exist_ok=True)
            replace_file(file, [data], token)
        except OSError as error:
            raise refused(slot.file, error) from error
        except self._exiv2.Exiv2Error as error:
            raise OutputError(f"cannot write to {shown(slot.file)}: {error}; write txt or jsonl instead") from None

    def _changed(self, image: Any, text: str) -> bytes:
        """Return the file with the new description; all other fields and languages are kept."""
        exiv2 = self._exiv2
        xmp, iptc = image.xmpData(), image.iptcData()
        texts = dict(xmp[DESCRIPTION].value()) if DESCRIPTION in xmp else {}
        xmp[DESCRIPTION] = exiv2.LangAltValue({**texts, "x-default": text})
        readable = iptc.empty() or iptc.detectCharset() in ("ASCII", "UTF-8")  # UTF8 would garble other encodings
        if image.checkMode(exiv2.MetadataId.Iptc) == exiv2.AccessMode.ReadWrite and readable:
            iptc[CHARSET] = UTF8
            iptc[CAPTION] = text.encode()[:LONGEST].decode("utf-8", "ignore")
        image.writeMetadata()
        data = bytes(image.io().mmap())
        image.io().munmap()
        return data

    def _open(self, path: str) -> _Opened | None:
        """Return the file in memory with its metadata; None if exiv2 cannot read it."""
        try:
            data = read_small(path, MAX_BYTES)
            image = self._exiv2.ImageFactory.open(data)
            image.readMetadata()
        except (OSError, OutputError, self._exiv2.Exiv2Error):
            return None
        return _Opened(image, data)

    def _may_change(self, path: os.PathLike[str]) -> bool:
        """Return whether a photo may be changed, by its format and the permissions of file and folder (for root too).

        A symlink out of the folder may not: the photo belongs to another folder.
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
    """Return whether two files hold the same image, by the compressed data of JPEGs or the decoded pixels of others."""
    scans = _scans(old), _scans(new)
    if scans[0] is not None or scans[1] is not None:
        return scans[0] == scans[1]
    try:
        with Image.open(io.BytesIO(old)) as before, Image.open(io.BytesIO(new)) as after:
            return (before.mode, before.size, before.tobytes()) == (after.mode, after.size, after.tobytes())
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _scans(data: bytes) -> bytes | None:
    """Return a JPEG from its first scan on; None for another format."""
    position = 2
    while data[:2] == b"\xff\xd8" and data[position : position + 1] == b"\xff":
        if data[position + 1] == 0xDA:
            return data[position:]
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def _library() -> Any:
    try:
        import exiv2
    except ImportError:
        raise MissingExtraError("exiv2", "xmp", "writing captions into photos") from None
    exiv2.LogMsg.setLevel(exiv2.LogMsg.Level.mute)
    return exiv2
