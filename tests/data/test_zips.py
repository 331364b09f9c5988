"""Members of zip files in every supported compression: valid, contradictory and hostile ones."""

from __future__ import annotations

import random
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from captioner.data.archives import in_archive
from captioner.data.tars import Damaged
from captioner.data.zips import listed, unzip
from captioner.errors import ImageError

KINDS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def zipped(path: Path, members: dict[str, bytes], kind: int) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_a_member(kind: int, tmp_path: Path) -> None:
    members = {"a": b"", "b": b"x" * 3_000_000, "c": random.Random(0).randbytes(200_000), "d": bytes(range(256)) * 9}
    path = zipped(tmp_path / "a.zip", members, kind)
    path.write_bytes(b"a program that unpacks what follows it" + path.read_bytes())
    assert {member.filename: unzip(path, member) for member in listed(path)} == members


@pytest.mark.parametrize("kind", KINDS[1:])
def test_no_more_is_unpacked_than_a_member_says(kind: int, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.png": bytes(200 << 20)}, kind)
    (member,) = listed(path)
    member.file_size = 1000
    tracemalloc.start()
    with pytest.raises(Damaged, match="of another size than its header says"):
        unzip(path, member)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_bomb_by_bzip2_that_says_it_is_small(tmp_path: Path) -> None:
    """zipfile itself unpacks these 3 kB to 4 GB at once, even for a small read."""
    path = zipped(tmp_path / "a.zip", {"a.png": bytes(50 << 20)}, zipfile.ZIP_BZIP2)
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\1\2")
    content[place + 24 : place + 28] = (100).to_bytes(4, "little")
    path.write_bytes(content)
    (item,) = in_archive(path)
    tracemalloc.start()
    with pytest.raises(ImageError, match="the archive is damaged"):
        item.read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_dictionary_is_not_larger_than_what_it_is_for(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a": b"a photo" * 100}, zipfile.ZIP_LZMA)
    content = bytearray(path.read_bytes())
    place = content.index(b"\5\0", 31) + 3
    content[place : place + 4] = b"\xff\xff\xff\xff"  # 4 GB, which it would make room for at once
    path.write_bytes(content)
    (member,) = listed(path)
    assert unzip(path, member) == b"a photo" * 100


def test_a_list_of_members_has_a_limit(tmp_path: Path) -> None:
    """The end record declares a member list of 300 MB, which the file holds as a hole."""
    end = b"PK\5\6" + bytes(4) + b"\1\0\1\0" + (300 << 20).to_bytes(4, "little") + bytes(6)
    with (tmp_path / "a.zip").open("wb") as file:
        file.write(b"PK\3\4")
        file.seek(300 << 20)
        file.write(end)
    (item,) = in_archive(tmp_path / "a.zip")
    assert "the archive is damaged or truncated (a header of many megabytes)" in item.problem


def test_cut_off_and_strange_members(tmp_path: Path) -> None:
    for kind in KINDS[1:]:
        path = zipped(tmp_path / "a.zip", {"a": random.Random(0).randbytes(5000)}, kind)
        (member,) = listed(path)
        member.compress_size //= 2
        with pytest.raises(Damaged):
            unzip(path, member)
    member.header_offset = 7
    with pytest.raises(Damaged, match="no member at its offset"):
        unzip(path, member)
