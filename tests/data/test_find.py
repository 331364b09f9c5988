"""The search for images: plain files, and the members of zip and tar archives."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from captioner.data import tars
from captioner.data.find import find_items
from captioner.data.images import image_size, open_image
from captioner.data.items import Item
from captioner.data.leftout import LeftOut
from captioner.errors import ImageError


def picture(width: int = 3, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, 2), "red").save(stream, form)
    return stream.getvalue()


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def told(root: Path, *names: str) -> list[str]:
    """Return the ids below ``root`` with the width of the image, or with the error."""
    lines = []
    for item in find_items([str(root / name) for name in names]):
        try:
            outcome = str(open_image(item).width)
        except ImageError as error:
            outcome = str(error).replace(f"{root}/", "")
        lines.append(f"{item.id.removeprefix(f'{root}/')} -> {outcome}")
    return lines


def test_files_are_items(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "bad.png").write_bytes(b"x")
    bad = "bad.png -> cannot read bad.png: it is not an image, or its format is not supported"
    assert told(tmp_path, ".") == ["a.png -> 3", bad]
    assert told(tmp_path, "gone") == ["gone -> cannot read gone: there is no such file or folder"]
    one, two = find_items(tmp_path)
    assert (one.id, one.path, one.problem) == (str(tmp_path / "a.png"), tmp_path / "a.png", "")
    assert image_size(one) == (3, 2)
    assert pickle.loads(pickle.dumps(two)).id == two.id


MEMBERS = {
    "one.png": picture(1),
    "./in/two.png": picture(2),
    "in/ünï\n.png": picture(3),
    "notes.txt": b"x",
    "__MACOSX/in/._two.png": b"x",
    "in/.hidden.png": b"x",
    "in/bad.png": b"not one",
}
FOUND = [
    "!/one.png -> 1",
    "!/in/two.png -> 2",
    "!/in/ünï\n.png -> 3",
    "!/in/bad.png -> cannot read {}!/in/bad.png: it is not an image, or its format is not supported",
]


@pytest.mark.parametrize("name", ["a.zip", "a.cbz", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2"])
def test_archives(name: str, tmp_path: Path) -> None:
    if name.endswith(("zip", "cbz")):
        zipped(tmp_path / name, MEMBERS)
    else:
        tar(tmp_path / name, MEMBERS, {"r": "w", "z": "w:gz", "2": "w:bz2"}.get(name[-1], "w"))
    assert told(tmp_path, name, name) == [name + line.format(name) for line in FOUND]
    assert all(item.path is None for item in find_items(tmp_path / name))
    assert sorted(os.listdir(tmp_path)) == [name]


def test_shards_by_number_and_pattern(tmp_path: Path) -> None:
    for number in (8, 9, 10):
        tar(tmp_path / f"s-{number:03}.tar", {"000.jpg": picture(number), "000.txt": b"a caption"})
    expected = [f"s-{number:03}.tar!/000.jpg -> {number}" for number in (8, 9, 10)]
    assert told(tmp_path, "s-{008..010}.tar") == expected
    assert told(tmp_path, "*.tar", "s-009.tar") == expected
    assert told(tmp_path, "s-{010..011}.tar")[1].endswith("s-011.tar: there is no such file or folder")
    (empty,) = find_items([tmp_path])
    assert empty.problem.endswith(f"the folder contains no images; name its other files: {tmp_path}/*.tar")


def test_a_name_that_comes_again_has_a_number(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name in ("a.png", "./a.png"):
            info = tarfile.TarInfo(name)
            info.size = len(picture())
            file.addfile(info, io.BytesIO(picture()))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", picture(4))
        archive.writestr("./a.png", picture(5))
    assert told(tmp_path, "a.tar", "a.zip") == [
        "a.tar!/a.png -> 3",
        "a.tar!/a.png#2 -> 3",
        "a.zip!/a.png -> 4",
        "a.zip!/a.png#2 -> 5",
    ]


@pytest.mark.parametrize("make", [zipped, tar])
def test_backslashes_separate_folders(tmp_path: Path, make: Callable[..., Path]) -> None:
    """Old programs of Windows write them; a hidden file of a Mac stays hidden."""
    members = {r"trip\sea\1.png": picture(), r"__MACOSX\trip\._1.png": picture(), r"..\..\2.png": picture()}
    archive = make(tmp_path / "a.tar", members)
    left = LeftOut()
    found = [item.id.removeprefix(os.fspath(archive)) for item in find_items([os.fspath(archive)], left=left)]
    assert found == ["!/trip/sea/1.png", "!/2.png"]
    assert left.bins


@pytest.mark.parametrize("make", [zipped, tar])
def test_a_member_never_has_the_id_of_a_photo_beside_its_archive(tmp_path: Path, make: Callable[..., Path]) -> None:
    archive = make(tmp_path / "a.tar", {"../1.png": picture(), "x/../../1.png": picture(), "1.png": picture()})
    found = [item.id.removeprefix(os.fspath(archive)) for item in find_items([os.fspath(archive)])]
    assert found == ["!/1.png", "!/x/1.png", "!/1.png#2"]


def test_what_a_tar_holds_is_never_lost_in_silence(tmp_path: Path) -> None:
    whole = tar(tmp_path / "a.tar", {f"{n}.png": picture() for n in range(4)}).read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:2048] + b"x" * 512 + whole[2560:])  # the third header
    (lost,) = told(tmp_path, "a.tar")[2:]
    assert lost.startswith("a.tar!/ -> cannot read a.tar: the archive is damaged or truncated (")
    assert lost.endswith("); 2 images before that were found")
    for cut in (2048 + 100, 1024 + 512 + 3):
        (tmp_path / "a.tar").write_bytes(whole[:cut])
        assert "the archive is damaged or truncated" in told(tmp_path, "a.tar")[-1]
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(whole)[:-30])
    assert "the archive is damaged or truncated" in told(tmp_path, "b.tar.gz")[-1]
    (tmp_path / "c.tar").write_bytes(bytes(10240))
    assert told(tmp_path, "c.tar") == ["c.tar -> cannot read c.tar: the archive holds no images"]
    (tmp_path / "d.tar.bz2").write_bytes(bz2.compress(b"no tar"))
    assert "the archive is damaged" in told(tmp_path, "d.tar.bz2")[0]
    (tmp_path / "e.tar.xz").write_bytes(b"\xfd7zXZ\0rest")
    assert told(tmp_path, "e.tar.xz")[0].endswith("xz or zstd; unpack it to a plain tar first")


def test_damaged_zips(tmp_path: Path) -> None:
    whole = bytearray(zipped(tmp_path / "a.zip", {"a.png": picture(), "b.png": picture()}, 0).read_bytes())
    whole[60] ^= 255  # a byte of the first member
    (tmp_path / "a.zip").write_bytes(whole)
    assert told(tmp_path, "a.zip") == [
        "a.zip!/a.png -> cannot read a.zip!/a.png: the archive is damaged or truncated (Bad CRC-32)",
        "a.zip!/b.png -> 3",
    ]
    (tmp_path / "b.zip").write_bytes(whole[:-30])
    assert told(tmp_path, "b.zip")[0].startswith("b.zip -> cannot read b.zip: the archive is damaged or truncated (")
    central = whole.index(b"PK\1\2")
    locked, strange = bytearray(whole), bytearray(whole)
    locked[central + 8] |= 1
    strange[central + 10] = 99
    (tmp_path / "c.zip").write_bytes(locked)
    assert "it is encrypted; unpack the archive with its password" in told(tmp_path, "c.zip")[0]
    (tmp_path / "d.zip").write_bytes(strange)
    assert "this Python does not support its compression" in told(tmp_path, "d.zip")[0]
    nameless = zipped(tmp_path / "g.zip", {"nameless": b"", "a.png": picture()}, 0).read_bytes()
    (tmp_path / "g.zip").write_bytes(nameless.replace(b"nameless", b"\0ameless"))
    assert told(tmp_path, "g.zip") == ["g.zip!/a.png -> 3"], "found by fuzzing"
    os.mkfifo(tmp_path / "e.zip")
    (tmp_path / "f.zip").touch()
    assert told(tmp_path, "e.zip", "f.zip") == [
        "e.zip -> cannot read e.zip: it is a pipe, socket or device, not a file",
        "f.zip -> cannot read f.zip: it is empty",
    ]


def test_bombs_take_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "FREE", 1 << 20)
    zipped(tmp_path / "a.zip", {"a.png": bytes(4 << 20), "b.png": picture()})
    whole = bytearray((tmp_path / "a.zip").read_bytes())
    struct.pack_into("<I", whole, whole.index(b"PK\1\2") + 24, 1000)  # it declares a small size
    (tmp_path / "lie.zip").write_bytes(whole)
    tar(tmp_path / "b.tar.gz", {"a.txt": bytes(4 << 20), "b.png": picture()}, "w:gz")
    tar(tmp_path / "c.tar.gz", {"a.png": picture(), "b.png": bytes(4 << 20)}, "w:gz")
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 70 << 20
    (tmp_path / "d.tar").write_bytes(header.tobuf() + bytes(1024))
    tracemalloc.start()
    lines = told(tmp_path, "a.zip", "lie.zip", "b.tar.gz", "c.tar.gz", "d.tar")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
    bomb = "it unpacks to more than 200 times its size, as no photos do"
    assert lines == [
        f"a.zip!/a.png -> cannot read a.zip!/a.png: {bomb}",
        "a.zip!/b.png -> 3",
        lines[2],
        "lie.zip!/b.png -> 3",
        f"b.tar.gz -> cannot read b.tar.gz: {bomb}",
        "c.tar.gz!/a.png -> 3",
        f"c.tar.gz!/ -> cannot read c.tar.gz: {bomb}; 1 image before that was found",
        "d.tar -> cannot read d.tar: the archive is damaged or truncated (a header of many megabytes)",
    ]
    assert (
        "lie.zip!/a.png: the archive is damaged or truncated (a member of another size than its header says)"
        in lines[2]
    )


def test_archives_are_walked_lazily(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar.gz", {f"{n}.bmp": picture(60_000, "BMP") for n in range(40)}, "w:gz")
    tracemalloc.start()
    assert sum(open_image(item).height for item in find_items([tmp_path / "a.tar.gz"])) == 80
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20, "40 images of 360 kB, one after the other"
    items = find_items([tmp_path / "a.tar.gz"])
    assert isinstance(next(items), Item)
    items.close()
