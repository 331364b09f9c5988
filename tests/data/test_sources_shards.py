"""Tar shards of images and captions: their samples and their errors."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from captioner.data.images import open_image
from captioner.data.messages import names_of
from captioner.data.samples import Joined, Samples
from captioner.data.sources import read_splits, shards
from captioner.data.sources.shards import expand
from captioner.data.splits import ALL, hold_out, hold_out_named
from captioner.errors import DataError, ImageError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "captioner"


def png(colour: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (2, 2), (colour % 256, colour // 256, 0)).save(out, "PNG")
    return out.getvalue()


def pack(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, encoding="utf-8", errors="surrogateescape") as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def photos(path: Path, numbers: range) -> Path:
    members: dict[str, bytes] = {}
    for n in numbers:
        members |= {f"{n:04d}.png": png(n), f"{n:04d}.txt": f"photo {n}\nNumber {n}.\n".encode()}
    return pack(path, members)


def test_images_and_captions_by_their_names(tmp_path: Path) -> None:
    members = {
        "a/1.png": png(1),
        "a/1.cls": b"7",
        "a/1.txt": "  a caption \r\n\nund noch einer: schön\n".encode(),
        "a/2.json": json.dumps({"caption": "of two", "url": "x", "key": "2"}).encode(),
        "a/2.png": png(2),
        "3.b.png": png(9),  # the part before the first dot is the name, so this is no image
        "3.jpg": png(3),
        "3.json": b'{"captions": ["one", "two"]}',
        "3.txt": b"tags, not a caption",
        "3.caption": b"three",
        "4.json": b'{"text": "without an image"}',
    }
    found = read_splits(pack(tmp_path / "x.tar", members)).splits[ALL]
    said = [(sample.name, sample.captions) for sample in found]
    assert said == [
        ("a/1.png", ("a caption", "und noch einer: schön")),
        ("a/2.png", ("of two",)),
        ("3.jpg", ("three",)),
    ]
    assert [open_image(sample.image()).getpixel((0, 0)) for sample in found] == [(1, 0, 0), (2, 0, 0), (3, 0, 0)]


def test_shards_are_named_by_a_pattern_or_their_folder(tmp_path: Path) -> None:
    for shard in range(12):
        photos(tmp_path / f"train-{shard:03d}.tar", range(10 * shard, 10 * shard + 3))
    photos(tmp_path / "val-000.tar", range(500, 502))
    data = read_splits(tmp_path)
    assert [*data.splits] == ["train", "dev"]
    train = data.split("train")
    assert [sample.name for sample in train] == [f"{10 * s + n:04d}.png" for s in range(12) for n in range(3)]
    assert [sample.captions for sample in data.split("dev")] == [(f"photo {n}", f"Number {n}.") for n in (500, 501)]
    pattern = read_splits(f"{tmp_path}/train-{{000..011}}.tar").split("train")
    assert list(pattern) == list(train)
    assert expand("a{8..10}-{0..1}.tar") == [Path(f"a{n}-{m}.tar") for n in (8, 9, 10) for m in (0, 1)]


def test_folders_named_after_splits(tmp_path: Path) -> None:
    photos(tmp_path / "train" / "00.tar", range(4))
    photos(tmp_path / "test" / "00.tar", range(4, 6))
    assert {name: len(samples) for name, samples in read_splits(tmp_path).splits.items()} == {"train": 4, "test": 2}


def test_captions_beside_tar_files_come_first(tmp_path: Path) -> None:
    photos(tmp_path / "images.tar", range(4))
    (tmp_path / "1.png").write_bytes(png(1))
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "one"}\n')
    assert [sample.captions for sample in read_splits(tmp_path).split("all")] == [("one",)]


def test_it_is_a_sequence_that_worker_processes_can_share(tmp_path: Path) -> None:
    found = read_splits(photos(tmp_path / "x.tar", range(20))).splits[ALL]
    assert (len(found), found[-1].name, [s.name for s in found[3:5]]) == (20, "0019.png", ["0003.png", "0004.png"])
    with pytest.raises(IndexError):
        found[20]
    assert list(pickle.loads(pickle.dumps(found))) == list(found)
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    else:
        os._exit(0 if found[7].name == "0007.png" and open_image(found[7].image()) else 1)


def test_what_is_held_out_is_what_files_of_these_names_hold_out(tmp_path: Path) -> None:
    found = read_splits(photos(tmp_path / "x.tar", range(100))).splits[ALL]
    kept, away = hold_out(found)
    plain_kept, plain_away = hold_out(list(found))
    assert (list(kept), list(away)) == (plain_kept, plain_away)
    assert isinstance(kept, Samples)
    (tmp_path / "held.txt").write_text("0007.png\n0003.png\n")
    kept, away = hold_out_named(found, tmp_path / "held.txt")
    assert ([sample.name for sample in away], len(kept)) == (["0003.png", "0007.png"], 98)


def test_a_fingerprint_of_names_captions_and_choice(tmp_path: Path) -> None:
    one = read_splits(photos(tmp_path / "1.tar", range(9))).splits[ALL]
    same = read_splits(photos(tmp_path / "2.tar", range(9))).splits[ALL]
    other = read_splits(photos(tmp_path / "3.tar", range(10))).splits[ALL]
    assert all(isinstance(found, Samples) for found in (one, same, other))
    prints = [found.fingerprint for found in (one, same, other, hold_out(one)[0], Joined([one, other]))]  # type: ignore[attr-defined]
    assert prints[0] == prints[1]
    assert len(set(prints[1:])) == 4


def test_several_parts_one_after_the_other(tmp_path: Path) -> None:
    one = read_splits(photos(tmp_path / "1.tar", range(3))).splits[ALL]
    two = list(read_splits(photos(tmp_path / "2.tar", range(5, 8))).splits[ALL])
    joined = Joined([one, two])
    assert [sample.name for sample in joined] == [joined[n].name for n in range(6)] == [
        "0000.png", "0001.png", "0002.png", "0005.png", "0006.png", "0007.png",
    ]  # fmt: skip


def test_the_table_is_made_once_and_again_when_a_shard_changes(tmp_path: Path, cache: Path) -> None:
    path = photos(tmp_path / "x.tar", range(5))
    read_splits(path)
    (table,) = cache.iterdir()
    made = table.stat().st_mtime_ns
    assert len(read_splits(path).splits[ALL]) == 5
    assert table.stat().st_mtime_ns == made
    photos(path, range(6))
    assert len(read_splits(path).splits[ALL]) == 6
    assert len(list(cache.iterdir())) == 2


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    found = read_splits(pack(tmp_path / "x.tar", {f"{name}.png": png(1), f"{name}.txt": b"a cup"})).splits[ALL]
    assert found[0].name == f"{name}.png"


def test_images_without_captions_are_told(tmp_path: Path) -> None:
    members = {"1.png": png(1), "1.txt": b"one", "2.png": png(2), "2.txt": b" \n", "3.png": png(3), "3.txt": b"three"}
    data = read_splits(pack(tmp_path / "x.tar", members))
    told = f"{tmp_path}/x.tar: 1 of 3 images has no caption and was left out: 2.png"
    assert (len(data.splits[ALL]), data.problems) == (2, (told,))
    assert read_splits(tmp_path / "x.tar").problems == (told,)  # from the table


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (
            {"1.png": png(1), "2.png": png(2), "2.txt": b"x", "3.png": png(1)},
            r"2 of 3 images have no caption .*too many",
        ),
        ({"readme.md": b"x"}, r"contains no images with captions; put 1\.jpg and 1\.txt side by side"),
        ({"1.png": png(1), "1.json": b"{"}, r"x\.tar: 1\.json is not valid JSON .*; correct or remove it"),
        ({"1.png": png(1), "1.txt": b"\xff"}, r"x\.tar: 1\.txt is not UTF-8 text; save it as UTF-8"),
        ({"1.png": png(1), "1.json": b'{"caption": 3}'}, r"x\.tar: 1\.json: caption must be text or a list of texts"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, cache: Path, members: dict[str, bytes], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_splits(pack(tmp_path / "x.tar", members))
    assert not list(cache.iterdir())


def test_a_tar_that_is_compressed_cut_off_or_not_there(tmp_path: Path) -> None:
    members = {"1.png": png(1) * 50, "1.txt": b"one"}
    with pytest.raises(DataError, match=r"z\.tar is not a complete, uncompressed tar .*gunzip"):
        read_splits(pack(tmp_path / "z.tar", members, "w:gz"))
    whole = pack(tmp_path / "x.tar", members).read_bytes()
    (tmp_path / "x.tar").write_bytes(whole[:2000])
    with pytest.raises(DataError, match=r"x\.tar is not a complete, uncompressed tar"):
        read_splits(tmp_path / "x.tar")
    with pytest.raises(DataError, match=r"train-1\.tar cannot be read: no such file"):
        read_splits(f"{tmp_path}/train-{{1..2}}.tar")
    photos(tmp_path / "train-1.tar", range(3))
    photos(tmp_path / "more-2.tar", range(3))
    with pytest.raises(DataError, match=r"more-2\.tar is not named after a split, but other shards are"):
        read_splits(tmp_path)


def test_a_header_damaged_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = photos(tmp_path / "x.tar", range(5))
    data = bytearray(path.read_bytes())
    place = data.index(b"0003.png")
    data[place : place + 100] = b"x" * 100
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.tar is not a complete, uncompressed tar \(bad checksum\)"):
        read_splits(path)


def test_a_shard_that_goes_or_is_cut_later(tmp_path: Path) -> None:
    path = photos(tmp_path / "x.tar", range(3))
    found = read_splits(path).splits[ALL]
    path.write_bytes(path.read_bytes()[:540])
    with pytest.raises(ImageError, match=r"cannot read .*x\.tar/0000\.png: "):
        open_image(found[0].image())
    path.unlink()
    with pytest.raises(ImageError, match=r"cannot read 0000\.png in .*x\.tar: no such file"):
        found[0].image()


def test_a_text_of_megabytes_is_no_caption(tmp_path: Path) -> None:
    members = {f"{n}.png": png(n) for n in range(3)} | {f"{n}.txt": b"x" for n in range(3)}
    members["1.txt"] = b"x " * (3 << 20)
    data = read_splits(pack(tmp_path / "x.tar", dict(sorted(members.items()))))
    assert (len(data.splits[ALL]), len(data.problems)) == (2, 1)


def test_what_img2dataset_writes_is_used_as_it_lies(tmp_path: Path) -> None:
    photos(tmp_path / "sets" / "00000.tar", range(2))
    photos(tmp_path / "sets" / "00001.tar", range(2, 4))
    for name in ("00000.parquet", "00001.parquet", "00000_stats.json", "00001_stats.json"):
        (tmp_path / "sets" / name).write_text('{"count": 2, "status_dict": {"success": 2}}')
    assert len(read_splits(tmp_path / "sets").split(ALL)) == 4
    assert len(read_splits(f"{tmp_path}/sets/*.tar").split(ALL)) == 4
    (tmp_path / "sets" / "sizes.json").write_text("[1, 2]")  # an index of some other program
    assert len(read_splits(tmp_path / "sets").split(ALL)) == 4
    folder = tmp_path / "files"
    (folder / "00000").mkdir(parents=True)
    (folder / "00000.parquet").write_text("not looked at")
    (folder / "00000_stats.json").write_text('{"count": 2}')
    (folder / "00000" / "000000000.jpg").write_bytes(png(1))
    (folder / "00000" / "000000000.txt").write_text("one")
    (folder / "00000" / "000000000.json").write_text('{"caption": "one"}')
    assert [sample.captions for sample in read_splits(folder).split(ALL)] == [("one",)]


def test_a_pattern_of_shards_knows_splits(tmp_path: Path) -> None:
    photos(tmp_path / "train-0.tar", range(3))
    photos(tmp_path / "val-0.tar", range(3, 5))
    (tmp_path / "notes.tar.txt").touch()
    sizes = {name: len(samples) for name, samples in read_splits(f"{tmp_path}/*.tar").splits.items()}
    assert sizes == {"train": 3, "dev": 2}


def test_a_broken_text_is_counted_and_its_image_left_out(tmp_path: Path) -> None:
    members = {
        "1.png": png(1),
        "1.json": b'{"caption": "one"}',
        "2.png": png(2),
        "2.json": b"{broken",
        "3.png": png(3),
        "3.json": b"{broken too",
        "3.txt": b"three",
    }
    data = read_splits(pack(tmp_path / "x.tar", members))
    assert [sample.captions for sample in data.split(ALL)] == [("one",), ("three",)]
    broken, bare = data.problems
    assert "1 caption file cannot be read, the first because" in broken
    assert "x.tar: 2.json is not valid JSON" in broken
    assert names_of(bare) == ("2.png",)
    assert read_splits(tmp_path / "x.tar").problems == data.problems  # from the table


@pytest.mark.parametrize("first", ["images", "texts"])
def test_images_and_texts_may_stand_apart(tmp_path: Path, first: str) -> None:
    images = {f"{n}.png": png(n) for n in range(4)}
    texts = {f"{n}.txt": f"text {n}\nmore".encode() for n in (2, 0, 1)} | {"3.json": b'{"caption": "three"}'}
    members = images | texts if first == "images" else texts | images
    found = read_splits(pack(tmp_path / "x.tar", members)).split(ALL)
    assert {s.name: s.captions[0] for s in found} == {
        "0.png": "text 0",
        "1.png": "text 1",
        "2.png": "text 2",
        "3.png": "three",
    }
    assert [open_image(sample.image()).getpixel((0, 0))[0] for sample in found] == [0, 1, 2, 3]  # type: ignore[index]
    assert [sample.name for sample in found] == sorted(sample.name for sample in found)


def test_files_with_more_in_their_names(tmp_path: Path) -> None:
    members = {
        "s0.input.png": png(1),
        "s0.outputs.txt": b"zero",
        "s1.png": png(2),
        "s1.mask.png": png(3),
        "s1.txt": b"1",
    }
    found = read_splits(pack(tmp_path / "x.tar", members)).split(ALL)
    assert [(s.name, s.captions) for s in found] == [("s0.input.png", ("zero",)), ("s1.png", ("1",))]


def test_lines_of_a_text_are_captions_or_one(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar", {"1.png": png(1), "1.txt": b"one\ntwo\n", "2.png": png(2), "2.txt": b"three"})
    lines, one = read_splits(path), read_splits(path, sidecars="one")
    assert [s.captions for s in lines.split(ALL)] == [("one", "two"), ("three",)]
    assert [s.captions for s in one.split(ALL)] == [("one two",), ("three",)]
    assert "1 of 2 caption files has several lines: each line is a caption" in lines.notes[0]
    assert "each file is one caption" in one.notes[0]


def test_without_a_cache_tables_lie_where_no_other_user_can_put_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(shards.tempfile, "tempdir", str(tmp_path / "shared"))
    (tmp_path / "shared").mkdir()
    shards._own_folder.cache_clear()
    pack(tmp_path / "a.tar", {"1.png": png(1), "1.txt": b"one"})
    assert len(read_splits(tmp_path / "a.tar").splits[ALL]) == 1
    (own,) = (tmp_path / "shared").iterdir()
    assert own.stat().st_mode & 0o077 == 0
    assert [path.suffix for path in own.iterdir()] == [".sqlite"]
    shards._remove(str(own), os.getpid() + 1)
    assert own.is_dir()
    shards._remove(str(own), os.getpid())
    assert not own.exists()
    shards._own_folder.cache_clear()
