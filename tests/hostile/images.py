"""Bytes of small images, whole, odd and truncated at every section; shared by the table of hard input and its tests."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator

from PIL import Image, ImageCms, ImageDraw

ORIENTATION, DESCRIPTION = 0x0112, 0x010E


def photo(width: int = 64, height: int = 48) -> Image.Image:
    """Return four quarters of different colours: every rotation and flip changes the image."""
    image = Image.new("RGB", (width, height), (250, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle((width // 2, 0, width, height // 2), fill=(0, 250, 0))
    draw.rectangle((0, height // 2, width // 2, height), fill=(0, 0, 250))
    return image


def noise(width: int, height: int) -> Image.Image:
    """Return fixed grey noise; with other noise a JPEG may be complete without its last byte."""
    return Image.frombytes("L", (width, height), random.Random(0).randbytes(width * height))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.copy().save(stream, kind, **options)
    return stream.getvalue()


def heic(image: Image.Image, **options: object) -> bytes:
    import pillow_heif

    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, **options)
    return stream.getvalue()


def exif(orientation: int = 1) -> bytes:
    tags = Image.Exif()
    tags[ORIENTATION], tags[DESCRIPTION] = orientation, "a photo"
    return tags.tobytes()


def profile(space: str = "sRGB") -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG of the given chunks, for any header."""
    size = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + b"".join(chunks) + chunk(b"IEND", b"")


def sections(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Return (name, start, end) of every part of a JPEG, PNG or WebP, with numbered names."""
    seen: dict[str, int] = {}
    kind = {b"\xff\xd8": _jpeg, b"\x89P": _png, b"RI": _webp}[data[:2]]
    for name, start, end in kind(data):
        seen[name] = seen.get(name, 0) + 1
        yield f"{name}-{seen[name]}" if seen[name] > 1 else name, start, end


def _jpeg(data: bytes) -> Iterator[tuple[str, int, int]]:
    names = {0xC0: "SOF", 0xC2: "SOF", 0xC4: "DHT", 0xDA: "SOS", 0xDB: "DQT", 0xE0: "APP0", 0xE1: "APP1", 0xE2: "APP2"}
    yield "SOI", 0, 2
    place = 2
    while data[place + 1] != 0xD9:
        name = names[data[place + 1]]
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        yield name, place, end
        place = end
        if name == "SOS":
            while data[end] != 0xFF or data[end + 1] in (0, *range(0xD0, 0xD8)):
                end += 1
            yield "scan", place, end
            place = end
    yield "EOI", place, place + 2


def _png(data: bytes) -> Iterator[tuple[str, int, int]]:
    yield "signature", 0, 8
    place = 8
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        yield data[place + 4 : place + 8].decode(), place, end
        place = end


def _webp(data: bytes) -> Iterator[tuple[str, int, int]]:
    yield "RIFF", 0, 12
    place = 12
    while place < len(data):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        end = place + 8 + size + size % 2
        yield data[place : place + 4].decode().strip(), place, end
        place = end
