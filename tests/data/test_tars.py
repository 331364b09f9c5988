"""Tar headers: the same names and offsets as Python's tarfile, and no endless reading of hostile ones."""

from __future__ import annotations

import io
import itertools
import tarfile
import time
from pathlib import Path

import pytest

from captioner.data import archives
from captioner.data.archives import in_archive
from captioner.data.sources.shards import read
from captioner.data.tars import Bounded, Damaged, Member, members
from captioner.errors import DataError

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def found(data: bytes) -> list[Member]:
    return list(members(Bounded(io.BytesIO(data))))


def tar(files: dict[str, bytes], form: str = "pax", **fields: object) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=FORMATS[form], encoding="utf-8") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in fields.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def header(name: str = "a.png", size: bytes | None = None, kind: bytes = b"0") -> bytes:
    """Return a header with a valid checksum for any fields."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    if size is not None:
        block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def extended(records: bytes, kind: bytes = b"x") -> bytes:
    return header("x", f"{len(records):011o}\0".encode(), kind) + records + bytes(-len(records) % 512)


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_as_tarfile(form: str) -> None:
    files = {"a.png": b"1", "empty": b"", f"{'d' * 90}/{'e' * 60}.png": b"x" * 512, "ü.png": b"y" * 513}
    if form != "ustar":
        files |= {"long/" * 60 + "é.png": b"z", os_bytes: b"w"}
    data = tar(files, form, uid=1000, pax_headers={"comment": "a = b\nc"}, mtime=1.5)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        expected = [Member(name=one.name, offset=one.offset_data, size=one.size) for one in archive]
    assert found(data) == expected
    assert [data[one.offset : one.offset + one.size] for one in found(data)] == list(files.values())


os_bytes = "caf\udce9.png"


def test_what_is_no_plain_file_is_left_out() -> None:
    blocks = [header(kind=kind) for kind in (b"1", b"2", b"3", b"4", b"5", b"6", b"V")]
    blocks += [header("folder/", kind=b"\0"), header("seven", kind=b"7"), bytes(1024)]
    assert [one.name for one in found(b"".join(blocks))] == ["seven"]


def test_sparse_files_are_left_out_with_their_maps() -> None:
    block = bytearray(header("hole", b"00000001000\0", b"S"))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    more = bytes(504) + b"\1" + bytes(7)
    gnu = bytes(block) + more + bytes(512) + b"d" * 512
    pax = extended(b"22 GNU.sparse.major=1\n") + header("hole", b"00000001000\0") + b"d" * 512
    assert [one.name for one in found(gnu + pax + header("b.png") + bytes(1024))] == ["b.png"]


def test_sizes_and_names_of_other_writers() -> None:
    big = b"\x80" + (600).to_bytes(11, "big")
    spaced = b"      1130 \0"
    data = header("a", big) + bytes(1024) + header("b", spaced) + bytes(1024) + extended(b"12 size=600\n") + header("c")
    assert [(one.name, one.size) for one in found(data + bytes(1024))] == [("a", 600), ("b", 600), ("c", 600)]


HOSTILE = {
    "a size below zero": header("a.png", b"\xff" * 12),
    "a size below zero, further on": header("a.png", b"00000000000\0") + header("b.png", b"\xff" * 11 + b"\x00"),
    "a size below zero in octal": header("a.png", b"-0000001000\0"),
    "a size below zero in an extended header": extended(b"13 size=-512\n") + header("a.png"),
    "a size of 2 to the power of 80": header("a.png", b"\x80\xff" + bytes(10)),
    "digits of other scripts": header("a.png", "٣".encode() + bytes(10)),
    "an extended header of 64 MB": header("x", b"00400000000\0", b"x") + bytes(64 << 20),
    "an extended header of a million digits": extended(b"1" * 1_000_000),
    "an extended header without an end": extended(b"99 path=a.png\n") + header("a.png"),
    "an extended header that stays where it is": extended(b"0 path=a.png\n") + header("a.png"),
    "a long name of a megabyte": extended(b"a" * (1 << 20), b"L") + header("a.png"),
    "a thousand extended headers": extended(b"9 path=a\n") * 1000 + header("a.png"),
    "an extended header at the end": extended(b"9 path=a\n") + bytes(1024),
    "a sparse map without an end": header("a", None, b"S")[:482] + b"\1" + bytes(29),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_tar_is_one_reason_and_an_end(what: str, tmp_path: Path) -> None:
    data = HOSTILE[what]
    (tmp_path / "a.tar").write_bytes(data)
    start = time.monotonic()
    with pytest.raises(Damaged):
        for _ in itertools.islice(members(Bounded(io.BytesIO(data))), 100):
            pass
    *_, last = itertools.islice(in_archive(tmp_path / "a.tar"), 100)
    assert "the archive is damaged or truncated" in last.problem
    with pytest.raises(DataError, match="is not a complete, uncompressed tar"):
        read([tmp_path / "a.tar"], "all")
    assert time.monotonic() - start < 3


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """Write a tar with a sparse photo of 5 GB and its caption."""
    path = tmp_path / "sparse.tar"
    with path.open("wb") as file:
        file.write(header("a.png", f"{5 << 30:011o}\0".encode()) + b"\x89PNG")
        file.seek((5 << 30) + 512)
        file.write(header("a.txt", b"00000000001\0") + b"x" + bytes(1535))
    return path


def test_a_member_of_5_gb_is_not_read(sparse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (item,) = in_archive(sparse)
    assert "its 5369 MB exceed the limit of 1074 MB" in item.problem
    (sample,) = read([sparse], "all").splits["all"]
    with pytest.raises(archives.ImageError, match="its 5,369 MB exceed the limit for an image"):
        sample.image()


def test_images_of_an_archive_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_IMAGES", 2)
    (tmp_path / "a.tar").write_bytes(tar({f"{n}.png": b"x" for n in range(5)}))
    *good, last = in_archive(tmp_path / "a.tar")
    assert len(good) == 2
    assert "it holds more than 2 images; split it" in last.problem
