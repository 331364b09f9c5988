"""Fuzz the readers of images, archives and shards, guided by code coverage; by hand, not in CI.

::

    pip install atheris
    python scripts/fuzz_images.py /tmp/corpus -max_total_time=600 -timeout=20 -rss_limit_mb=3072

It writes seeds of every format to an empty folder, and stops at the first input that yields neither an image nor an
``ImageError`` (for a shard: a ``DataError``), but another exception, a crash of a decoder, 20 seconds, or 3 GB. See
``docs/hard-input.md`` for libFuzzer's statistics (``stat::number_of_executed_units``) and its findings.

Pillow's Python is instrumented, its C decoders are not: for them atheris sees only the coverage of the Python around.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import atheris

sys.modules.pop("zipfile", None)  # others have imported it without instrumentation

with atheris.instrument_imports(include=["PIL", "captioner.data", "zipfile"]):
    import zipfile

    from PIL import Image, ImageCms

    from captioner.data import archives, images
    from captioner.data.items import Item
    from captioner.data.sources import shard_table
    from captioner.errors import DataError, ImageError

    Image.init()  # imports Pillow's plugins, else they come later without instrumentation

MOST = 4_000_000  # largest number of pixels to decode: many small inputs, not a few large ones
_place = Path(tempfile.mkdtemp()) / "input"


def one_input(data: bytes) -> None:
    """Read one input: the items of a zip or tar, a plain tar also as a shard, everything else as an image."""
    shard = data[257:262] == b"ustar"
    if shard:
        data = _with_checksums(data)
    if shard or data[:2] == b"PK" or data[:3] in (b"\x1f\x8b\x08", b"BZh"):
        _place.write_bytes(data)
        for item in archives.in_archive(_place):
            assert item.id.startswith(str(_place)), item.id
            _read(item)
        if shard:
            _shard()
    else:
        _read(data)


def _with_checksums(data: bytes) -> bytes:
    """Return the tar with valid checksums: otherwise readers stop at the first changed header."""
    blocks = [bytearray(data[place : place + 512]) for place in range(0, len(data), 512)]
    for block in blocks:
        if block[257:262] == b"ustar" and len(block) == 512:
            block[148:156] = b" " * 8
            block[148:156] = f"{sum(block):06o}\0 ".encode()
    return b"".join(blocks)


def _shard() -> None:
    message = ""
    try:
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            shard_table.fill(connection, [_place], "lines")
            rows = connection.execute("SELECT name, offset, size, captions FROM sample")
            for name, offset, size, captions in rows:
                assert name, "a sample without a name"
                assert offset >= 512 <= offset + size, (name, offset, size)
                assert all(caption.strip() for caption in json.loads(captions)), captions
    except DataError as error:
        message = str(error)
    assert message.isprintable(), ascii(message)


def _read(source: bytes | Item) -> None:
    sizes: list[tuple[int, int] | None] = []
    for reader in (_size, _whole, _drafted):
        try:
            sizes.append(reader(source))
        except ImageError as error:
            message = str(error)
            sizes.append(None)
        else:
            continue
        assert message.startswith("cannot read "), ascii(message)
        assert message.isprintable(), ascii(message)
    size, whole, drafted = sizes
    assert whole is None or size == whole, f"{size} by the header, {whole} decoded"
    assert (whole is None) == (drafted is None), "min_side decides whether an image can be read"


def _size(source: bytes | Item) -> tuple[int, int]:
    return images.image_size(source)


def _whole(source: bytes | Item) -> tuple[int, int]:
    image = images.open_image(source, max_pixels=MOST)
    assert (image.mode, image.info) == ("RGB", {})
    return image.size


def _drafted(source: bytes | Item) -> tuple[int, int]:
    return images.open_image(source, min_side=32, max_pixels=MOST).size


def seeds() -> Iterator[bytes]:
    """Yield small files of every supported format, and archives of a few of them."""
    noise = Image.frombytes("L", (40, 30), random.Random(0).randbytes(40 * 30))
    rgb = Image.merge("RGB", (noise, noise.rotate(180), noise.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a photo"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    alpha, palette = rgb.convert("RGBA"), rgb.quantize(8)
    alpha.putalpha(noise)
    frames = {"save_all": True, "append_images": [rgb.rotate(90)]}
    kinds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (rgb, "JPEG", {"exif": exif, "icc_profile": icc}),
        (rgb, "JPEG", {"progressive": True, "icc_profile": lab}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (noise, "JPEG", {}),
        (rgb, "MPO", frames),
        (alpha, "PNG", {"exif": exif, "icc_profile": icc}),
        (palette, "PNG", {"transparency": 3, "bits": 4}),
        (noise.convert("I;16"), "PNG", {}),
        (rgb, "PNG", {**frames, "disposal": 1}),
        (alpha, "WEBP", {"exif": exif, "icc_profile": icc}),
        (rgb, "WEBP", {"lossless": True, **frames}),
        (palette, "GIF", {"transparency": 1}),
        (rgb.quantize(16), "GIF", frames),
        (rgb, "BMP", {}),
        (palette, "BMP", {}),
        (noise.convert("1"), "BMP", {}),
        (alpha, "DIB", {}),
        (rgb, "AVIF", {"exif": exif}),
        (alpha, "JPEG2000", {}),
        (rgb, "PPM", {}),
        (noise.convert("I"), "PPM", {}),
        (alpha, "ICO", {"sizes": [(16, 16)]}),
        (rgb, "ICO", {"sizes": [(16, 16)], "bitmap_format": "bmp"}),
        (noise.convert("F"), "TIFF", {}),
        (rgb.convert("LAB"), "TIFF", {"icc_profile": lab}),
        (rgb.convert("CMYK"), "TIFF", {"exif": exif}),
        *((rgb, "TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
        (noise.convert("1"), "TIFF", {"compression": "group4"}),
        (rgb, "TIFF", {"save_all": True, "append_images": [rgb.rotate(180)]}),
    ]
    files = {}
    for number, (image, form, options) in enumerate(kinds):
        stream = io.BytesIO()
        image.copy().save(stream, form, **options)  # a copy, since saving leaves attributes that confuse other formats
        files[f"{number}.{form.lower()}"] = stream.getvalue()
    yield from files.values()
    few = dict(list(files.items())[5:20:5])
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for name, data in few.items():
                archive.writestr(name, data)
        yield stream.getvalue()
    few |= {"5.txt": b"a caption\nand another", "10.json": b'{"caption": ["a", "b"], "url": "x"}'}
    few = dict(sorted(few.items()))
    for opening, layout in (
        ("w", tarfile.USTAR_FORMAT),
        ("w", tarfile.GNU_FORMAT),
        ("w", tarfile.PAX_FORMAT),
        ("w:gz", tarfile.PAX_FORMAT),
        ("w:bz2", tarfile.GNU_FORMAT),
    ):
        folder = "f" if layout == tarfile.USTAR_FORMAT else "ü" * 60
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=opening, format=layout) as tar:  # type: ignore[call-overload]
            for name, data in few.items():
                info = tarfile.TarInfo(f"{folder}/{name}")
                info.size, info.pax_headers = len(data), {"comment": "a = b"}
                tar.addfile(info, io.BytesIO(data))
        yield stream.getvalue()
    sparse = tarfile.TarInfo("sparse.png")
    sparse.type, sparse.size = tarfile.GNUTYPE_SPARSE, 512
    yield sparse.tobuf(tarfile.GNU_FORMAT) + bytes(512) + bytes(1024)


def main() -> None:
    corpus = Path(next((word for word in sys.argv[1:] if not word.startswith("-")), ""))
    if corpus.is_dir() and not os.listdir(corpus):
        for number, data in enumerate(seeds()):
            (corpus / f"seed-{number}").write_bytes(data)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
