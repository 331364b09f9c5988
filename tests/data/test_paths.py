"""The search for image paths: order, links, patterns, odd names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from captioner.data.images import IMAGE_SUFFIXES, Unreadable, find_images
from captioner.data.paths import read_text
from captioner.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(root: Path, *paths: str) -> list[str]:
    """Return the names below ``root``; an unreadable entry has a mark and its error."""
    names = []
    for item in find_images([str(root / path) for path in paths]):
        if isinstance(item, Unreadable):
            assert str(item.path) in item.reason
            names.append(f"! {item.path.relative_to(root)}: {item.reason.rpartition(': ')[2]}")
        else:
            names.append(str(item.relative_to(root)))
    return names


def test_folder_is_walked_in_natural_order_without_hidden_and_other_files(tmp_path: Path) -> None:
    touch(tmp_path, "b10.jpg", "b2.JPG", "A.webp", "notes.txt", ".hidden.jpg", ".cache/x.jpg", "sub/10/1.png")
    touch(tmp_path, "sub/9/1.png", "sub/z.gif", "Thumbs.db", "jpg")
    expected = ["A.webp", "b2.JPG", "b10.jpg", "sub/z.gif", "sub/9/1.png", "sub/10/1.png"]
    assert found(tmp_path, ".") == expected
    assert found(tmp_path, ".cache") == [".cache/x.jpg"]
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tiff", ".heic"} <= IMAGE_SUFFIXES


def test_named_file_is_yielded_whatever_its_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "scan.dat", ".hidden.jpg")
    assert found(tmp_path, "scan.dat", ".hidden.jpg") == ["scan.dat", ".hidden.jpg"]


def test_each_file_once_whatever_leads_to_it(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "sub/b.jpg")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    (tmp_path / "other").symlink_to("sub")
    assert found(tmp_path, "a.jpg", "sub/../a.jpg", ".", "sub", "other/b.jpg", "*.jpg") == ["a.jpg", "other/b.jpg"]


def test_circles_of_links_end(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.jpg", "two/b.jpg")
    for folder in ("one", "two"):
        for link, target in (("up", ".."), ("self", "."), ("x", "../one"), ("y", "../two")):
            (tmp_path / folder / link).symlink_to(target)
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert sorted(Path(name).name for name in found(tmp_path, ".")) == ["a.jpg", "b.jpg", "loop.jpg"]
    assert sorted(Path(name).name for name in found(tmp_path, "**/*.jpg")) == ["a.jpg", "b.jpg", "loop.jpg"]
    assert sorted(Path(name).name for name in found(tmp_path, "**/**/**/?.jpg")) == ["a.jpg", "b.jpg"]


def test_patterns(tmp_path: Path) -> None:
    touch(tmp_path, "2.jpg", "10.jpg", "notes.txt", "x/3.jpg", "x/y/4.png", "x/.h/5.jpg", "raw.dat", "x/y/6.dat")
    assert found(tmp_path, "*.jpg") == ["2.jpg", "10.jpg"]
    assert found(tmp_path, "**/*.png") == ["x/y/4.png"]
    assert found(tmp_path, "**/*.jpg") == ["2.jpg", "10.jpg", "x/3.jpg"]
    assert found(tmp_path, "x/**") == ["x/3.jpg", "x/y/4.png"]
    assert found(tmp_path, "x/.*/*.jpg") == ["x/.h/5.jpg"]
    assert found(tmp_path, "**/*.dat") == ["raw.dat", "x/y/6.dat"]
    assert found(tmp_path, "*") == ["2.jpg", "10.jpg", "x/3.jpg", "x/y/4.png"]
    assert found(tmp_path, "[0-2].jpg") == ["2.jpg"]
    assert found(tmp_path, "?/?.jpg") == ["x/3.jpg"]
    assert found(tmp_path, "*.gif", "no/*.jpg") == [
        "! *.gif: no image matches this pattern",
        "! no/*.jpg: no image matches this pattern",
    ]


def test_relative_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "sub/b.jpg")
    monkeypatch.chdir(tmp_path)
    assert list(find_images(["*.jpg", "**/b.jpg", "./a.jpg"])) == [Path("a.jpg"), Path("sub/b.jpg")]
    assert list(find_images(["**"])) == [Path("a.jpg"), Path("sub/b.jpg")]
    assert list(find_images("sub")) == [Path("sub/b.jpg")]


def test_name_with_brackets_is_the_file_not_a_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "cat [1].jpg", "cat 1.jpg", "trip [2020]/a.jpg", "trip 2/b.jpg")
    assert found(tmp_path, "cat [1].jpg") == ["cat [1].jpg"]
    assert found(tmp_path, "trip [2020]/*.jpg") == ["trip [2020]/a.jpg"]


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    name = b"caf\xe9\n.jpg"
    try:
        (tmp_path / os.fsdecode(name)).touch()
    except OSError:
        pytest.skip("this file system wants UTF-8 names")
    for path in (tmp_path, tmp_path / "*.jpg"):
        (item,) = find_images([path])
        assert isinstance(item, Path)
        assert os.fsencode(item.name) == name
    (item,) = find_images([os.path.join(os.fsencode(tmp_path), b"gone\xe9\n.jpg")])  # type: ignore[list-item]
    assert isinstance(item, Unreadable)
    assert item.reason.endswith(r"gone\udce9\n.jpg: there is no such file or folder")


def test_what_gives_no_image_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "papers/notes.txt")
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    assert found(tmp_path, "gone.jpg", "papers", "a.jpg", "broken.jpg", "a.jpg/b.jpg", "x" * 5000) == [
        "! gone.jpg: there is no such file or folder",
        "! papers: the folder contains no images",
        "a.jpg",
        "broken.jpg",
        "! a.jpg/b.jpg: not a directory",
        f"! {'x' * 5000}: file name too long",
    ]
    assert [item.reason for item in find_images(["", "a\0*b"]) if isinstance(item, Unreadable)] == [
        "cannot read '': the path is empty",
        r"cannot read a\x00*b: this is not a valid file name",
    ]


def test_forbidden_folder_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "locked/b.jpg", "z/c.jpg")
    (tmp_path / "locked").chmod(0)
    try:
        if os.access(tmp_path / "locked", os.R_OK):
            pytest.skip("this user may read everything")
        expected = ["a.jpg", "! locked: permission denied", "z/c.jpg"]
        assert found(tmp_path, ".") == expected
        assert sorted(found(tmp_path, "**/*.jpg")) == sorted(expected)
        assert found(tmp_path, "locked/b.jpg") == ["! locked/b.jpg: permission denied"]
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_walk_is_lazy(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "sub/b.jpg")
    images = find_images([tmp_path])
    assert next(images) == tmp_path / "a.jpg"
    touch(tmp_path, "sub/c.jpg")
    assert list(images) == [tmp_path / "sub/b.jpg", tmp_path / "sub/c.jpg"]


def test_read_text(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("\ufeffä\r\nb\rc\u2028d".encode())
    assert read_text(path) == "ä\nb\nc\u2028d"
    path.write_bytes(b"fine\nnot \xe9\n")
    with pytest.raises(DataError, match="text:2 is not UTF-8 text; save the file as UTF-8"):
        read_text(path)
    path.write_bytes("ä,b".encode("utf-16"))
    assert read_text(path) == "ä,b"
    path.write_bytes("ä,b".encode("utf-16")[:-1])
    with pytest.raises(DataError, match="text:1 is not UTF-8"):
        read_text(path)
    with pytest.raises(DataError, match="gone does not exist"):
        read_text(tmp_path / "gone")
    with pytest.raises(DataError, match="cannot be read: is a directory"):
        read_text(tmp_path)


def test_text_has_a_limit_and_is_in_a_file(tmp_path: Path) -> None:
    with (tmp_path / "hole.json").open("wb") as file:
        file.truncate(5 << 30)
    with pytest.raises(DataError, match=r"hole\.json is larger than the limit of 1,074 MB; split it"):
        read_text(tmp_path / "hole.json")
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(DataError, match=r"pipe\.txt is a pipe, socket or device; name a regular file"):
        read_text(tmp_path / "pipe.txt")
