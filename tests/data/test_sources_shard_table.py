"""The samples of a tar: the image of each text, and the report of images that are left out."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from captioner.data.sources import read_splits
from captioner.data.splits import ALL

from .test_sources_shards import pack, png


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("order", ["adjacent", "images first", "texts reversed"])
def test_names_with_dots(tmp_path: Path, order: str) -> None:
    names = [f"photo.2024.05.{n:02d}" for n in range(1, 5)]
    images = {f"{name}.png": png(n) for n, name in enumerate(names)}
    texts = {f"{name}.txt": name.encode() for name in names[:3]} | {f"{names[3]}.png.txt": names[3].encode()}
    members = images | (dict(reversed(texts.items())) if order == "texts reversed" else texts)
    members = dict(sorted(members.items())) if order == "adjacent" else members
    data = read_splits(pack(tmp_path / "x.tar", members))
    assert {s.name: s.captions for s in data.split(ALL)} == {f"{name}.png": (name,) for name in names}
    assert data.problems == ()


def test_images_without_a_text_of_their_own_are_told(tmp_path: Path) -> None:
    members = {"a.1.png": png(1), "a.2.png": png(2), "b.png": png(3), "b.jpg": png(4), "a.txt": b"a", "b.txt": b"b"}
    data = read_splits(pack(tmp_path / "x.tar", members))
    assert [(s.name, s.captions) for s in data.split(ALL)] == [("a.1.png", ("a",)), ("b.png", ("b",))]
    why = "2 of 4 images were left out, since another image of the same sample has the caption: a.2.png, b.jpg"
    assert data.problems == (f"{tmp_path}/x.tar: {why}",)


def test_files_of_the_same_name_are_several_samples(tmp_path: Path) -> None:
    pack(tmp_path / "x.tar", {"1.png": png(1), "1.txt": b"one"})
    with tarfile.open(tmp_path / "x.tar", "a") as tar, tarfile.open(tmp_path / "x.tar") as again:
        for member in again.getmembers():
            tar.addfile(member, again.extractfile(member))
    assert [s.captions for s in read_splits(tmp_path / "x.tar").split(ALL)] == [("one",), ("one",)]
