"""Rows of the members of archives, and of addresses."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile

from case import CAPTION, TRUNCATED, Case
from images import encoded, photo


def inside() -> list[Case]:
    """Return archives; their members have the case's name, a broken archive its own."""
    data = encoded(photo(8, 8), "PNG")
    bomb = "it unpacks to more than 200 times its size, as no photos do"
    cut_off = "the archive is damaged or truncated"
    good = tarred({f"{n}.png": data for n in range(3)})
    damaged = good[:2048] + b"x" * 512 + good[2560:]
    locked, strange, lie = (bytearray(zipped({"photo.png": data})) for _ in range(3))
    central = lie.index(b"PK\1\2")
    locked[central + 8] |= 1
    strange[central + 10] = 99
    lie[60] ^= 0xFF
    upwards = zipped(
        {"../../up.png": data, "/root.png": data, "in/in.zip": zipped({"photo.png": data}), "C:\\c.png": data}
    )
    link = tarfile.TarInfo("link.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    lying = bytearray(zipped({"bomb.png": bytes(64 << 20)}, zipfile.ZIP_BZIP2))
    lying[lying.index(b"PK\1\2") + 24 : lying.index(b"PK\1\2") + 28] = (100).to_bytes(4, "little")
    negative = bytearray(tarred({"photo.png": data}))
    negative[124:136] = b"\xff" * 12
    negative[148:156] = f"{sum(negative[:148]) + 256 + sum(negative[156:512]):06o}\0 ".encode()
    nested = tarfile.TarInfo("nested")
    nested.type, nested.size = tarfile.XHDTYPE, 9
    header = tarfile.TarInfo("header")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40

    def of(name: str, what: str, content: bytes, members: dict[str, str]) -> list[Case]:
        first, *rest = [(f"inside/{name}{member}", outcome) for member, outcome in members.items()]
        return [
            Case(name=first[0], what=what, outcome=first[1], make=lambda _: None, archive=(f"inside/{name}", content)),
            *(Case(name=found, what=what, outcome=outcome, make=lambda _: None) for found, outcome in rest),
        ]

    return [
        *of(
            "up.zip",
            "a zip whose names lead upwards, and with a zip in it",
            upwards,
            {"!/up.png": CAPTION, "!/root.png": CAPTION, "!/C:/c.png": CAPTION},
        ),
        *of("bomb.zip", "a zip of 200 MB in 200 kB", zipped({"bomb.png": bytes(200 << 20)}), {"!/bomb.png": bomb}),
        *of(
            "bomb.tar.gz",
            "the same in a tar.gz",
            gzip.compress(tarred({"bomb.png": bytes(128 << 20)}), 1),
            {"!/bomb.png": "its 134 MB exceed the limit of 67 MB", "!/": bomb},
        ),
        *of(
            "locked.zip",
            "a zip with a password",
            bytes(locked),
            {"!/photo.png": "it is encrypted; unpack the archive with its password first"},
        ),
        *of(
            "strange.zip",
            "a zip of an unknown compression",
            bytes(strange),
            {"!/photo.png": "this Python does not support its compression; unpack the archive first"},
        ),
        *of("crc.zip", "a zip with a flipped bit", bytes(lie), {"!/photo.png": cut_off}),
        *of("half.zip", "half a zip", upwards[: len(upwards) // 2], {"": cut_off}),
        *of("empty.zip", "a zip without photos", zipped({"notes.txt": b""}), {"": "the archive holds no images"}),
        *of("text.zip", "text called .zip", b"no archive", {"": cut_off}),
        *of(
            "damaged.tar",
            "a tar damaged at its third photo",
            damaged,
            {"!/0.png": CAPTION, "!/1.png": CAPTION, "!/": cut_off},
        ),
        *of(
            "cut.tar",
            "a tar cut off in its second photo",
            good[:1560],
            {"!/0.png": CAPTION, "!/1.png": TRUNCATED, "!/": cut_off},
        ),
        *of(
            "twice.tar",
            "a tar with a name twice",
            tarred({"a.png": data})[:1024] + tarred({"a.png": data}),
            {"!/a.png": CAPTION, "!/a.png#2": CAPTION},
        ),
        *of(
            "link.tar",
            "a tar of a link to a file outside",
            link.tobuf() + bytes(1024),
            {"": "the archive holds no images"},
        ),
        *of("bomb.bz2.zip", "a zip of 67 MB by bzip2 that says 100 bytes", bytes(lying), {"!/bomb.png": cut_off}),
        *of(
            "negative.tar",
            "a tar with a size below zero, which leads back to where it was",
            bytes(negative),
            {"": cut_off},
        ),
        *of(
            "nested.tar",
            "a tar of 2,000 extended headers, one in the other",
            (nested.tobuf() + b"9 path=a\n" + bytes(503)) * 2000,
            {"": cut_off},
        ),
        *of("header.tar", "a tar with a header of 1 TB", header.tobuf() + bytes(1024), {"": cut_off}),
        *of(
            "photos.tar.xz",
            "a tar.xz",
            lzma.compress(good),
            {"": "it is compressed by xz or zstd; unpack it to a plain tar first"},
        ),
    ]


def tarred(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(name), data, method)
    return stream.getvalue()


def addresses() -> list[Case]:
    """Return URLs without a server; tests/data/test_urls.py has those with a server."""
    found = {
        "http://127.0.0.1:1/photo.jpg": ("a server that is not there", "the connection failed"),
        "https://photos.invalid/photo.jpg": (
            "a server that is not known",
            "its host name cannot be resolved; check the URL and the network",
        ),
        "http://": ("no server", "this is not a valid URL"),
        "http://[::1/photo.jpg": ("half an address", "this is not a valid URL"),
    }
    return [Case(name=url, what=what, outcome=outcome, make=lambda _: None) for url, (what, outcome) in found.items()]
